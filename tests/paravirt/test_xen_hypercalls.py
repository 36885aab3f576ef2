"""Each hypercall by itself: what it does, and that bad arguments are errors."""

import pytest

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors.xen_interface import (
    SHARED_EVTCHN_MASK,
    SHARED_EVTCHN_PENDING,
    Errno,
    EventOp,
    Hypercall,
    MmuExt,
    Physdev,
    SchedOp,
    VcpuOp,
    XenVersion,
)
from pvfast.processor.costs import COST_CLASSES
from tests.paravirt.xen import Domain

SELF = 0x7FF0
NOWHERE = 0x10000000
RING1_SS = 0xE021
WRITABLE, READ_ONLY = 0x63, 0x61
TS, NS_PER_MS = 8, 1_000_000


@pytest.mark.parametrize("number", [11, 12, 20, 34, 35, 63, 64, 0xFFFFFFFF])
def test_unknown_hypercalls(domain: Domain, number: int) -> None:
    assert domain.hypercall(number) == -Errno.NOSYS


@pytest.mark.parametrize(("number", "arguments", "error"), [
    (Hypercall.SET_TRAP_TABLE, (NOWHERE,), Errno.FAULT),
    (Hypercall.MMU_UPDATE, (NOWHERE, 1, 0, SELF), Errno.FAULT),
    (Hypercall.MMU_UPDATE, (NOWHERE, 0x80000001, 0, SELF), Errno.INVAL),
    (Hypercall.MMU_UPDATE, (NOWHERE, 1, 0, 1), Errno.PERM),
    (Hypercall.MMUEXT_OP, (NOWHERE, 1, 0, SELF), Errno.FAULT),
    (Hypercall.MMUEXT_OP, (NOWHERE, 0xFFFFFFFF, 0, SELF), Errno.INVAL),
    (Hypercall.SET_GDT, (NOWHERE, 32), Errno.FAULT),
    (Hypercall.SET_GDT, (0, 14 * 512 + 1), Errno.INVAL),
    (Hypercall.SET_GDT, (0, 0xFFFFFFFF), Errno.INVAL),
    (Hypercall.STACK_SWITCH, (0, 0), Errno.PERM),
    (Hypercall.UPDATE_DESCRIPTOR, (0x100004, 0, 0, 0), Errno.INVAL),
    (Hypercall.UPDATE_DESCRIPTOR, (0xFFFFF000, 0, 0, 0), Errno.INVAL),
    (Hypercall.UPDATE_VA_MAPPING, (NOWHERE, 0x1063, 0, 0), Errno.INVAL),
    (Hypercall.UPDATE_VA_MAPPING, (0xC0100000, 0x7F000063, 0, 0), Errno.INVAL),
    (Hypercall.UPDATE_VA_MAPPING, (0xC0100000, 0x1063, 1, 0), Errno.INVAL),
    (Hypercall.EVENT_CHANNEL_OP, (EventOp.BIND_VIRQ, NOWHERE), Errno.FAULT),
    (Hypercall.EVENT_CHANNEL_OP, (99, 0), Errno.NOSYS),
    (Hypercall.SCHED_OP, (SchedOp.SHUTDOWN, NOWHERE), Errno.FAULT),
    (Hypercall.SCHED_OP, (SchedOp.POLL, NOWHERE), Errno.FAULT),
    (Hypercall.SCHED_OP, (4, 0), Errno.NOSYS),
    (Hypercall.SCHED_OP_COMPAT, (SchedOp.POLL, 0), Errno.NOSYS),
    (Hypercall.VCPU_OP, (VcpuOp.UP, 1, 0), Errno.NOENT),
    (Hypercall.VCPU_OP, (VcpuOp.REGISTER_VCPU_INFO, 0, NOWHERE), Errno.INVAL),     # a second time
    (Hypercall.VCPU_OP, (VcpuOp.SET_PERIODIC_TIMER, 0, NOWHERE), Errno.FAULT),
    (Hypercall.CONSOLE_IO, (0, 10, NOWHERE), Errno.FAULT),
    (Hypercall.CONSOLE_IO, (0, 0xFFFFFFFF, 0), Errno.INVAL),
    (Hypercall.CONSOLE_IO, (7, 0, 0), Errno.NOSYS),
    (Hypercall.PHYSDEV_OP, (Physdev.SET_IOPL, NOWHERE), Errno.FAULT),
    (Hypercall.PHYSDEV_OP, (1, 0), Errno.NOSYS),
    (Hypercall.SET_DEBUGREG, (4, 0), Errno.INVAL),
    (Hypercall.SET_DEBUGREG, (0, 0xFC000000), Errno.INVAL),
    (Hypercall.GET_DEBUGREG, (8,), Errno.INVAL),
    (Hypercall.MULTICALL, (NOWHERE, 1), Errno.FAULT),
    (Hypercall.MULTICALL, (0, 0xFFFFFFFF), Errno.INVAL),
    (Hypercall.VM_ASSIST, (2, 0), Errno.INVAL),
    (Hypercall.XEN_VERSION, (99, 0), Errno.NOSYS),
    (Hypercall.XEN_VERSION, (XenVersion.GET_FEATURES, NOWHERE), Errno.FAULT),
])
def test_bad_arguments(domain: Domain, number: int, arguments: tuple[int, ...], error: Errno) -> None:
    assert domain.hypercall(number, *arguments) == -error
    assert domain.machine.cpu.cpl == 1
    domain.bench("null_syscall_int80", 2)               # and the guest goes on


def test_arguments_in_device_memory_are_faults(domain: Domain) -> None:
    domain.machine.map_mmio(0xE0000000, 0x1000, None)
    table = domain.word("init_mm_pgd")
    entry = table + (0xC0000000 >> 20)
    slot = (domain.read(entry) & ~0xFFF) + (domain.scratch >> 12 & 0x3FF) * 4
    domain.machine.write(slot, (0xE0000063).to_bytes(4, "little"))
    domain.machine.cpu.cr3 = domain.machine.cpu.cr3     # flush
    assert domain.hypercall(Hypercall.CONSOLE_IO, 0, 4, domain.scratch) == -Errno.FAULT
    assert domain.machine.counters.exits == 0


def test_xen_version(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.XEN_VERSION, XenVersion.VERSION) == 0x30001
    assert domain.hypercall(Hypercall.XEN_VERSION, XenVersion.PAGESIZE) == 4096
    assert domain.hypercall(Hypercall.XEN_VERSION, XenVersion.PLATFORM_PARAMETERS, domain.scratch) == 0
    assert domain.read(domain.scratch) == 0xFC000000


def test_mmu_update_writes_entries_and_counts(domain: Domain) -> None:
    table = domain.machine_address("user_pg_table")
    updates = domain.store(table + 0x10, 0, 0x5063, 0, table + 0x14, 0, 0x7F000063, 0)
    assert domain.hypercall(Hypercall.MMU_UPDATE, updates, 2, domain.scratch + 0x100, SELF) == -Errno.INVAL
    assert domain.read(domain.scratch + 0x100) == 1
    assert domain.read(domain.image.labels["user_pg_table"] + 0x10) == 0x5063
    assert domain.read(domain.image.labels["user_pg_table"] + 0x14) == 0


@pytest.mark.parametrize("value", [0x50E3, 0x00FFF063 + 0x1000])    # large; behind the domain and shared_info
def test_page_tables_map_only_the_domain(domain: Domain, value: int) -> None:
    table = domain.machine_address("user_pg_table")
    assert domain.hypercall(Hypercall.MMU_UPDATE, domain.store(table, 0, value, 0), 1, 0, SELF) == -Errno.INVAL


def test_update_va_mapping_maps_and_flushes(domain: Domain) -> None:
    domain.machine.write(0x5000, b"five")
    domain.execute("a1" + domain.scratch.to_bytes(4, "little").hex())      # now in the TLB
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, domain.scratch, 0x5063, 0, 2) == 0
    domain.machine.cpu.eip = domain.image.labels["site_save_fl"] & ~0xF
    assert domain.machine.read_linear(domain.scratch, 4) == b"five"


@pytest.mark.parametrize("command", [MmuExt.TLB_FLUSH_LOCAL, MmuExt.INVLPG_LOCAL, MmuExt.TLB_FLUSH_ALL,
                                     MmuExt.INVLPG_ALL])
def test_flushes_take_effect(domain: Domain, command: MmuExt) -> None:
    labels = domain.image.labels
    table = domain.read(domain.word("init_mm_pgd") + (0xC0000000 >> 20)) & ~0xFFF
    page = labels["user_text_page"]
    code = b"\xa1" + page.to_bytes(4, "little")
    domain.execute(code.hex())
    before = domain.machine.cpu.eax
    domain.machine.write(0x5000, b"\x05\0\0\0")
    domain.machine.write(table + (page >> 12 & 0x3FF) * 4, (0x5063).to_bytes(4, "little"))
    domain.execute(code.hex())
    assert domain.machine.cpu.eax == before             # still the old translation
    assert domain.hypercall(Hypercall.MMUEXT_OP, domain.store(command, page, 0), 1, 0, SELF) == 0
    domain.execute(code.hex())
    assert domain.machine.cpu.eax == 5


def test_new_baseptr_loads_cr3(domain: Domain) -> None:
    directory = domain.image.labels["swapper_pg_dir"]
    domain.machine.write_linear(directory, domain.machine.read_linear(domain.word("init_mm_pgd"), 4096))
    frame = domain.frame(directory)
    assert domain.hypercall(Hypercall.MMUEXT_OP, domain.store(MmuExt.NEW_BASEPTR, frame, 0), 1, 0, SELF) < 0
    domain.map_kernel_page(directory, READ_ONLY)
    assert domain.hypercall(Hypercall.MMUEXT_OP, domain.store(MmuExt.NEW_BASEPTR, frame, 0), 1, 0, SELF) == 0
    assert domain.machine.cpu.cr3 == frame << 12
    assert domain.hypercall(Hypercall.MMUEXT_OP, domain.store(MmuExt.NEW_BASEPTR, 0xFFFFF, 0), 1, 0, SELF) < 0
    assert domain.machine.cpu.cr3 == frame << 12


@pytest.mark.parametrize(("high", "good"), [
    (0x00CF9A00, False),            # ring 0 code
    (0x00CF9200, False),            # ring 0 data
    (0x0000EC00, False),            # call gate
    (0x00008900, False),            # TSS
    (0x0000EF00, False),            # trap gate
    (0x00CFB200, True),             # ring 1 data
    (0x00CFFA00, True),             # ring 3 code
    (0x00000000, True),
])
def test_descriptors_are_checked(domain: Domain, high: int, good: bool) -> None:
    table = domain.machine_address("cpu_gdt_table")
    answer = domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, table + 8, 0, 0xFFFF, high)
    assert answer == (0 if good else -Errno.INVAL)
    page = domain.image.labels["user_text_page"]        # one that is not in use yet
    domain.machine.write_linear(page, bytes(4096))
    domain.store(0xFFFF, high, at=page + 16)
    domain.map_kernel_page(page, READ_ONLY)
    frames = domain.store(domain.frame(page))
    assert domain.hypercall(Hypercall.SET_GDT, frames, 32) == (0 if good else -Errno.INVAL)


def test_stores_to_the_gdt_give_no_privilege(domain: Domain) -> None:
    domain.store(0xFFFF, 0x00CF9A00, at=domain.image.labels["cpu_gdt_table"] + 8)
    domain.execute("ea 00001000 0800")                  # ljmp $8, ...
    assert domain.machine.cpu.cpl == 1
    domain.run_to("panic", 1000)
    assert domain.fault()["vector"] == 13


def test_stack_switch_is_where_ring_3_enters(domain: Domain) -> None:
    domain.machine.cpu.eip = domain.image.benchmarks["null_syscall_int80"].address
    domain.machine.cpu.ecx = 1
    before = domain.xen.hypercalls[Hypercall.STACK_SWITCH]
    domain.run_to("system_call", 10_000)
    assert domain.xen.hypercalls[Hypercall.STACK_SWITCH] == before + 1      # the switch to the process
    assert domain.machine.cpu.esp == domain.word("init_tss", 1) - 5 * 4
    assert domain.machine.cpu.ss.selector == RING1_SS


def test_fpu_taskswitch_and_clts(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.FPU_TASKSWITCH, 1) == 0
    assert domain.machine.cpu.cr0 & TS
    domain.execute("0f06 90", steps=2)                  # clts, which Xen emulates
    assert not domain.machine.cpu.cr0 & TS
    domain.execute("0f20c0 83c808 0f22c0 90", steps=4)  # TS is what the guest may set in cr0
    assert domain.machine.cpu.cr0 & TS
    assert domain.hypercall(Hypercall.FPU_TASKSWITCH, 0) == 0
    assert not domain.machine.cpu.cr0 & TS


@pytest.mark.parametrize(("code", "name", "value"), [
    ("0f06 0f20c0 90", "eax", 0x80010031),              # clts; cr0
    ("0f20e0 90", "eax", 0),                            # cr4
    ("0f22e0 90", "cr4", 0),                            # ignored
    ("0f09 90", "cpl", 1),                              # wbinvd
    ("b910000000 0f32 90", "edx", 0),                   # rdmsr of the TSC
    ("31c0 40 0f0b78656e0fa2 90", "ecx", 0),            # Xen's CPUID
    ("0f21f8 90", "eax", 0x400),                        # dr7
])
def test_privileged_instructions_that_xen_emulates(domain: Domain, code: str, name: str, value: int) -> None:
    domain.execute(code, steps=code.count(" ") + 1)
    assert domain.machine.cpu.eip == domain.scratch + 0x800 + len(bytes.fromhex(code))
    assert domain.machine.cpu[name] == value


@pytest.mark.parametrize("code", ["fa", "fb", "f4", "e6 80", "ec", "0f22c1", "0f30", "0f013d00000000", "0f0138"])
def test_privileged_instructions_that_xen_refuses(domain: Domain, code: str) -> None:
    domain.execute(code, steps=1)
    domain.run_to("panic", 1000)
    assert domain.fault()["vector"] == 13


def test_iopl_makes_ports_harmless(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.PHYSDEV_OP, Physdev.SET_IOPL, domain.store(1)) == 0
    domain.machine.cpu.eax = 0
    domain.execute("e571 e670 ec 66ed fa 90", steps=6)
    assert domain.machine.cpu.eax == 0xFFFFFFFF
    assert domain.machine.cpu.eip == domain.scratch + 0x800 + 9
    assert domain.machine.cpu.eflags & 0x3200 == 0x200
    assert domain.hypercall(Hypercall.PHYSDEV_OP, Physdev.SET_IOPL, domain.store(4)) == -Errno.INVAL


def test_debug_registers(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.SET_DEBUGREG, 1, 0x1234) == 0
    assert domain.hypercall(Hypercall.GET_DEBUGREG, 1) == 0x1234


def test_a_breakpoint_reaches_the_guest(domain: Domain) -> None:
    domain.hypercall(Hypercall.SET_DEBUGREG, 0, domain.scratch)
    domain.hypercall(Hypercall.SET_DEBUGREG, 7, 0xD0001)        # DR0: writes of 4 bytes
    domain.machine.cpu.ebx = domain.scratch
    domain.execute("8903 90", steps=2)                          # mov %eax, (%ebx); nop
    assert domain.hypercall(Hypercall.GET_DEBUGREG, 6) & 0xF == 1


def test_console(domain: Domain) -> None:
    domain.machine.write_linear(domain.scratch, b"hello\n")
    assert domain.hypercall(Hypercall.CONSOLE_IO, 0, 6, domain.scratch) == 6
    assert domain.xen.console.endswith(b"Xen\nhello\n")
    for _ in range(4):
        domain.hypercall(Hypercall.CONSOLE_IO, 0, 4096, domain.image.labels["startup_32"])
    assert len(domain.xen.console) == 16384
    assert domain.xen.console == domain.machine.read_linear(domain.image.labels["startup_32"], 4096) * 4


def test_event_channels(domain: Domain) -> None:
    def operate(command: EventOp, *words: int) -> int:
        return domain.hypercall(Hypercall.EVENT_CHANNEL_OP, command, domain.store(*words))

    shared = domain.image.labels["xen_shared_info_page"]
    domain.masked = True
    assert operate(EventOp.BIND_VIRQ, 0, 0, 0) == -Errno.EXIST          # the kernel has the timer
    assert operate(EventOp.BIND_VIRQ, 24, 0, 0) == -Errno.INVAL
    assert operate(EventOp.BIND_VIRQ, 1, 1, 0) == -Errno.NOENT
    assert operate(EventOp.BIND_IPI, 0, 0) == 0
    port = domain.read(domain.scratch + 4)
    assert port == 2
    assert operate(EventOp.SEND, port) == 0
    assert domain.read(shared + SHARED_EVTCHN_PENDING) == 1 << port
    assert not domain.pending                                           # the channel is masked
    assert operate(EventOp.UNMASK, port) == 0
    assert domain.pending
    assert not domain.read(shared + SHARED_EVTCHN_MASK) >> port & 1
    assert operate(EventOp.CLOSE, port) == 0
    assert operate(EventOp.SEND, port) == -Errno.INVAL
    assert operate(EventOp.SEND, 1) == -Errno.INVAL                     # the timer's is not the guest's to send
    domain.bench("irq_enable", 1)
    assert domain.word("unexpected_interrupts") == 1


def test_event_channels_run_out(domain: Domain) -> None:
    for _ in range(2, 1024):
        assert domain.hypercall(Hypercall.EVENT_CHANNEL_OP, EventOp.BIND_IPI, domain.store(0, 0)) == 0
    assert domain.hypercall(Hypercall.EVENT_CHANNEL_OP, EventOp.BIND_IPI, domain.store(0, 0)) == -Errno.NOSPC


def test_interrupt_lines_become_events(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.EVENT_CHANNEL_OP, EventOp.BIND_PIRQ, domain.store(5, 0, 0)) == 0
    port = domain.read(domain.scratch + 8)
    assert domain.hypercall(Hypercall.EVENT_CHANNEL_OP, EventOp.UNMASK, domain.store(port)) == 0
    for vector in (0x26, 0x25):                                         # the first one is bound to nothing
        domain.machine.inject_interrupt(vector)
        domain.bench("empty", 10)
    assert domain.word("unexpected_interrupts") == 1


def test_set_timer_is_modelled_time(domain: Domain) -> None:
    now = domain.machine.counters.cycles
    when = now + 50_000
    assert domain.hypercall(Hypercall.SET_TIMER_OP, when, 0) == 0
    domain.bench("empty", 1000)
    assert domain.word("jiffies") == 0
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    domain.run_to("do_timer", 10_000)
    assert when <= domain.machine.counters.cycles < when + 2000
    assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert domain.word("jiffies") == 1


def test_periodic_timer(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_PERIODIC_TIMER, 0, domain.store(999, 0)) == -Errno.INVAL
    domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_PERIODIC_TIMER, 0, domain.store(NS_PER_MS, 0))
    start = domain.machine.counters.cycles
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    while domain.word("jiffies") < 10:
        domain.machine.run(max_instructions=100)
    assert 10 * NS_PER_MS <= domain.machine.counters.cycles - start + 1000 < 12 * NS_PER_MS
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.STOP_PERIODIC_TIMER, 0, 0) == 0
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT


def test_vcpu_down_is_the_end(domain: Domain) -> None:
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.IS_UP, 0) == 1
    domain.hypercall(Hypercall.VCPU_OP, VcpuOp.DOWN, 0)
    domain.machine.inject_interrupt(0x20)
    assert domain.machine.run(max_instructions=100).reason is pvfast.StopReason.HALT


@pytest.mark.parametrize(("words", "good"), [
    ((0x200, 0, 0x40, 0), True), ((0x200, 0, 4096 - 60, 0), False), ((0x200, 0, 1, 0), False),
    ((0xFFF, 0, 0, 0), False), ((0x200, 1, 0, 0), False),
])
def test_register_vcpu_info(image: GuestImage, words: tuple[int, ...], good: bool) -> None:
    domain = Domain(image.with_word("have_vcpu_info_placement", 0)).boot()
    domain.machine.write(0x200040, bytes(64))
    domain.masked = True
    answer = domain.hypercall(Hypercall.VCPU_OP, VcpuOp.REGISTER_VCPU_INFO, 0, domain.store(*words))
    assert answer == (0 if good else -Errno.INVAL)
    assert domain.machine.read(0x200041, 1) == bytes((good,))           # the mask has moved along


def test_multicall(domain: Domain) -> None:
    entries = domain.store(Hypercall.XEN_VERSION, 0, 0, 0, 0, 0, 0, 0, Hypercall.IRET, 0, 0, 0, 0, 0, 0, 0,
                           Hypercall.FPU_TASKSWITCH, 0, 1, 0, 0, 0, 0, 0)
    assert domain.hypercall(Hypercall.MULTICALL, entries, 3) == 0
    assert [domain.read(entries + 32 * i + 4) for i in range(3)] == [0x30001, 2**32 - Errno.NOSYS, 0]
    assert domain.machine.cpu.cr0 & TS


def test_hypercalls_cost_two_world_switches(domain: Domain) -> None:
    cost = dict(zip(COST_CLASSES, domain.machine.processor.costs, strict=True))
    before = domain.machine.counters.cycles
    domain.hypercall(Hypercall.XEN_VERSION, 0)
    assert domain.machine.counters.cycles - before == sum(
        cost[name] for name in ("int", "ring_in", "hypercall", "iret", "ring_out"))
