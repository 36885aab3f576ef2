"""The built-in guest under Xen: boot in ring 1, events, system calls, the forms of irq_disable, snapshots."""

import pytest

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import Hypervisor, hypervisor
from pvfast.paravirt.hypervisors.xen_interface import (
    FLAT_RING1_CS,
    VCPU_EVTCHN_UPCALL_MASK,
    Hypercall,
    MmuExt,
    SchedOp,
    Shutdown,
)
from tests.paravirt.xen import Domain

IF = 0x200
ENOSYS = 2**32 - 38
USER_CS = 0x73
SIGSEGV = 11
GP = 13


def forms(image: GuestImage) -> dict[str, GuestImage]:
    return {
        "indirect": image,
        "direct": image.direct("xen"),
        "patched": image.patched(hypervisor("xen").patcher(image.patch_context("xen"))),
    }


def test_boots_in_ring_1(domain: Domain) -> None:
    cpu = domain.machine.cpu
    assert cpu.cpl == 1
    assert cpu.cs.selector == FLAT_RING1_CS
    assert cpu.gs.base == domain.image.labels["boot_pda"]
    assert cpu.eflags & IF                              # Xen's: it takes every interrupt
    assert not domain.masked
    assert domain.word("paravirt_ops") == 1             # kernel_rpl
    assert domain.fault()["count"] == 0
    assert domain.machine.counters.exits == 0           # all of it inside the core


def test_banner_goes_to_xens_console(domain: Domain) -> None:
    assert domain.xen.console == b"Booting paravirtualized kernel on Xen\n"


def test_hypercalls_of_the_boot_are_counted(domain: Domain) -> None:
    counts = domain.xen.hypercalls
    for number in (Hypercall.SET_TRAP_TABLE, Hypercall.SET_GDT, Hypercall.STACK_SWITCH, Hypercall.SET_CALLBACKS,
                   Hypercall.EVENT_CHANNEL_OP):
        assert counts[number] == 1, number
    directories = domain.word("pgd_cache")
    assert counts[Hypercall.UPDATE_VA_MAPPING] == 3 + directories   # shared_info; GDT, a page table, those: read-only
    assert counts[Hypercall.MMU_UPDATE] == 2
    assert set(counts) <= set(Hypercall)


def test_idles_by_blocking(domain: Domain) -> None:
    assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert domain.xen.hypercalls[Hypercall.SCHED_OP] == 1
    assert domain.machine.cpu.cpl == 1


@pytest.mark.parametrize("ticks", [1, 3])
def test_timer_events_are_counted(domain: Domain, ticks: int) -> None:
    for _ in range(ticks):
        domain.machine.inject_interrupt(0x20)
        assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert domain.word("jiffies") == ticks
    assert domain.xen.upcalls == ticks
    assert domain.word("unexpected_interrupts") == 0
    assert not domain.pending


def test_a_masked_event_waits_for_irq_enable(domain: Domain) -> None:
    domain.bench("irq_disable", 1)
    assert domain.masked
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 100)
    assert domain.pending
    assert domain.word("jiffies") == 0
    domain.bench("irq_enable", 1)
    assert domain.word("jiffies") == 1
    assert not domain.pending
    assert not domain.masked


def test_a_masked_event_waits_for_restore_fl_and_iret(domain: Domain) -> None:
    for ticks, name in enumerate(("restore_fl", "iret"), 1):
        domain.bench("irq_disable", 1)
        domain.machine.inject_interrupt(0x20)
        domain.bench("empty", 10)
        assert domain.word("jiffies") == ticks - 1
        domain.bench(name, 1)
        assert domain.word("jiffies") == ticks


def test_unmasking_alone_delivers_nothing_before_the_next_hypercall(domain: Domain) -> None:
    domain.bench("irq_disable", 1)
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 1)
    domain.masked = False
    domain.bench("empty", 50)
    assert domain.word("jiffies") == 0
    domain.hypercall(Hypercall.XEN_VERSION, 0)
    domain.run_to("do_timer", 100)


def test_a_frame_tells_the_mask_of_before(domain: Domain) -> None:
    domain.masked = True
    cs, esp = domain.machine.cpu.cs.selector, domain.machine.cpu.esp
    domain.execute("0f0b", steps=2)                     # ud2, which does not unmask, and the push of its stub
    assert domain.machine.cpu.esp == esp - 4 * 4        # and the stub's zero for the error code
    assert domain.read(esp - 8) == cs | 1 << 16
    assert not domain.read(esp - 4) & IF
    domain.masked = False
    esp = domain.machine.cpu.esp
    domain.execute("0f0b", steps=2)
    assert domain.read(esp - 8) == cs
    assert domain.read(esp - 4) & IF


def test_page_faults_mask_events_and_say_where(domain: Domain) -> None:
    domain.execute("a178563412")                        # mov 0x12345678, %eax
    assert domain.masked                                # the gate is an interrupt gate
    domain.run_to("panic", 1000)
    fault = domain.fault()
    assert (fault["vector"], fault["error_code"], fault["cr2"]) == (14, 0, 0x12345678)
    assert fault["cs"] & 0xFFFF == FLAT_RING1_CS
    assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert domain.machine.cpu.halted


def test_getppid_by_int_80(domain: Domain) -> None:
    domain.bench("null_syscall_int80", 10)
    assert domain.word("exit_status") == 1
    assert domain.machine.cpu.cpl == 1


def test_user_code_runs_in_ring_3(domain: Domain) -> None:
    domain.machine.cpu.eip = domain.image.benchmarks["null_syscall_int80"].address
    domain.machine.cpu.ecx = 10
    domain.run_to("user_null_syscall_int80", 10_000)
    cpu = domain.machine.cpu
    assert (cpu.cpl, cpu.cs.selector, cpu.gs.selector) == (3, USER_CS, 0)
    assert not domain.masked


def test_a_timer_event_does_not_disturb_user_code(domain: Domain) -> None:
    domain.machine.cpu.eip = domain.image.benchmarks["null_syscall_int80"].address
    domain.machine.cpu.ecx = 50
    for _ in range(20):
        domain.machine.run(until=domain.image.labels["bench_done"], max_instructions=97)
        domain.machine.inject_interrupt(0x20)
    domain.run_to("bench_done", 20_000)
    assert domain.word("jiffies") == 20
    assert domain.word("exit_status") == 1


def test_user_code_may_not_make_hypercalls(domain: Domain) -> None:
    domain.machine.cpu.eip = domain.image.benchmarks["null_syscall_int80"].address
    domain.machine.cpu.ecx = 2
    domain.run_to("system_call", 10_000)
    domain.run_to("user_null_syscall_int80", 1000)      # its page is there now
    before = domain.xen.hypercalls
    user = domain.machine.cpu.eip
    domain.machine.write_linear(user, b"\xcd\x82")
    stop = domain.machine.run(until=domain.image.labels["exception_common"], max_instructions=100)
    assert stop.reason is pvfast.StopReason.UNTIL
    vector, error_code, eip, cs = (domain.read(domain.machine.cpu.esp + 4 * word) for word in range(4))
    assert (vector, error_code, eip, cs) == (GP, 0x82 * 8 + 2, user, USER_CS)
    assert domain.xen.hypercalls == before
    domain.run_to("bench_done", 10_000)
    assert domain.word("exit_status") == SIGSEGV


def test_software_interrupts_need_permission(domain: Domain) -> None:
    domain.execute("cd0e")                              # int $14, DPL 0 in the table: not even ring 1
    domain.run_to("panic", 1000)
    assert domain.fault()["error_code"] == 14 * 8 + 2
    assert domain.fault()["vector"] == GP


def test_breakpoints_need_none(domain: Domain) -> None:
    domain.execute("cc")
    assert domain.machine.cpu.eip == domain.image.labels["exception_3"]


def test_a_breakpoint_that_the_guest_sets(domain: Domain) -> None:
    code = domain.scratch + 0x802
    assert domain.hypercall(Hypercall.SET_DEBUGREG, 0, code) == 0
    assert domain.hypercall(Hypercall.SET_DEBUGREG, 7, 0x401) == 0
    domain.execute("9090 9090", 3)
    assert domain.machine.cpu.eip == domain.image.labels["exception_1"]
    assert domain.hypercall(Hypercall.GET_DEBUGREG, 6) & 1
    assert domain.hypercall(Hypercall.SET_DEBUGREG, 7, 0x400) == 0
    domain.execute("9090 9090", 3)
    assert domain.machine.cpu.eip == code + 1


def test_sysenter_is_hidden(domain: Domain) -> None:
    assert domain.word("sysenter_enabled") == 0
    assert not domain.word("boot_cpu_capability") >> 11 & 1
    domain.bench("null_syscall_sysenter", 5)
    assert domain.word("exit_status") == ENOSYS


@pytest.mark.parametrize("form", ["shared", "percpu", "direct"])
def test_irq_disable_in_each_form_changes_the_mask(image: GuestImage, form: str) -> None:
    body = image.labels[f"xen_irq_disable_{form}"]
    domain = Domain(image if form == "direct" else image.with_word("have_vcpu_info_placement", form == "percpu"))
    domain.boot()
    domain.machine.write_linear(image.pointers["irq_disable"], body.to_bytes(4, "little"))
    assert not domain.masked
    domain.bench("irq_disable", 3)
    assert domain.masked
    domain.bench("irq_enable", 1)
    assert not domain.masked


def test_without_placement_vcpu_info_stays_in_shared_info(image: GuestImage) -> None:
    domain = Domain(image.with_word("have_vcpu_info_placement", 0)).boot()
    assert domain.vcpu_info == image.labels["xen_shared_info_page"]
    assert Hypercall.VCPU_OP not in domain.xen.hypercalls
    domain.machine.inject_interrupt(0x20)
    domain.machine.run(max_instructions=1000)
    assert domain.word("jiffies") == 1


@pytest.mark.parametrize("form", ["indirect", "direct", "patched"])
def test_every_benchmark_runs_in_every_form(image: GuestImage, form: str) -> None:
    domain = Domain(forms(image)[form]).boot()
    for name, row in image.benchmarks.items():
        domain.bench(name, 5)
        assert domain.fault()["count"] == 0, name
        assert not row.needs_sep or domain.word("exit_status") == ENOSYS


def test_the_patched_site_is_one_instruction(image: GuestImage) -> None:
    patched = forms(image)["patched"]
    offset = image.symbols["xen_vcpu_info"] + VCPU_EVTCHN_UPCALL_MASK
    assert patched.read("site_irq_disable", 8) == b"\x65\xc6\x05" + offset.to_bytes(4, "little") + b"\x01"
    domain = Domain(patched).boot()
    domain.machine.cpu.eip = image.labels["site_irq_disable"]
    domain.machine.step()
    assert domain.machine.cpu.eip == image.labels["site_irq_disable"] + 8
    assert domain.masked


def test_slices_do_not_change_what_happens(image: GuestImage) -> None:
    whole, sliced = Domain(image), Domain(image)
    whole.boot()
    done = image.labels["boot_done"]
    while sliced.machine.cpu.eip != done:
        sliced.machine.run(until=done, max_instructions=7)
    assert sliced.machine.counters.as_dict() == whole.machine.counters.as_dict()
    assert sliced.machine.cpu.registers() == whole.machine.cpu.registers()
    assert sliced.machine.ram.tobytes() == whole.machine.ram.tobytes()
    assert sliced.xen.save() == whole.xen.save()


def test_a_snapshot_holds_xens_state_too(domain: Domain) -> None:
    domain.bench("irq_disable", 1)
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 1)
    state = domain.machine.snapshot()
    hypercalls = domain.xen.hypercalls
    ends = []
    for _ in range(2):
        domain.hypercall(Hypercall.SET_TRAP_TABLE, 0)
        domain.hypercall(Hypercall.STACK_SWITCH, 0xE021, 0x1000)
        domain.machine.restore(state)
        assert domain.xen.hypercalls == hypercalls
        domain.bench("irq_enable", 1)
        domain.bench("null_syscall_int80", 3)
        assert domain.word("jiffies") == 1
        ends.append((domain.machine.counters.as_dict(), domain.machine.ram.tobytes(), domain.xen.save()))
        domain.machine.restore(state)
    assert ends[0] == ends[1]


def test_a_snapshot_goes_to_another_machine(domain: Domain) -> None:
    other = pvfast.Machine(ram="16M", hypervisor=hypervisor("xen"))
    other.restore(domain.machine.snapshot())
    assert other.hypervisor.save() == domain.xen.save()
    stop = other.run(max_instructions=1000)
    assert (stop.reason, other.cpu.cpl) == (pvfast.StopReason.HALT, 1)


def test_a_snapshot_without_xen_is_refused(domain: Domain) -> None:
    with pytest.raises(pvfast.PvfastError):
        domain.machine.restore(pvfast.Machine(ram="16M", hypervisor=hypervisor("native")).snapshot())


def test_shutdown_says_why(domain: Domain) -> None:
    domain.hypercall(Hypercall.SCHED_OP, SchedOp.SHUTDOWN, domain.store(int(Shutdown.REBOOT)))
    assert domain.stop.reason is pvfast.StopReason.SHUTDOWN
    assert (domain.stop.vector, domain.stop.error) == (0x82, 1)
    assert domain.xen.shutdown_reason is Shutdown.REBOOT
    assert domain.machine.run().reason is pvfast.StopReason.SHUTDOWN


@pytest.mark.parametrize(("code", "vector"), [
    ("bc00000000 cd82", 14),                            # iret with a stack nowhere
    ("bc00000000 0f0b", 6),                             # no place for the frame of #UD
    ("31c0 8ed0", 13),                                  # a null SS: #GP, for which there is no handler
])
def test_what_cannot_be_delivered_ends_the_domain(domain: Domain, code: str, vector: int) -> None:
    if vector == 13:
        domain.hypercall(Hypercall.SET_TRAP_TABLE, 0)
    address = domain.scratch + 0x800
    domain.machine.write_linear(address, bytes.fromhex(code))
    domain.machine.cpu.eip, domain.machine.cpu.eax = address, Hypercall.IRET
    stop = domain.machine.run(max_instructions=10)
    assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, vector)
    assert domain.xen.shutdown_reason is Shutdown.CRASH


def test_a_page_directory_without_the_kernel_ends_the_domain(domain: Domain) -> None:
    directory = domain.image.labels["swapper_pg_dir"]
    empty = domain.frame(directory)
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, directory, empty << 12 | 0x61, 0, 2) == 0
    domain.hypercall(Hypercall.MMUEXT_OP, domain.store(MmuExt.NEW_BASEPTR, empty, 0, at=domain.scratch + 0x40), 1, 0,
                     0x7FF0)
    stop = domain.machine.run(max_instructions=10)
    assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, 14)


def test_too_little_memory_is_said(image: GuestImage) -> None:
    xen = hypervisor("xen")
    machine = pvfast.Machine(ram="1M", hypervisor=xen)
    with pytest.raises(pvfast.PvfastError, match="a machine of 256 pages"):
        xen.start(machine, image)


def test_start_wants_its_own_machine(image: GuestImage) -> None:
    with pytest.raises(pvfast.PvfastError, match="hypervisor="):
        hypervisor("xen").start(pvfast.Machine(ram="16M"), image)


def test_native_starts_the_same_way(image: GuestImage) -> None:
    native: Hypervisor = hypervisor("native")
    machine = pvfast.Machine(ram="16M", hypervisor=native)
    native.start(machine, image)
    stop = machine.run(until=image.labels["boot_done"], max_instructions=200_000)
    assert stop.reason is pvfast.StopReason.UNTIL
    assert machine.cpu.cpl == 0
