"""The calls that trap: what each does, what it refuses, and that no guest gets into ring 0 by them."""

from random import Random

import pytest

import pvfast
from pvfast.guest import GuestImage, build
from pvfast.paravirt.hypervisors.vmi_interface import (
    ROM_PHYSICAL,
    SHARED_CR0,
    SHARED_CR2,
    SHARED_CR3,
    SHARED_CR4,
    SHARED_LAZY,
    SHARED_PHYSICAL,
    SHARED_QUEUE_ENTRIES,
    SHARED_QUEUED,
    VmiCall,
)
from pvfast.paravirt.hypervisors.vmi_rom import rom
from tests.paravirt.vmi import SHARED, Guest, trap

PAGE_OFFSET = 0xC0000000
PRESENT, SMALL, LARGE = 1, 0x63, 0xE3
PT, PD, CLONE = 1, 2, 0x20
GP = 13
TS = 8
GDT_LIMIT = 32 * 8 - 1
FREE_ENTRY = 20                         # of the GDT
RING_0_CODE, RING_3_DATA = 0x00CF9A00, 0x00CFF200
CALL_GATE, TASK_SEGMENT = 0x0000EC00, 0x00008900


@pytest.fixture
def guest(image: GuestImage) -> Guest:
    return Guest(image).boot()


def refused(guest: Guest, number: VmiCall, *arguments: int) -> bool:
    """Whether the call was answered with #GP at its trap."""
    esp = guest.machine.cpu.esp
    guest.call(number, *arguments)
    gp = guest.machine.cpu.eip == guest.image.labels["exception_13"]
    if gp:
        assert guest.read(guest.machine.cpu.esp) == 0                              # the error code
        assert guest.read(guest.machine.cpu.esp + 4) == trap(number)
    guest.machine.cpu.esp = esp
    return gp


# --- Processor --------------------------------------------------------------------------------------------------------

def test_task_switched_is_the_guests_bit_of_cr0(guest: Guest) -> None:
    cpu = guest.machine.cpu
    assert not refused(guest, VmiCall.SetCR0, cpu.cr0 | TS)
    assert cpu.cr0 & TS
    assert guest.read(SHARED + SHARED_CR0) == cpu.cr0
    guest.call(VmiCall.CLTS)
    assert not cpu.cr0 & TS
    assert guest.read(SHARED + SHARED_CR0) == cpu.cr0


@pytest.mark.parametrize("bit", [0, 16, 18, 29, 30, 31])
def test_other_bits_of_cr0_are_not(guest: Guest, bit: int) -> None:
    before = guest.machine.cpu.cr0
    assert refused(guest, VmiCall.SetCR0, before ^ 1 << bit)
    assert guest.machine.cpu.cr0 == before


def test_other_control_registers(guest: Guest) -> None:
    cpu = guest.machine.cpu
    directory = cpu.cr3
    guest.call(VmiCall.SetCR2, 0x1234)
    assert (cpu.cr2, guest.read(SHARED + SHARED_CR2)) == (0x1234, 0x1234)
    guest.call(VmiCall.SetCR3, directory)
    assert guest.read(SHARED + SHARED_CR3) == cpu.cr3 == directory
    real = cpu.cr4
    guest.call(VmiCall.SetCR4, 0x620)
    assert (guest.read(SHARED + SHARED_CR4), cpu.cr4) == (0x620, real)
    for frame in (0x1000, 0xFFFFF):
        assert refused(guest, VmiCall.SetCR3, frame << 12)
        assert cpu.cr3 == directory


def test_debug_registers(guest: Guest) -> None:
    for number, value in ((0, 0x08048000), (3, 0xC0100000), (6, 0xFFFF0FF1), (7, 0x401)):
        assert not refused(guest, VmiCall.SetDR, number, value)
        assert guest.call(VmiCall.GetDR, number) == value
    for number in (4, 5, 8, 0xFFFFFFFF):
        assert refused(guest, VmiCall.SetDR, number, 0)


def test_a_breakpoint_in_the_kernel_is_an_exception_of_the_kernel(guest: Guest) -> None:
    at = guest.image.labels["do_timer"]
    guest.call(VmiCall.SetDR, 0, at)
    guest.call(VmiCall.SetDR, 7, 0x402)
    guest.machine.cpu.eip = at
    guest.run_to("exception_1", 5)


def test_msrs_are_virtual(guest: Guest) -> None:
    guest.machine.cpu.ecx = 0x174
    guest.execute("0f32")                               # rdmsr
    assert guest.machine.cpu.eax == 0x60
    guest.machine.cpu.ecx, guest.machine.cpu.eax = 0xDEAD, 0
    guest.execute("0f30")                               # wrmsr
    assert guest.machine.cpu.eip == guest.image.labels["exception_13"]


def test_a_single_step_over_what_is_emulated_traps_behind_it(guest: Guest) -> None:
    cpu = guest.machine.cpu
    cpu.ecx, cpu.eflags = 0x174, cpu.eflags | 0x100
    guest.execute("0f32", steps=0)                      # rdmsr
    guest.run_to("exception_1", 3)
    assert guest.read(cpu.esp) == guest.scratch + 0x802


@pytest.mark.parametrize(("number", "ending"), [(VmiCall.Reboot, "reboot"), (VmiCall.Shutdown, "shutdown")])
def test_the_guest_ends_itself(guest: Guest, number: VmiCall, ending: str) -> None:
    guest.call(number, 0)
    assert guest.stop.reason is pvfast.StopReason.SHUTDOWN
    assert guest.vmi.ended == ending
    assert guest.machine.run().reason is pvfast.StopReason.SHUTDOWN


def test_an_exception_without_a_stack_is_the_end(guest: Guest) -> None:
    guest.machine.cpu.esp = 0x10
    guest.execute("0f0b")
    assert guest.machine.run(max_instructions=5).reason is pvfast.StopReason.SHUTDOWN
    assert guest.vmi.ended == "crash"


def test_time(guest: Guest) -> None:
    assert guest.call(VmiCall.GetCycleFrequency) == 10**9
    first = guest.call(VmiCall.GetCycleCounter, 0)
    second = guest.call(VmiCall.GetWallclockTime)
    assert 0 < second - first < 10_000
    assert guest.call(VmiCall.GetCycleCounter, 2) == 0
    assert refused(guest, VmiCall.GetCycleCounter, 3)
    assert refused(guest, VmiCall.SetAlarm, 0x100, 1000, 0, 10, 0)                 # a period of 10 ns
    assert refused(guest, VmiCall.SetAlarm, 0, 0, 0xFFFFFFFF, 0, 0)
    assert guest.call(VmiCall.CancelAlarm, 0) == 0


def test_a_refused_alarm_leaves_the_one_before(guest: Guest) -> None:
    due = guest.machine.counters.cycles + 5_000_000
    guest.call(VmiCall.SetAlarm, 0x100, due, 0, 1_000_000, 0)
    assert refused(guest, VmiCall.SetAlarm, 0x100, 1000, 0, 10, 0)
    assert refused(guest, VmiCall.SetAlarm, 0x100, 1000, 0x40000000, 1_000_000, 0)
    assert guest.machine.counters.cycles < guest.vmi.next_event() == due
    guest.machine.cpu.eip = guest.image.labels["boot_done"]
    guest.machine.run(max_instructions=1)
    while guest.machine.counters.cycles < due:
        guest.machine.run(max_instructions=1)
    assert guest.vmi.next_event() == due + 1_000_000


def test_an_alarm_whose_periods_were_missed_for_years(guest: Guest) -> None:
    """The clock stands at 2**61 ns, and the first tick was due at 1."""
    guest.call(VmiCall.SetAlarm, 0, 0, 1 << 29, 0, 0)
    guest.machine.cpu.eip = guest.image.labels["boot_done"]
    guest.machine.run(max_instructions=1000)
    assert guest.machine.counters.cycles > 1 << 61
    guest.call(VmiCall.SetAlarm, 0x100, 1, 0, 1_000_000, 0)
    guest.machine.run(max_instructions=1)
    assert 0 < guest.vmi.next_event() - guest.machine.counters.cycles <= 1_000_000


# --- Descriptors ------------------------------------------------------------------------------------------------------

def write_gdt(guest: Guest, high: int, low: int = 0xFFFF) -> None:
    assert not refused(guest, VmiCall.WriteGDTEntry, guest.image.labels["cpu_gdt_table"], FREE_ENTRY, low, high)


def test_segments_of_ring_0_become_those_of_ring_1(guest: Guest) -> None:
    write_gdt(guest, RING_0_CODE)
    assert guest.read(guest.image.labels["cpu_gdt_table"] + 8 * FREE_ENTRY + 4) == RING_0_CODE     # in its own table
    guest.execute(f"ea{(guest.scratch + 0x807).to_bytes(4, 'little').hex()}{FREE_ENTRY * 8 | 1:02x}0090")
    assert (guest.machine.cpu.cpl, guest.machine.cpu.cs.selector) == (1, FREE_ENTRY * 8 | 1)


@pytest.mark.parametrize("high", [CALL_GATE, TASK_SEGMENT, 0x0000E500, 0x00008200])
def test_system_descriptors_are_not_there(guest: Guest, high: int) -> None:
    """A call gate, a task segment, a task gate, a local table: a far call to any is #NP or #GP in ring 1."""
    write_gdt(guest, high, 0x60 << 16)
    guest.execute(f"9a00000000{FREE_ENTRY * 8 | 3:02x}00")
    assert guest.machine.cpu.cpl == 1
    assert guest.machine.cpu.eip in (guest.image.labels["exception_13"], guest.image.labels["exception_11"])


def test_writing_the_table_by_hand_changes_nothing(guest: Guest) -> None:
    guest.store(0xFFFF, RING_3_DATA, at=guest.image.labels["cpu_gdt_table"] + 8 * FREE_ENTRY)
    guest.machine.cpu.eax = FREE_ENTRY * 8 | 3
    guest.execute("8ed8")                               # mov %eax, %ds
    assert guest.machine.cpu.eip == guest.image.labels["exception_13"]


def test_set_gdt_takes_all_of_it(guest: Guest) -> None:
    guest.store(0xFFFF, RING_3_DATA, at=guest.image.labels["cpu_gdt_table"] + 8 * FREE_ENTRY)
    assert not refused(guest, VmiCall.SetGDT, guest.image.labels["cpu_gdt_descr"])
    guest.machine.cpu.eax = FREE_ENTRY * 8 | 3
    guest.execute("8ed8")
    assert guest.machine.cpu.ds.selector == FREE_ENTRY * 8 | 3
    guest.call(VmiCall.GetGDT, guest.scratch)
    assert guest.machine.read_linear(guest.scratch, 6) == guest.machine.read_linear(
        guest.image.labels["cpu_gdt_descr"], 6)


def test_a_table_that_is_not_there_is_refused_whole(guest: Guest) -> None:
    before = guest.vmi.save()
    guest.machine.write_linear(guest.scratch, GDT_LIMIT.to_bytes(2, "little") + (0x12345000).to_bytes(4, "little"))
    for number in (VmiCall.SetGDT, VmiCall.SetIDT):
        assert refused(guest, number, guest.scratch)
    gdt = before.index((0x00CFBB000000FFFF).to_bytes(8, "little"))                 # __KERNEL_CS, in ring 1
    assert guest.vmi.save()[gdt:gdt + 256] == before[gdt:gdt + 256]


def test_a_call_gate_in_the_local_table_finds_no_stack(guest: Guest) -> None:
    """The LDT is the guest's to write at any time: a gate there to a segment of ring 0 there is all one needs."""
    table = guest.scratch + 0x100
    code = guest.scratch
    guest.store(0xFFFF, RING_0_CODE, 0x04 << 16 | (code & 0xFFFF), code & 0xFFFF0000 | 0xEC00, at=table)
    low, high = 15 | (table & 0xFFFF) << 16, table & 0xFF000000 | table >> 16 & 0xFF | 0x8200
    write_gdt(guest, high, low)
    assert not refused(guest, VmiCall.SetLDT, FREE_ENTRY * 8)
    assert guest.call(VmiCall.GetLDT) == FREE_ENTRY * 8
    guest.execute("9a000000000f00")                     # lcall through entry 1, RPL 3, of the LDT
    assert guest.machine.cpu.cpl == 1
    assert guest.machine.cpu.eip == guest.image.labels["exception_10"]             # #TS
    assert refused(guest, VmiCall.SetLDT, 0x60)


@pytest.mark.parametrize(("high", "present"), [
    (0x8E00, True), (0x8F00, True), (0x0E00, False), (0x8500, False), (0x8600, False), (0x8C00, False),
])
def test_only_interrupt_and_trap_gates_lead_into_the_kernel(guest: Guest, high: int, present: bool) -> None:
    handler = guest.image.labels["unexpected_interrupt"]
    guest.call(VmiCall.WriteIDTEntry, guest.image.labels["idt_table"], 0x90, 0x60 << 16 | handler & 0xFFFF,
               handler & 0xFFFF0000 | high)
    guest.execute("cd90")
    assert guest.machine.cpu.cpl == 1
    assert guest.machine.cpu.eip == (handler if present else guest.image.labels["exception_13"])


# --- Page tables ------------------------------------------------------------------------------------------------------

def test_entries_map_memory_that_is_there(guest: Guest) -> None:
    entry = guest.image.labels["user_pg_table"] + 4 * 100
    assert not refused(guest, VmiCall.SetPxE, 0xFFF000 | SMALL, entry, PT)
    assert guest.read(entry) == 0xFFF000 | SMALL
    assert not refused(guest, VmiCall.SetPxE, 0x99999000, entry, PT)               # not present: anything
    for value in (0x1000000 | SMALL, 0xFFFFF000 | SMALL, 0x400000 | LARGE):
        assert refused(guest, VmiCall.SetPxE, value, entry, PT)
    assert guest.read(entry) == 0x99999000
    assert refused(guest, VmiCall.SetPxE, 0, entry + 2, PT)
    assert refused(guest, VmiCall.SetPxE, 0, 0x12345678, PT)


def test_a_directory_entry_names_a_table_whose_entries_may_be(guest: Guest) -> None:
    table, entry = guest.scratch, guest.image.labels["swapper_pg_dir"] + 4 * 0x200
    guest.store(0x1000000 | SMALL, at=table + 4 * 1023)
    value = table - PAGE_OFFSET | 0x67
    assert refused(guest, VmiCall.SetPxE, value, entry, PD)
    guest.store(0, at=table + 4 * 1023)
    assert not refused(guest, VmiCall.SetPxE, value, entry, PD)


def test_updates_are_looked_at(guest: Guest) -> None:
    entry = guest.image.labels["user_pg_table"] + 4 * 100
    guest.store(SMALL, at=entry)
    assert not refused(guest, VmiCall.UpdatePxE, entry, PT)
    guest.store(0xFFFFF000 | SMALL, at=entry)
    assert refused(guest, VmiCall.UpdatePxE, entry, PT)


def test_page_tables_are_announced_and_given_back(guest: Guest) -> None:
    frame, other = guest.scratch - PAGE_OFFSET >> 12, guest.image.labels["swapper_pg_dir"] - PAGE_OFFSET >> 12
    guest.machine.write_linear(guest.scratch, bytes(4096))
    assert not refused(guest, VmiCall.AllocatePage, frame, PT, 0, 0, 0)
    assert refused(guest, VmiCall.AllocatePage, frame, PT, 0, 0, 0)                # twice
    assert refused(guest, VmiCall.ReleasePage, frame, PD)                          # as something else
    assert not refused(guest, VmiCall.ReleasePage, frame, PT)
    assert refused(guest, VmiCall.ReleasePage, frame, PT)
    assert refused(guest, VmiCall.AllocatePage, frame, PD | CLONE, other, 0, 1024)         # no directory yet
    assert not refused(guest, VmiCall.AllocatePage, other, PD, 0, 0, 0)
    assert not refused(guest, VmiCall.AllocatePage, frame, PD | CLONE, other, 0, 1024)
    assert refused(guest, VmiCall.AllocatePage, 0xFFFFF, PT, 0, 0, 0)
    assert refused(guest, VmiCall.AllocatePage, frame + 1, 0, 0, 0, 0)


@pytest.fixture
def lazy(image: GuestImage) -> Guest:
    """In lazy MMU mode."""
    guest = Guest(build("2.6.21")).boot()
    run(guest, VmiCall.SetLazyMode, 1)
    return guest


def run(guest: Guest, number: VmiCall, *arguments: int) -> None:
    """A call as the kernel makes it: all of its slot's code."""
    cpu = guest.machine.cpu
    for name, value in zip(("eax", "edx", "ecx"), arguments, strict=False):
        setattr(cpu, name, value)
    guest.store(guest.image.labels["boot_done"], at=cpu.esp - 4)
    cpu.esp -= 4
    cpu.eip = rom().relocations[number][1]
    guest.run_to("boot_done", 200)


def test_changes_of_page_tables_wait_in_lazy_mode(lazy: Guest) -> None:
    entry, before = lazy.image.labels["user_pg_table"] + 4 * 100, lazy.vmi.calls
    for i in range(3):
        run(lazy, VmiCall.SetPxE, 0x300000 + (i << 12) | SMALL, entry + 4 * i, PT)
    lazy.store(SMALL, at=entry + 12)
    run(lazy, VmiCall.UpdatePxE, entry + 12, PT)
    assert (lazy.vmi.calls, lazy.read(SHARED + SHARED_QUEUED), lazy.read(entry)) == (before, 4, 0)
    run(lazy, VmiCall.SetLazyMode, 0)
    assert [lazy.read(entry + 4 * i) for i in range(4)] == [0x300063, 0x301063, 0x302063, SMALL]
    assert lazy.read(SHARED + SHARED_QUEUED) == 0
    new = {number: count for number, count in lazy.vmi.calls.items() if count != before.get(number)}
    assert new == {VmiCall.SetLazyMode: 1}
    run(lazy, VmiCall.SetPxE, 0, entry, PT)
    assert lazy.read(entry) == 0                        # at once again


def test_a_full_queue_and_any_other_trap_are_worked_off_in_order(lazy: Guest) -> None:
    entry = lazy.image.labels["user_pg_table"] + 4 * 100
    for i in range(SHARED_QUEUE_ENTRIES + 1):
        run(lazy, VmiCall.SetPxE, i << 12 | SMALL, entry + 4 * (i % 2), PT)
    assert lazy.read(SHARED + SHARED_QUEUED) == 0
    assert (lazy.read(entry), lazy.read(entry + 4)) == (64 << 12 | SMALL, 63 << 12 | SMALL)
    run(lazy, VmiCall.SetPxE, 0, entry, PT)
    run(lazy, VmiCall.FlushTLB, 1)
    assert lazy.read(entry) == 0


def test_a_fault_on_an_entry_in_the_queue_tries_again(lazy: Guest) -> None:
    entry, linear = lazy.image.labels["swapper_pg_dir"] + 4 * 0x200, 0x200 << 22
    table = lazy.image.labels["pg0"] - PAGE_OFFSET
    run(lazy, VmiCall.SetPxE, table | 0x67, entry, PD)
    faults = lazy.machine.counters.faults
    lazy.machine.cpu.ebx = linear + lazy.image.physical
    lazy.execute("8b03", steps=2)                       # mov (%ebx), %eax
    assert lazy.machine.cpu.eax == lazy.read(lazy.image.linear)
    assert lazy.machine.counters.faults == faults + 1
    assert lazy.fault()["count"] == 0


def test_a_queue_with_what_may_not_be_is_the_end(lazy: Guest) -> None:
    run(lazy, VmiCall.SetPxE, 0xFFFFF000 | SMALL, lazy.image.labels["user_pg_table"], PT)
    lazy.machine.cpu.eip = rom().relocations[VmiCall.FlushTLB][1]
    assert lazy.machine.run(max_instructions=5).reason is pvfast.StopReason.SHUTDOWN
    assert lazy.vmi.ended == "crash"


def test_flushing_is_leaving_for_a_moment(lazy: Guest) -> None:
    entry = lazy.image.labels["user_pg_table"] + 4 * 100
    run(lazy, VmiCall.SetPxE, SMALL, entry, PT)
    cpu = lazy.machine.cpu
    lazy.store(1, at=lazy.image.labels["vmi_lazy_mode"])
    cpu.eax, cpu.eip = 3, lazy.image.labels["vmi_set_lazy_mode"]
    lazy.store(lazy.image.labels["boot_done"], at=cpu.esp - 4)
    cpu.esp -= 4
    lazy.run_to("boot_done", 200)
    assert lazy.read(entry) == SMALL
    assert lazy.read(SHARED + SHARED_LAZY) == 1


# --- Hostile guests ---------------------------------------------------------------------------------------------------

#: Far transfers, descriptor tables, control and debug registers, ports, returns; what follows is random.
PIECES = ("ea", "9a", "cf", "ca0800", "0f0117", "0f011f", "0f00d8", "0f00d0", "0f22c0", "0f22d8", "0f22e0", "0f23f8",
          "0f30", "0f32", "0f34", "0f35", "cd84", "cd80", "f4", "fa", "fb", "9d", "e4", "ee", "66ed", "8ed8", "8ed0",
          "8ee8", "0f06", "0f0b", "c5", "0fb2", "c8", "07", "1f", "17", "6c", "f36e")
WORDS = (0, 1, 0x60, 0x61, 0x68, 0x6B, 0xA0, 0x80, 0x88, 0xFFFFFFFF, 0x80000000, PRESENT, 0x8E00, 0xEC00, 0x9A00)


def test_no_hostile_guest_gets_into_ring_0(image: GuestImage) -> None:
    random = Random(2007)
    guest = Guest(image, ram="4M").boot()
    machine, cpu = guest.machine, guest.machine.cpu
    base = machine.snapshot()
    labels = [image.labels[name] for name in ("cpu_gdt_table", "cpu_gdt_descr", "idt_table", "idt_descr", "pg0",
                                              "swapper_pg_dir", "user_pg_table", "init_tss", "user_data_page")]

    def word() -> int:
        kind = random.randrange(4)
        if kind == 0:
            return random.getrandbits(32)
        if kind == 1:
            return random.choice(labels) + random.randrange(0, 256, 4)
        return random.choice(WORDS) if kind == 2 else random.choice(labels) - PAGE_OFFSET | random.getrandbits(8)

    for _ in range(1000):
        machine.restore(base)
        for _ in range(random.randrange(1, 12)):
            if random.randrange(8) == 0:
                machine.write(SHARED_PHYSICAL + random.randrange(24) * 4, word().to_bytes(4, "little"))
            if random.randrange(4) == 0:
                machine.write(random.choice(labels) - PAGE_OFFSET + random.randrange(0, 256, 8),
                              (word() << 32 | word()).to_bytes(8, "little"))
            if random.randrange(8) == 0:
                machine.inject_interrupt(random.randrange(32, 256))
            for name in ("eax", "ecx", "edx", "ebx", "esi", "edi", "ebp"):
                setattr(cpu, name, word())
            if random.randrange(6) == 0:
                cpu.esp = word()
            call = rom().relocations[random.choice(list(VmiCall))][1]
            cpu.eip = call or random.choice(list(image.labels.values()))
            if random.randrange(2):
                code = bytes.fromhex(random.choice(PIECES)) + random.randbytes(8)
                machine.write(image.to_physical(guest.scratch) + 0x800, code)
                cpu.eip = guest.scratch + 0x800
            stop = machine.run(max_instructions=random.randrange(1, 40))
            assert cpu.cpl in (1, 3), f"{stop}; {cpu.registers()}"
            assert machine.read(ROM_PHYSICAL, 64) == rom().code[:64]
            if stop.reason is pvfast.StopReason.SHUTDOWN:
                assert guest.vmi.ended
                break
