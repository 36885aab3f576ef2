"""The gate on the built-in guest: what regresses is caught, explained and told to CI; what does not, passes."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from pvfast.cli import cli
from pvfast.errors import GuestError
from pvfast.experiments import matrix as matrix_module
from pvfast.gate import Measurement, Verdict, compare, judge, measure_guest, measure_kernel, read_baseline
from pvfast.gate import measurement as measurement_module
from pvfast.gate.formats import to_junit, to_markdown, to_text
from pvfast.gate.measurement import row_of
from pvfast.guest.benchmarks import WORKLOADS
from pvfast.paravirt.hypervisors.native import Native
from pvfast.paravirt.operations import era
from pvfast.paravirt.sites import PatchType
from pvfast.processor import MODEL_FILE_HEAD

ROW = "native/irq_disable"


@pytest.fixture(scope="module", autouse=True)
def small_matrix() -> Iterator[None]:
    """What is tested here does not depend on how much is compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement_module, "hypervisor_names", lambda: ("native", "xen"))
        patch.setattr(matrix_module, "WORKLOADS", [row for row in WORKLOADS if row.name in ("null", "signal-catch")])
        yield


@pytest.fixture(scope="module")
def measured(small_matrix: None) -> Measurement:
    return measure_guest()


@pytest.fixture
def baseline(tmp_path: Path, gate: Callable[..., Result]) -> Path:
    assert gate("update").exit_code == 0
    return tmp_path / "baseline.json"


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    def run(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["gate", command, *arguments, "--baseline", str(tmp_path / "baseline.json")])
    return run


def slow_patcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that lets native code push and pop for nothing, twice."""
    patch = Native.patch

    def slow(self: Native, site_type: int, *arguments: object) -> bytes | None:
        if site_type == PatchType.IRQ_DISABLE:
            return bytes.fromhex("50585058fa")
        return patch(self, site_type, *arguments)       # type: ignore[arg-type]
    monkeypatch.setattr(Native, "patch", slow)


def longer_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that puts one more instruction into the site of irq_disable."""
    module = importlib.import_module("pvfast.guest.build")      # the package has a function of that name
    head = ".macro raw_local_irq_disable\n771:\n"
    text = module.macros(era("2.6.20"))
    assert head in text
    longer = text.replace(head, head + "testl %eax, %eax\n")
    monkeypatch.setattr(module, "macros", lambda _: longer)
    image = module._assembled.__wrapped__("2.6.20", "native")
    for user in (matrix_module, measurement_module):
        monkeypatch.setattr(user, "build", lambda **_: image)


def test_the_same_code_passes(baseline: Path, gate: Callable[..., Result]) -> None:
    result = gate("check")
    assert result.exit_code == 0, result.output
    assert "pass: every figure compared is as the baseline has it" in result.output


def test_two_measurements_are_equal_bytes(baseline: Path, gate: Callable[..., Result]) -> None:
    before = baseline.read_bytes()
    gate("update")
    assert baseline.read_bytes() == before


def test_a_slower_patcher_is_caught_and_explained(
        baseline: Path, gate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    slow_patcher(monkeypatch)
    assert gate("check").exit_code == 1
    result = gate("explain")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    at = lines.index(ROW)
    assert lines[at + 1] == "  site_irq_disable: the patch site has other code"
    assert "  per execution: native/irq_disable/patched/instructions: 4 -> 7 (+75.0 %)" in lines
    assert any("now, patched:  50585058fa" in line and "popl %eax; cli" in line for line in lines[at:at + 12])
    assert "    + pushl %eax" in lines


def test_of_a_workload_it_is_explained_where_in_the_kernel(
        baseline: Path, gate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    slow_patcher(monkeypatch)
    lines = gate("explain", "native/signal-catch").output.splitlines()
    changes = [line for line in lines if "instructions:" in line and "per execution" in line]
    assert len(changes) == 1
    before, after = map(int, re.findall(r" (\d+) -> (\d+) ", changes[0])[0])
    at = lines.index("  instructions of an iteration by label, patched:")
    by_label = [int(number) for number in re.findall(r"^    \S+: \d+ -> \d+ \((.+)\)$", "\n".join(lines[at:]), re.M)]
    assert len(by_label) > 1 and sum(by_label) == after - before > 0
    assert any(line.startswith("  another number of instructions in do_signal, ") for line in lines)
    assert "  instructions of an iteration by label, indirect:" not in lines


def test_a_longer_site_is_caught_and_explained(
        baseline: Path, gate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    longer_site(monkeypatch)
    assert gate("check").exit_code == 1
    output = gate("explain", ROW).output
    assert f"{ROW}/indirect/instructions: 7 -> 8 (+14.3 %)" in output
    assert "site_irq_disable: the patch site has other code" in output
    assert "+ testl %eax, %eax" in output


def test_code_that_only_moved_is_the_same(measured: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are labels in what is compared: other rows are not blamed for a longer site."""
    longer_site(monkeypatch)
    report = judge("b", measured, measure_guest(), rows=["native/save_fl"])
    assert [found.row for found in report.explanations] == ["native/save_fl"]
    assert report.explanations[0].paths == ()
    assert all(site.same for site in report.explanations[0].sites)


def test_an_improvement_makes_the_baseline_stale(
        gate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as slower:
        slow_patcher(slower)
        assert gate("update").exit_code == 0
    result = gate("check")
    assert result.exit_code == 4
    assert "gate update" in result.output


def test_added_and_removed_points_are_listed(measured: Measurement) -> None:
    fewer = {name: value for name, value in measured.points.items() if not name.startswith(f"{ROW}/")}
    removed = compare(measured.points, fewer)
    assert removed.verdict is Verdict.STALE
    assert set(removed.removed) == measured.points.keys() - fewer.keys()
    added = compare(fewer, measured.points)
    assert added.verdict is Verdict.STALE
    assert set(added.added) == set(removed.removed)


def test_what_was_not_asked_for_is_skipped(baseline: Path, gate: Callable[..., Result]) -> None:
    result = gate("check", "--hypervisor", "native", "--operation", "irq_disable", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["compared"] == 7
    assert "xen/irq_disable/patched/cycles" in report["skipped"]
    assert report["removed"] == {}
    assert len(gate("check", "--hypervisor", "native", "--operation", "irq_disable").output.splitlines()) == 2


def test_a_tolerance_forgives(baseline: Path, gate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    slow_patcher(monkeypatch)
    assert gate("check", "--tolerance", "100").exit_code == 0
    assert gate("check", "--tolerance", "1").exit_code == 1
    assert gate("explain", "--tolerance", "100").exit_code == 0
    for wrong in ("-1", "nan", "inf", "x"):
        assert gate("check", "--tolerance", wrong).exit_code == 2


def test_tells_ci(
        baseline: Path, gate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_patcher(monkeypatch)
    summary, junit = tmp_path / "summary.md", tmp_path / "junit.xml"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = gate("check", "--junit", str(junit))
    assert result.exit_code == 1
    annotations = [line for line in result.output.splitlines() if line.startswith("::")]
    assert len(annotations) == 1
    assert annotations[0].startswith("::error ")
    assert f"| `{ROW}/patched/instructions` | 4 | 7 | +75.0 % |" in summary.read_text()
    suite = ElementTree.parse(junit).getroot()
    failures = {f"{case.attrib['classname']}.{case.attrib['name']}" for case in suite
                if case.find("failure") is not None}
    assert "native.irq_disable.patched.instructions" in failures
    assert int(suite.attrib["failures"]) == len(failures)
    assert int(suite.attrib["tests"]) == len(suite)


def test_nothing_measured_is_an_error(baseline: Path, gate: Callable[..., Result]) -> None:
    """Under Xen the kernel has no sysenter, so nothing of this row is measured."""
    result = gate("check", "--hypervisor", "xen", "--operation", "irq_enable_sysexit")
    assert result.exit_code == 3, result.output
    assert "measured nothing" in result.output


@pytest.mark.parametrize("arguments", [
    ("--operation", "none"), ("--hypervisor", "none"), ("--image", "x", "--operation", "iret"),
    ("--processor", "generic")])
def test_wrong_usage(baseline: Path, gate: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    assert gate("check", *arguments).exit_code == 2


def test_a_missing_baseline_says_what_to_do(gate: Callable[..., Result]) -> None:
    result = gate("check")
    assert result.exit_code == 3
    assert "gate update" in result.output


def test_explains_what_did_not_change_when_asked(baseline: Path, gate: Callable[..., Result]) -> None:
    result = gate("explain", ROW)
    assert result.exit_code == 0
    assert "same, patched:  fa908db4260000000090  cli; nop; leal (%esi), %esi; nop" in result.output
    assert gate("explain", "native/nothing").exit_code == 2


def test_every_row_of_the_matrix_has_points_sites_and_paths(measured: Measurement) -> None:
    """A row that the gate forgets would never fail."""
    matrix = matrix_module.run_matrix(measurement_module.hypervisor_names())
    rows = {"/".join(part for part in row.key if part) for row in matrix.measured}
    assert set(measured.sites) == rows
    operations = {"/".join(part for part in row.key if part) for row in matrix.measured if not row.is_workload}
    assert {name.rpartition("/")[0] for name in measured.paths} == operations
    assert {name.rpartition("/")[0] for name in measured.profiles} == rows - operations
    assert len(measured.points) == 7 * len(rows)        # two figures of three forms, and how many sites or operations
    assert set(measured.skipped) == {"/".join(part for part in row.key if part) for row in matrix.rows} - rows


def test_paths_are_what_is_counted(measured: Measurement) -> None:
    """The listed instructions of a path, less those of the empty loop, are the counted ones."""
    listed = [line for line in measured.paths[f"{ROW}/indirect"] if not line.endswith(":")]
    empty_loop = 3
    assert len(listed) - empty_loop == measured.points[f"{ROW}/indirect/instructions"]


def test_profiles_are_what_is_counted(measured: Measurement) -> None:
    assert measured.profiles
    for name, profile in measured.profiles.items():
        assert sum(profile.values()) == measured.points[f"{name}/instructions"]


def test_the_processor_is_the_baselines(tmp_path: Path, gate: Callable[..., Result]) -> None:
    assert gate("update", "--processor", "SKYLAKE").exit_code == 0
    assert read_baseline(tmp_path / "baseline.json").subject["processor"] == "skylake"
    assert gate("check", "--operation", "irq_disable").exit_code == 0


def test_cycles_of_other_costs_are_not_compared(
        gate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's file has changed since: that is neither slower nor faster."""
    model, summary = tmp_path / "model.json", tmp_path / "summary.md"
    content: dict[str, Any] = {**MODEL_FILE_HEAD, "model": "mine", "base": "generic", "cycles": {}}
    model.write_text(json.dumps(content))
    assert gate("update", "--processor", str(model)).exit_code == 0
    content["cycles"] = {"cli": {"cycles": 90, "source": "mine", "low": 90, "high": 90}}
    model.write_text(json.dumps(content))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = gate("check", "--json")
    assert result.exit_code == 4
    report = json.loads(result.output)
    assert report["changed"] == [] and "native/irq_disable/patched/cycles" in report["incomparable"]
    assert any(line.startswith("costs_sha256: ") for line in report["subject_changes"])
    assert "costs_sha256: " in summary.read_text()
    slow_patcher(monkeypatch)
    assert gate("check").exit_code == 1         # instructions are compared all the same


def test_what_cannot_be_measured_any_more_is_no_pass(measured: Measurement) -> None:
    row = "native/irq_enable_sysexit"
    fewer = replace(measured, points={name: value for name, value in measured.points.items() if row_of(name) != row},
                    skipped={row: "no SEP"})
    report = judge("b.json", measured, fewer)
    assert report.verdict is Verdict.STALE
    assert f"{row}/patched/cycles: removed, was {measured.points[f'{row}/patched/cycles']}: no SEP" in (
        report.comparison.lines())
    assert judge("b.json", measured, fewer, operations=["iret"]).verdict is Verdict.PASS
    assert judge("b.json", measured, fewer, hypervisors=["native"], operations=["irq_enable_sysexit", "iret"]
                 ).verdict is Verdict.STALE


def test_other_code_with_the_same_figures_is_no_pass(measured: Measurement) -> None:
    site, = measured.sites[ROW]
    sites = {**measured.sites, ROW: (replace(site, after_text="sti; nop; leal (%esi), %esi; nop"),)}
    other = replace(measured, sites=sites)
    report = judge("b.json", measured, other)
    assert (report.verdict, report.comparison.recoded) == (Verdict.STALE, (ROW,))
    assert [found.row for found in report.explanations] == [ROW]
    for text in (to_text(report, explained=False), to_markdown(report)):
        assert f"{ROW}: the same figures from other code" in text
    failures = ElementTree.fromstring(to_junit(report)).findall("*/failure")
    assert [failure.attrib["message"] for failure in failures] == ["the same figures from other code"]
    assert judge("b.json", measured, other, tolerance_percent=1).verdict is Verdict.PASS


def test_a_baseline_of_something_else_is_no_baseline(measured: Measurement) -> None:
    with pytest.raises(GuestError, match=r"it is of another, and this is built-in kernel"):
        judge("b.json", Measurement({"image": "another"}, {"lock.kick/sites": 1}), measured)


def test_a_reader_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    baseline, junit = tmp_path / "baseline.json", tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pvfast", "gate"]
    only = ["--baseline", str(baseline), "--operation", "irq_disable"]
    subprocess.run([*command, "update", "--baseline", str(baseline)], check=True, capture_output=True)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, "check", *only, "--junit", str(junit)], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert junit.exists()


def test_every_site_of_a_kernel_image(kernels: Path, tmp_path: Path, gate: Callable[..., Result]) -> None:
    image = next(kernels.glob("vmlinuz-*-686"))
    found = measure_kernel(image)
    rows = [row for row in (*found.sites, *found.skipped) if "/" in row]        # the others are of operations
    assert sum(value for name, value in found.points.items() if name.endswith("/sites")) == len(rows)
    assert gate("update", "--image", str(image)).exit_code == 0
    assert gate("check", "--image", str(image)).exit_code == 0
    assert read_baseline(tmp_path / "baseline.json").points == dict(sorted(found.points.items()))


def test_every_site_of_a_64_bit_image(kernels: Path) -> None:
    found = measure_kernel(next(kernels.glob("vmlinuz-*-amd64")))
    assert len(found.sites) > 1000
    site, = found.sites["irq.irq_disable/.init.text/start_kernel#1"]
    assert (site.before_text, site.after_text) == ("callq *irq.irq_disable", "cli; nopl (%rax, %rax)")
    site, = found.sites["cpu.write_cr0/.text/exc_device_not_available#1"]
    assert site.after_text == "callq native_write_cr0; nop"


def test_two_builds_of_a_kernel_are_compared(kernels: Path) -> None:
    """With and without PAE nearly every address is another: what is the same code is the same row."""
    plain, pae = (measure_kernel(next(kernels.glob(f"vmlinuz-*-686{flavour}"))) for flavour in ("", "-pae"))
    report = judge("b.json", plain, pae)
    assert report.comparison.compared > 0.95 * len(plain.points)
    assert len(report.comparison.recoded) < 0.05 * len(plain.sites)


def test_what_cannot_be_written_is_no_regression(baseline: Path, gate: Callable[..., Result], tmp_path: Path) -> None:
    assert gate("check", "--junit", str(tmp_path / "none" / "junit.xml")).exit_code == 3
