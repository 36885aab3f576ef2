"""Every integer row in 16-bit code: no difference with Unicorn, and what the 32-bit cases leave out is here."""
from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("unicorn")

from pvfast.isa.forms import FORMS
from pvfast.isa.generate import handler_names

from .differences import FORBIDDEN, IN_RING_3, TRAPS, is_word_handler
from .sixteen import COMPARED, UNICORN_ZERO_EXTENDS, Maker, Pair, run

SEED = 3
CASES_PER_ROW = 6
FAULTING = TRAPS | {"into", "bound16", "bound32"}


@pytest.fixture(scope="module")
def result() -> tuple[Pair, list[str]]:
    return run(SEED, CASES_PER_ROW)


def test_no_difference(result: tuple[Pair, list[str]]) -> None:
    assert not result[1], "\n".join(result[1][:10])


def test_most_cases_complete(result: tuple[Pair, list[str]]) -> None:
    """A row that is for faults, or #UD in real mode, is compared by its vector."""
    pair, _ = result
    rows = [form for form in COMPARED if form.raw not in FAULTING and not form.protected]
    assert not [form for form in rows if pair.completed[form] < 0.5 * pair.tried[form]]
    assert sum(pair.completed[form] for form in rows) > 0.95 * sum(pair.tried[form] for form in rows)


def test_what_needs_descriptors_in_ring_3_is_compared_here_without() -> None:
    """Segment loads and far transfers, whose 32-bit cases only the host decides."""
    rows = {form for form in FORMS if form.raw in IN_RING_3 - FORBIDDEN and not form.protected}
    rows -= {form for form in rows if form.raw in {"int1", *UNICORN_ZERO_EXTENDS}}
    assert rows
    assert rows <= set(COMPARED)


def test_the_fast_ways_of_16_bit_stacks_ran(result: tuple[Pair, list[str]]) -> None:
    """fuzz.py leaves these handlers to this: its stacks have 32 bits."""
    names = handler_names()
    wanted = {number for number, name in enumerate(names) if is_word_handler(name)}
    assert wanted
    assert wanted <= set().union(*(world.word_handlers for world in result[0].worlds))


def test_a_difference_is_found() -> None:
    """Unicorn gets another immediate."""
    form = next(form for form in COMPARED if form.syntax == "MOV r32, imm32")
    case = Maker(SEED, 0, form).make()
    wrong = bytes([*case.reference[:-1], case.reference[-1] ^ 0x80])
    assert "expected" in "".join(Pair(SEED).run(dataclasses.replace(case, reference=wrong)))
