"""The guest kernel on bare hardware: boot, interrupts, system calls, faults, benchmarks, patching."""

import pytest

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.probing import PROBE_OF_LAST_RESORT, PROBE_SECTION, unpack_probes
from pvfast.paravirt.shapes import SiteState, classify
from tests.guest.kernel import BOOT_INSTRUCTIONS, Kernel

IF = 0x200
CR0_TS = 8
SIGSEGV = 11
KERNEL_CS, USER_CS, PDA = 0x60, 0x73, 0xD8
RING_1_CODE, RING_1_DATA = 0xC0BB, 0xC0B3

NATIVE = {
    # benchmark: instructions per operation as compiled, patched inline (with the NOPs that fill the site)
    "irq_disable": (7, 1 + 3),
    "irq_enable": (7, 1 + 3),
    "save_fl": (8, 2 + 2),
    "restore_fl": (8, 2 + 2),
    "irq_save": (13, 3 + 3),
    "asm_irq_disable": (7, 1 + 3),
    "asm_irq_enable": (7, 1 + 3),
    "iret": (2, 1),
}


def forms(image: GuestImage) -> dict[str, GuestImage]:
    patched = image.patched(hypervisor("native").patcher())
    return {"indirect": image, "direct": image.direct(), "patched": patched}


def test_boots_to_idle_with_interrupts_enabled(booted: Kernel) -> None:
    cpu = booted.machine.cpu
    assert cpu.eflags & IF
    assert cpu.cr0 >> 31
    assert cpu.cs.selector == KERNEL_CS
    assert cpu.gs.selector == PDA
    assert cpu.gs.base == booted.image.labels["boot_pda"]
    assert booted.fault()["count"] == 0
    assert booted.word("paravirt_ops") == 0             # kernel_rpl


def test_idles_by_halting(booted: Kernel) -> None:
    assert booted.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert booted.machine.cpu.eip == booted.image.labels["native_safe_halt"] + 2


def test_null_pointers_fault_after_boot(booted: Kernel) -> None:
    with pytest.raises(pvfast.PvfastError):
        booted.machine.read_linear(0, 4)


def test_banner_goes_to_the_serial_port(image: GuestImage) -> None:
    class Serial:
        def __init__(self) -> None:
            self.text = b""

        def write(self, port: int, size: int, value: int) -> None:
            self.text += bytes((value,))

    guest, serial = Kernel(image), Serial()
    guest.machine.intercept_port(0x3F8, serial)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert serial.text == b"Booting paravirtualized kernel on bare hardware\n"


def test_timer_interrupts_are_counted(booted: Kernel) -> None:
    for ticks in (1, 2, 3):
        booted.machine.inject_interrupt(0x20)
        booted.machine.run(max_instructions=1000)
        assert booted.word("jiffies") == ticks
    assert booted.word("unexpected_interrupts") == 0


def test_interrupts_wait_while_disabled(booted: Kernel) -> None:
    booted.bench("irq_disable", 1)
    booted.machine.inject_interrupt(0x20)
    booted.bench("empty", 100)
    assert booted.word("jiffies") == 0
    booted.bench("irq_enable", 1)
    assert booted.word("jiffies") == 1


def test_a_timer_interrupt_does_not_disturb_user_code(booted: Kernel) -> None:
    booted.machine.cpu.eip = booted.image.benchmarks["null_syscall_int80"].address
    booted.machine.cpu.ecx = 50
    for _ in range(20):
        booted.machine.run(until=booted.image.labels["bench_done"], max_instructions=97)
        booted.machine.inject_interrupt(0x20)
    booted.run_to("bench_done", 10_000)
    assert booted.word("jiffies") >= 20
    assert booted.word("exit_status") == 1


def test_other_lines_are_counted_as_unexpected(booted: Kernel) -> None:
    booted.machine.inject_interrupt(0x2F)
    booted.machine.run(max_instructions=1000)
    assert booted.word("unexpected_interrupts") == 1


@pytest.mark.parametrize("name", ["null_syscall_int80", "null_syscall_sysenter"])
def test_getppid_answers(booted: Kernel, name: str) -> None:
    booted.bench(name, 10)
    assert booted.word("exit_status") == 1
    assert booted.machine.cpu.cpl == 0


def test_user_code_runs_in_ring_3(booted: Kernel) -> None:
    booted.machine.cpu.eip = booted.image.benchmarks["null_syscall_int80"].address
    booted.machine.cpu.ecx = 10
    booted.run_to("user_null_syscall_int80", 10_000)
    cpu = booted.machine.cpu
    assert (cpu.cpl, cpu.cs.selector, cpu.gs.selector) == (3, USER_CS, 0)
    assert cpu.eflags & IF


def test_unknown_system_calls_are_refused(booted: Kernel) -> None:
    booted.machine.cpu.eip = booted.image.benchmarks["null_syscall_int80"].address
    booted.machine.cpu.ecx = 1
    booted.run_to("user_null_syscall_int80", 10_000)
    booted.run_to("system_call", 10_000)
    booted.machine.cpu.eax = 65
    booted.run_to("bench_done", 10_000)
    assert booted.word("exit_status") == 2**32 - 38


def test_kernel_faults_are_recorded(booted: Kernel) -> None:
    address = booted.image.labels["native_set_wallclock"]
    booted.machine.write_linear(address, bytes.fromhex("a1 78 56 34 12"))      # mov 0x12345678, %eax
    booted.machine.cpu.eip = address
    booted.run_to("panic", 10_000)
    fault = booted.fault()
    assert (fault["vector"], fault["error_code"], fault["eip"], fault["cs"]) == (14, 0, address, KERNEL_CS)
    assert (fault["cr2"], fault["esp"], fault["count"]) == (0x12345678, booted.stack_top, 1)


def test_user_faults_end_the_program(booted: Kernel) -> None:
    booted.machine.cpu.eip = booted.image.benchmarks["null_syscall_int80"].address
    booted.machine.cpu.ecx = 1
    booted.run_to("user_null_syscall_int80", 10_000)
    booted.machine.cpu.eip = booted.image.labels["startup_32"]
    booted.run_to("bench_done", 10_000)
    assert booted.word("exit_status") == SIGSEGV
    assert booted.machine.cpu.cr2 == booted.image.labels["startup_32"]
    assert booted.fault()["count"] == 0                 # that is for the kernel's own


def test_expected_faults_resume_at_their_fixup(booted: Kernel) -> None:
    machine, labels = booted.machine, booted.image.labels
    error = labels["exit_status"]
    machine.cpu.esp -= 4
    machine.write_linear(machine.cpu.esp, labels["bench_done"].to_bytes(4, "little"))
    machine.cpu.eip = labels["native_read_msr"]
    machine.cpu.eax, machine.cpu.edx = 0xDEAD, error
    booted.run_to("bench_done", 1000)
    assert booted.word("exit_status") == 2**32 - 14     # -EFAULT
    assert booted.fault()["count"] == 0


def test_device_not_available_reads_cr0_through_the_table(booted: Kernel) -> None:
    machine, page = booted.machine, booted.image.labels["user_data_page"]
    machine.cpu.cr0 |= CR0_TS
    machine.write_linear(page, bytes.fromhex("cd 07 90"))                       # int $7
    machine.cpu.eip = page
    machine.run(until=page + 2, max_instructions=1000)
    assert machine.cpu.eip == page + 2
    assert not machine.cpu.cr0 & CR0_TS
    assert booted.fault()["count"] == 0


def test_ring_1_goes_to_the_probes_and_ends_at_bare_hardware(image: GuestImage) -> None:
    guest = Kernel(image)
    machine, labels = guest.machine, image.labels
    machine.map_ram(image.linear, -(-len(image.code) // 4096) * 4096)
    machine.write(image.linear, image.code)             # where it is linked, as a hypervisor would map it
    machine.cpu.cs.set(0x19, 0, 0xFFFFFFFF, RING_1_CODE)
    for name in ("ds", "es", "ss"):
        getattr(machine.cpu, name).set(0x21, 0, 0xFFFFFFFF, RING_1_DATA)
    machine.cpu.eip = labels["startup_32"]
    entry = {"ecx": 0xC, "edx": 0xD, "ebx": 0xB, "esi": 0x51, "edi": 0xD1, "ebp": 0xB0}
    for name, value in entry.items():
        setattr(machine.cpu, name, value)
    probes = unpack_probes(image.sections[PROBE_SECTION].code)
    assert probes == [labels["xen_probe"], labels["lhype_probe"], labels[PROBE_OF_LAST_RESORT]]
    for probe in probes:
        stop = machine.run(until=probe, max_instructions=200)
        assert stop.reason is pvfast.StopReason.UNTIL
        registers = machine.cpu.registers()
        assert {name: registers[name] for name in entry} == entry
        assert registers["eax"] == 0x19                 # CS, as the ring test left it
    assert machine.cpu.cpl == 1


@pytest.mark.parametrize("form", ["indirect", "direct", "patched"])
def test_every_form_of_the_sites_boots_and_serves_both_system_calls(image: GuestImage, form: str) -> None:
    guest = Kernel(forms(image)[form])
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    for name in image.benchmarks:
        guest.bench(name, 10)
    guest.bench("null_syscall_sysenter", 10)
    assert guest.word("exit_status") == 1
    guest.bench("irq_enable", 1)
    guest.machine.inject_interrupt(0x20)
    guest.bench("empty", 10)
    assert guest.word("jiffies") == 1
    assert guest.fault()["count"] == 0


def operations_of(image: GuestImage, label: str) -> list[str]:
    site = image.site(label)
    found = classify(image.read(label, site.length), site.address)
    assert found is not None
    assert found.state is SiteState.INDIRECT
    names = {pointer: name for name, pointer in image.pointers.items()}
    return [names[pointer] for pointer in found.addresses]


@pytest.mark.parametrize("name", NATIVE)
def test_instructions_per_operation(image: GuestImage, name: str) -> None:
    counts = {}
    for form, made in forms(image).items():
        guest = Kernel(made)
        guest.run_to("boot_done", BOOT_INSTRUCTIONS)
        counts[form] = guest.per_iteration(name)
    indirect, inline = NATIVE[name]
    calls = sum(len(operations_of(image, label)) for label in image.benchmarks[name].sites)
    assert counts["indirect"] == indirect
    assert counts["patched"] == inline
    # A direct call is a byte shorter; the NOP that fills the gap runs too, except behind a jump.
    assert counts["direct"] == indirect + (calls if name != "iret" else 0)


@pytest.mark.parametrize("name", ["irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save", "iret"])
def test_benchmarks_leave_the_flags_that_their_operation_says(booted: Kernel, name: str) -> None:
    enabled = {"irq_disable": False, "irq_save": False, "irq_enable": True, "restore_fl": True, "iret": True}
    booted.bench("irq_enable", 1)
    booted.bench(name, 3)
    assert bool(booted.machine.cpu.eflags & IF) == enabled.get(name, True)
    assert booted.machine.cpu.esp == booted.stack_top
    if name in ("save_fl", "irq_save"):
        assert booted.machine.cpu.eax & IF or name == "irq_save"


def test_benchmarks_may_follow_each_other_in_any_order(booted: Kernel) -> None:
    names = list(booted.image.benchmarks)
    first = {name: booted.bench(name, 25) for name in names}
    again = {name: booted.bench(name, 25) for name in reversed(names)}
    assert first == again


def test_stepping_a_benchmark_gives_the_same_counts_as_running_it(image: GuestImage) -> None:
    for name, benchmark in image.benchmarks.items():
        whole, stepped = Kernel(image), Kernel(image)
        for guest in (whole, stepped):
            guest.run_to("boot_done", BOOT_INSTRUCTIONS)
        expected = whole.bench(name, 5)
        before = stepped.machine.counters.instructions
        stepped.machine.cpu.eip, stepped.machine.cpu.ecx = benchmark.address, 5
        while stepped.machine.cpu.eip != image.labels["bench_done"]:
            stepped.machine.step()
        assert stepped.machine.counters.instructions - before == expected, name
        assert stepped.machine.cpu.registers() == whole.machine.cpu.registers(), name
