"""asv's results, as it writes them: what is read, what counts as a step, and what is refused."""

import json
import math
from pathlib import Path

import pytest

from pvfast.report.history import BenchmarkHistory, HistoryError, Step, read_history
from tests.report.asv_results import TRACK, write_results


def test_reads_the_exact_figures_of_each_commit_in_order(tmp_path: Path) -> None:
    found = read_history(write_results(tmp_path, [(17, 15), (17, 15), (18, 2)]))
    assert [str(commit.made) for commit in found.commits] == [f"2026-11-22 09:29:{second}" for second in (39, 40, 41)]
    benchmark, = found.benchmarks
    assert (benchmark.name, benchmark.unit, benchmark.machine) == (TRACK, "modelled cycles/operation", "vm")
    assert benchmark.series == (("native, irq_disable", (17, 17, 18)), ("xen, irq_disable", (15, 15, 2)))


def test_a_rise_is_a_regression_and_a_fall_an_improvement(tmp_path: Path) -> None:
    benchmark, = read_history(write_results(tmp_path, [(17, 15), (18, 2)])).benchmarks
    assert benchmark.steps == (Step("native, irq_disable", 1, 17, 18), Step("xen, irq_disable", 1, 15, 2))
    assert [step.worse for step in benchmark.steps] == [True, False]


def test_a_benchmark_that_failed_or_cannot_run_leaves_a_gap(tmp_path: Path) -> None:
    benchmark, = read_history(write_results(tmp_path, [(17, 15), (None, 15), (17, math.nan)])).benchmarks
    assert benchmark.series == (("native, irq_disable", (17, None, 17)), ("xen, irq_disable", (15, 15, None)))
    assert benchmark.steps == ()


@pytest.mark.parametrize(("before", "after", "steps"), [
    (1_000_000, 1_000_001, 1), (1.5, 1.6, 0), (1.5, 1.7, 1), (0, 1, 1), (0, 0, 0)])
def test_any_change_of_a_whole_number_is_a_step(before: float, after: float, steps: int) -> None:
    assert len(BenchmarkHistory("track", "", "vm", (("", (float(before), float(after))),)).steps) == steps


def test_figures_of_another_version_of_a_benchmark_are_left_out(tmp_path: Path) -> None:
    write_results(tmp_path, [(17, 15), (18, 2)])
    path = tmp_path / "vm" / "0-virtualenv.json"
    path.write_text(path.read_text().replace('"1"', '"0"'))
    assert len(read_history(tmp_path).commits) == 1


def test_refuses_what_asv_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="asv run"):
        read_history(tmp_path)
    write_results(tmp_path, [(17, 15)])
    path = tmp_path / "vm" / "0-virtualenv.json"
    whole = json.loads(path.read_text())
    for broken, words in ((whole | {"version": 1}, "asv update"), (whole | {"date": "soon"}, "not asv's results"),
                          (whole | {"date": 10 ** 30}, "not asv's results"), (whole | {"results": []}, "not asv's"),
                          ([], "no JSON object")):
        path.write_text(json.dumps(broken))
        with pytest.raises(HistoryError, match=words):
            read_history(tmp_path)
    path.write_text("{")
    with pytest.raises(HistoryError, match=str(path)):
        read_history(tmp_path)
