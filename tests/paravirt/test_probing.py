"""Boot probing: the ring test's bytes and the probe table."""

import pytest

from pvfast.assembly import assemble
from pvfast.errors import PatchError
from pvfast.paravirt import probing
from pvfast.paravirt.operations import ERAS, era


def test_ring_test_bytes():
    assert assemble(probing.RING_TEST_TEXT).code == probing.RING_TEST
    assert assemble(probing.RING_TEST_SHORT_TEXT).code == probing.RING_TEST_SHORT
    far = assemble("jnz startup_paravirt; .space 200; startup_paravirt:").code
    assert far.startswith(probing.RING_TEST_BRANCH)


def test_rings():
    assert [probing.ring(selector) for selector in (0x60, 0xE019, 0x73)] == [0, 1, 3]


def test_table_there_and_back():
    functions = [0xC0100000, 0, 0xFFFFFFFF]
    assert probing.unpack_probes(probing.pack_probes(functions)) == functions


def test_broken_tables():
    with pytest.raises(PatchError, match="one or more entries"):
        probing.unpack_probes(b"")
    with pytest.raises(PatchError, match="one or more entries"):
        probing.unpack_probes(bytes(7))
    with pytest.raises(PatchError, match="without a probe"):
        probing.pack_probes([])
    with pytest.raises(PatchError, match="does not fit 32 bits"):
        probing.pack_probes([1 << 32])


def test_ways_by_release():
    ways = {name: probing.discovery(era(name)).name for name in ERAS}
    assert ways == {
        "2.6.20": "PROBES", "2.6.21": "PROBES", "2.6.22": "OWN_ENTRIES", "2.6.23": "OWN_ENTRIES",
        **dict.fromkeys(ERAS[4:], "HARDWARE_SUBARCH")}
