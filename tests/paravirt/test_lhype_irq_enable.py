"""Two historical bugs of lguest: enabling interrupts while one is waiting for it.

2.6.23 did not look at all; 2.6.31 looked with ``testl $0``, which never finds anything. Both wait until the host is
entered for another reason, here the tick of the host's own clock.
"""

import struct
from types import SimpleNamespace

import pytest

import pvfast
from pvfast.assembly import Assembler
from pvfast.guest import build
from pvfast.paravirt.hypervisors import lhype_interface as interface
from pvfast.paravirt.hypervisors.lhype import Lhype
from pvfast.paravirt.hypervisors.lhype_interface import Killed, Lhcall
from pvfast.paravirt.operations import era
from tests.paravirt.lhype import IF, Guest

LINEAR, PHYSICAL = 0xC0100000, 0x100000
TICK = 1_000_000                # modelled cycles between two interrupts of the host's clock
HOST_VECTOR = 0xEF              # of it: none of the guest's lines
DEVICE = 0x21                   # line 1

#: ``irq_enable`` and ``restore_fl`` as they were, and as they had to be.
NO_CHECK = """
irq_enable:
    movl $0x200, lguest_data
    ret
restore_fl:
    movl %eax, lguest_data
    ret
"""
SEND_INTERRUPTS = """
send_interrupts:
    pushl %eax
    movl $LHCALL_SEND_INTERRUPTS, %eax
    int $LGUEST_TRAP_ENTRY
    popl %eax
    ret
"""
CHECKED = """
irq_enable:
    movl $0x200, lguest_data
    {test}
    jnz send_interrupts
    ret
restore_fl:
    movl %eax, lguest_data
    testl lguest_data + LGUEST_DATA_IRQ_PENDING_2_6_31, %eax
    jnz send_interrupts
    ret
""" + SEND_INTERRUPTS
TESTL = CHECKED.format(test="testl $0, lguest_data + LGUEST_DATA_IRQ_PENDING_2_6_31")
CMPL = CHECKED.format(test="cmpl $0, lguest_data + LGUEST_DATA_IRQ_PENDING_2_6_31")

#: A kernel that has nothing but one device and these two operations, by the interface of 2.6.31.
KERNEL = """
    lguest_signature
    movl $stack_end, %esp
    movl $PAGE_OFFSET, lguest_data + LGUEST_DATA_KERNEL_ADDRESS_2_6_31
    movl $(lguest_data - PAGE_OFFSET), %ebx
    movl $LHCALL_LGUEST_INIT, %eax
    int $LGUEST_TRAP_ENTRY
    movl $DEVICE, %ebx
    movl $(0x61 << 16 | (handler & 0xffff)), %ecx
    movl $((handler & 0xffff0000) | 0x8e00), %edx
    movl $LHCALL_LOAD_IDT_ENTRY, %eax
    int $LGUEST_TRAP_ENTRY
masked:
    nop
    jmp masked
enable:
    call irq_enable
1:  jmp 1b
restore:
    movl $0x200, %eax
    call restore_fl
1:  jmp 1b
handler:
    incl served
    iret
""" + "{operations}" + """
.balign 4
lguest_data:
    .fill LGUEST_DATA_BYTES_2_6_31, 1, 0
served:
    .long 0
    .fill 64, 4, 0
stack_end:
"""


class HostClock:
    """The host's own timer interrupt, which enters it whatever the guest does."""

    def __init__(self, machine: pvfast.Machine) -> None:
        self.due = TICK * (1 + machine.counters.cycles // TICK)

    def next_event(self) -> int:
        return self.due

    def fire(self, machine: pvfast.Machine) -> None:
        self.due += TICK
        machine.inject_interrupt(HOST_VECTOR)

    def save(self) -> int:
        return self.due

    def restore(self, state: int) -> None:
        self.due = state


class Kernel:
    """The kernel above, run until interrupts are masked and a device has asked for attention."""

    def __init__(self, operations: str) -> None:
        symbols = {name: value for name, value in vars(interface).items() if name.isupper() and type(value) is int}
        symbols |= {call.prefix() + call.name: int(call) for call in Lhcall}
        symbols |= {"PAGE_OFFSET": LINEAR - PHYSICAL, "DEVICE": DEVICE}
        assembler = Assembler(symbols)
        assembler.add('.macro lguest_signature\n.ascii "GenuineLguest"\n.endm\n.text\n'
                      + KERNEL.format(operations=operations), "kernel")
        program = assembler.link({".text": LINEAR})
        self.labels = program.labels
        self.lhype = Lhype(release="2.6.31")
        self.machine = pvfast.Machine(ram="2M", hypervisor=self.lhype)
        self.lhype.start(self.machine, SimpleNamespace(
            code=program.sections[".text"].code, physical=PHYSICAL, linear=LINEAR, era=era("2.6.23")))
        stop = self.machine.run(until=self.labels["masked"], max_instructions=1000)
        assert stop.reason is pvfast.StopReason.UNTIL, self.lhype.killed
        self.machine.attach(HostClock(self.machine))
        self.machine.run(max_instructions=10)
        self.machine.inject_interrupt(DEVICE)
        self.machine.run(max_instructions=10)
        assert self.word("served") == 0

    def word(self, label: str, offset: int = 0) -> int:
        return struct.unpack("<I", self.machine.read(self.labels[label] - LINEAR + PHYSICAL + offset, 4))[0]

    @property
    def irq_pending(self) -> int:
        return self.word("lguest_data", interface.LGUEST_DATA_IRQ_PENDING_2_6_31)

    def latency(self, path: str) -> int:
        """Modelled cycles from the label `path`, which enables interrupts, to the device's handler."""
        before = self.machine.counters.cycles
        self.machine.cpu.eip = self.labels[path]
        stop = self.machine.run(until=self.labels["handler"], max_instructions=10 * TICK)
        assert stop.reason is pvfast.StopReason.UNTIL
        return self.machine.counters.cycles - before


@pytest.mark.parametrize("operations", [NO_CHECK, TESTL], ids=["2.6.23", "2.6.31"])
def test_an_interrupt_waited_for_the_hosts_next_tick(operations: str) -> None:
    kernel = Kernel(operations)
    assert kernel.irq_pending == IF                     # the host did say so
    assert TICK // 2 < kernel.latency("enable") < TICK + 10_000
    assert Lhcall.SEND_INTERRUPTS not in kernel.lhype.hypercalls


def test_testl_with_zero_never_finds_anything() -> None:
    """The whole of the bug of 2.6.31: the word is not zero, and ``testl $0`` says it is."""
    kernel = Kernel(TESTL)
    for word in (0, IF, 0xFFFFFFFF):
        kernel.machine.write(kernel.labels["lguest_data"] - LINEAR + PHYSICAL
                             + interface.LGUEST_DATA_IRQ_PENDING_2_6_31, word.to_bytes(4, "little"))
        kernel.machine.cpu.eip = kernel.labels["irq_enable"]
        branch = kernel.labels["irq_enable"] + 20       # behind two instructions of ten bytes
        assert kernel.machine.run(until=branch, max_instructions=10).reason is pvfast.StopReason.UNTIL
        assert kernel.machine.cpu.eflags & 0x40         # ZF


def test_with_a_check_that_can_be_true_it_comes_at_once() -> None:
    late, at_once = Kernel(TESTL).latency("enable"), (kernel := Kernel(CMPL)).latency("enable")
    assert at_once < 2_000 < TICK // 2 < late
    assert kernel.lhype.hypercalls[Lhcall.SEND_INTERRUPTS] == 1
    assert kernel.irq_pending == 0


def test_restore_fl_was_right_in_2_6_31() -> None:
    assert Kernel(NO_CHECK).latency("restore") > TICK // 2
    assert Kernel(TESTL).latency("restore") < 2_000


def test_without_a_pending_interrupt_the_check_costs_no_hypercall() -> None:
    kernel = Kernel(CMPL)
    kernel.latency("enable")
    kernel.machine.run(max_instructions=20)
    kernel.machine.cpu.eip = kernel.labels["enable"]
    kernel.machine.run(max_instructions=20)
    assert kernel.word("served") == 1
    assert kernel.lhype.hypercalls[Lhcall.SEND_INTERRUPTS] == 1


def test_the_built_in_kernel_is_of_2_6_23_and_waits_too() -> None:
    guest = Guest(build()).boot()
    for name in ("irq_disable", "empty", "irq_enable"):
        guest.bench(name)
    guest.bench("irq_disable")
    guest.machine.inject_interrupt(0x20)
    guest.bench("empty", 10)
    guest.machine.attach(HostClock(guest.machine))
    guest.bench("irq_enable")
    enabled = guest.machine.counters.cycles
    guest.enter("empty", TICK)
    guest.run_to("do_timer", 10 * TICK)
    assert guest.machine.counters.cycles - enabled > TICK // 2


def test_the_interface_of_2_6_31_is_another() -> None:
    last = interface.LGUEST_DATA_SYSCALL_VEC_2_6_31 + 4
    assert last == interface.LGUEST_DATA_BYTES_2_6_31 == 1396
    status, ring = interface.LGUEST_DATA_HCALL_STATUS_2_6_31, interface.LGUEST_DATA_HCALLS_2_6_31
    assert status + interface.LHCALL_RING_SIZE == ring
    assert (ring + interface.LHCALL_RING_SIZE * interface.LHCALL_ENTRY_BYTES_2_6_31
            == interface.LGUEST_DATA_RESERVE_MEM_2_6_31)
    kernel = Kernel(CMPL)
    assert kernel.word("lguest_data", interface.LGUEST_DATA_TSC_KHZ_2_6_31) == 1_000_000
    assert kernel.word("lguest_data", interface.LGUEST_DATA_PGDIR_2_6_31) == kernel.lhype.guest_memory - 2 * 4096
    with pytest.raises(pvfast.PvfastError, match=r"choose 2\.6\.23 or 2\.6\.31"):
        Lhype(release="2.6.24")


@pytest.mark.parametrize("number", [Lhcall.LOAD_GDT, Lhcall.BIND_DMA, Lhcall.SEND_DMA, 20])
def test_what_2_6_31_has_not_ends_its_guest(number: int) -> None:
    kernel = Kernel(CMPL)
    code = kernel.labels["masked"]
    kernel.machine.write(code - LINEAR + PHYSICAL, b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x1f")
    kernel.machine.cpu.eip = code
    assert kernel.machine.run(max_instructions=10).reason is pvfast.StopReason.SHUTDOWN
    assert kernel.lhype.killed is Killed.BAD_HYPERCALL


def test_notify_and_load_gdt_entry_of_2_6_31() -> None:
    kernel = Kernel(CMPL)
    machine, code = kernel.machine, kernel.labels["masked"]

    def hypercall(number: int, *arguments: int) -> pvfast.Stop:
        machine.write(code - LINEAR + PHYSICAL, b"\xcd\x1f")
        machine.cpu.eip, machine.cpu.eax = code, number
        for name, value in zip(("ebx", "ecx", "edx"), arguments, strict=False):
            setattr(machine.cpu, name, value)
        return machine.run(max_instructions=1)

    machine.write(0x8000, b"early console\0")
    hypercall(Lhcall.NOTIFY, 0x8000)
    assert kernel.lhype.console == b"early console"
    hypercall(Lhcall.LOAD_GDT_ENTRY, 20, 0xFFFF, 0x00CF9200)
    machine.write(code - LINEAR + PHYSICAL, b"\x8e\xe0")            # mov %eax, %fs
    machine.cpu.eip, machine.cpu.eax = code, 20 * 8
    machine.run(max_instructions=1)
    assert machine.cpu.fs.selector == 20 * 8
    assert hypercall(Lhcall.LOAD_GDT_ENTRY, 32, 0, 0).reason is pvfast.StopReason.SHUTDOWN
    assert kernel.lhype.killed is Killed.BAD_GDT
