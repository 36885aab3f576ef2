"""The VMI option ROM: its header, what get_reloc answers, and the kernel's search for it."""

import struct

import pytest

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import vmi_interface
from pvfast.paravirt.hypervisors.vmi import PARA_FILL, PARA_WRAP, PATCHED, Vmi
from pvfast.paravirt.hypervisors.vmi_interface import (
    LOWMEM_LINEAR,
    ROM_BYTES,
    ROM_PHYSICAL,
    VMI_CALLS,
    VROM_GET_RELOC,
    VROM_VMI_INIT,
    Reloc,
    VmiCall,
)
from pvfast.paravirt.hypervisors.vmi_rom import rom
from tests.paravirt.vmi import Guest

HEADER = struct.Struct("<HB4sBIBBBBIHHHHI96s8s8s")


class Altered(Vmi):
    """A machine whose ROM has other bytes at some offsets."""

    def __init__(self, changes: dict[int, bytes]) -> None:
        self.changes = changes

    def rom(self) -> bytes:
        code = bytearray(rom().code)
        for offset, replacement in self.changes.items():
            code[offset:offset + len(replacement)] = replacement
        return bytes(code)


def test_header() -> None:
    code = rom().code
    assert HEADER.size == vmi_interface.VROM_BYTES == 144
    (signature, length, _, _, vrom_signature, minor, major, slots, _, top, _, license_at, pci, pnp, _, _, _,
     _) = HEADER.unpack_from(code)
    assert (signature, length) == (0xAA55, ROM_BYTES // 512)
    assert (vrom_signature, vrom_signature.to_bytes(4, "little")) == (0x696D5663, b"cVmi")
    assert (major, minor, slots, top, pnp) == (3, 0, VMI_CALLS, 0, 0)
    assert code[license_at:license_at + 4] == b"GPL\0"
    assert struct.unpack_from("<4sHH", code, pci) == (b"PCIR", 0x15AD, 0x0801)
    assert len(code) == ROM_BYTES
    assert sum(code) % 256 == 0


def test_offsets_are_those_of_the_structure() -> None:
    fields = ("ROM_SIGNATURE", "ROM_LENGTH", "ROM_ENTRY", "CHECKSUM", "VROM_SIGNATURE", "API_VERSION_MIN",
              "API_VERSION_MAJ", "JUMP_SLOTS", "VIRTUAL_TOP", "LICENSE_OFFS", "PCI_HEADER_OFFS", "PNP_HEADER_OFFS",
              "VMI_INIT", "GET_RELOC")
    assert [getattr(vmi_interface, f"VROM_{name}") for name in fields] == [
        0, 2, 3, 7, 8, 12, 13, 14, 16, 22, 24, 26, 128, 136]


def test_the_two_entries_are_jumps_into_the_rom() -> None:
    for offset in (VROM_VMI_INIT, VROM_GET_RELOC):
        assert rom().code[offset] == 0xEB


@pytest.mark.parametrize("number", [*range(VMI_CALLS), VMI_CALLS, 0xFFFFFFFF])
def test_get_reloc_answers_as_the_table_says(number: int) -> None:
    machine = pvfast.Machine(ram="16M")
    machine.write(ROM_PHYSICAL, rom().code)
    guest_cr3 = 0x1000                                  # one large page at LOWMEM_LINEAR and at 0
    machine.write(guest_cr3, struct.pack("<I", 0x83))
    machine.write(guest_cr3 + (LOWMEM_LINEAR >> 20), struct.pack("<I", 0x83))
    machine.cpu.cr4, machine.cpu.cr3, machine.cpu.cr0 = 0x10, guest_cr3, 0x80000011
    machine.write(0x8000, struct.pack("<I", 0x9000))
    cpu = machine.cpu
    cpu.esp, cpu.eax, cpu.eip = 0x8000, number, LOWMEM_LINEAR + ROM_PHYSICAL + VROM_GET_RELOC
    assert machine.run(until=0x9000, max_instructions=20).reason is pvfast.StopReason.UNTIL
    known = number in set(VmiCall)
    assert (Reloc(cpu.edx), cpu.eax) == (rom().relocations[VmiCall(number)] if known else (Reloc.NONE, 0))


def test_every_kind_of_relocation_is_there() -> None:
    assert {kind for kind, _ in rom().relocations.values()} == set(Reloc)
    for call in (VmiCall.IRET, VmiCall.SYSEXIT):
        assert rom().relocations[call][0] is Reloc.JUMP_REL


def test_the_kernel_uses_only_what_the_rom_has() -> None:
    used = {*PARA_FILL.values(), *PARA_WRAP.values(), *(call for calls in PATCHED.values() for call in calls)}
    assert all(rom().relocations[call][0] is not Reloc.NONE for call in used)


# --- The search -------------------------------------------------------------------------------------------------------

LICENSE, PCI = 22, 24


@pytest.mark.parametrize(("what", "changes"), [
    ("no signature of an option ROM", {0: b"\x54\xaa"}),
    ("another interface", {8: b"cVmj"}),
    ("an older major version", {13: b"\x02"}),
    ("a newer major version", {13: b"\x04"}),
    ("no PCI header", {PCI: b"\0\0"}),
    ("no licence", {LICENSE: b"\0\0"}),
    ("another licence", {struct.unpack_from("<H", rom().code, LICENSE)[0]: b"BSD"}),
    ("only the beginning of the licence", {struct.unpack_from("<H", rom().code, LICENSE)[0]: b"GPL v3\0"}),
    ("vmi_init refuses", {struct.unpack_from("<b", rom().code, VROM_VMI_INIT + 1)[0] + VROM_VMI_INIT + 2:
                          b"\x83\xc8\xff\xc3"}),        # or $-1, %eax; ret
])
def test_a_rom_that_is_not_for_us_leaves_bare_hardware(image: GuestImage, what: str, changes: dict[int, bytes]) -> None:
    guest = Guest(image, Altered(changes)).boot()
    assert guest.machine.cpu.cpl == 0, what
    assert not guest.vmi.started
    assert guest.word("paravirt_ops", 1) == 0           # paravirt_enabled
    assert {name: guest.read(at) for name, at in image.pointers.items()} == dict(image.implementations())
    guest.bench("null_syscall_int80", 3)
    assert guest.word("exit_status") == 1


@pytest.mark.parametrize("changes", [
    {12: b"\x07"},                                      # a later minor version
    {struct.unpack_from("<H", rom().code, PCI)[0] + 4: b"\x86\x80"},
    {LICENSE: struct.pack("<H", ROM_BYTES - 16), ROM_BYTES - 16: b"GPL v2\0"},
])
def test_a_rom_that_differs_where_it_may_is_used(image: GuestImage, changes: dict[int, bytes]) -> None:
    assert Guest(image, Altered(changes)).boot().machine.cpu.cpl == 1


def test_a_rom_that_is_not_where_it_was_linked_for_refuses(image: GuestImage) -> None:
    """vmi_init looks at its own address."""
    guest = Guest(image, Altered({0: b"\0\0"}))
    guest.machine.map_rom(0xDF000, rom().code)
    guest.run_to("activate_vmi", 50_000)
    assert guest.machine.cpu.ebx == LOWMEM_LINEAR + 0xDF000
    guest.boot()
    assert guest.machine.cpu.cpl == 0


def test_machines_without_the_rom_are_searched_and_stay_bare(image: GuestImage) -> None:
    machine = pvfast.Machine(ram="16M")
    image.load(machine)
    done = image.labels["boot_done"]
    assert machine.run(until=done, max_instructions=200_000).reason is pvfast.StopReason.UNTIL
    assert machine.cpu.cpl == 0
