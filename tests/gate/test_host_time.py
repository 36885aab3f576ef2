"""Host time: the statistics on made-up times, and the processes on this very build."""
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pvfast.cli import cli
from pvfast.errors import GuestError
from pvfast.gate import Verdict, host_time
from pvfast.gate.host_time import TIMED, Build, compare_times, judge_times, median_interval

ROOT = Path(__file__).parents[2]


def clock(seed: int, factor: float = 1.0, noise: float = 0.02) -> Callable[[str, str, str, int], int]:
    """A build whose iterations take 100 ns and some noise, now and then a lot."""
    rng = random.Random(seed)

    def time(hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        slow = 1.5 if rng.random() < 0.05 else 1.0
        return int(iterations * 100 * factor * slow * (1 + abs(rng.gauss(0, noise)))) + 1
    return time


def test_identical_builds_pass_and_a_slower_one_fails() -> None:
    alarms = sum(judge_times(clock(n), clock(n + 1000), ("a", "b")).verdict is Verdict.REGRESSION for n in range(20))
    caught = sum(judge_times(clock(n), clock(n + 1000, 1.05), ("a", "b")).verdict is Verdict.REGRESSION
                 for n in range(10))
    assert (alarms, caught) == (0, 10)


def test_a_faster_build_passes() -> None:
    report = judge_times(clock(1), clock(2, 0.9), ("a", "b"))
    assert report.verdict is Verdict.PASS
    assert all(row.high < 0.95 for row in report.rows)


def test_what_is_slower_once_is_not_enough() -> None:
    """Something else runs during the first comparison only."""
    calls = []
    base, slow, head = clock(1), clock(2, 1.2), clock(3)

    def disturbed(*what: object) -> int:
        calls.append(what)
        return (slow if len(calls) < 42 * len(TIMED) else head)(*what)      # type: ignore[arg-type]
    report = judge_times(base, disturbed, ("a", "b"))
    assert all(row.slower for row in report.rows)
    assert report.verdict is Verdict.PASS


def test_intervals_are_the_same_every_time_and_hold_the_median() -> None:
    rng = random.Random(3)
    values = [rng.gauss(0.05, 0.02) for _ in range(60)]
    median, low, high = median_interval(values)
    assert median_interval(values) == (median, low, high)
    assert low < median < high


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 40"):
        compare_times(clock(1), clock(2), pairs=39)


def test_two_real_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_time, "_SAMPLE_NS", 20_000)
    result = CliRunner().invoke(cli, ["gate", "time", str(ROOT), "--pairs", "40", "--json"])
    value = json.loads(result.output)
    assert result.exit_code == {"PASS": 0, "REGRESSION": 1}[value["verdict"]]
    assert [row["name"] for row in value["rows"]] == [" ".join(what) for what in TIMED]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in value["rows"])


def test_what_is_no_build() -> None:
    result = CliRunner().invoke(cli, ["gate", "time", "/nowhere/python"])
    assert (result.exit_code, "neither a Python nor a folder" in result.stderr) == (3, True)


def test_a_build_that_has_no_such_benchmark() -> None:
    with Build(str(ROOT)) as build, pytest.raises(GuestError, match="cannot run polka under native"):
        build.time("native", "polka", "indirect", 1)
