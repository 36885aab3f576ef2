# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""lhype's side of the interface: ring 0 under a paravirtual guest with shadow page tables, served inside the core.

Enters: a guest image. Leaves: the guest behind its signature, and from then on every interrupt, exception and hypercall
of it. Reading order: ring1.pxi, lhype_guest.pxi, lhype_pages.pxi, lhype_traps.pxi, lhype_hypercalls.pxi, this file.

The host is no guest code: it plays ring 0 from outside. The guest kernel runs in ring 1, user code in ring 3.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pvfast.core.engine cimport *
from pvfast.core.flags cimport get_eflags
from pvfast.core.types cimport *

import struct

from pvfast.errors import ImageError, PvfastError, SnapshotError
from pvfast.paravirt import probing
from pvfast.paravirt.hypervisors import lhype_interface as interface

include "generated/constants.pxi"
include "lhype_numbers.pxi"

include "ring1.pxi"
include "lhype_guest.pxi"
include "lhype_pages.pxi"
include "lhype_traps.pxi"
include "lhype_hypercalls.pxi"

PAGE = 4096
_RELEASES = ("2.6.23", "2.6.31")
_TABLE_ENTRIES = 1024
_PAGE_KERNEL = 0x063                # the launcher's: present, writable, accessed, dirty
_CR0 = 0x80010031                   # PG WP NE ET PE
_IF = 0x200
_NULL_SEGMENT = 0x10000
_CODE, _DATA = 0xC0BB, 0xC0B3       # flat, 4 GiB, present, ring 1, accessed


cdef bint lhype_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook: everything that would go to ring 0."""
    cdef Guest* g = <Guest*>state
    if not g.started or cpu.cpl == 0:
        return False
    if kind == EVENT_SOFTWARE:
        if vector == LGUEST_TRAP_ENTRY and cpu.cpl == GUEST_PL:
            hypercall(g, cpu)
            return True
        return software_interrupt(g, cpu, vector)
    if kind == EVENT_EXTERNAL:
        hardware_interrupt(g, cpu, vector)
    else:
        exception(g, cpu, vector, error, has_error)
    return True


cdef class LhypeHost(HypervisorBase):
    """The host side of lhype, with one guest. `pvfast.paravirt.hypervisors.lhype.Lhype` is what to use.

    Parameters
    ----------
    release : {"2.6.23", "2.6.31"}, optional
        Whose interface the guest uses; the built-in kernel uses that of 2.6.23.

    Design: segments reach all 4 GiB: nothing of the host is in the guest's linear address space, so there is no
    switcher to protect, and full segments let the core decode the guest as flat. The last pages of RAM hold the shadow
    tables; the guest is told of less memory, and an entry of its tables that names more ends it.
    """

    cdef Guest* guest

    def __cinit__(self, *args, **kwargs):
        self.guest = <Guest*>calloc(1, sizeof(Guest))
        if self.guest == NULL:
            raise MemoryError("no memory for a guest")
        self.guest.timer_cycles = NEVER
        self.guest.killed = -1
        self.hook = lhype_event
        self.state = self.guest
        self.descriptors = self.guest.gdt
        self.descriptor_count = LGUEST_GDT_ENTRIES

    def __dealloc__(self):
        free(self.guest)

    def __init__(self, release="2.6.23"):
        if release not in _RELEASES:
            raise PvfastError(f"no interface of lguest is recorded for Linux {release}: choose "
                              f"{' or '.join(_RELEASES)}")
        choose_layout(self.guest, release == _RELEASES[1])

    def start(self, machine, image):
        """Do what the launcher does: load a guest image, and stand behind its signature.

        The boot parameters are at physical 0, the launcher's page tables in the guest's last pages. They map all its
        memory at the offset between the image's linear and physical addresses.

        Parameters
        ----------
        machine : pvfast.Machine
            Made with this hypervisor.
        image : pvfast.guest.GuestImage
            Or anything with `code`, `physical`, `linear` and `era`, which says where such a kernel is entered.

        Raises
        ------
        ImageError
            It has no signature, or there is not enough memory for it.
        """
        cdef Guest* g = self.guest
        cdef u32 i
        cdef bint later
        if machine.hypervisor is not self:
            raise PvfastError("start() needs the machine that was made with this hypervisor: Machine(hypervisor=...)")
        found = image.code.find(interface.LGUEST_SIGNATURE)
        if found < 0:
            raise ImageError(f"the kernel does not hold {interface.LGUEST_SIGNATURE.decode()!r}, behind which lhype "
                             "enters")
        frames = len(machine.ram) // PAGE - SHADOW_PAGES
        tables = -(-frames // _TABLE_ENTRIES)
        directory = (frames - tables - 1) * PAGE
        offset = image.linear - image.physical
        if directory < image.physical + len(image.code) or offset + frames * PAGE > 1 << 32 or offset & 0x3FFFFF:
            raise ImageError(f"a guest of {frames} pages cannot hold this kernel, which ends at physical "
                             f"{image.physical + len(image.code):#x} and is mapped with an offset of {offset:#x}")

        later = g.later
        memset(g, 0, sizeof(Guest))
        choose_layout(g, later)
        g.frames = frames
        g.page_offset = offset
        g.timer_cycles = NEVER
        g.killed = -1
        g.directories[0].used = True
        g.directories[0].guest = directory
        g.directories[0].last_use = g.switches = 1
        for i in range(SHADOW_TABLES):
            g.free_tables[i] = frames + SHADOW_PAGES - 1 - i
        g.free_count = SHADOW_TABLES
        g.gdt[LGUEST_KERNEL_CS >> 3] = _descriptor(_CODE)
        g.gdt[LGUEST_KERNEL_DS >> 3] = _descriptor(_DATA)

        machine.write(frames * PAGE, bytes(SHADOW_PAGES * PAGE))
        by_subarch = probing.discovery(image.era) is probing.Discovery.HARDWARE_SUBARCH
        machine.write(0, _boot_params(frames * PAGE))
        machine.write(image.physical, image.code)
        machine.write(directory, _page_directory((offset, 0) if by_subarch else (offset,), directory + PAGE, tables))
        machine.write(directory + PAGE, struct.pack(f"<{frames}I", *[
            frame << 12 | _PAGE_KERNEL for frame in range(frames)]).ljust(tables * PAGE, b"\0"))

        cpu = machine.cpu
        cpu.idtr = cpu.gdtr = (0, 0)
        cpu.cr4, cpu.cr3, cpu.cr0 = 0, frames * PAGE, _CR0
        cpu.cs.set(interface.LGUEST_KERNEL_CS | GUEST_PL, 0, 0xFFFFFFFF, _CODE)
        for segment in (cpu.ss, cpu.ds, cpu.es):
            segment.set(interface.LGUEST_KERNEL_DS | GUEST_PL, 0, 0xFFFFFFFF, _DATA)
        for segment in (cpu.fs, cpu.gs):
            segment.set(0, 0, 0, _NULL_SEGMENT)
        cpu.eflags = _IF
        cpu.eax = cpu.ebx = cpu.ecx = cpu.edx = cpu.esi = cpu.edi = cpu.ebp = cpu.esp = 0
        cpu.eip = image.entry if by_subarch else image.linear + found + len(interface.LGUEST_SIGNATURE)
        g.started = True

    # --- What the guest did ---------------------------------------------------------------------------------------

    @property
    def console(self):
        """What the guest wrote to the launcher's console, its last 16 KiB."""
        cdef Guest* g = self.guest
        text = (<char*>g.console)[:CONSOLE_BYTES]
        end = g.console_written % CONSOLE_BYTES
        return text[:end] if g.console_written < CONSOLE_BYTES else text[end:] + text[:end]

    @property
    def hypercalls(self):
        """How many there were, by `lhype_interface.Lhcall`; those from the ring too."""
        return {number: self.guest.hypercalls[number] for number in interface.Lhcall
                if self.guest.hypercalls[number]}

    @property
    def interrupts(self):
        """Interrupts delivered to the guest."""
        return self.guest.interrupts

    @property
    def demand_pages(self):
        """Page faults that were the host's: an entry of the shadow was made from the guest's."""
        return self.guest.demand_pages

    @property
    def guest_memory(self):
        """Bytes of RAM that are the guest's; what is behind them is the host's."""
        return self.guest.frames * PAGE

    @property
    def killed(self):
        """Why the host ended the guest, a `lhype_interface.Killed`; None while it runs."""
        return None if self.guest.killed < 0 else interface.Killed(self.guest.killed)

    @property
    def crash_message(self):
        """What the guest said with LHCALL_CRASH."""
        return (<char*>self.guest.message)[:LGUEST_CRASH_BYTES].partition(b"\0")[0]

    # --- As a device ----------------------------------------------------------------------------------------------

    def next_event(self):
        """The guest's timer."""
        return None if self.guest.timer_cycles == NEVER else self.guest.timer_cycles

    def fire(self, machine):
        """Interrupt 0, once."""
        self.guest.timer_cycles = NEVER
        machine.inject_interrupt(FIRST_EXTERNAL_VECTOR)

    def save(self):
        return (<char*>self.guest)[:sizeof(Guest)]

    def restore(self, state):
        if not isinstance(state, bytes) or len(state) != sizeof(Guest):
            raise SnapshotError("the snapshot was taken from a machine without lhype")
        memcpy(self.guest, <char*>(<bytes>state), sizeof(Guest))


def _descriptor(attributes):
    """Flat, 4 GiB."""
    return attributes << 40 | 0xF << 48 | 0xFFFF


def _boot_params(memory):
    """Who we are, for kernels that look, and one entry of the memory map: all that the guest has."""
    page = bytearray(interface.BOOT_PARAMS_BYTES)
    struct.pack_into("<H", page, probing.BP_VERSION, probing.BOOT_PROTOCOL_2_07)
    struct.pack_into("<I", page, probing.BP_HARDWARE_SUBARCH, probing.Subarch.LGUEST)
    page[interface.BOOT_E820_MAP_NR] = 1
    struct.pack_into("<QQI", page, interface.BOOT_E820_MAP, 0, memory, interface.E820_RAM)
    return bytes(page)


def _page_directory(offsets, first_table, tables):
    entries = [0] * _TABLE_ENTRIES
    for offset in offsets:
        for number in range(tables):
            entries[(offset >> 22) + number] = first_table + number * PAGE | _PAGE_KERNEL
    return struct.pack(f"<{_TABLE_ENTRIES}I", *entries)
