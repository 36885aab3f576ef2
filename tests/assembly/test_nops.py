"""NOP families: every row, how longer fillings are composed, and refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvfast.assembly.disassembler import disassemble
from pvfast.assembly.nops import FAMILIES, NOP_MAX, nops
from pvfast.errors import PatchError


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_has_its_length(family):
    assert [len(row) for row in FAMILIES[family]] == list(range(NOP_MAX + 1))


@pytest.mark.parametrize(("family", "length", "expected"), [
    ("generic", 5, "90 8d742600"),
    ("generic", 8, "90 8db42600000000"),
    ("k8", 5, "666690 6690"),
    ("k8", 8, "66666690 66666690"),
    ("k7", 5, "8d442000 90"),
    ("k7", 8, "8d040500000000 90"),
    ("p6", 8, "0f1f840000000000"),
    ("generic", 9, "90 8db42600000000 90"),
    ("k8", 11, "66666690 66666690 666690"),
    ("p6", 17, "0f1f840000000000 0f1f840000000000 90"),
])
def test_composition(family, length, expected):
    assert nops(family, length) == bytes.fromhex(expected)


@given(family=st.sampled_from(sorted(FAMILIES)), length=st.integers(0, 255))
@settings(derandomize=True, max_examples=200)
def test_filling_is_exact_and_decodes(family, length):
    code = nops(family, length)
    assert len(code) == length
    names = {instruction.text.split()[0] for instruction in disassemble(code)}
    assert names <= {"nop", "nopl", "nopw", "movl", "leal"}


def test_refusals():
    with pytest.raises(PatchError, match="choose one of generic, k8, k7, p6"):
        nops("pentium", 1)
    with pytest.raises(PatchError, match="longer than its site"):
        nops("k8", -1)
