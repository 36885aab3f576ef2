"""Integer instructions that the differential cases meet too, by the manual's text; prefixes; what is undefined."""
from __future__ import annotations

import pytest

from pvfast.isa.form import PREFIXES, Form
from pvfast.isa.forms import FORMS
from pvfast.isa.maps import operand_sizes

from .protected import CF, CODE, DE, GP, HANDLERS, KERNEL_DATA, PAGE_FAULT, UD, World

AF = 0x10
BR = 5
BOUND_EBX = ".byte 0x62, 0x1d, 0x00, 0x70, 0, 0"
"""bound %ebx, 0x7000"""


@pytest.fixture
def world():
    return World()


def decimal(world: World, instruction: str, ax: int, flags: int = 0) -> tuple[int, int]:
    """AX and (CF, AF) afterwards."""
    world.cpu.eax = 0xABCD0000 | ax
    world.ring0(f"{instruction}; hlt", 2 | flags)
    assert world.cpu.eax >> 16 == 0xABCD
    return world.cpu.eax & 0xFFFF, world.cpu.eflags & (CF | AF)


class TestDecimal:
    """SDM 2, AAA to DAS: the examples and the corners."""

    @pytest.mark.parametrize("instruction, ax, flags, result, left", [
        ("aaa", 0x0005, 0, 0x0005, 0), ("aaa", 0x000B, 0, 0x0101, CF | AF), ("aaa", 0x0002, AF, 0x0108, CF | AF),
        ("aaa", 0x00FA, 0, 0x0200, CF | AF),
        ("aas", 0x0205, 0, 0x0205, 0), ("aas", 0x020F, 0, 0x0109, CF | AF), ("aas", 0x0200, AF, 0x000A, CF | AF),
        ("daa", 0x79 + 0x35, 0, 0x14, CF | AF), ("daa", 0x2E, AF, 0x34, AF), ("daa", 0x9A, 0, 0x00, CF | AF),
        ("daa", 0x14, CF, 0x74, CF),
        ("das", 0x35 - 0x47 & 0xFF, CF | AF, 0x88, CF | AF), ("das", 0x2E, 0, 0x28, AF),
        ("das", 0x03, AF, 0xFD, CF | AF),
        ("aam", 0x003F, 0, 0x0603, 0), ("aam $16", 0x00A7, 0, 0x0A07, 0),
        ("aad", 0x0603, 0, 0x003F, 0), ("aad $16", 0x0A07, 0, 0x00A7, 0), ("aad", 0xFFFF, 0, 0x00F5, 0)])
    def test_results(self, world, instruction, ax, flags, result, left):
        assert decimal(world, instruction, ax, flags) == (result, left)

    def test_aam_by_zero(self, world):
        world.cpu.eax = 0x1234
        taken = world.ring0(".byte 0xd4, 0; hlt")
        assert (taken.vector, taken.eip) == (DE, CODE)
        assert world.cpu.eax == 0x1234

    def test_salc_copies_carry(self, world):
        world.cpu.eax = 0x1234
        world.ring0(".byte 0xd6; hlt", 2 | CF)
        assert world.cpu.eax == 0x12FF
        world.ring0(".byte 0xd6; hlt")
        assert world.cpu.eax == 0x1200


class TestBound:
    """SDM 2, BOUND: bounds are signed and inclusive; #BR is a fault."""

    @pytest.mark.parametrize("index, inside", [(-5, True), (-6, False), (7, True), (8, False), (0, True)])
    def test_32_bits(self, world, index, inside):
        world.machine.write(0x7000, b"\xfb\xff\xff\xff\x07\0\0\0")
        taken = world.ring0(f"mov ${index}, %ebx; {BOUND_EBX}; hlt")
        assert (taken.vector is None) if inside else (taken.vector, taken.eip) == (BR, CODE + 5)

    def test_16_bits(self, world):
        world.machine.write(0x7000, b"\xfb\xff\x07\0")
        assert world.ring0(f"mov $0x1fffb, %ebx; .byte 0x66; {BOUND_EBX}; hlt").vector is None
        assert world.ring0(f"mov $0x10008, %ebx; .byte 0x66; {BOUND_EBX}; hlt").vector == BR

    def test_a_register_is_undefined(self, world):
        assert world.ring0(".byte 0x62, 0xc0").vector == UD


class TestXlat:
    def test_its_segment_can_be_overridden(self, world):
        world.cpu.fs.set(KERNEL_DATA, 0x7000, 0xFFFFFFFF, 0xC093)
        world.machine.write(0x7012, b"\x5a")
        world.ring0("mov $0x10, %ebx; mov $2, %eax; .byte 0x64; xlat; hlt")
        assert world.cpu.eax == 0x5A

    def test_with_16_bit_addresses_bx_is_the_table(self, world):
        world.machine.write(0x7012, b"\x5a")
        world.ring0("mov $0x12347010, %ebx; mov $2, %eax; .byte 0x67; xlat; hlt")
        assert world.cpu.eax == 0x5A


@pytest.mark.parametrize("code", ["0fff", "0fb900", "0fb9c0", "660fb9c0", "0f0b", "8fc8", "8f08", "0f04", "0f24c0",
                                  "ff38", "fe10", "c6c800", "0fc7c8", "0fbac0"])
def test_undefined_opcodes(world, code):
    """SDM 2, tables A-2 to A-6. UD1 has a ModRM byte; POP r/m is /0 alone."""
    taken = world.ring0(f".byte {', '.join(str(byte) for byte in bytes.fromhex(code))}, 0x90, 0x90, 0x90, 0x90, 0x90")
    assert taken.vector == UD


class TestHints:
    """0F 18 to 0F 1F: nothing is accessed, whatever ModRM names."""

    @pytest.mark.parametrize("opcode", range(0x18, 0x20))
    @pytest.mark.parametrize("extension", range(8))
    def test_no_access_and_no_effect(self, world, opcode, extension):
        world.cpu.ds.set(KERNEL_DATA, 0, 0xFF, 0x93)            # any access behind 0xFF would be #GP
        before = world.cpu.registers()
        for modrm in (f"{0x05 | extension << 3}, 0, 0, 0, 0x70", f"{0xC0 | extension << 3}"):
            taken = world.ring0(f".byte 0x0f, {opcode}, {modrm}; hlt")
            assert taken.vector is None
            assert {**world.cpu.registers(), "eip": 0} == {**before, "eip": 0}

    @pytest.mark.parametrize("processor, there", [("i486", False), ("pentium", False), ("pentium-pro", True)])
    def test_they_came_with_the_p6_family(self, processor, there):
        taken = World(processor=processor).ring0(".byte 0x0f, 0x1f, 0x44, 0x00, 0x00; hlt")
        assert taken.vector == (None if there else UD)

    def test_pause_is_a_nop_everywhere(self):
        assert World(processor="i486").ring0("pause; hlt").vector is None


class TestLength:
    """SDM 2:2.3.11: more than 15 bytes are #GP(0)."""

    @pytest.mark.parametrize("prefixes, instruction, vector", [
        (14, "90", None), (15, "90", GP), (20, "90", GP), (9, "8b0500700000", None), (10, "8b0500700000", GP),
        (4, "81050070000001000000", None), (5, "81050070000001000000", None), (6, "81050070000001000000", GP)])
    def test_limit(self, world, prefixes, instruction, vector):
        world.machine.write(CODE, b"\x3e" * prefixes + bytes.fromhex(instruction) + b"\xf4")
        taken = world.go()
        assert taken.vector == vector
        if vector is not None:
            assert (taken.error, taken.eip) == (0, CODE)


# --- LOCK (SDM 2, LOCK): legal with a memory destination of some instructions, #UD everywhere else --------------------

LOCKABLE = {"ADD", "ADC", "AND", "BTC", "BTR", "BTS", "CMPXCHG", "CMPXCHG8B", "DEC", "INC", "NEG", "NOT", "OR", "SBB",
            "SUB", "XOR", "XADD", "XCHG"}
"""The manual's list."""
MEMORY_WITH_DISP32, REGISTER = 0x05, 0xC0


def locked(form: Form, memory: bool) -> bytes:
    """The row with a LOCK prefix, its operand in memory or a register."""
    opcode = form.encoding
    code = b"\xf0" + (b"\x66" if operand_sizes(form) == (1,) else b"")
    if opcode.prefix not in ("", "NP"):
        code += bytes([int(PREFIXES[PREFIXES.index(opcode.prefix)], 16)])
    code += (b"\x0f" if opcode.escape else b"") + bytes([opcode.byte])
    if opcode.modrm is not None:
        code += bytes([opcode.modrm])
    elif opcode.extension is not None:
        extension = 0 if opcode.extension == "r" else int(opcode.extension)
        code += bytes([(MEMORY_WITH_DISP32 if memory else REGISTER) | extension << 3])
    return code + bytes([0, 0x70, 0, 0]) + bytes(8)


@pytest.mark.parametrize("memory", [False, True])
def test_lock_is_legal_where_the_manual_says(world, memory):
    wrong = []
    for form in FORMS:
        if form.has_modrm and (memory if form.encoding.modrm is not None else memory and not form.takes_memory):
            continue
        destination = form.operands[:1] and form.operands[0].startswith(("r/m", "m"))
        legal = memory and form.has_modrm and form.mnemonic in LOCKABLE and bool(destination)
        world.machine.write(CODE, locked(form, memory))
        world.cpu.eip, world.cpu.esp = CODE, 0x8000
        world.machine.step()
        if (world.cpu.eip != HANDLERS + 16 * UD) != legal:
            wrong.append((form.opcode, form.syntax))
    assert wrong == []


def test_rows_allow_lock_where_the_manual_does():
    allowed = {form.mnemonic for form in FORMS if form.lock}
    assert allowed == LOCKABLE


def test_ud1_fetches_its_modrm_byte():
    """It lies in a page that is not there: #PF goes before #UD."""
    world = World()
    world.machine.write(0x40000, b"".join((page << 12 | 3).to_bytes(4, "little") for page in range(0x20)))
    world.machine.write(0x41000, (0x40003).to_bytes(4, "little"))
    world.machine.write(0x40000 + 4 * (HANDLERS >> 12), (HANDLERS | 3).to_bytes(4, "little"))
    world.machine.write(0x1FFFE, b"\x0f\xb9")
    world.cpu.cr3, world.cpu.cr0 = 0x41000, 0x80000011
    world.cpu.esp = 0x8000
    assert world.go(0x1FFFE).vector == PAGE_FAULT


@pytest.mark.parametrize("modrm", ["0d", "35", "3d", "c8", "f0", "f8"])
def test_mov_to_sregs_that_are_not_there_is_undefined(world, modrm):
    """SDM 2, MOV: CS, and numbers 6 and 7. Nothing is read before: the operand lies beyond the limit of DS."""
    world.cpu.ds.set(KERNEL_DATA, 0, 0xFF, 0x93)
    world.machine.write(CODE, bytes.fromhex("8e" + modrm) + bytes([0, 0x70, 0, 0]))
    assert world.go().vector == UD
