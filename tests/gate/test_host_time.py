"""Host time: the statistics on made-up times, the processes on made-up builds, and all of it on this very build."""
import json
import os
import random
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pvfast.cli import cli
from pvfast.errors import GuestError
from pvfast.gate import Verdict, host_time
from pvfast.gate.host_time import TIMED, Build, Origin, TimedRow, compare_times, judge_times, median_interval

ROOT = Path(__file__).parents[2]
#: A pvfast whose clock moves only while a loop runs: `NS` an iteration, ten times that the first time after a sample.
MADE_UP = """
import time
now = runs = 0
time.perf_counter_ns = lambda: now

class GuestRun:
    def __init__(self, *what):
        pass

    def loop(self, name, iterations):
        global now, runs
        now += iterations * NS * (1 if runs % 3 else 10)
        runs += 1

def settings(*what):
    return [None]

build = settings
"""


def clock(seed: int, factor: float = 1.0, noise: float = 0.02) -> Callable[[str, str, str, int], int]:
    """Iterations that take 100 ns and some noise, now and then a lot."""
    rng = random.Random(seed)

    def time(hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        slow = 1.5 if rng.random() < 0.05 else 1.0
        return int(iterations * 100 * factor * slow * (1 + abs(rng.gauss(0, noise)))) + 1
    return time


class Clock(Build):
    """A build without a process; each start takes the next of its factors."""

    def __init__(self, seed: int, factors: Iterator[float]) -> None:
        self.origin = Origin(str(seed), "", "")
        self.time = clock(seed, next(factors))      # type: ignore[assignment, method-assign]

    def __exit__(self, *error: object) -> None:
        pass


def judge(seed: int, *factors: float) -> host_time.TimeReport:
    """What comes of a head that is slower by these factors, process by process."""
    return judge_times(partial(Clock, seed, iter([1.0] * 2)), partial(Clock, seed + 1000, iter(factors)))


def test_identical_builds_pass_and_a_slower_one_fails() -> None:
    assert not [n for n in range(20) if judge(n, 1, 1).verdict is not Verdict.PASS]
    assert not [n for n in range(10) if judge(n, 1.05, 1.05).verdict is not Verdict.REGRESSION]


def test_a_faster_build_passes() -> None:
    report = judge(1, 0.9)
    assert report.verdict is Verdict.PASS
    assert all(row.high < 0.95 for row in report.rows)


def test_what_is_slower_in_one_process_only_is_not_enough() -> None:
    report = judge(1, 1.2, 1.0)
    assert all(row.slower for row in report.rows)
    assert report.verdict is Verdict.PASS


def test_a_loop_is_slower_when_all_of_its_interval_is() -> None:
    assert TimedRow("", 1.05, 1.031, 1.08, 40).slower
    assert not TimedRow("", 1.05, 1.029, 1.08, 40).slower


def test_who_goes_first_has_no_advantage() -> None:
    """Each second sample of a pair takes a fifth more."""
    calls = 0

    def time(hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        nonlocal calls
        calls += 1
        return iterations * (120 if calls % 2 == 0 else 100)
    assert all(row.low < 0.9 and row.high > 1.1 for row in compare_times(time, time))


def test_a_sample_lasts_long_enough_to_be_timed() -> None:
    taken: list[int] = []

    def time(hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        taken.append(iterations * 100)
        return iterations * 100
    compare_times(time, time)
    samples = taken[4 * len(TIMED):]
    assert len(samples) == 2 * 40 * len(TIMED)
    assert set(samples) == {host_time._SAMPLE_NS}


def test_intervals_are_the_same_every_time_and_hold_the_median() -> None:
    rng = random.Random(3)
    values = [rng.gauss(0.05, 0.02) for _ in range(60)]
    median, low, high = median_interval(values)
    assert median_interval(values) == (median, low, high)
    assert low < median < high


def test_of_a_hundred_intervals_one_misses_what_is_true() -> None:
    rng = random.Random(3)
    intervals = [median_interval([rng.gauss(0, 0.02) for _ in range(40)]) for _ in range(300)]
    assert 0.97 < sum(low <= 1 <= high for _, low, high in intervals) / 300 < 1


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 40"):
        compare_times(clock(1), clock(2), pairs=39)


def make_up(folder: Path, ns: int) -> Path:
    """A source tree with a pvfast in it that takes so long for an iteration."""
    (folder / "pvfast").mkdir(parents=True)
    (folder / "pvfast" / "__init__.py").touch()
    (folder / "pvfast" / "experiments.py").write_text(f"NS = {ns}\n{MADE_UP}")
    (folder / "pvfast" / "guest.py").write_text("from pvfast.experiments import build\n")
    return folder


def make_python(folder: Path, package: Path) -> Path:
    """An interpreter in whose environment a pvfast is installed."""
    folder.mkdir()
    python = folder / "python"
    python.write_text("#!/bin/sh\n"
                      f"PYTHONPATH={shlex.quote(str(package))} exec {shlex.quote(sys.executable)} -S \"$@\"\n")
    python.chmod(0o755)
    return python


def gate_time(*arguments: object) -> tuple[Result, dict[str, Any]]:
    result = CliRunner().invoke(cli, ["gate", "time", *map(str, arguments), "--json"])
    return result, json.loads(result.output) if result.exit_code in (0, 1) else {}


@pytest.mark.parametrize(("ns", "verdict", "code"), [(100, "pass", 0), (102, "pass", 0), (105, "regression", 1)])
def test_the_verdict_is_the_exit_code(tmp_path: Path, ns: int, verdict: str, code: int) -> None:
    result, value = gate_time(make_up(tmp_path / "base", 100), make_up(tmp_path / "head", ns))
    assert result.exit_code == value["exit_code"] == code
    assert value["verdict"] == verdict
    assert [row["ratio"] for row in value["rows"]] == pytest.approx([ns / 100] * len(TIMED), abs=1e-4)
    assert len(value["confirmed"]) == (len(TIMED) if code else 0)
    assert value["same_build"] is (ns == 100)


def test_says_what_was_compared(tmp_path: Path) -> None:
    base, head = make_up(tmp_path / "base", 100), make_up(tmp_path / "head", 100)
    text = CliRunner().invoke(cli, ["gate", "time", str(base), str(head)]).output
    assert f"base: {base}: {base / 'pvfast'}, build " in text
    assert "base and head are the same build" in text
    (head / "pvfast" / "more.py").touch()
    assert "the same build" not in CliRunner().invoke(cli, ["gate", "time", str(base), str(head)]).output


def test_a_sample_is_the_fastest_of_a_few_runs(tmp_path: Path) -> None:
    with Build(str(make_up(tmp_path / "tree", 100))) as build:
        assert build.time("native", "null", "indirect", 50) == 5_000


def test_an_interpreter_is_timed_with_its_own_pvfast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name and by a relative path, in a folder that has another pvfast."""
    make_python(tmp_path / "bin", make_up(tmp_path / "installed", 100))
    make_up(tmp_path / "tree", 200)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path / "tree")
    for place in ("python", "../bin/python"):
        with Build(place) as build:
            assert build.origin.package == str(tmp_path / "installed" / "pvfast")


def test_what_is_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = make_python(tmp_path / "bin", tmp_path)
    monkeypatch.setattr(sys, "executable", str(make_python(tmp_path / "own", make_up(tmp_path / "installed", 100))))
    for place, words in (("/nowhere/python", "neither a Python nor a folder"), (tmp_path, "has no pvfast in it"),
                         (bare, "has no pvfast that can run: ModuleNotFoundError")):
        result, _ = gate_time(place, place)
        assert (result.exit_code, words in result.stderr) == (3, True), result.stderr


def test_this_very_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes is the host's affair, and so is the verdict, on samples as short as these."""
    monkeypatch.setattr(host_time, "_SAMPLE_NS", 20_000)
    result, value = gate_time(ROOT)
    assert result.exit_code == value["exit_code"]
    assert value["same_build"]
    assert [row["name"] for row in value["rows"]] == [" ".join(what) for what in TIMED]
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in value["rows"])


def test_a_build_that_has_no_such_benchmark() -> None:
    with Build(str(ROOT)) as build, pytest.raises(GuestError, match="cannot run polka under native"):
        build.time("native", "polka", "indirect", 1)
