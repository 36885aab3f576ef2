"""A fast part of the long-running property: seeded hostile machines, and what the fuzz has found before.

A file of the corpus is a `Scenario` as JSON; its name says what it was about.
"""
from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from . import fuzz
from .execution import Run, Violation, check
from .fuzz import Watch, main, run_case
from .scenario import Scenario, make

SEED, CASES, PART = 20, 4000, 250
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.parametrize("first", range(0, CASES, PART))
def test_hostile_machines(first: int) -> None:
    for number in range(first, first + PART):
        try:
            run_case(SEED, number)
        except Violation as error:
            pytest.fail(f"`python -m tests.robustness.fuzz --case {SEED}/{number}`: {error}")


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
@pytest.mark.parametrize("number", range(4))
def test_corpus(file: Path, number: int) -> None:
    """Each in several ways."""
    scenario = Scenario.from_json(file.read_text())
    assert scenario.budget > 0
    check(scenario, random.Random(number))


def test_cases_run_code() -> None:
    """The cases are not all over at once: most retire instructions, and every mode is among them."""
    modes, busy = set(), 0
    for number in range(300):
        scenario = make(SEED, number)
        run = Run(scenario)
        before = run.machine.counters.instructions
        cpu = run.machine.cpu
        modes.add((cpu.cr0 & 1, cpu.cr0 >> 31, cpu.eflags >> 17 & 1, cpu.cpl))
        if not scenario.wild:
            busy += run.go([scenario.budget]).machine.counters.instructions > before
    assert busy > 150
    assert modes >= {(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 0, 3), (1, 1, 0, 3), (1, 0, 1, 3), (1, 1, 1, 3)}


def test_json_keeps_everything() -> None:
    for number in range(20):
        scenario = make(SEED, number)
        again = Scenario.from_json(scenario.to_json())
        assert again.to_json() == scenario.to_json()
        assert Run(scenario).go([50]).state() == Run(again).go([50]).state()


def test_a_violation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is not blind: one bit of one register after the run is enough."""
    scenario = make(SEED, 0)
    monkeypatch.setattr(scenario, "wild", False)
    honest, runs = Run.state, []

    def state(run: Run) -> dict[str, object]:
        runs.append(run)
        found = honest(run)
        if len(runs) == 2:
            found["edx"] ^= 0x100
        return found

    monkeypatch.setattr(Run, "state", state)
    with pytest.raises(Violation, match="edx"):
        check(scenario, random.Random(1))


@pytest.mark.parametrize(("code", "message"), [
    ("import os; os.abort()", "the worker died, status -6"),
    ("import time; time.sleep(60)", "no end after 1 s"),
])
def test_the_watchdog_reports_the_case(code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capfd: pytest.CaptureFixture[str]) -> None:
    """A worker that dies or hangs in the last of three cases."""
    note = f"import sys; open(sys.argv[2], 'wb').write({fuzz.PROGRESS.pack(2, 0)}); "
    monkeypatch.setattr(fuzz, "CASE_SECONDS", 1)
    monkeypatch.setattr(Watch, "worker", (sys.executable, "-c", note + code))
    assert Watch(SEED, 0, 3, 60, tmp_path).run() == 1
    assert f"case {SEED}/2: {message}" in capfd.readouterr().out


def test_the_fuzz_itself(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "5", "--seed", str(SEED)]) == 0
    assert f"5 cases (seed {SEED})" in capfd.readouterr().out
