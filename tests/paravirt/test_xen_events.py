"""Event channels between two ends, waiting for them without a handler, and the two timers."""

import pytest

import pvfast
from pvfast.paravirt.hypervisors.xen_interface import (
    SHARED_EVTCHN_PENDING,
    VCPU_SSHOTTMR_FUTURE,
    VCPU_TIME_SYSTEM_TIME,
    VCPU_TIME_TSC_SHIFT,
    VCPU_TIME_TSC_TIMESTAMP,
    VCPU_TIME_TSC_TO_SYSTEM_MUL,
    Errno,
    EventOp,
    EventStatus,
    Hypercall,
    SchedOp,
    VcpuOp,
)
from tests.paravirt.xen import DOMID_SELF, Domain

BOTH_SELF = DOMID_SELF << 16 | DOMID_SELF
NS_PER_MS = 1_000_000
TIMER = 0x20


def operate(domain: Domain, command: EventOp, *words: int) -> int:
    return domain.hypercall(Hypercall.EVENT_CHANNEL_OP, command, domain.store(*words))


def channel(domain: Domain) -> tuple[int, int]:
    """Two ports that are each other's end."""
    assert operate(domain, EventOp.ALLOC_UNBOUND, BOTH_SELF, 0) == 0
    unbound = domain.read(domain.scratch + 4)
    assert operate(domain, EventOp.BIND_INTERDOMAIN, DOMID_SELF, unbound, 0) == 0
    return unbound, domain.read(domain.scratch + 8)


def status(domain: Domain, port: int) -> tuple[int, ...]:
    assert operate(domain, EventOp.STATUS, DOMID_SELF, port, 99, 99, 99, 99) == 0
    return tuple(domain.read(domain.scratch + 8 + 4 * word) for word in range(4))


def is_pending(domain: Domain, port: int) -> bool:
    shared = domain.image.labels["xen_shared_info_page"] + SHARED_EVTCHN_PENDING
    return bool(domain.read(shared + port // 32 * 4) >> port % 32 & 1)


def test_a_channel_to_oneself(domain: Domain) -> None:
    domain.masked = True
    near, far = channel(domain)
    assert status(domain, near) == (EventStatus.INTERDOMAIN, 0, DOMID_SELF, far)
    assert status(domain, far) == (EventStatus.INTERDOMAIN, 0, DOMID_SELF, near)
    assert is_pending(domain, far)                              # in case something was sent before
    assert not is_pending(domain, near)
    assert operate(domain, EventOp.SEND, far) == 0
    assert is_pending(domain, near)
    assert operate(domain, EventOp.CLOSE, near) == 0
    assert status(domain, near) == (EventStatus.CLOSED, 0, far, 99)
    assert status(domain, far)[:2] == (EventStatus.UNBOUND, 0)
    assert operate(domain, EventOp.SEND, far) == -Errno.INVAL


def test_what_ports_are_bound_to(domain: Domain) -> None:
    timer = domain.word("xen_timer_port")
    assert status(domain, timer)[:3] == (EventStatus.VIRQ, 0, 0)
    assert operate(domain, EventOp.BIND_PIRQ, 5, 0, 0) == 0
    assert status(domain, domain.read(domain.scratch + 8))[:3] == (EventStatus.PIRQ, 0, 5)
    assert status(domain, 77)[0] == EventStatus.CLOSED
    assert operate(domain, EventOp.BIND_VCPU, timer, 0) == 0
    assert operate(domain, EventOp.BIND_VCPU, timer, 1) == -Errno.INVAL
    assert operate(domain, EventOp.BIND_VCPU, 77, 0) == -Errno.INVAL


@pytest.mark.parametrize(("command", "words", "error"), [
    (EventOp.ALLOC_UNBOUND, (DOMID_SELF << 16 | 5, 0), Errno.PERM),
    (EventOp.ALLOC_UNBOUND, (5 << 16 | DOMID_SELF, 0), Errno.INVAL),
    (EventOp.BIND_INTERDOMAIN, (5, 1, 0), Errno.PERM),
    (EventOp.BIND_INTERDOMAIN, (DOMID_SELF, 1, 0), Errno.INVAL),        # the timer's
    (EventOp.BIND_INTERDOMAIN, (DOMID_SELF, 1024, 0), Errno.INVAL),
    (EventOp.STATUS, (5, 1), Errno.PERM),
    (EventOp.STATUS, (DOMID_SELF, 1024), Errno.INVAL),
])
def test_channels_that_cannot_be(domain: Domain, command: EventOp, words: tuple[int, ...], error: Errno) -> None:
    assert operate(domain, command, *words) == -error


# --- Waiting ----------------------------------------------------------------------------------------------------------

def poll(domain: Domain, port: int, timeout: int = 0) -> None:
    ports = domain.store(port, at=domain.scratch + 0x80)
    assert domain.hypercall(Hypercall.SCHED_OP, SchedOp.POLL, domain.store(ports, 1, timeout, 0)) == 0


def test_poll_waits_for_an_event_and_delivers_nothing(domain: Domain) -> None:
    port = domain.word("xen_timer_port")
    domain.masked = True
    poll(domain, port)
    assert domain.machine.cpu.halted
    domain.machine.inject_interrupt(TIMER)
    back = domain.machine.cpu.eip
    domain.machine.run(max_instructions=1)                      # the unit that the interrupt takes
    assert not domain.machine.cpu.halted
    assert domain.machine.cpu.eip == back                       # behind the hypercall: masked, and still pending
    assert is_pending(domain, port)
    assert domain.word("jiffies") == 0
    poll(domain, port)
    assert not domain.machine.cpu.halted                        # it is pending already


def test_poll_has_a_timeout(domain: Domain) -> None:
    domain.masked = True
    until = domain.machine.counters.cycles + 50_000
    poll(domain, 9, until)
    assert domain.machine.cpu.halted
    domain.machine.run(max_instructions=2)
    assert domain.machine.counters.cycles >= until
    assert not domain.machine.cpu.halted
    assert not domain.pending                                   # no tick
    poll(domain, 9, until)
    assert not domain.machine.cpu.halted                        # over already


def test_poll_refuses_nonsense(domain: Domain) -> None:
    ports = domain.store(1024, at=domain.scratch + 0x80)
    for words in ((ports, 1, 0, 0), (ports, 129, 0, 0)):
        assert domain.hypercall(Hypercall.SCHED_OP, SchedOp.POLL, domain.store(*words)) == -Errno.INVAL
    assert domain.hypercall(Hypercall.SCHED_OP, SchedOp.POLL, domain.store(0x10000000, 1, 0, 0)) == -Errno.FAULT


# --- Time -------------------------------------------------------------------------------------------------------------

def test_the_two_timers_do_not_disturb_each_other(domain: Domain) -> None:
    start = domain.machine.counters.cycles
    operations = (
        (VcpuOp.SET_PERIODIC_TIMER, (NS_PER_MS, 0)),
        (VcpuOp.SET_SINGLESHOT_TIMER, (start + NS_PER_MS * 3 // 2, 0, VCPU_SSHOTTMR_FUTURE)),
    )
    for command, words in operations:
        assert domain.hypercall(Hypercall.VCPU_OP, command, 0, domain.store(*words)) == 0
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    times = []
    for tick in range(1, 4):
        while domain.word("jiffies") < tick:
            domain.machine.run(max_instructions=20)
        times.append((domain.machine.counters.cycles - start) / NS_PER_MS)
    assert [round(time, 1) for time in times] == [1.0, 1.5, 2.0]
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.STOP_PERIODIC_TIMER, 0, 0) == 0
    domain.machine.cpu.eip = domain.image.labels["boot_done"]
    assert domain.machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT


def test_a_single_shot_in_the_past_can_be_refused(domain: Domain) -> None:
    words = domain.store(1, 0, VCPU_SSHOTTMR_FUTURE)
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_SINGLESHOT_TIMER, 0, words) == -Errno.TIME
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_SINGLESHOT_TIMER, 0, domain.store(1, 0, 0)) == 0


def test_times_that_are_too_far_do_not_come(domain: Domain) -> None:
    far = domain.store(0xFFFFFFFE, 0xFFFFFFFF, 0)
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_SINGLESHOT_TIMER, 0, far) == 0
    assert domain.xen.next_event() is None
    assert domain.hypercall(Hypercall.SET_TIMER_OP, 0, 1 << 30) == 0
    assert domain.xen.next_event() is None
    far = domain.store(0, 1 << 30)
    assert domain.hypercall(Hypercall.VCPU_OP, VcpuOp.SET_PERIODIC_TIMER, 0, far) == -Errno.INVAL


def test_system_time_is_what_vcpu_time_says(domain: Domain) -> None:
    """As a guest computes it: (tsc - tsc_timestamp) << shift, times the factor, of 32 bits behind the point."""
    def field(offset: int, size: int) -> int:
        return int.from_bytes(domain.machine.read_linear(domain.vcpu_info + offset, size), "little")

    tsc = domain.machine.counters.cycles
    elapsed = tsc - field(VCPU_TIME_TSC_TIMESTAMP, 8) << field(VCPU_TIME_TSC_SHIFT, 1)
    scaled = elapsed * field(VCPU_TIME_TSC_TO_SYSTEM_MUL, 4) >> 32
    assert field(VCPU_TIME_SYSTEM_TIME, 8) + scaled == tsc
