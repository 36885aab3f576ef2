"""The command line: help, exit codes, errors in one line, plain text in pipes, JSON and CSV for machines."""

import csv
import io
import json
import os
import platform
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import pvfast
from pvfast import experiments
from pvfast.cli import cli
from pvfast.isa.forms import FORMS as ISA_FORMS
from pvfast.processor import MODELS
from pvfast.report import contents
from tests.images.synthetic import Kernel

COMMANDS = ("run", "report", "sites", "patch", "models", "calibrate", "isa")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A 32-bit kernel with two sites that call the same function, a `ret`."""
    made = Kernel(sites=((0, 9, 6), (16, 11, 6)), pointers=(0xC1001800,) * 13)
    code = bytearray(b"\xcc" * 0x1000)
    for at, kind, _ in made.sites:
        code[at:at + 6] = made.call(at, kind)
    code[0x800:0x801] = b"\xc3"
    made.code = bytes(code)
    path = tmp_path / "vmlinux"
    path.write_bytes(made.elf())
    return path


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_says_the_exit_codes(command: tuple[str, ...]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "0 done; 1 failed" in result.output
    assert "130 stopped by Ctrl-C" in result.output


def test_version() -> None:
    assert call("--version").output == f"pvfast, version {pvfast.__version__}\n"


@pytest.mark.parametrize("arguments", [
    ("walk",), ("run", "--colour"), ("run", "native", "popf"), ("run", "bochs"), ("sites",),
    ("sites", "vmlinux", "--json", "--csv"), ("patch", "vmlinux", "--hypervisor", "bochs"),
    ("patch", "vmlinux", "--vcpus", "1"), ("patch", "vmlinux", "--hypervisor", "xen", "--vcpus", "0"),
    ("run", "xen", "--image", "vmlinux"), ("run", "native", "--trace"), ("run", "--processor", "i4004"),
    ("run", "--plot", "run.png"), ("run", "--image", "vmlinux", "--plot", "run.svg"),
    ("run", "native", "null", "--trace", "--plot", "run.svg"),
])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("arguments", [("sites",), ("patch",), ("run", "--image")])
def test_broken_files(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"\x7fELF" + bytes(40))
    for bad in (path, tmp_path / "absent", tmp_path):
        result = call(*arguments, bad)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("pvfast: error: ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("sites",), ("patch",), ("run", "--image")])
def test_what_is_no_file(arguments: tuple[str, ...], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert call(*arguments, "").stderr == "pvfast: error: cannot read the image '': an empty name names no file\n"
    for bad in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        result = call(*arguments, bad)
        assert result.exit_code == 1
        assert "not a regular file" in result.stderr


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pvfast.images.load_kernel", fail)
    result = call("sites", "vmlinux")
    assert (result.exit_code, result.stderr) == (3, "pvfast: error: out of memory\n")


@pytest.mark.parametrize("arguments", [
    ("--help",), ("isa",), ("isa", "add"), ("isa", "--help"), ("run", "native", "iret", "--no-host-time")])
def test_a_full_disk(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "pvfast", *arguments], stdout=full, stderr=subprocess.PIPE,
                              timeout=60, check=False)
    assert done.stderr == b"pvfast: error: cannot write: No space left on device\n"
    assert done.returncode == 1


def test_run_prints_figures_and_sites() -> None:
    result = call("run", "native", "irq_disable")
    assert result.exit_code == 0
    assert "7 / 8 / 4" in result.output
    assert "  after   fa 90 8d b4 26 00 00 00 00 90  cli; nop;" in result.output
    assert "host ns" in result.output
    assert result.stderr == ""


def test_no_escape_codes_and_no_trailing_blanks_in_pipes() -> None:
    result = call("run", "native", "irq_disable")
    assert "\x1b" not in result.output
    assert all(line == line.rstrip() for line in result.output.splitlines())


def test_run_without_host_time_is_equal_every_time() -> None:
    arguments = ("run", "--no-host-time", "native", "null", "irq_disable")
    first = call(*arguments)
    assert first.output == call(*arguments).output
    assert "host ns" not in first.output


def test_run_trace() -> None:
    result = call("run", "native", "null", "--trace")
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.output.splitlines()[3:-1]] == ["irq_disable", "iret"]
    assert "2 operations, 2 of them interrupt operations" in result.output


def test_run_plots_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    result = call("run", "native", "irq_disable", "--no-host-time", "--plot", path)
    assert result.exit_code == 0
    assert "irq_disable" in result.stdout
    assert path.read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.parametrize(("command", "name"), [(("report", "-o"), "page.html"), (("run", "--plot"), "run.svg")])
def test_what_cannot_be_written_is_found_before_the_work(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], name: str) -> None:
    monkeypatch.setattr(contents, "gather", None)
    monkeypatch.setattr(experiments, "run_matrix", None)
    (tmp_path / name).mkdir()
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "locked")
    for path, problem in ((tmp_path / "absent" / name, "No such file or directory"),
                          (tmp_path / name, "Is a directory"), (tmp_path / "locked" / name, "Permission denied")):
        result = call(*command, path)
        assert (result.exit_code, result.stderr) == (1, f"pvfast: error: cannot use '{path}': {problem}\n")
    assert sorted(each.name for each in tmp_path.rglob("*")) == sorted(["locked", name])


@pytest.mark.parametrize("written", [None, '{"version": 2, "disp'])
def test_a_history_that_nobody_asked_for_may_be_broken(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str | None) -> None:
    monkeypatch.setattr(contents, "gather", partial(contents.gather, ["native"], ["irq_disable"], ["k8"]))
    monkeypatch.chdir(tmp_path)
    results = Path(".asv", "results")
    results.mkdir(parents=True)
    if written is not None:
        (results / "benchmarks.json").write_text(written)
    result = call("report", "-o", "page.html")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"pvfast: the page has no history: {results / 'benchmarks.json'}: ")
    assert "</html>" in Path("page.html").read_text(encoding="utf-8")
    Path("page.html").unlink()
    assert call("report", "-o", "page.html", "--asv", results).exit_code == 1
    assert not Path("page.html").exists()


def test_report_refuses_a_folder_that_is_not_asvs(tmp_path: Path) -> None:
    result = call("report", "-o", tmp_path / "report.html", "--asv", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pvfast: error: {tmp_path}")
    assert not (tmp_path / "report.html").exists()


def test_run_json() -> None:
    value = json.loads(call("run", "--json", "native", "iret").output)
    row, = value["rows"]
    assert (value["kind"], row["benchmark"], row["indirect"]["instructions"]) == ("matrix", "iret", 2)
    assert len(value["host_times"]) == 3


def test_run_image(image: Path) -> None:
    result = call("run", "--image", image)
    assert result.exit_code == 0
    assert "1 of 2 operations measured." in result.output       # an unlock that does not unlock is noticed
    value = json.loads(call("run", "native", "lock.kick", "--image", image, "--json").output)
    row, = value["rows"]
    assert (value["kind"], row["unpatched"], row["patched"]) == (
        "kernel", {"instructions": 2, "cycles": 5}, {"instructions": 1, "cycles": 1})


def test_run_with_another_processor(image: Path) -> None:
    arguments = ("run", "--processor", "pentium4", "--no-host-time", "--json", "native")
    assert json.loads(call(*arguments, "iret").output)["processor"] == "pentium4"
    assert json.loads(call(*arguments, "lock.kick", "--image", image).output)["processor"] == "pentium4"


def test_run_image_knows_its_operations(image: Path) -> None:
    result = call("run", "native", "foo", "--image", image)
    assert result.exit_code == 2
    assert "no 'foo': choose from lock.kick, lock.queued_spin_unlock" in result.stderr


def test_run_image_of_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "true"
    path.write_bytes(Kernel(bits=64, sites=((0, 4, 6),)).elf())
    for more in ((), ("native", "foo")):
        result = call("run", *more, "--image", path)
        assert result.exit_code == 1
        assert result.stderr.startswith("pvfast: error: this is a 64-bit ELF file: ")


def test_run_image_that_cannot_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(Kernel(sites=((0, 4, 6),), pointers=(0xC1001800,) * 13).elf())
    result = call("run", "--image", path)
    assert result.exit_code == 3
    assert "needs a booted kernel" in result.output


def test_sites(image: Path) -> None:
    assert "2 patch sites, 2 operations" in call("sites", image).output
    value = json.loads(call("sites", image, "--json").output)
    assert [row["operation"] for row in value["sites"]] == ["lock.queued_spin_unlock", "lock.kick"]
    assert value["summary"][0] == {"type": 9, "operation": "lock.queued_spin_unlock", "sites": 1, "bytes": 6}
    rows = list(csv.DictReader(io.StringIO(call("sites", image, "--csv").output)))
    assert [row["site"] for row in rows] == ["c1001000", "c1001010"]


def test_patch(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "patched"
    result = call("patch", image, "--hypervisor", "native", "-o", output)
    assert result.exit_code == 0
    assert "2 of 2 patch sites decided" in result.output
    assert output.stat().st_size == image.stat().st_size
    rows = list(csv.DictReader(io.StringIO(call("patch", image, "--csv").output)))
    assert list(rows[0]) == ["site", "type", "op", "len", "section", "before", "after"]


def test_patch_with_undecided_sites(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(Kernel(sites=((0, 4, 6),), pointers=(0,) * 13).elf())
    result = call("patch", path)
    assert result.exit_code == 1
    assert "paravirt_BUG" in result.stdout
    assert result.stderr.startswith("pvfast: 1 of 1 sites are undecided, the first because ")


def test_patch_as_a_guest_of_xen(image: Path) -> None:
    result = call("patch", image, "--hypervisor", "xen", "--vcpus", "2")
    assert result.exit_code == 1
    assert "2 of 2 sites are undecided" in result.stderr
    assert "x86-64 kernels from Linux 4.20 on only" in result.stderr


def test_patch_of_a_patched_image_is_done(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "patched"
    assert call("patch", image, "-o", output).exit_code == 0
    result = call("patch", output)
    assert result.exit_code == 0
    assert "2 of 2 sites are undecided" in result.stderr
    assert "was patched already" in result.stderr


def test_patch_to_where_nothing_can_be_written(image: Path, tmp_path: Path) -> None:
    result = call("patch", image, "-o", tmp_path / "no" / "where")
    assert result.exit_code == 1
    assert result.stderr.startswith("pvfast: error: cannot write")
    assert result.stdout == ""


def test_patch_replaces_neither_its_input_nor_what_is_no_file(image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(image)
    os.mkfifo(fifo)
    for output in (image, link):
        result = call("patch", image, "-o", output)
        assert result.exit_code == 2
        assert "that is the input image" in result.stderr
    for other in ("", fifo):
        result = call("patch", image, "-o", other)
        assert result.exit_code == 1
        assert result.stderr == (f"pvfast: error: cannot write the patched kernel to {str(other)!r}: not a regular "
                                 "file\n")
    assert image.read_bytes() == before
    assert fifo.is_fifo()


def test_models() -> None:
    assert all(name in call("models").output for name in MODELS)
    result = call("models", "SKYLAKE")
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if line.startswith("cli "))
    assert line.split() == ["cli", "8", "2-20", "assumed:", "twice", "IL-SK's", "CLD;", "range", "2-20"]
    value = json.loads(call("models", "pentium4", "--json").output)
    assert value["cycles"]["cli"]["high"] == 90
    assert value["prediction"]["return_stack"]["number"] == 16
    assert call("models", "i4004").exit_code == 2


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="measures an x86-64 host")
def test_calibrate(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    result = call("calibrate", "-o", path)
    assert result.exit_code == 0, result.output
    assert "restore_fl, inline" in result.output
    row, = json.loads(call("run", "native", "iret", "--processor", path, "--json", "--no-host-time").output)["rows"]
    assert row["patched"]["cycles"] == 200              # iret is not measured
    path.write_text('{"kind": "model"}')
    broken = call("run", "native", "iret", "--processor", path)
    assert (broken.exit_code, "holds no processor model" in broken.stderr) == (1, True)
    assert call("calibrate", "-o", tmp_path / "host.txt").exit_code == 2


def test_calibrate_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    result = call("calibrate")
    assert (result.exit_code, "only an x86-64 Linux" in result.stderr) == (3, True)


def test_isa() -> None:
    result = call("isa", "add")
    assert "01 /r" in result.output
    assert "ADD r/m32, r32" in result.output
    assert f"{len(ISA_FORMS)} forms" in call("isa").output
    only = json.loads(call("isa", "--json", "cmpxchg8b").output)["forms"]
    assert [(row["syntax"], row["feature"], row["lock"], row["writes"]) for row in only] == [
        ("CMPXCHG8B m64", "CX8", True, "z")]
    assert len(json.loads(call("isa", "--json").output)["forms"]) == len(ISA_FORMS)
    missing = call("isa", "qqqq")
    assert missing.exit_code == 1
    assert missing.stderr == "pvfast: error: no instruction 'qqqq': `pvfast isa` lists them all\n"


@pytest.mark.parametrize("typed, meant", [
    ("JE", "JZ"), ("setnae", "SETB"), ("cmovg", "CMOVNLE"), ("loope", "LOOPZ"), ("movl", "MOV"), ("popfl", "POPF"),
    ("incc", "INC, IN")])
def test_isa_suggests_names(typed: str, meant: str) -> None:
    assert call("isa", typed).stderr == (
        f"pvfast: error: no instruction {typed!r}: did you mean {meant}? `pvfast isa` lists them all\n")


def test_python_m_pvfast_and_a_closed_pipe() -> None:
    process = subprocess.Popen([sys.executable, "-m", "pvfast", "isa"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a command: one line, no traceback, 130."""
    script = ("import sys, time, pvfast.cli, pvfast.images\n"
              "def wait(path):\n    print('ready', flush=True)\n    time.sleep(60)\n"
              "pvfast.images.load_kernel = wait\n"
              "sys.argv = ['pvfast', 'sites', 'vmlinux']\n"
              "pvfast.cli.main()\n")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        assert child.stderr.read() == b"pvfast: stopped\n"
        assert child.wait(timeout=60) == 130
