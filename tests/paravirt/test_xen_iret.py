"""Leaving the kernel under Xen without a hypercall: the mask, and events that come while the frame is being taken."""

from collections.abc import Iterator

import pytest

from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors.xen_interface import Hypercall
from tests.paravirt.xen import Domain

TIMER = 0x20
PID_OF_PARENT = 1
JB_SHORT, JMP_SHORT = 0x72, 0xEB
FRAME_TO_USER, SAVED_REGISTERS, RETURN_ADDRESS = 5 * 4, 11 * 4, 4


def before_iret(image: GuestImage) -> Domain:
    """The kernel has served getppid and is about to leave: at xen_iret_direct, the user's frame on the stack."""
    domain = Domain(image).boot()
    cpu, labels = domain.machine.cpu, image.labels
    cpu.eip, cpu.ecx = image.benchmarks["null_syscall_int80"].address, 2
    domain.run_to("user_null_syscall_int80", 50_000)
    domain.run_to("system_call", 50_000)
    domain.run_to("xen_iret_direct", 5000)
    assert domain.read(cpu.esp) < labels["paravirt_ops"]            # the EIP of user code
    assert domain.masked
    return domain


@pytest.fixture
def domain(image: GuestImage) -> Domain:
    return before_iret(image)


def without_fixup(domain: Domain) -> None:
    """The kernel as it would be without the critical region: its callback takes every frame for an ordinary one."""
    labels = domain.image.labels
    start = labels["xen_hypervisor_callback"]
    code = domain.machine.read_linear(start, labels["xen_iret_crit_fixup"] - start)
    compare = b"\x3d" + labels["xen_iret_start_crit"].to_bytes(4, "little")
    place = code.index(compare) + len(compare)
    assert code[place] == JB_SHORT
    domain.machine.write_linear(start + place, bytes((JMP_SHORT,)))


def boundaries(domain: Domain) -> Iterator[int]:
    """Be at each instruction boundary from here to user code in turn, without an event so far; EIPs."""
    state = domain.machine.snapshot()
    for count in range(100):
        domain.machine.restore(state)
        domain.machine.run(max_instructions=count)
        in_user_code = domain.machine.cpu.cpl == 3
        yield domain.machine.cpu.eip
        if in_user_code:
            return


def test_it_needs_no_hypercall(domain: Domain) -> None:
    before = domain.xen.hypercalls
    user, flags, esp = (domain.read(domain.machine.cpu.esp + offset) for offset in (0, 8, 12))
    domain.machine.run(until=user, max_instructions=100)
    cpu = domain.machine.cpu
    assert (cpu.eip, cpu.cpl, cpu.esp, cpu.eax) == (user, 3, esp, PID_OF_PARENT)
    assert flags & 0x200
    assert not domain.masked
    assert domain.xen.hypercalls == before


def test_without_placement_it_is_a_hypercall(image: GuestImage) -> None:
    domain = Domain(image.with_word("have_vcpu_info_placement", 0)).boot()
    before = domain.xen.hypercalls.get(Hypercall.IRET, 0)
    domain.bench("iret", 7)
    assert domain.xen.hypercalls[Hypercall.IRET] - before >= 7


def test_vm86_frames_are_left_to_xen(domain: Domain) -> None:
    esp = domain.machine.cpu.esp
    domain.store(domain.read(esp + 8) | 1 << 17, at=esp + 8)
    domain.run_to("hyper_iret", 10)


def test_a_frame_without_if_keeps_events_masked(image: GuestImage) -> None:
    """The sete of the first releases stored the mask either way; that unmasked what the frame wants masked."""
    domain = before_iret(image)
    cpu = domain.machine.cpu
    esp = cpu.esp
    domain.store(domain.read(esp + 8) & ~0x200, at=esp + 8)
    domain.machine.inject_interrupt(TIMER)
    domain.machine.run(until=domain.read(esp), max_instructions=100)
    assert cpu.cpl == 3
    assert domain.masked
    assert domain.pending
    assert domain.word("jiffies") == 0


def test_bug_8_an_event_at_any_boundary_comes_as_if_iret_had_been_over(domain: Domain) -> None:
    cpu, labels = domain.machine.cpu, domain.image.labels
    top = domain.word("init_tss", 1)
    user = domain.read(cpu.esp)
    critical = 0
    for eip in boundaries(domain):
        critical += labels["xen_iret_start_crit"] <= eip < labels["xen_iret_end_crit"]
        domain.machine.inject_interrupt(TIMER)
        domain.run_to("xen_evtchn_do_upcall", 100)
        assert cpu.esp == top - FRAME_TO_USER - SAVED_REGISTERS - RETURN_ADDRESS, hex(eip)
        assert domain.read(top - FRAME_TO_USER) == user
        domain.machine.run(until=user, max_instructions=1000)
        assert (cpu.cpl, cpu.eax, domain.word("jiffies")) == (3, PID_OF_PARENT, 1), hex(eip)
        assert not domain.masked
        domain.run_to("bench_done", 50_000)
        assert domain.word("exit_status") == PID_OF_PARENT
    assert critical >= 4


def test_bug_8_without_the_fixup_it_is_nested(domain: Domain) -> None:
    without_fixup(domain)
    cpu, labels = domain.machine.cpu, domain.image.labels
    top, nested = domain.word("init_tss", 1), set()
    for eip in boundaries(domain):
        domain.machine.inject_interrupt(TIMER)
        domain.run_to("xen_evtchn_do_upcall", 100)
        if cpu.esp != top - FRAME_TO_USER - SAVED_REGISTERS - RETURN_ADDRESS:
            nested.add(eip)
    assert nested
    assert min(nested) >= labels["xen_iret_start_crit"]
    assert max(nested) < labels["xen_iret_end_crit"]


@pytest.mark.parametrize(("fixup", "grows"), [(True, False), (False, True)])
def test_bug_8_events_that_keep_coming_fill_the_stack(domain: Domain, fixup: bool, grows: bool) -> None:
    if not fixup:
        without_fixup(domain)
    cpu = domain.machine.cpu
    lowest = []
    for _ in range(30):
        domain.run_to("xen_iret_start_crit", 1000)
        domain.machine.inject_interrupt(TIMER)
        domain.machine.run(max_instructions=1)
        domain.run_to("do_timer", 1000)
        lowest.append(cpu.esp)
    assert (lowest[-1] < lowest[0] - 29 * 12) is grows
    assert (len(set(lowest)) == 1) is not grows


def test_work_for_the_way_out_is_seen_when_the_event_brings_it(domain: Domain) -> None:
    """What a nested frame costs: the handler marks the task, and nobody looks before user code runs."""
    cpu, labels = domain.machine.cpu, domain.image.labels
    state = domain.machine.snapshot()
    seen = []
    for fixup in (True, False):
        domain.machine.restore(state)
        if not fixup:
            without_fixup(domain)
        user = domain.read(cpu.esp)
        domain.run_to("xen_iret_start_crit", 100)
        domain.machine.inject_interrupt(TIMER)
        domain.run_to("do_timer", 100)
        looked = False
        for _ in range(300):
            looked |= cpu.eip == labels["resume_userspace"]
            domain.machine.step()
            if cpu.cpl == 3:
                break
        assert cpu.eip == user
        seen.append(looked)
    assert seen == [True, False]
