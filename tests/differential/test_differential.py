"""A fast part of the fuzz: seeded cases with no difference, and the completeness of what is tried."""
from __future__ import annotations

import dataclasses
import multiprocessing
import re
from pathlib import Path

import pytest

pytest.importorskip("unicorn")

from pvfast.isa.forms import FORMS

from .cases import Case
from .differences import DIFFERENCES, NOT_COMPARED, reason_not_compared
from .encoder import Memory, encode
from .fuzz import Fuzz, Session
from .host import host
from .instructions import COMPARED
from .targets import TARGETS

SEED, CASES = 20, 50_000


@pytest.fixture(scope="module")
def fuzz() -> Fuzz:
    """The cases, run once."""
    result = Fuzz(SEED)
    result.run(CASES, multiprocessing.cpu_count())
    return result


def test_no_difference(fuzz: Fuzz) -> None:
    assert not fuzz.found, "\n\n".join(str(found) for found in fuzz.found[:5])


def test_every_row_has_cases(fuzz: Fuzz) -> None:
    assert fuzz.missing_forms() == []


def test_most_cases_complete(fuzz: Fuzz) -> None:
    """Faulting is cheap to compare: at least four of five cases of each row get to their end."""
    assert [(form.syntax, fuzz.completed[form], fuzz.tried[form]) for form in fuzz.faulting_forms()] == []


def test_every_handler_ran(fuzz: Fuzz) -> None:
    """Fused, specialised, without flag stores: all that the generator wrote for rows that are compared."""
    assert fuzz.missing_handlers() == []


def test_the_host_decided(fuzz: Fuzz) -> None:
    """Every case ran on the host's processor too, and in every world."""
    if reason := host.unavailable():
        pytest.skip(reason)
    assert fuzz.comparisons["host"] == CASES
    assert min(fuzz.comparisons.values()) > CASES // 2


def test_differences_are_few() -> None:
    assert len(DIFFERENCES) <= 30


def test_same_seed_same_cases() -> None:
    first, second, other = Fuzz(SEED), Fuzz(SEED), Fuzz(SEED + 1)
    numbers = range(0, 2000, 7)
    assert [first.make(n) for n in numbers] == [second.make(n) for n in numbers]
    assert [first.make(n) for n in numbers] != [other.make(n) for n in numbers]


def test_same_report_for_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.differential.fuzz.CHUNK", 100)
    alone, together = Fuzz(SEED), Fuzz(SEED)
    alone.run(350, 1)
    together.run(350, 3)
    assert alone.report() == together.report()


def a_case(session: Session) -> Case:
    """MOV r32, imm32."""
    number = 2 * next(i for i, target in enumerate(TARGETS) if target.form.syntax == "MOV r32, imm32")
    return session.fuzz.make(number)


def test_a_difference_with_unicorn_is_found() -> None:
    """The comparison is not blind: a case whose reference differs in one bit is reported."""
    session = Session(SEED)
    case = a_case(session)
    wrong = bytearray(case.reference)
    wrong[-1] ^= 0x80
    session.run([dataclasses.replace(case, reference=bytes(wrong))])
    (found,) = session.fuzz.found
    assert found.differences.keys() >= {"flat", "paged", "segmented", "segmented+paged", "checked"}
    assert "expected, not" in str(found)
    if not host.unavailable():
        assert str(found).count("the host agrees with pvfast") == 5


def test_a_difference_with_the_host_is_found() -> None:
    if reason := host.unavailable():
        pytest.skip(reason)
    session = Session(SEED)
    case = a_case(session)
    (native,) = session.host.run_many([case])
    native.registers[5] ^= 1
    session.run_case(case, native)
    (found,) = session.fuzz.found
    assert found.differences.keys() == {"user+paged", "user+segmented+paged"}
    assert "Unicorn agrees with pvfast" in str(found)


def test_reasons_name_rows() -> None:
    """Every reason is about a row that exists, names a file that tests it, and no generated wrapper is left out."""
    folder = Path(__file__).parents[2]
    for form in FORMS:
        if reason := reason_not_compared(form):
            text = (folder / reason.rpartition(": ")[2]).read_text().lower()
            assert re.search(rf"\b{form.mnemonic.lower()}[wl]?\b", text), (form.mnemonic, reason)
    assert {form.raw for form in FORMS} >= NOT_COMPARED.keys()
    assert all(form.raw for form in FORMS if form not in COMPARED)


def test_targets_cover_the_rows() -> None:
    assert {target.form for target in TARGETS} == set(COMPARED)


@pytest.mark.parametrize(("operand", "expected"), [
    (3, "01cb"),
    (Memory(disp=0x1234), "010d34120000"),
    (Memory(0), "0108"),
    (Memory(4), "010c24"),
    (Memory(5), "014d00"),
    (Memory(6, 7, 2, 0x12), "014cbe12"),
    (Memory(None, 7, 3, 0x10), "010cfd10000000"),
    (Memory(3, 6, disp=5, address16=True), "6701880500"),
    (Memory(0, segment="gs", disp=-1), "650148ff"),
])
def test_encoder(operand: int | Memory, expected: str) -> None:
    """SDM 2:2.1.5."""
    add = next(form for form in FORMS if form.syntax == "ADD r/m32, r32")
    assert encode(add, reg=1, rm=operand).hex() == expected
