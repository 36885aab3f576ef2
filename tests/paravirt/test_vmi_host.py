"""The built-in guest under VMI: from bare hardware to ring 1, interrupts, system calls, patching, snapshots."""

import pytest

import pvfast
from pvfast.experiments.workloads import FORMS, settings
from pvfast.guest import GuestImage, build
from pvfast.guest.build import GUEST_ERAS
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.vmi import PARA_FILL, PARA_WRAP, Vmi
from pvfast.paravirt.hypervisors.vmi_interface import Reloc, VmiCall
from pvfast.paravirt.hypervisors.vmi_rom import rom
from tests.guest.programs import run_program
from tests.paravirt.vmi import Guest

IF = 0x200
GP, PF = 13, 14
KERNEL_CS, USER_CS = 0x61, 0x73
POISON_IRET, POISON_SYSEXIT = 0x0BADBAB0, 0xFEEDBAB0


@pytest.fixture
def guest(image: GuestImage) -> Guest:
    return Guest(image).boot()


@pytest.fixture(scope="session")
def forms(image: GuestImage) -> dict[str, GuestImage]:
    setting, = settings(image, "vmi")
    return {form: setting.formed(form) for form in FORMS}


def text(guest: Guest) -> bytes:
    section = guest.image.sections[".text"]
    return guest.machine.read_linear(section.address, len(section.code))


# --- The boot ---------------------------------------------------------------------------------------------------------

def test_boots_as_bare_hardware_and_ends_in_ring_1(image: GuestImage) -> None:
    guest = Guest(image)
    guest.run_to("activate_vmi", 50_000)
    cpu = guest.machine.cpu
    assert (cpu.cpl, cpu.cs.selector) == (0, 0x60)
    assert not guest.vmi.started
    guest.boot()
    assert (cpu.cpl, cpu.cs.selector) == (1, KERNEL_CS)
    assert guest.vmi.started
    assert guest.vmi.ended is None
    assert guest.word("paravirt_ops") == 1              # kernel_rpl
    assert guest.word("paravirt_ops", 1) == 1           # paravirt_enabled
    assert cpu.eflags & IF                              # the hypervisor's: it takes every interrupt
    assert guest.enabled
    assert cpu.gs.base == image.labels["boot_pda"]
    assert guest.fault()["count"] == 0


def test_the_console_is_the_machines(image: GuestImage) -> None:
    class Serial:
        text = b""

        def read(self, port: int, size: int) -> int:
            return 0x20                                 # ready

        def write(self, port: int, size: int, value: int) -> None:
            self.text += bytes((value,))

    guest, serial = Guest(image), Serial()
    guest.machine.intercept_port(0x3F8, serial)
    guest.machine.intercept_port(0x3FD, serial)
    guest.boot()
    assert serial.text == b"Booting paravirtualized kernel on vmi\n"


def test_each_operation_goes_where_it_should(guest: Guest) -> None:
    image = guest.image
    expected = dict(image.implementations("vmi"))
    expected["patch"] = image.labels["vmi_patch"]
    expected["io_delay"] = image.labels["vmi_nop"]      # the ROM answers NOP
    expected["iret"], expected["irq_enable_sysexit"] = POISON_IRET, POISON_SYSEXIT
    assert {name: guest.read(pointer) for name, pointer in image.pointers.items()} == expected
    present = [name for name in (*PARA_FILL, *PARA_WRAP) if name in expected]
    assert all(expected[name] != image.labels[f"native_{name}"] for name in present)


def test_calls_of_the_boot_are_counted(guest: Guest) -> None:
    calls = guest.vmi.calls
    for number in (VmiCall.SetGDT, VmiCall.SetIDT, VmiCall.SetTR, VmiCall.UpdateKernelStack,
                   VmiCall.SetLinearMapping):
        assert calls[number] == 1, number
    pages = guest.word("memory_end") >> 12              # of the kernel's own mapping, which becomes global
    assert calls[VmiCall.SetPxE] == pages + 2
    assert VmiCall.EnableInterrupts not in calls        # nothing was waiting, so nothing trapped


def test_interrupt_flag_control_registers_and_exits_do_not_trap(guest: Guest) -> None:
    before = guest.vmi.calls
    for name in ("irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save_restore", "iret"):
        guest.bench(name, 20)
    assert guest.vmi.calls == before
    guest.run_to_user("null_syscall_int80", 20)
    before = guest.vmi.calls
    for _ in range(18):
        guest.run_to("system_call", 1000)
    assert guest.vmi.calls == before


# --- Interrupts -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ticks", [1, 3])
def test_timer_interrupts_are_counted(guest: Guest, ticks: int) -> None:
    for _ in range(ticks):
        guest.machine.inject_interrupt(0x20)
        assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.word("jiffies") == ticks == guest.vmi.interrupts
    assert not guest.pending


@pytest.mark.parametrize("name", ["irq_enable", "restore_fl", "iret"])
def test_a_masked_interrupt_waits_for_the_flag(guest: Guest, name: str) -> None:
    guest.bench("irq_disable", 1)
    assert not guest.enabled
    guest.machine.inject_interrupt(0x20)
    guest.bench("empty", 100)
    assert guest.pending
    assert guest.word("jiffies") == 0
    guest.bench(name, 1)
    assert guest.word("jiffies") == 1
    assert not guest.pending
    assert guest.enabled


def test_interrupts_that_wait_come_in_the_order_of_their_lines(guest: Guest) -> None:
    guest.bench("irq_disable", 1)
    for vector in (0x23, 0x20, 0x20):
        guest.machine.inject_interrupt(vector)
        guest.bench("empty", 1)
    guest.machine.cpu.eip = guest.image.benchmarks["irq_enable"].address
    guest.machine.cpu.ecx = 1
    guest.run_to("timer_interrupt", 100)
    guest.run_to("unexpected_interrupt", 1000)
    guest.run_to("bench_done", 1000)
    assert (guest.word("jiffies"), guest.word("unexpected_interrupts")) == (1, 1)


def test_halting_with_one_waiting_does_not_sleep(guest: Guest) -> None:
    guest.bench("irq_disable", 1)
    guest.machine.inject_interrupt(0x20)
    guest.bench("empty", 1)
    assert guest.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert guest.word("jiffies") == 1


def test_the_alarm_is_line_0(guest: Guest) -> None:
    now = guest.machine.counters.cycles
    guest.call(VmiCall.SetAlarm, 0x100, now + 5_000_000, 0, 1_000_000, 0)
    guest.machine.cpu.eip = guest.image.labels["boot_done"]
    guest.machine.cpu.esp = guest.image.labels["init_thread_union"] + 8192
    guest.machine.run(max_instructions=1000)
    assert guest.word("jiffies") > 1
    assert guest.call(VmiCall.CancelAlarm, 0) == 1
    assert guest.vmi.next_event() is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "begin"), [
    ("irq_enable", "irq_disable"), ("restore_fl", "irq_disable"), ("irq_save_restore", "irq_enable"),
    ("iret", "irq_disable"), ("null_syscall_int80", "irq_enable"), ("null_syscall_sysenter", "irq_enable"),
])
def test_an_interrupt_at_any_instruction_is_taken_once(
    forms: dict[str, GuestImage], form: str, name: str, begin: str
) -> None:
    """Between the flag's change, the look at what waits, and the IRET too."""
    guest = Guest(forms[form]).boot()
    machine = guest.machine
    for steps in range(guest.bench(name, 1)):
        guest.bench(begin, 1)
        ticks = guest.word("jiffies")
        machine.cpu.eip, machine.cpu.ecx = guest.image.benchmarks[name].address, 1
        machine.run(until=guest.image.labels["bench_done"], max_instructions=steps)
        machine.inject_interrupt(0x20)
        guest.run_to("bench_done", 10_000)
        guest.bench("irq_enable", 1)
        assert guest.word("jiffies") == ticks + 1, steps
        assert not guest.pending
        assert guest.fault()["count"] == 0


# --- Exceptions, system calls -----------------------------------------------------------------------------------------

def test_page_faults_say_where(guest: Guest) -> None:
    guest.execute("a178563412")                         # mov 0x12345678, %eax
    assert not guest.enabled                            # the gate is an interrupt gate
    guest.run_to("panic", 1000)
    fault = guest.fault()
    assert (fault["vector"], fault["error_code"], fault["cr2"], fault["cs"]) == (PF, 0, 0x12345678, KERNEL_CS)


def test_getppid_both_ways(guest: Guest) -> None:
    for name in ("null_syscall_int80", "null_syscall_sysenter"):
        guest.bench(name, 10)
        assert guest.word("exit_status") == 1
        assert guest.machine.cpu.cpl == 1


@pytest.mark.parametrize("name", ["null_syscall_int80", "null_syscall_sysenter"])
def test_timer_interrupts_do_not_disturb_user_code(guest: Guest, name: str) -> None:
    guest.machine.cpu.eip = guest.image.benchmarks[name].address
    guest.machine.cpu.ecx = 50
    for _ in range(20):
        guest.machine.run(until=guest.image.labels["bench_done"], max_instructions=97)
        guest.machine.inject_interrupt(0x20)
    guest.run_to("bench_done", 20_000)
    assert guest.word("jiffies") == 20
    assert guest.word("exit_status") == 1


def test_user_code_makes_no_calls(guest: Guest) -> None:
    guest.run_to_user("null_syscall_int80", 3)
    cpu = guest.machine.cpu
    assert (cpu.cpl, cpu.cs.selector, cpu.gs.selector) == (3, USER_CS, 0)
    user, before = cpu.eip, guest.vmi.calls
    guest.machine.write_linear(user, b"\xcd\x84")
    guest.run_to("exception_common", 100)
    vector, error_code, eip, cs = (guest.read(cpu.esp + 4 * word) for word in range(4))
    assert (vector, error_code, eip, cs) == (GP, 0x84 * 8 + 2, user, USER_CS)
    assert guest.vmi.calls == before


@pytest.mark.parametrize(("code", "enabled"), [("fb", True), ("fa", False)])
def test_sti_and_cli_trap_and_change_the_flag(guest: Guest, code: str, enabled: bool) -> None:
    guest.bench("irq_disable" if enabled else "irq_enable", 1)
    guest.execute(code)
    assert guest.enabled is enabled
    assert guest.machine.cpu.eflags & IF


@pytest.mark.parametrize("era", GUEST_ERAS)
def test_processes_come_and_go_in_every_release(era: str) -> None:
    """From 2.6.21 on every page table is announced and given back, and VMI would refuse one that is not."""
    guest = Guest(build(era)).boot()
    forks = """
        movl $5, %ebp
    1:  call 2
        testl %eax, %eax
        jnz 2f
        pushl %eax                      /* writes to a page that both have */
        exit $7
    2:  movl %eax, %ebx
        subl $4, %esp
        movl %esp, %ecx
        xorl %edx, %edx
        movl $7, %eax                   /* waitpid */
        int $0x80
        popl %eax
        decl %ebp
        jnz 1b
        exit %eax"""
    assert run_program(guest, forks) == 7 << 8
    before = guest.vmi.calls
    assert run_program(guest, forks) == 7 << 8
    new = {number: count - before.get(number, 0) for number, count in guest.vmi.calls.items()}
    assert new[VmiCall.SetCR3] > 5
    assert new[VmiCall.UpdatePxE] > 5
    if era != "2.6.20":
        assert new[VmiCall.AllocatePage] == new[VmiCall.ReleasePage] > 5
    assert guest.fault()["count"] == 0


# --- Patching ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", FORMS)
def test_every_benchmark_runs_in_every_form(forms: dict[str, GuestImage], form: str) -> None:
    guest = Guest(forms[form]).boot()
    for name in guest.image.benchmarks:
        guest.bench(name, 5)
        assert guest.fault()["count"] == 0, name


@pytest.mark.parametrize("era", GUEST_ERAS)
def test_the_kernel_patches_itself_as_pvfast_does_from_outside(era: str) -> None:
    guest = Guest(build(era)).boot()
    section, patch = guest.image.sections[".text"], Vmi().patcher(guest.image.patch_context("vmi"))
    assert text(guest) == guest.image.patched(patch).read(section.address, len(section.code))
    assert text(guest) != section.code


def test_the_indirect_form_keeps_all_sites_but_the_exits(forms: dict[str, GuestImage]) -> None:
    guest = Guest(forms["indirect"]).boot()
    section = guest.image.sections[".text"]
    compiled, era = build(), guest.image.era
    assert text(guest) == guest.image.read(section.address, len(section.code))
    changed = {site.type for site in compiled.sites
               if guest.machine.read_linear(site.address, site.length) != compiled.read(site.address, site.length)}
    assert {era.site_operation(kind) for kind in changed} == {"iret", "irq_enable_sysexit"}


def test_a_site_too_short_for_two_calls_gets_one(guest: Guest) -> None:
    """vmi_patch(type 4, 0, scratch, 6) calls the helper of eleven bytes: two calls and a ret."""
    cpu, callout = guest.machine.cpu, guest.image.labels["irq_save_disable_callout"]
    site, = {site.type for site in guest.image.sites if guest.image.era.site_operation(site.type)
             == "save_fl_irq_disable"}
    cpu.eax, cpu.edx, cpu.ecx, cpu.eip = site, 0, guest.scratch, guest.image.labels["vmi_patch"]
    guest.store(guest.image.labels["boot_done"], 6, at=cpu.esp - 8)
    cpu.esp -= 8
    guest.run_to("boot_done", 100)
    assert cpu.eax == 5
    code = guest.machine.read_linear(guest.scratch, 5)
    assert code == b"\xe8" + ((callout - guest.scratch - 5) % 2**32).to_bytes(4, "little")
    outside = guest.vmi.patch(site, 0, bytes(6), guest.scratch, guest.image.patch_context("vmi"))
    assert outside == code
    helper = guest.machine.read_linear(callout, 11)
    assert helper[0] == helper[5] == 0xE8
    assert helper[10] == 0xC3
    targets = [(callout + at + 5 + int.from_bytes(helper[at + 1:at + 5], "little")) % 2**32 for at in (0, 5)]
    assert targets == [rom().relocations[call][1] for call in (VmiCall.GetInterruptMask, VmiCall.DisableInterrupts)]


@pytest.mark.parametrize(("label", "bench", "pointer"), [
    ("site_iret", "iret", POISON_IRET), ("site_irq_enable_sysexit", "null_syscall_sysenter", POISON_SYSEXIT),
])
def test_bug_unpatched_exits_jump_into_poison(image: GuestImage, label: str, bench: str, pointer: int) -> None:
    """The pointers of iret and sysexit lead nowhere: a site that is not patched takes the kernel there."""
    unpatched, patched = Guest(image).boot(), Guest(image).boot()
    site = image.site(label)
    unpatched.machine.write_linear(site.address, image.read(site.address, site.length))
    unpatched.machine.cpu.eip = image.benchmarks[bench].address
    unpatched.machine.cpu.ecx = 1
    unpatched.run_to("panic", 10_000)
    fault = unpatched.fault()
    assert (fault["vector"], fault["eip"], fault["cr2"]) == (PF, pointer, pointer)
    patched.bench(bench, 1)
    assert patched.fault()["count"] == 0


def test_bug_apply_paravirt_must_be_idempotent(guest: Guest, image: GuestImage) -> None:
    """VMI's kernel patches in setup_arch and again with everybody else: the second time changes nothing."""
    once = text(guest)
    cpu = guest.machine.cpu
    cpu.eax, cpu.edx = image.labels["__start_parainstructions"], image.labels["__stop_parainstructions"]
    cpu.eip = image.labels["apply_paravirt"]
    cpu.esp -= 4
    guest.store(image.labels["boot_done"], at=cpu.esp)
    guest.run_to("boot_done", 50_000)
    assert text(guest) == once
    patch = hypervisor("vmi").patcher(image.patch_context("vmi"))
    assert image.patched(patch).patched(patch).code == image.patched(patch).code


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("call", [VmiCall.DisableInterrupts, VmiCall.EnableInterrupts, VmiCall.GetInterruptMask,
                                  VmiCall.SetInterruptMask])
def test_what_a_call_destroys_is_what_its_code_destroys(guest: Guest, call: VmiCall, waiting: bool) -> None:
    """The patch sites of the flag save nothing around a call: it touches EAX at most, only where that is said."""
    cpu, names = guest.machine.cpu, ("eax", "ecx", "edx", "ebx", "esi", "edi", "ebp")
    if waiting:
        guest.bench("irq_disable", 1)
        guest.machine.inject_interrupt(0x20)
        guest.bench("empty", 1)
    for number, name in enumerate(names):
        setattr(cpu, name, 0x1111F200 + number)
    guest.store(guest.image.labels["boot_done"], at=cpu.esp - 4)
    cpu.esp -= 4
    cpu.eip = rom().relocations[call][1]
    guest.run_to("boot_done", 1000)
    changed = [name for number, name in enumerate(names) if getattr(cpu, name) != 0x1111F200 + number]
    assert changed == (["eax"] if rom().destroys(call) else [])
    assert guest.word("jiffies") == (waiting and call in (VmiCall.EnableInterrupts, VmiCall.SetInterruptMask))


# --- State ------------------------------------------------------------------------------------------------------------

def test_slices_do_not_change_what_happens(image: GuestImage) -> None:
    whole, sliced = Guest(image).boot(), Guest(image)
    done = image.labels["boot_done"]
    while sliced.machine.cpu.eip != done:
        sliced.machine.run(until=done, max_instructions=7)
    assert sliced.machine.counters.as_dict() == whole.machine.counters.as_dict()
    assert sliced.machine.cpu.registers() == whole.machine.cpu.registers()
    assert sliced.machine.ram.tobytes() == whole.machine.ram.tobytes()
    assert sliced.vmi.calls == whole.vmi.calls


def test_a_snapshot_holds_the_hypervisors_state_too(guest: Guest) -> None:
    guest.bench("irq_disable", 1)
    guest.machine.inject_interrupt(0x20)
    guest.bench("empty", 1)
    state, calls = guest.machine.snapshot(), guest.vmi.calls
    ends = []
    for _ in range(2):
        guest.call(VmiCall.UpdateKernelStack, 0x68, 0x1000)
        guest.machine.restore(state)
        assert guest.vmi.calls == calls
        guest.bench("irq_enable", 1)
        guest.bench("null_syscall_int80", 3)
        assert guest.word("jiffies") == 1
        ends.append((guest.machine.counters.as_dict(), guest.machine.ram.tobytes(), guest.vmi.save()))
        guest.machine.restore(state)
    assert ends[0] == ends[1]


def test_a_snapshot_from_before_the_rom_goes_back_to_ring_0(image: GuestImage) -> None:
    guest = Guest(image)
    guest.run_to("activate_vmi", 50_000)
    state = guest.machine.snapshot()
    for _ in range(2):
        guest.boot()
        assert guest.machine.cpu.cpl == 1
        guest.machine.restore(state)
        assert guest.machine.cpu.cpl == 0
        assert not guest.vmi.started


def test_snapshots_of_other_machines_are_refused(guest: Guest, image: GuestImage) -> None:
    with pytest.raises(pvfast.PvfastError, match="out of ring 0"):
        Guest(image).machine.restore(guest.machine.snapshot())


def test_the_machine_must_have_room_for_the_rom_and_not_too_much() -> None:
    for ram in ("512K", "512M"):
        with pytest.raises(pvfast.PvfastError, match="a machine of"):
            pvfast.Machine(ram=ram, hypervisor=Vmi())


def test_none_means_native(image: GuestImage) -> None:
    assert rom().relocations[VmiCall.RDMSR] == (Reloc.NONE, 0)
    assert image.implementations("vmi")["read_msr"] == image.labels["native_read_msr"]
