"""What is charged when it happens, under every model: events, changes of the ring, and what hosts charge for them."""
from __future__ import annotations

import pytest

from pvfast.assembly import assemble
from pvfast.experiments.runs import boot
from pvfast.guest import build
from pvfast.processor import MODELS, load_model
from tests.core.protected import (
    BP,
    CODE,
    HANDLERS,
    KERNEL_CODE,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    World,
)

CR0_PE_PG, P_W_U = 0x80000001, 7
DIRECTORY, TABLE = 0x80000, 0x81000


class Charged(World):
    """A world that tells what steps cost."""

    def step(self, source: str, ring3: bool = False) -> int:
        """Cycles of one instruction, in ring 3 or where the world is."""
        self.load(source)
        self.cpu.eflags = 2
        if ring3:
            self.enter_ring3()
        self.cpu.eip = CODE
        before = self.machine.counters.cycles
        self.machine.step()
        return self.machine.counters.cycles - before

    def sum(self, *names: str) -> int:
        """Of classes."""
        return sum(self.machine.processor.cycles[name].cycles for name in names)


@pytest.fixture(params=MODELS)
def world(request: pytest.FixtureRequest) -> Charged:
    return Charged(processor=request.param)


def test_an_exception(world: Charged) -> None:
    assert world.step("ud2") == world.sum("exception")
    assert world.step("ud2", ring3=True) == world.sum("exception", "ring_in")
    assert world.cpu.eip == HANDLERS + 16 * UD


def test_an_interrupt_by_software(world: Charged) -> None:
    world.vector(BP, HANDLERS + 16 * BP, 0xEE)
    assert world.step("int3") == world.sum("int")
    assert world.step("int3", ring3=True) == world.sum("int", "ring_in")


def test_an_exception_that_is_said_to_cost_what_int_does(world: Charged) -> None:
    cycles = world.machine.processor.cycles
    if "as int" in cycles["exception"].source:
        world.vector(BP, HANDLERS + 16 * BP, 0xEE)
        assert world.step("ud2", ring3=True) == world.step("int3", ring3=True)


def test_an_external_interrupt(world: Charged) -> None:
    world.ring0("sti; nop; hlt")
    before = world.machine.counters.cycles
    world.machine.inject_interrupt(0x20)
    world.machine.step()
    assert world.cpu.eip == HANDLERS + 16 * 0x20
    assert world.machine.counters.cycles - before == world.sum("exception")


def test_iret(world: Charged) -> None:
    def iret(*frame: int) -> int:
        world.machine.write(world.cpu.esp, b"".join(word.to_bytes(4, "little") for word in frame))
        return world.step("iret")

    assert iret(CODE, KERNEL_CODE, 2) == world.sum("iret")
    assert iret(CODE, USER_CODE, 2, USER_STACK, USER_DATA) == world.sum("iret", "ring_out")


def test_a_miss_of_the_tlb(world: Charged) -> None:
    """The page of the data once; code has no TLB that is charged for."""
    world.machine.write(DIRECTORY, (TABLE | P_W_U).to_bytes(4, "little"))
    world.machine.write(TABLE, b"".join((page << 12 | P_W_U).to_bytes(4, "little") for page in range(256)))
    world.cpu.cr3, world.cpu.cr0 = DIRECTORY, CR0_PE_PG
    assert world.step("movl 0x40000, %ecx") == world.sum("mov", "tlb_miss")
    assert world.step("movl 0x40004, %ecx") == world.sum("mov")


def test_an_operand_in_fs(world: Charged) -> None:
    assert world.step("movl %fs:0x40000, %ecx") == world.sum("mov", "segment_base")
    assert world.step("movl 0x40000, %ecx") == world.sum("mov")


@pytest.mark.parametrize("processor", ["generic", "pentium4", "k8"])
@pytest.mark.parametrize(("instruction", "classes"), [
    ("cli", ("exception", "ring_in", "iret", "ring_out", "hypercall")),
    ("int $0x21", ("int", "ring_in", "iret", "ring_out", "hypercall")),
])
def test_a_host_in_ring_0_charges_for_the_way_there_and_back(processor: str, instruction: str,
                                                             classes: tuple[str, ...]) -> None:
    """Full virtualization: a trap, and an interrupt by software; the kernel is in ring 1."""
    image = build(hypervisor="full")
    machine = boot(image, "full", processor)
    at = image.labels["user_data_page"]
    machine.write(image.to_physical(at), assemble(instruction, at).code)
    esp = machine.cpu.esp
    for _ in range(2):          # the first time the stack may miss in the TLB
        machine.cpu.eip, machine.cpu.esp = at, esp
        before = machine.counters.cycles
        machine.step()
        assert machine.cpu.eip != at
    cycles = load_model(processor).cycles
    assert machine.counters.cycles - before == sum(cycles[name].cycles for name in classes)
