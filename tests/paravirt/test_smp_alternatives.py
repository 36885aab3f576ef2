"""SMP alternatives: the table, the prefix of each era, there and back, on the built-in kernel too."""

import pytest

from pvfast.assembly import disassemble
from pvfast.errors import PatchError
from pvfast.experiments.runs import boot, run_to
from pvfast.guest import build
from pvfast.paravirt.hypervisors import hypervisor_names
from pvfast.paravirt.operations import ERAS, era
from pvfast.paravirt.smp_alternatives import (
    DS_PREFIX,
    LOCK_PREFIX,
    NOP1,
    alternatives_smp_lock,
    alternatives_smp_unlock,
    unpack_locks,
    up_prefix,
)

TEXT = 0xC0100000
CODE = bytes.fromhex("f0ff00 c3 f0fe08 c3")        # lock incl (%eax); ret; lock decb (%eax); ret
LOCKS = (TEXT, TEXT + 4)
TICKS = 10


@pytest.mark.parametrize(("prefix", "expected"), [
    (NOP1, "nop; incl (%eax); retl; nop; decb (%eax); retl"),
    (DS_PREFIX, "incl %ds:(%eax); retl; decb %ds:(%eax); retl"),
])
def test_one_processor_needs_no_lock(prefix, expected):
    unlocked = alternatives_smp_unlock(CODE, TEXT, LOCKS, prefix)
    assert "; ".join(row.text for row in disassemble(unlocked, TEXT)) == expected
    assert alternatives_smp_lock(unlocked, TEXT, LOCKS) == CODE
    assert alternatives_smp_unlock(unlocked, TEXT, LOCKS, prefix) == unlocked


@pytest.mark.parametrize("name", ERAS)
def test_the_prefix_of_each_era(name):
    version = tuple(map(int, name.split(".")))
    assert up_prefix(era(name)) == (0x3E if version > (2, 6, 27) else 0x90)


@pytest.mark.parametrize(("table", "reason"), [
    ("000010c0 0400", "cut short"),
    ("000010c0 080010c0", "outside the code"),
    ("000010c0 000010c0", "twice"),
])
def test_broken_tables_are_refused(table, reason):
    with pytest.raises(PatchError, match=reason):
        unpack_locks(bytes.fromhex(table), TEXT, TEXT + len(CODE))


def test_only_prefixes_are_replaced():
    for locks in ([TEXT + 1], [TEXT - 1], [TEXT + len(CODE)]):
        with pytest.raises(PatchError, match="no LOCK prefix"):
            alternatives_smp_unlock(CODE, TEXT, locks)


def test_the_kernel_notes_every_lock_but_those_of_shared_memory():
    image = build()
    text = image.sections[".text"]
    locked = [row for row in disassemble(image.read(text.address, len(text.code)), text.address)
              if row.bytes[0] == LOCK_PREFIX]
    plain = [row.text for row in locked if row.address not in image.smp_locks]
    assert len(locked) == len(image.smp_locks) + len(plain)
    shared = range(image.labels["xen_shared_info_page"], image.labels["xen_shared_info_page"] + 4096)
    addresses = [int.from_bytes(row.bytes[-4:], "little") for row in locked if row.address not in image.smp_locks]
    assert addresses and all(address in shared for address in addresses), plain


def test_there_and_back_gives_the_same_kernel():
    image = build()
    one = image.with_smp_locks(smp=False)
    changed = [image.linear + place for place, pair in enumerate(zip(image.code, one.code, strict=True))
               if pair[0] != pair[1]]
    assert tuple(changed) == tuple(sorted(image.smp_locks))
    assert one.with_smp_locks(smp=True).code == image.code
    assert image.with_smp_locks(smp=True).code == image.code


@pytest.mark.parametrize("smp", [True, False])
@pytest.mark.parametrize("name", hypervisor_names())
def test_the_kernel_boots_and_ticks_with_and_without(name, smp):
    image = build(hypervisor=name).with_smp_locks(smp)
    machine = boot(image, name)
    for _ in range(TICKS):
        machine.cpu.eip = image.labels["do_timer"]
        machine.cpu.esp -= 4
        machine.write_linear(machine.cpu.esp, image.labels["bench_done"].to_bytes(4, "little"))
        run_to(machine, image, "bench_done", 1000)
    assert int.from_bytes(machine.read_linear(image.labels["jiffies"], 4), "little") == TICKS


@pytest.mark.parametrize("smp", [True, False])
def test_every_lock_is_free_again_after_every_loop(smp):
    image = build().with_smp_locks(smp)
    machine = boot(image)
    locks = {name: machine.read_linear(image.labels[name], 4) for name in image.labels if name.endswith("_lock")}
    assert set(locks.values()) == {b"\1\0\0\0", b"\0\0\0\1"}            # free spin locks, free reader-writer locks
    for loop in image.benchmarks.values():
        machine.cpu.eip, machine.cpu.ecx = loop.address, TICKS
        run_to(machine, image, "bench_done", 1_000_000)
        now = {name: machine.read_linear(image.labels[name], 4) for name in locks}
        assert now == locks, loop.name
