"""The examples work as their users install them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pvfast.experiments import workload_names
from pvfast.experiments.sweep import points, sweep

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With the example hypervisor installed in a folder of its own."""
    if not EXAMPLES.is_dir():
        pytest.skip("the examples are in the repository, not in the installed package")
    place = tmp_path_factory.mktemp("examples")
    source = shutil.copytree(EXAMPLES / "hypervisor", place / "source")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
                    "--no-index", "--disable-pip-version-check", "--target", place / "site", source], check=True,
                   timeout=120)
    paths = [str(place / "site"), str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def guest(environment: dict[str, str], tmp_path: Path) -> tuple[dict[str, str], Path]:
    """A copy of the guest's project."""
    paths = os.pathsep.join((str(tmp_path / "guest"), environment["PYTHONPATH"]))
    return {**environment, "PYTHONPATH": paths, "ASV_PYTHONPATH": paths, "HOME": str(tmp_path)}, Path(
        shutil.copytree(EXAMPLES / "guest", tmp_path / "guest"))


def run(environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True,
                          timeout=120).stdout


def test_an_installed_hypervisor_is_found_and_measured(environment: dict[str, str]) -> None:
    output = run(environment, "-m", "pvfast", "run", "quiet", "irq_disable", "null", "--json", "--no-host-time")
    rows = {row["benchmark"]: row for row in json.loads(output)["rows"]}
    assert rows["irq_disable"]["sites"][0]["after"].startswith("fa")            # cli: native inline code
    assert rows["null"]["operations"] == {"irq_disable": {"group": "irq", "executed": 1},
                                          "iret": {"group": "exit", "executed": 1}}


CHECK = """
from pvfast.experiments import boot
from pvfast.guest import build
image = build(hypervisor="quiet")
machine = boot(image, "quiet")
word = lambda address: int.from_bytes(machine.read_linear(address, 4), "little")
held = {name: word(pointer) for name, pointer in image.pointers.items()}
changed = {name for name in held if held[name] != image.labels["native_" + name]}
print(sorted(changed), [held[name] == image.labels["quiet_" + name] for name in sorted(changed)])
code = machine.cpu.eip, machine.cpu.esp
machine.cpu.esp -= 4
machine.write_linear(machine.cpu.esp, image.labels["boot_done"].to_bytes(4, "little"))
machine.cpu.eip = held["get_wallclock"]
machine.run(until=image.labels["boot_done"], max_instructions=100)
print(machine.cpu.eax)
"""


def test_it_overrides_two_operations_and_serves_its_hypercall(environment: dict[str, str]) -> None:
    assert run(environment, "-c", CHECK).splitlines() == ["['get_wallclock', 'io_delay'] [True, True]", "1165449600"]


def test_a_sweep_on_two_workers_of_a_cluster(environment: dict[str, str], tmp_path: Path) -> None:
    """The rows are those that this process computes by itself."""
    pytest.importorskip("distributed")
    journal = tmp_path / "journal"
    output = run(environment, str(EXAMPLES / "sweep" / "cluster.py"), str(journal))
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    wanted = points(workload_names(), ["native", "xen"], ["pentium4", "skylake", "skylake-retpoline"])
    assert len(rows) == len(wanted)
    assert output == sweep(wanted).to_csv()


def test_a_guest_of_ones_own_is_measured(guest: tuple[dict[str, str], Path]) -> None:
    environment, _ = guest
    head, section, lock = run(environment, "-m", "small_kernel").splitlines()
    assert head == "3 patch sites of 30 bytes; generic"
    # Per site: two pushes, the call, the body, a return and two pops; patched, only the body.
    assert "indirect 31 instructions" in section and "patched 20 instructions" in section
    assert lock.endswith("0.0 %")
    assert run(environment, "-m", "small_kernel", "pentium4") == run(environment, "-m", "small_kernel", "pentium4")


SUITE = """
import itertools
from benchmarks import loops
rows = [(suite, row) for suite in (loops.Loop, loops.Processor) for row in itertools.product(
        *(suite.params if isinstance(suite.params[0], tuple) else (suite.params,)))]
for suite, row in rows:
    for name in vars(suite):
        if name.startswith(("track_", "time_")):
            print(suite.__name__, name, *row, getattr(suite(), name)(*row))
print(loops.track_site_bytes())
"""


def test_its_suite_runs(guest: tuple[dict[str, str], Path]) -> None:
    environment, folder = guest
    rows = run({**environment, "PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}, "-P", "-c", SUITE)
    assert "Loop track_instructions critical_section patched 20" in rows.splitlines()
    overheads = [float(row.split()[-1]) for row in rows.splitlines() if row.startswith("Processor")]
    assert len(overheads) == 6 and min(overheads) > 0


def test_asv_runs_it(guest: tuple[dict[str, str], Path]) -> None:
    pytest.importorskip("asv")
    environment, folder = guest
    subprocess.run(["git", "init", "-q", folder], check=True)
    for arguments in (("machine", "--yes"), ("run", "--python=same", "--quick", "--dry-run", "--bench", "track_")):
        done = subprocess.run([sys.executable, "-m", "asv", *arguments], cwd=folder, env=environment,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "track_site_bytes" in done.stdout and "failed" not in done.stdout
