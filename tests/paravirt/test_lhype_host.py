"""The built-in guest under lhype: boot in ring 1, interrupts, system calls, patched operations, snapshots."""

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.experiments import GuestRun, settings
from pvfast.guest import GuestImage, build
from pvfast.paravirt.hypervisors import Hypervisor, hypervisor, lhype_interface
from pvfast.paravirt.hypervisors.lhype import LHYPE_CODE, inline_code
from pvfast.paravirt.hypervisors.lhype_interface import Killed, Lhcall
from pvfast.paravirt.operations import FUSED
from pvfast.paravirt.patcher import PatchContext
from pvfast.paravirt.sites import CLBR_ANY, CLBR_EAX, PatchType
from tests.paravirt.lhype import IF, Guest

USER_CS = 0x73
UD, GP, PF = 6, 13, 14
TIMER = 0x20


@pytest.fixture
def guest(image: GuestImage) -> Guest:
    return Guest(image).boot()


# --- Boot ------------------------------------------------------------------------------------------------------------

def test_boots_in_ring_1(guest: Guest) -> None:
    cpu = guest.machine.cpu
    assert (cpu.cpl, cpu.cs.selector, cpu.ss.selector & 3) == (1, 0x61, 1)
    assert cpu.gs.base == guest.image.labels["boot_pda"]
    assert cpu.eflags & IF                              # the host's: it takes every interrupt
    assert guest.enabled
    assert guest.word("paravirt_ops") == 1              # kernel_rpl
    assert guest.fault()["count"] == 0
    assert guest.machine.counters.exits == 0            # all of it inside the core
    assert guest.lhype.killed is None


def test_enters_behind_the_signature_and_passes_the_ring_test(image: GuestImage) -> None:
    guest = Guest(image)
    assert guest.machine.cpu.eip == image.labels["startup_lhype"]
    assert image.read(image.labels["startup_lhype"] - 13, 13) == b"GenuineLguest"
    for label in ("startup_32", "startup_paravirt", "lhype_probe", "start_kernel"):
        guest.run_to(label, 50_000)


def test_a_kernel_without_the_signature_is_refused(image: GuestImage) -> None:
    lhype = hypervisor("lhype")
    nobody = image.with_patches(image.code.replace(b"GenuineLguest", b"GenuineNobody"))
    with pytest.raises(pvfast.errors.ImageError, match="GenuineLguest"):
        lhype.start(pvfast.Machine(ram="16M", hypervisor=lhype), nobody)
    small = hypervisor("lhype")
    with pytest.raises(pvfast.errors.ImageError, match="cannot hold"):
        small.start(pvfast.Machine(ram="1M", hypervisor=small), image)


def test_banner_goes_to_the_launchers_console(guest: Guest) -> None:
    assert guest.lhype.console == b"Booting paravirtualized kernel on lguest\n"


def test_hypercalls_of_the_boot_are_counted(guest: Guest) -> None:
    counts = guest.lhype.hypercalls
    assert counts[Lhcall.LGUEST_INIT] == counts[Lhcall.SET_STACK] == 1
    assert counts[Lhcall.NEW_PGTABLE] == 2 + guest.word("pgd_cache")    # its own, those of processes, its own again
    assert set(counts) <= set(Lhcall)


def test_idles_by_halting(guest: Guest) -> None:
    assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.lhype.hypercalls[Lhcall.HALT] == 1


def test_lguest_data_is_as_long_as_it_is() -> None:
    assert lhype_interface.LGUEST_DATA_NOIRQ_END + 4 == lhype_interface.LGUEST_DATA_BYTES == 1128
    ring = lhype_interface.LHCALL_RING_SIZE
    assert lhype_interface.LGUEST_DATA_HCALL_STATUS + ring == lhype_interface.LGUEST_DATA_HCALLS
    assert (lhype_interface.LGUEST_DATA_HCALLS + ring * lhype_interface.LHCALL_ENTRY_BYTES
            == lhype_interface.LGUEST_DATA_RESERVE_MEM)


# --- Patching --------------------------------------------------------------------------------------------------------

DATA = 0xC0400000
SITE = 0xC0100000


@pytest.mark.parametrize(("operation", "length"), [
    ("irq_disable", 10), ("irq_enable", 10), ("restore_fl", 5), ("save_fl", 5),
])
def test_inline_code_is_what_its_text_assembles_to(operation: str, length: int) -> None:
    code = inline_code(operation, DATA)
    assert code == assemble(LHYPE_CODE[operation][0], SITE, {"lguest_data": DATA}).code
    assert len(code) == length


def test_cli_fills_its_site_to_the_last_byte(image: GuestImage) -> None:
    patched = image.patched(hypervisor("lhype").patcher(image.patch_context("lhype")))
    address = image.labels["lguest_data"].to_bytes(4, "little")
    assert patched.read("site_irq_disable", 10) == b"\xc7\x05" + address + bytes(4)
    assert patched.read("site_irq_enable", 10) == b"\xc7\x05" + address + bytes((0, 2, 0, 0))
    assert patched.read("site_save_fl", 5) == b"\xa1" + address
    assert patched.read("site_restore_fl", 5) == b"\xa3" + address
    fused = patched.read("site_irq_save", 15)
    assert fused == patched.read("site_save_fl", 5) + patched.read("site_irq_disable", 10)


def test_other_sites_are_patched_by_the_default_rules() -> None:
    targets = {"irq_enable": SITE + 0x100, "iret": SITE + 0x200}
    lhype = hypervisor("lhype")
    unknown, known = PatchContext(targets), PatchContext(targets, {"lguest_data": DATA})
    assert lhype.patch(PatchType.IRQ_ENABLE, CLBR_EAX, bytes(10), SITE, unknown) is None
    assert lhype.patch(PatchType.IRQ_ENABLE, CLBR_ANY, bytes(6), SITE, known).hex() == "e8fb000000"
    assert lhype.patch(PatchType.INTERRUPT_RETURN, CLBR_ANY, bytes(7), SITE, known).hex() == "e9fb010000"
    assert lhype.patch(PatchType.SAVE_FLAGS, 0, bytes(6), SITE, known) == inline_code("save_fl", DATA)
    assert inline_code("iret", DATA) is None
    assert len(inline_code(FUSED, DATA)) == 15


@pytest.mark.parametrize("form", ["indirect", "direct", "patched"])
def test_every_benchmark_runs_in_every_form(image: GuestImage, form: str) -> None:
    setting, = settings(image, "lhype")
    run = GuestRun(setting, form)
    for loop in setting.benchmarks():
        if not run.missing(loop):
            assert run.per_operation(loop.name).instructions > 0
    inline = run.per_operation("irq_disable").instructions
    assert inline == {"indirect": 7, "direct": 8, "patched": 1}[form]


@pytest.mark.parametrize("name", ["2.6.21", "2.6.22", "2.6.23", "2.6.24"])
def test_boots_with_the_tables_of_later_releases(name: str) -> None:
    image = build(name)
    patched = image.patched(hypervisor("lhype").patcher(image.patch_context("lhype")))
    guest = Guest(patched).boot()
    guest.bench("irq_save_restore", 5)
    guest.bench("null_syscall_int80", 5)
    assert guest.fault()["count"] == 0


# --- Interrupts ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ticks", [1, 3])
def test_timer_interrupts_are_counted(guest: Guest, ticks: int) -> None:
    for _ in range(ticks):
        guest.machine.inject_interrupt(TIMER)
        assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.word("jiffies") == ticks
    assert guest.lhype.interrupts == ticks
    assert guest.word("unexpected_interrupts") == 0


def test_other_lines_are_unexpected(guest: Guest) -> None:
    guest.machine.inject_interrupt(TIMER + 31)
    guest.machine.run(max_instructions=1000)
    guest.machine.inject_interrupt(TIMER + 32)          # none of lguest's
    guest.machine.run(max_instructions=1000)
    assert guest.word("unexpected_interrupts") == 1
    assert guest.lhype.interrupts == 1


def test_a_masked_interrupt_waits_for_the_host_to_be_entered(guest: Guest) -> None:
    guest.hypercall(Lhcall.FLUSH_ASYNC)                 # maps what the one below needs
    for name in ("irq_disable", "empty", "irq_enable"):
        guest.bench(name)
    guest.bench("irq_disable")
    assert not guest.enabled
    guest.machine.inject_interrupt(TIMER)
    guest.bench("empty", 100)
    guest.bench("irq_enable")
    assert guest.enabled
    assert guest.word("jiffies") == 0                   # enabling alone does not enter the host
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    guest.run_to("do_timer", 100)


def test_blocked_interrupts_wait(guest: Guest) -> None:
    guest.blocked = 1
    guest.machine.inject_interrupt(TIMER)
    guest.bench("empty", 10)
    assert guest.lhype.interrupts == 0
    guest.blocked = 0
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    assert guest.lhype.interrupts == 1


def test_no_interrupt_between_enabling_and_iret(guest: Guest) -> None:
    """From noirq_start on the mask is that of the frame, but the frame is still to be taken off."""
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    guest.bench("iret")
    guest.enter("iret", 1)
    guest.run_to("lguest_noirq_start", 100)
    guest.machine.step()
    assert guest.enabled
    assert guest.machine.cpu.eip < guest.image.labels["lguest_noirq_end"]
    guest.machine.inject_interrupt(TIMER)
    guest.run_to("bench_done", 100)
    assert guest.lhype.interrupts == 0
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    assert guest.lhype.interrupts == 1


def test_halt_enables_interrupts(guest: Guest) -> None:
    guest.enabled = False
    guest.hypercall(Lhcall.HALT)
    assert guest.machine.run(max_instructions=100).reason is pvfast.StopReason.HALT
    guest.machine.inject_interrupt(TIMER)
    guest.run_to("do_timer", 100)


def test_the_timer_is_one_shot(guest: Guest) -> None:
    guest.hypercall(Lhcall.SET_CLOCKEVENT, 100_000)
    due = guest.machine.counters.cycles + 100_000
    guest.machine.cpu.eip = guest.image.labels["boot_done"]
    guest.run_to("do_timer", 1000)                      # halted meanwhile
    assert due <= guest.machine.counters.cycles < due + 5_000
    assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.word("jiffies") == 1
    guest.hypercall(Lhcall.SET_CLOCKEVENT, 100_000)
    guest.hypercall(Lhcall.SET_CLOCKEVENT, 0)
    guest.machine.cpu.eip = guest.image.labels["boot_done"]
    assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.word("jiffies") == 1


def test_timer_interrupts_do_not_disturb_user_code(guest: Guest) -> None:
    guest.enter("null_syscall_int80", 50)
    for _ in range(20):
        guest.machine.run(until=guest.image.labels["bench_done"], max_instructions=97)
        guest.machine.inject_interrupt(TIMER)
    guest.run_to("bench_done", 20_000)
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    guest.machine.run(max_instructions=100)
    assert 15 <= guest.word("jiffies") <= 20            # two that wait for the host are one
    assert guest.word("exit_status") == 1
    assert guest.fault()["count"] == 0


# --- Traps -----------------------------------------------------------------------------------------------------------

def test_page_faults_say_where(guest: Guest) -> None:
    guest.execute(bytes.fromhex("a178563412"))       # mov 0x12345678, %eax
    assert not guest.enabled                            # the gate is an interrupt gate
    guest.run_to("panic", 1000)
    fault = guest.fault()
    assert (fault["vector"], fault["error_code"], fault["cr2"], fault["cs"]) == (PF, 0, 0x12345678, 0x61)


def test_a_panic_ends_the_guest(guest: Guest) -> None:
    guest.machine.cpu.eip = guest.image.labels["panic"]
    assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.SHUTDOWN
    assert guest.lhype.killed is Killed.CRASH
    assert guest.lhype.crash_message == b"Halted with interrupts off"


def test_user_code_runs_in_ring_3(guest: Guest) -> None:
    guest.enter("null_syscall_int80", 10)
    guest.run_to("user_null_syscall_int80", 10_000)
    cpu = guest.machine.cpu
    assert (cpu.cpl, cpu.cs.selector, cpu.gs.selector) == (3, USER_CS, 0)
    guest.run_to("bench_done", 10_000)
    assert guest.word("exit_status") == 1


def test_a_system_call_does_not_enter_the_host(guest: Guest) -> None:
    """The gate is a trap gate, so the processor goes to the guest directly: the same cycles as on bare hardware."""
    native = GuestRun(settings(guest.image, "native")[0], "indirect")
    run = GuestRun(settings(guest.image, "lhype")[0], "indirect")
    cycles = {each: each.per_operation("null_syscall_int80").cycles for each in (native, run)}
    extra = cycles[run] - cycles[native]
    assert abs(extra) < 50, cycles                      # the bodies of irq_disable and iret differ, nothing else


def test_user_code_may_not_make_hypercalls(guest: Guest) -> None:
    guest.enter("null_syscall_int80", 2)
    guest.run_to("system_call", 10_000)
    guest.run_to("user_null_syscall_int80", 1000)       # its page is there now
    before = guest.lhype.hypercalls
    guest.write(guest.image.labels["user_text_page"] + (guest.machine.cpu.eip & 0xFFF), bytes.fromhex("cd1f"))
    guest.run_to("do_exception", 100)
    assert guest.lhype.hypercalls == before
    assert (guest.machine.cpu.edx, guest.machine.cpu.ecx) == (GP, 0x1F * 8 + 2)


def test_ports_read_ones_and_take_anything(guest: Guest) -> None:
    for code, eax in (("e420", 0x123456FF), ("66ed", 0x1234FFFF), ("ed", 0xFFFFFFFF), ("e680", 0x12345678),
                      ("66ef", 0x12345678)):
        guest.machine.cpu.eax = 0x12345678
        guest.execute(bytes.fromhex(code))
        assert guest.machine.cpu.eax == eax, code
        assert guest.fault()["count"] == 0


@pytest.mark.parametrize("code", ["fa", "fb", "f4", "0f22d8", "0f0118", "0f20c0", "0f30", "0f00d0"])
def test_privileged_instructions_are_the_guests_mistake(guest: Guest, code: str) -> None:
    guest.execute(bytes.fromhex(code))
    guest.run_to("do_exception", 100)
    assert guest.machine.cpu.edx == GP
    assert guest.machine.cpu.cpl == 1


def test_fpu_traps_when_the_guest_wants_them(guest: Guest) -> None:
    guest.hypercall(Lhcall.TS, 8)
    assert guest.machine.cpu.cr0 & 8
    guest.execute(bytes.fromhex("d9ee"))             # fldz
    guest.run_to("math_state_restore", 100)
    guest.machine.run(max_instructions=20)
    assert not guest.machine.cpu.cr0 & 8


# --- Machine ---------------------------------------------------------------------------------------------------------

def test_slices_do_not_change_what_happens(image: GuestImage) -> None:
    whole, sliced = Guest(image), Guest(image)
    whole.boot()
    done = image.labels["boot_done"]
    while sliced.machine.cpu.eip != done:
        sliced.machine.run(until=done, max_instructions=7)
    assert sliced.machine.counters.as_dict() == whole.machine.counters.as_dict()
    assert sliced.machine.cpu.registers() == whole.machine.cpu.registers()
    assert sliced.machine.ram.tobytes() == whole.machine.ram.tobytes()
    assert sliced.lhype.save() == whole.lhype.save()


def test_a_snapshot_holds_the_hosts_state_too(guest: Guest) -> None:
    state = guest.machine.snapshot()
    hypercalls = guest.lhype.hypercalls
    ends = []
    for _ in range(2):
        guest.hypercall(Lhcall.FLUSH_TLB, 1)
        guest.machine.restore(state)
        assert guest.lhype.hypercalls == hypercalls
        guest.bench("null_syscall_int80", 3)
        ends.append((guest.machine.counters.as_dict(), guest.machine.ram.tobytes(), guest.lhype.save()))
        guest.machine.restore(state)
    assert ends[0] == ends[1]
    with pytest.raises(pvfast.PvfastError):
        guest.machine.restore(pvfast.Machine(ram="16M", hypervisor=hypervisor("native")).snapshot())


def test_start_needs_its_own_machine(image: GuestImage) -> None:
    with pytest.raises(pvfast.PvfastError, match="made with this hypervisor"):
        hypervisor("lhype").start(pvfast.Machine(ram="16M"), image)


def test_it_is_a_hypervisor() -> None:
    lhype = hypervisor("lhype")
    assert isinstance(lhype, Hypervisor)
    assert (lhype.kernel_rpl, lhype.paravirt_enabled, lhype.banner) == (1, 1, "lguest")
