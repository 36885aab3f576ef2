"""Hardware task switches against SDM 3, chapter 7: TSSs and task gates in JMP, CALL, IRET and the IDT."""
from __future__ import annotations

import struct
from typing import ClassVar

import pytest

import pvfast

from .protected import (
    CODE,
    DB,
    DF_VECTOR,
    GDT,
    GP,
    HANDLERS,
    IDT,
    IF,
    KERNEL_CODE,
    KERNEL_DATA,
    LDT_SELECTOR,
    NP,
    NT,
    PAGE_FAULT,
    RF,
    RING0_STACK,
    SPARE,
    SS,
    TS,
    TSS,
    TSS_SELECTOR,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    World,
    at_once_and_stepped,
    descriptor,
    gate,
)

TASK_TSS, TASK, TASK_GATE, TASK_CODE, TASK_STACK = 0x4000, 0x40, 0x48, 0x18000, 0xC000
GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
STATE32 = ("eip", "eflags", *GENERAL, *SEGMENTS, "ldt")
STATE16 = ("eip", "eflags", *GENERAL, *SEGMENTS[:4], "ldt")
DEFAULT = {"eip": TASK_CODE, "eflags": 2, "esp": TASK_STACK, "cs": KERNEL_CODE} | dict.fromkeys(
    ("es", "ss", "ds"), KERNEL_DATA)
VM = 0x20000
AVAILABLE, BUSY, AVAILABLE16 = 0x89, 0x8B, 0x81
EXT = 1


def tss32(link: int = 0, cr3: int = 0, trap: int = 0, **state: int) -> bytes:
    """A 32-bit TSS (figure 7-2)."""
    values = DEFAULT | state
    return (struct.pack("<IIIIIIII", link, RING0_STACK, KERNEL_DATA, 0, 0, 0, 0, cr3)
            + struct.pack("<17I", *(values.get(name, 0) for name in STATE32)) + struct.pack("<HH", trap, 0x68))


def tss16(link: int = 0, **state: int) -> bytes:
    """A 16-bit TSS (figure 7-10)."""
    values = DEFAULT | state
    return (struct.pack("<7H", link, RING0_STACK, KERNEL_DATA, 0, 0, 0, 0)
            + struct.pack("<15H", *(values.get(name, 0) & 0xFFFF for name in STATE16)))


def task_gate(selector: int, access: int = 0x85) -> bytes:
    return gate(selector, 0, access)


class Tasks(World):
    """The world with a second task, its TSS, a task gate to it, and code at TASK_CODE."""

    def __init__(self) -> None:
        super().__init__()
        self.task("hlt")
        self.describe(TASK_GATE, task_gate(TASK))

    def task(self, source: str, tss: bytes | None = None, access: int = AVAILABLE, limit: int = 0x67,
             **state: int) -> dict[str, int]:
        """Define the second task."""
        self.machine.write(TASK_TSS, tss32(**state) if tss is None else tss)
        self.describe(TASK, descriptor(TASK_TSS, limit, access, 0))
        return self.load(source, TASK_CODE)

    def saved(self, address: int = TSS, names: tuple[str, ...] = STATE32) -> dict[str, int]:
        """The state in a TSS."""
        if names is STATE32:
            return dict(zip(names, struct.unpack("<17I", self.machine.read(address + 32, 68)), strict=True))
        return dict(zip(names, struct.unpack("<15H", self.machine.read(address + 14, 30)), strict=True))

    def link(self, address: int = TASK_TSS) -> int:
        return struct.unpack("<H", self.machine.read(address, 2))[0]

    def access(self, selector: int) -> int:
        return self.machine.read(GDT + (selector & ~7) + 5, 1)[0]

    @property
    def in_task(self) -> bool:
        """Did the run end at the HLT at the start of the second task?"""
        return self.cpu.eip == TASK_CODE + 1


@pytest.fixture
def world() -> Tasks:
    return Tasks()


def far(opcode: int, selector: int) -> str:
    return f".byte {opcode}; .long 0xDEAD; .word {selector}"


JMP, CALL = 0xEA, 0x9A


class TestSwitch:
    """SDM 3:7.3, and table 7-2 for the busy flags, NT and the link."""

    @pytest.mark.parametrize("selector", [TASK, TASK_GATE])
    def test_jump(self, world, selector):
        labels = world.load(f"mov $1, %eax; mov $2, %ecx; mov $3, %esi; {far(JMP, selector)}; next:")
        world.cpu.eflags = 2 | 1
        world.go()
        assert world.in_task
        assert (world.access(TSS_SELECTOR), world.access(TASK)) == (AVAILABLE, BUSY)
        assert (world.link(), world.cpu.eflags & NT) == (0, 0)
        assert world.cpu.cr0 & 8                    # TS
        saved = world.saved()
        assert saved == DEFAULT | {"eip": labels["next"], "eflags": 3, "eax": 1, "ecx": 2, "edx": saved["edx"],
                                   "ebx": 0, "ebp": 0, "esi": 3, "edi": 0, "esp": 0x8000, "fs": KERNEL_DATA,
                                   "gs": KERNEL_DATA, "ldt": 0}
        world.ring0("str %eax; hlt")
        assert world.cpu.eax == TASK

    @pytest.mark.parametrize("selector", [TASK, TASK_GATE])
    def test_call(self, world, selector):
        world.ring0(far(CALL, selector))
        assert world.in_task
        assert (world.access(TSS_SELECTOR), world.access(TASK)) == (BUSY, BUSY)
        assert world.link() == TSS_SELECTOR
        assert world.cpu.eflags & NT

    def test_everything_is_loaded(self, world):
        state = {name: 0x11111111 * (i + 1) for i, name in enumerate(GENERAL)} | {"fs": USER_DATA, "gs": 0}
        world.task("hlt", **state, ldt=LDT_SELECTOR, eflags=0x202 | 0xCD5)
        world.ring0(far(JMP, TASK))
        assert {name: world.cpu[name] for name in GENERAL} == {name: state[name] for name in GENERAL}
        assert world.cpu.eflags == 2 | IF | 0xCD5
        assert [world.cpu[name].selector for name in SEGMENTS] == [KERNEL_DATA, KERNEL_CODE, KERNEL_DATA, KERNEL_DATA,
                                                                   USER_DATA, 0]
        assert world.cpu.fs.limit == 0xFFFFFFFF
        world.cpu.esp = 0x8000
        world.ring0("sldt %eax; hlt")
        assert world.cpu.eax == LDT_SELECTOR

    def test_iret_goes_back(self, world):
        """NT in the saved EFLAGS of the task that returns is clear, and so is its busy flag."""
        world.task("mov $7, %edx; again: iret; inc %edx; jmp again")
        world.ring0(f"xor %edx, %edx; push $0; popf; {far(CALL, TASK)}; mov $5, %ecx; hlt")
        assert (world.cpu.ecx, world.cpu.edx, world.cpu.eflags & NT) == (5, 0, 0)
        assert (world.access(TSS_SELECTOR), world.access(TASK)) == (BUSY, AVAILABLE)
        saved = world.saved(TASK_TSS)
        assert (saved["edx"], saved["eflags"] & NT, saved["eip"]) == (7, 0, TASK_CODE + 6)
        assert world.saved()["eip"] == CODE + 2 + 2 + 1 + 7

    def test_calling_again_goes_on_behind_iret(self, world):
        world.task("again: inc %edx; iret; jmp again")
        world.ring0(f"{far(CALL, TASK)}; {far(CALL, TASK)}; {far(CALL, TASK)}; hlt")
        assert world.saved(TASK_TSS)["edx"] == 3

    def test_through_memory(self, world):
        world.ring0(f"lcall *pointer; hlt; pointer: .long 0; .word {TASK}")
        assert world.in_task

    def test_from_ring_3_into_ring_3(self, world):
        world.task("nop; ud2", cs=USER_CODE, ss=USER_DATA, ds=USER_DATA, es=USER_DATA, esp=USER_STACK - 0x100)
        world.describe(TASK_GATE, task_gate(TASK, 0xE5))
        taken = world.ring3(far(CALL, TASK_GATE))
        assert (taken.vector, taken.eip, taken.cs, taken.ss, taken.esp) == (UD, TASK_CODE + 1, USER_CODE, USER_DATA,
                                                                           USER_STACK - 0x100)
        assert world.saved()["cs"] == USER_CODE
        assert world.cpu.esp == RING0_STACK - 20        # the new task's

    def test_16_bit(self, world):
        """Half the registers of 32-bit tasks are not there."""
        world.describe(SPARE, descriptor(TASK_CODE, 0xFFFF, 0x9A, 0))
        world.task(".byte 0xB8; .word 0x1234; iret", tss16(cs=SPARE, eip=0, eax=5, ecx=0x8001), AVAILABLE16, 0x2B)
        labels = world.load(f"mov $0x12345678, %ebx; {far(CALL, TASK)}; next: hlt")
        world.go()
        assert (world.cpu.eip, world.cpu.ebx) == (labels["next"] + 1, 0x12345678)
        saved = world.saved(TASK_TSS, STATE16)
        assert (saved["eax"], saved["ecx"], saved["eip"], saved["cs"]) == (0x1234, 0x8001, 4, SPARE)
        assert world.link() == TSS_SELECTOR
        assert world.access(TASK) == AVAILABLE16

    def test_16_bit_has_no_fs_and_gs(self, world):
        world.describe(SPARE, descriptor(TASK_CODE, 0xFFFF, 0x9A, 0))
        world.task("hlt", tss16(cs=SPARE, eip=0), AVAILABLE16, 0x2B)
        world.ring0(far(JMP, TASK))
        assert (world.cpu.fs.selector, world.cpu.gs.selector) == (0, 0)

    def test_cr3(self, world):
        """With paging the new task has its own address space; the same linear TASK_CODE is another page."""
        for directory, table in ((0x40000, 0x41000), (0x42000, 0x43000)):
            world.machine.write(directory, struct.pack("<I", table | 7))
            world.machine.write(table, b"".join(struct.pack("<I", page << 12 | 7) for page in range(256)))
        world.machine.write(0x43000 + 4 * (TASK_CODE >> 12), struct.pack("<I", 0x50007))
        world.machine.write(0x50000, b"\xf4")
        world.task("ud2", cr3=0x42000)
        world.cpu.cr3, world.cpu.cr0 = 0x40000, world.cpu.cr0 | 0x80000000
        world.ring0(far(JMP, TASK))
        assert world.in_task
        assert world.cpu.cr3 == 0x42000

    def test_without_paging_cr3_stays(self, world):
        world.task("hlt", cr3=0x42000)
        world.ring0(far(JMP, TASK))
        assert (world.in_task, world.cpu.cr3) == (True, 0)

    def test_t_flag(self, world):
        """#DB with DR6.BT before the first instruction (SDM 3:17.3.1.5)."""
        world.task("hlt", trap=1)
        world.load("mov %dr6, %eax; hlt", 0x1A000)
        world.vector(DB, 0x1A000)
        world.ring0(far(JMP, TASK))
        assert world.cpu.eip == 0x1A004
        assert world.cpu.eax == 0xFFFF8FF0
        assert world.stack(2) == (TASK_CODE, KERNEL_CODE)

    def test_rf_is_loaded(self, world):
        world.task("hlt", eflags=2 | RF)
        world.load(far(JMP, TASK))
        world.cpu.eip = CODE
        world.machine.step()
        assert world.cpu.eflags & RF
        world.machine.step()
        assert not world.cpu.eflags & RF


class TestEvents:
    """Task gates in the IDT (SDM 3:6.12.2)."""

    def test_software_interrupt(self, world):
        world.machine.write(IDT + 8 * 0x40, task_gate(TASK))
        world.task("mov $3, %ebx; iret")
        world.ring0("xor %ebx, %ebx; int $0x40; mov $4, %ecx; hlt", eflags=2 | IF)
        assert (world.cpu.ecx, world.cpu.ebx, world.cpu.eflags & IF) == (4, 0, IF)
        assert world.saved(TASK_TSS)["ebx"] == 3

    def test_software_interrupts_need_the_gates_dpl(self, world):
        world.machine.write(IDT + 8 * 0x40, task_gate(TASK))
        taken = world.ring3("int $0x40")
        assert (taken.vector, taken.error) == (GP, 0x40 * 8 + 2)

    def test_if_is_the_tasks(self, world):
        world.machine.write(IDT + 8 * 0x40, task_gate(TASK))
        world.task("hlt", eflags=2 | IF)
        world.ring0("int $0x40")
        assert world.cpu.eflags & (IF | NT) == IF | NT

    def test_external_interrupt(self, world):
        world.machine.write(IDT + 8 * 0x20, task_gate(TASK))
        world.task("mov $1, %eax; iret")
        labels = world.load("nop; here: nop; mov $2, %ecx; cli; hlt")
        world.machine.inject_interrupt(0x20)
        world.cpu.eflags = 2 | IF
        world.go()
        assert (world.cpu.ecx, world.saved(TASK_TSS)["eax"]) == (2, 1)
        assert world.saved()["eip"] == labels["here"] - 1
        assert not world.saved()["eflags"] & RF

    def test_a_fault_is_saved_with_rf_and_pushes_its_error_code(self, world):
        world.machine.write(IDT + 8 * GP, task_gate(TASK))
        world.ring0("nop; mov $0xFFF8, %eax; mov %eax, %ds")
        assert world.in_task
        assert (world.cpu.esp, world.stack(1)) == (TASK_STACK - 4, (0xFFF8,))
        saved = world.saved()
        assert (saved["eip"], saved["eflags"] & RF) == (CODE + 6, RF)

    def test_a_16_bit_task_gets_16_bits_of_error_code(self, world):
        world.describe(SPARE, descriptor(TASK_CODE, 0xFFFF, 0x9A, 0))
        world.task("hlt", tss16(cs=SPARE, eip=0), AVAILABLE16, 0x2B)
        world.machine.write(IDT + 8 * GP, task_gate(TASK))
        world.ring0("mov $0xFFF8, %eax; mov %eax, %ds")
        assert (world.cpu.esp, world.machine.read(TASK_STACK - 2, 2)) == (TASK_STACK - 2, b"\xf8\xff")

    def test_no_error_code_where_there_is_none(self, world):
        world.machine.write(IDT + 8 * UD, task_gate(TASK))
        world.ring0("ud2")
        assert (world.in_task, world.cpu.esp) == (True, TASK_STACK)

    def test_double_fault(self, world):
        """As Linux does: a stack that cannot take a frame, and a task that has one of its own."""
        world.machine.write(IDT + 8 * DF_VECTOR, task_gate(TASK))
        world.load("ud2")
        world.cpu.ss.set(KERNEL_DATA, 0, 0xFFF, 0x4093)         # ESP is beyond it: #UD, #SS, #DF
        stop = world.go()
        assert stop.reason is pvfast.StopReason.HALT
        assert world.in_task
        assert world.stack(1) == (0,)
        assert (world.saved()["eip"], world.saved()["esp"]) == (CODE, 0x8000)

    def test_a_double_fault_is_saved_with_rf(self, world):
        world.vector(GP, HANDLERS, 0x0E)
        taken = world.ring0("mov $0xFFF8, %eax; mov %eax, %ds")
        assert (taken.vector, taken.eflags & RF) == (DF_VECTOR, RF)

    def test_no_room_for_the_error_code(self, world):
        """#SS in the context of the new task, while delivering an exception: EXT."""
        world.describe(SPARE, descriptor(0, 0xFFF, 0xF2, 4))
        world.task("hlt", ss=SPARE | 3, cs=USER_CODE, esp=0x2000, ds=0, es=0)
        world.machine.write(IDT + 8 * NP, task_gate(TASK))
        world.describe(0x50, descriptor(0, 0xFFFFF, 0x13))
        taken = world.ring0("mov $0x50, %eax; mov %eax, %ds")
        assert (taken.vector, taken.error, taken.eip, taken.cs) == (DF_VECTOR, 0, TASK_CODE, USER_CODE)


BEFORE = [  # access, limit, gate or selector, vector, error
    (BUSY, 0x67, TASK, GP, TASK), (0x09, 0x67, TASK, NP, TASK), (AVAILABLE, 0x66, TASK, TS, TASK),
    (AVAILABLE16, 0x2A, TASK, TS, TASK), (BUSY, 0x67, TASK_GATE, GP, TASK), (0x09, 0x67, TASK_GATE, NP, TASK),
    (0x82, 0x67, TASK_GATE, GP, TASK), (AVAILABLE, 0x66, TASK_GATE, TS, TASK)]


class TestRefusals:
    """What table 7-1 checks before the switch: the fault is the old task's, and nothing has changed."""

    @pytest.mark.parametrize(("access", "limit", "selector", "vector", "error"), BEFORE)
    @pytest.mark.parametrize("opcode", [JMP, CALL])
    def test_tss(self, world, opcode, access, limit, selector, vector, error):
        world.task("hlt", access=access, limit=limit)
        tss = world.machine.read(TSS, 104)
        taken = world.ring0(f"nop; {far(opcode, selector)}")
        assert (taken.vector, taken.error, taken.eip, taken.cs) == (vector, error, CODE + 1, KERNEL_CODE)
        assert world.machine.read(TSS, 104) == tss
        assert (world.access(TSS_SELECTOR), world.access(TASK)) == (BUSY, access)
        assert not world.cpu.cr0 & 8

    @pytest.mark.parametrize(("gate", "vector", "error"), [
        (task_gate(TASK, 0x05), NP, TASK_GATE), (task_gate(0), GP, 0), (task_gate(LDT_SELECTOR | 4), GP,
                                                                        LDT_SELECTOR | 4),
        (task_gate(0xFFF8), GP, 0xFFF8), (task_gate(KERNEL_DATA), GP, KERNEL_DATA)])
    def test_gate(self, world, gate, vector, error):
        world.describe(TASK_GATE, gate)
        taken = world.ring0(far(CALL, TASK_GATE))
        assert (taken.vector, taken.error, taken.eip) == (vector, error, CODE)

    @pytest.mark.parametrize(("selector", "content"), [
        (TASK, descriptor(TASK_TSS, 0x67, AVAILABLE, 0)), (TASK_GATE, task_gate(TASK)),
        (TASK_GATE | 3, task_gate(TASK, 0xC5))])
    def test_privilege(self, world, selector, content):
        world.describe(selector, content)
        taken = world.ring3(far(JMP, selector))
        assert (taken.vector, taken.error, taken.eip) == (GP, selector & ~3, CODE)

    def test_an_event_sets_ext(self, world):
        world.machine.write(IDT + 8 * UD, task_gate(TASK))
        world.task("hlt", access=BUSY)
        taken = world.ring0("ud2")
        assert (taken.vector, taken.error, taken.eip) == (GP, TASK | EXT, CODE)

    def test_a_software_interrupt_does_not(self, world):
        world.machine.write(IDT + 8 * 0x40, task_gate(TASK))
        world.task("hlt", access=BUSY)
        taken = world.ring0("int $0x40")
        assert (taken.vector, taken.error, taken.eip) == (GP, TASK, CODE)

    @pytest.mark.parametrize(("link", "access", "vector", "error"), [
        (TASK, AVAILABLE, TS, TASK), (TASK, 0x0B, NP, TASK), (0, BUSY, TS, 0), (TASK | 4, BUSY, TS, TASK | 4),
        (0xFFF8, BUSY, TS, 0xFFF8), (KERNEL_DATA, BUSY, TS, KERNEL_DATA)])
    def test_iret(self, world, link, access, vector, error):
        world.task("hlt", access=access)
        world.machine.write(TSS, struct.pack("<H", link))
        taken = world.ring0("iret", eflags=2 | NT)
        assert (taken.vector, taken.error, taken.eip) == (vector, error, CODE)
        assert taken.eflags & NT

    def test_an_unmapped_tss(self, world):
        """All of both TSSs is looked up first (step 5): #PF in the old task."""
        world.machine.write(0x40000, struct.pack("<I", 0x41007))
        world.machine.write(0x41000, b"".join(struct.pack("<I", page << 12 | 7) for page in range(256)))
        world.machine.write(0x41000 + 4 * 0x50, struct.pack("<I", 0))
        world.describe(TASK, descriptor(0x4FFE0, 0x67, AVAILABLE, 0))
        world.machine.write(0x4FFE0, tss32()[:32])
        world.cpu.cr3, world.cpu.cr0 = 0x40000, world.cpu.cr0 | 0x80000000
        taken = world.ring0(far(CALL, TASK))
        assert (taken.vector, taken.eip, world.cpu.cr2) == (PAGE_FAULT, CODE, 0x50000)
        assert world.access(TASK) == AVAILABLE
        assert world.saved()["eip"] == 0

    def test_a_tss_in_device_memory(self, world):
        """Ours to decide: it is no TSS, and the device hears nothing."""
        calls = []

        class Device:
            def read(self, address, size):
                calls.append(address)
                return 0

        world.machine.map_mmio(0xFEC00000, 0x1000, Device())
        world.describe(TASK, descriptor(0xFEC00000, 0x67, AVAILABLE, 0))
        taken = world.ring0(far(CALL, TASK))
        assert (taken.vector, taken.error, taken.eip, calls) == (TS, TASK, CODE, [])

    def test_without_a_current_task(self):
        machine = pvfast.Machine(ram="1M")
        machine.install_flat_gdt(0x1000)
        machine.write(0x1000 + 0x18, descriptor(0x3000, 0x67, AVAILABLE, 0))
        machine.cpu.gdtr = (0x1000, 0x1F)
        machine.write(CODE, bytes.fromhex("ea00000000") + b"\x18\0")
        machine.cpu.eip = CODE
        stop = machine.run(max_instructions=10)
        assert (stop.reason, stop.vector, stop.error) == (pvfast.StopReason.SHUTDOWN, TS, 0)


AFTER = [  # state, vector, error
    ({"ldt": KERNEL_DATA}, TS, KERNEL_DATA), ({"ldt": LDT_SELECTOR | 4}, TS, LDT_SELECTOR | 4),
    ({"ldt": 0x50}, TS, 0x50),                                                  # an LDT that is not present
    ({"cs": 0}, TS, 0), ({"cs": USER_DATA}, TS, USER_DATA & ~3), ({"cs": 0xFFFB}, TS, 0xFFF8),
    ({"cs": KERNEL_CODE | 3}, TS, KERNEL_CODE), ({"cs": 0x58 | 3}, NP, 0x58),
    ({"ss": 0}, TS, 0), ({"ss": KERNEL_DATA | 3}, TS, KERNEL_DATA), ({"ss": USER_DATA & ~3}, TS, USER_DATA & ~3),
    ({"ss": 0x60 | 3}, SS, 0x60), ({"ss": USER_CODE}, TS, USER_CODE & ~3),
    ({"ds": KERNEL_DATA | 3}, TS, KERNEL_DATA), ({"es": 0xFFFB}, TS, 0xFFF8), ({"fs": 0x60 | 3}, NP, 0x60),
    ({"gs": LDT_SELECTOR}, TS, LDT_SELECTOR), ({"gs": 0x68 | 3}, TS, 0x68),
    ({"eip": 0x12345678, "cs": 0x70 | 3}, GP, 0)]


class TestFaultsOfTheNewTask:
    """What is checked behind the commit point: the switch is made, and the handler finds the new task."""

    def prepare(self, world, **state):
        for selector, access in ((0x50, 0x02), (0x58, 0x7A), (0x60, 0x72), (0x68, 0xF8)):
            world.describe(selector, descriptor(0, 0xFFFFF, access))       # 0x68: code that cannot be read
        world.describe(0x70, descriptor(0, 0xFFFF, 0xFA, 4))
        user = {"cs": USER_CODE, "ss": USER_DATA, "ds": USER_DATA, "es": USER_DATA, "esp": USER_STACK}
        world.task("hlt", **(user | {"eax": 0x77} | state))

    @pytest.mark.parametrize(("state", "vector", "error"), AFTER)
    @pytest.mark.parametrize("how", ["jmp", "call", "int"])
    def test_segments(self, world, how, state, vector, error):
        self.prepare(world, **state)
        world.machine.write(IDT + 8 * 0x40, task_gate(TASK))
        if state.get("cs") == 0:
            world.machine.write(TASK_TSS + 76, b"\3")           # still null, but ring 3: the handler has a stack
        source = {"jmp": far(JMP, TASK), "call": far(CALL, TASK_GATE), "int": "int $0x40"}[how]
        labels = world.load(f"{source}; next: hlt")
        taken = world.go()
        assert (taken.vector, taken.error) == (vector, error)
        assert (taken.eip, taken.esp, world.cpu.eax) == (state.get("eip", TASK_CODE), USER_STACK, 0x77)
        assert world.saved()["eip"] == labels["next"]
        assert world.access(TASK) == BUSY
        assert world.access(TSS_SELECTOR) == (AVAILABLE if how == "jmp" else BUSY)
        world.ring0("str %eax; hlt")
        assert world.cpu.eax == TASK

    def test_of_an_event_ext_is_set(self, world):
        self.prepare(world, ds=KERNEL_DATA | 3)
        world.machine.write(IDT + 8 * 0x20, task_gate(TASK))
        world.machine.inject_interrupt(0x20)
        taken = world.ring0("nop; hlt", eflags=2 | IF)
        assert (taken.vector, taken.error, taken.eip) == (TS, KERNEL_DATA | EXT, TASK_CODE)

    def test_of_a_contributory_fault_is_a_double_fault(self, world):
        self.prepare(world, ds=KERNEL_DATA | 3)
        world.machine.write(IDT + 8 * GP, task_gate(TASK))
        taken = world.ring0("mov $0xFFF8, %eax; mov %eax, %ds")
        assert (taken.vector, taken.error, taken.eip) == (DF_VECTOR, 0, TASK_CODE)

    def test_of_iret(self, world):
        self.prepare(world, ss=0)
        world.describe(TASK, descriptor(TASK_TSS, 0x67, BUSY, 0))
        world.machine.write(TSS, struct.pack("<H", TASK))
        taken = world.ring0("iret", eflags=2 | NT)
        assert (taken.vector, taken.error, taken.eip) == (TS, 0, TASK_CODE)
        assert not world.saved()["eflags"] & NT
        assert world.access(TSS_SELECTOR) == AVAILABLE

    def test_retired_and_counted(self, world):
        """The instruction that switched has retired; the fault is one more."""
        self.prepare(world, ss=0)
        before = world.machine.counters.as_dict()
        world.ring0(far(JMP, TASK))
        after = world.machine.counters.as_dict()
        assert (after["instructions"] - before["instructions"], after["faults"] - before["faults"]) == (2, 1)


class TestVirtual8086:
    """A task with VM in its EFLAGS (SDM 3:20.2.2, 20.3.1)."""

    STATE: ClassVar[dict[str, int]] = {"cs": 0x2000, "ss": 0x2800, "ds": 0x2900, "es": 0x2A00, "fs": 0x1111,
                                       "gs": 0x2222, "eip": 0x10, "esp": 0x1000}

    def test_a_task_starts_in_v86_mode(self, world):
        """Its selectors are paragraphs; HLT there is #GP(0), whose frame has them all."""
        world.task("nop", eflags=2 | VM | IF, **self.STATE)
        world.machine.write(0x20010, b"\x90\xf4")
        taken = world.ring0(far(JMP, TASK))
        assert (taken.vector, taken.error, taken.eip, taken.cs) == (GP, 0, 0x11, 0x2000)
        assert (taken.ss, taken.esp, taken.eflags & (VM | IF)) == (0x2800, 0x1000, VM | IF)
        assert world.stack(10)[6:] == (0x2A00, 0x2900, 0x1111, 0x2222)

    def test_eip_beyond_64_kib(self, world):
        world.task("nop", eflags=2 | VM, **(self.STATE | {"eip": 0x10000}))
        taken = world.ring0(far(JMP, TASK))
        assert (taken.vector, taken.error, taken.eip, taken.eflags & VM) == (GP, 0, 0x10000, VM)

    def test_out_of_v86_mode_through_a_task_gate_and_back(self, world):
        """An exception of the V86 program handled by a task: EFLAGS.VM and the paragraphs are in its TSS."""
        world.machine.write(IDT + 8 * UD, task_gate(TASK))
        world.task("mov %ds, %ebx; iret")
        world.machine.write(0x20000, b"\x0f\x0b\xf4")
        for name in SEGMENTS:
            getattr(world.cpu, name).set(self.STATE[name], 0, 0, 0)
        world.cpu.eflags, world.cpu.esp = 2 | VM | 0x3000, 0x1000
        world.cpu.eip = 0
        world.machine.run(until=TASK_CODE, max_instructions=100)
        assert (world.cpu.cpl, world.cpu.eflags) == (0, 2 | NT)
        saved = world.saved()
        assert {name: saved[name] for name in SEGMENTS} == {name: self.STATE[name] for name in SEGMENTS}
        assert (saved["eflags"], saved["eip"]) == (2 | VM | RF | 0x3000, 0)
        world.machine.run(until=0x20000, max_instructions=100)
        assert (world.cpu.eflags, world.cpu.cpl, world.cpu.ds.base) == (2 | VM | RF | 0x3000, 3, 0x29000)

    def test_iret_in_v86_mode_does_not_nest(self, world):
        """NT means nothing there (SDM 2, IRET)."""
        world.machine.write(0x20000, b"\xcf")
        world.machine.write(0x29000, struct.pack("<HHH", 5, 0x2000, NT | 2))
        for name in SEGMENTS:
            getattr(world.cpu, name).set(self.STATE[name], 0, 0, 0)
        world.cpu.ss.set(0x2800, 0, 0, 0)
        world.cpu.eflags, world.cpu.esp, world.cpu.eip = 2 | VM | NT | 0x3000, 0x1000, 0
        world.machine.step()
        assert (world.cpu.eip, world.cpu.eflags & (VM | NT)) == (5, VM | NT)


def test_a_run_in_single_steps_is_the_same():
    """Nested tasks, a T flag, an external interrupt through a task gate, and a fault behind the commit point."""
    def build() -> Tasks:
        world = Tasks()
        world.task("again: inc %edi; iret; jmp again", trap=1)
        world.load("iret", 0x1A000)
        world.vector(DB, 0x1A000)
        world.machine.write(IDT + 8 * 0x20, task_gate(TASK))
        world.load(f"mov $9, %ecx; sti; again: {far(CALL, TASK_GATE)}; sub $1, %ecx; jne again; "
                   f"movl $0xFFF8, {TASK_TSS + 84}; int $0x20")
        world.cpu.eflags, world.cpu.eip = 2, CODE
        world.machine.inject_interrupt(0x20)
        return world

    once = at_once_and_stepped(build, 1000)
    assert once.saved(TASK_TSS)["edi"] == 10
    assert once.cpu.eip == HANDLERS + 16 * TS + 1      # the last time its DS was bad
