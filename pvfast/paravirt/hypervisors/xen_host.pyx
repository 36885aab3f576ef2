# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""Xen's side of the interface: ring 0 under a 32-bit paravirtual guest, served inside the core.

Enters: a guest image. Leaves: the domain at the guest's Xen entry, and from then on every interrupt, exception and
hypercall of it. Reading order: xen_domain.pxi, xen_events.pxi, xen_emulation.pxi, xen_hypercalls.pxi, xen_tables.pxi,
this file.

Xen itself is no guest code: there is no image of it. It plays ring 0 from outside, the guest kernel runs in ring 1
with paging on, user code in ring 3.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pvfast.core.engine cimport *
from pvfast.core.flags cimport get_eflags, set_eflags
from pvfast.core.types cimport *

import struct

from pvfast.errors import ImageError, PvfastError, SnapshotError
from pvfast.paravirt.hypervisors import xen_interface as interface
from pvfast.processor.cpuid import feature_word

include "generated/constants.pxi"
include "xen_numbers.pxi"

cdef extern from *:
    """
    #define PVFAST_XEN_START 0xFC000000u
    #define PVFAST_XEN_DR6_ONES 0xFFFF0FF0u
    """
    const u32 XEN_START "PVFAST_XEN_START"          # the hypervisor's hole in the linear address space
    const u32 DR6_ONES "PVFAST_XEN_DR6_ONES"

cdef enum:
    MIN_PERIOD_NS = 1000000

include "xen_domain.pxi"
include "xen_events.pxi"
include "xen_emulation.pxi"
include "xen_hypercalls.pxi"
include "xen_tables.pxi"

PAGE = 4096
_TABLE_ENTRIES = 1024
_PAGE_KERNEL = 0x063                # present, writable, accessed, dirty
_PAGE_TABLE = 0x067                 # and for ring 3
_CR0 = 0x80010031                   # PG WP NE ET PE
_IF = 0x200
_NULL_SEGMENT = 0x10000
_CODE, _DATA, _RING1, _RING3 = 0xC09B, 0xC093, 0x20, 0x60       # flat, 4 GiB, present, accessed
_HIDDEN_FEATURES = feature_word(frozenset("SEP VME DE MCE MTRR MCA PSE36".split()))     # CPUID.1:EDX
_MAGIC = interface.XEN_MAGIC + b"-x86_32"
_HYPERCALL_PAGE_ENTRIES = interface.HYPERCALL_PAGE_BYTES // interface.HYPERCALL_ENTRY_BYTES


cdef bint xen_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook: everything that would go to ring 0."""
    cdef Domain* d = <Domain*>state
    if not d.started or cpu.cpl == 0:
        return False
    if kind == EVENT_SOFTWARE:
        if vector == HYPERCALL_VECTOR and cpu.cpl == KERNEL_RING:
            hypercall(d, cpu)
            return True
        return software_interrupt(d, cpu, vector)
    if kind == EVENT_EXTERNAL:
        hardware_interrupt(d, cpu, vector)
    else:
        exception(d, cpu, vector, error, has_error)
    return True


cdef class XenHost(HypervisorBase):
    """The host side of Xen, with one domain. `pvfast.paravirt.hypervisors.xen.Xen` is what to use.

    Design: segments reach all 4 GiB, where Xen's end below its own hole: nothing of Xen is in the guest's linear
    address space, and full segments let the core decode the guest as flat.
    """

    cdef Domain* domain

    def __cinit__(self, *args, **kwargs):
        self.domain = <Domain*>calloc(1, sizeof(Domain))
        if self.domain == NULL:
            raise MemoryError("no memory for a domain")
        self.domain.timer_cycles = NEVER
        self.domain.shutdown_reason = -1
        self.hook = xen_event
        self.state = self.domain
        self.descriptors = self.domain.gdt
        self.descriptor_count = GDT_SLOTS

    def __dealloc__(self):
        free(self.domain)

    def attach(self, machine):
        """Called by `Machine(hypervisor=...)`."""
        leaves = [list(leaf) for leaf in machine.processor.cpuid]
        if not leaves:
            raise PvfastError(f"Xen asks the processor by CPUID, which {machine.processor.name} does not have")
        leaves[1][3] &= ~_HIDDEN_FEATURES
        super().attach(machine)
        machine._set_cpuid(leaves, machine.processor.cpuid_extended)

    def start(self, machine, image, *, command_line=b""):
        """Build a domain from a guest image and stand at its Xen entry.

        RAM at physical 0 is the domain's, but for its last page, which is shared_info. From the image on it holds, a
        page-aligned piece each: the image, the frame list, start_info, a stack of one page, page tables that map it
        all at the image's virt_base.

        Parameters
        ----------
        machine : pvfast.Machine
            Made with this hypervisor.
        image : pvfast.guest.GuestImage
            Or anything with `code`, `physical` and `notes`.
        command_line : bytes, optional

        Raises
        ------
        ImageError
            The domain has not enough memory for it.
        """
        cdef Domain* d = self.domain
        if machine.hypervisor is not self:
            raise PvfastError("start() needs the machine that was made with this hypervisor: Machine(hypervisor=...)")
        notes, base = image.notes, image.notes.virt_base
        frames = len(machine.ram) // PAGE - 1
        tables = -(-frames // _TABLE_ENTRIES)
        mfn_list = _page_up(image.physical + len(image.code))
        start_info = _page_up(mfn_list + 4 * frames)
        stack = start_info + PAGE
        directory = stack + PAGE
        first_table = directory + PAGE
        end = first_table + tables * PAGE
        if end > frames * PAGE or base + frames * PAGE > interface.HYPERVISOR_VIRT_START:
            raise ImageError(f"a domain of {frames + 1} pages cannot hold this kernel: it takes {end >> 12} pages and "
                             f"everything is mapped at {base:#x}, below {interface.HYPERVISOR_VIRT_START:#x}")
        if len(command_line) >= interface.START_INFO_CMD_LINE_BYTES:
            raise ImageError(f"a command line of {len(command_line)} bytes: Xen has room for 1023")
        shared_info = frames * PAGE

        memset(d, 0, sizeof(Domain))
        d.frames = frames
        d.shared_info = d.vcpu_info = shared_info
        d.timer_cycles = NEVER
        d.shutdown_reason = -1
        for selector, kind in ((interface.FLAT_RING1_CS, _CODE | _RING1), (interface.FLAT_RING1_DS, _DATA | _RING1),
                               (interface.FLAT_RING3_CS, _CODE | _RING3), (interface.FLAT_RING3_DS, _DATA | _RING3)):
            d.gdt[selector >> 3] = kind << 40 | 0xF << 48 | 0xFFFF

        machine.write(image.physical, image.code)
        machine.write(notes.hypercall_page - base, _hypercall_page())
        machine.write(mfn_list, struct.pack(f"<{frames}I", *range(frames)))
        machine.write(start_info, _start_info(frames, shared_info, base, directory, tables, mfn_list, command_line))
        machine.write(shared_info, _shared_info())
        machine.write(directory, _directory(base, first_table, tables))
        machine.write(first_table, struct.pack(f"<{tables * _TABLE_ENTRIES}I", *[
            frame << 12 | _PAGE_KERNEL if frame < frames else 0 for frame in range(tables * _TABLE_ENTRIES)]))

        cpu = machine.cpu
        cpu.idtr = cpu.gdtr = (0, 0)
        cpu.cr4, cpu.cr3, cpu.cr0 = 0, directory, _CR0
        cpu.cs.set(interface.FLAT_RING1_CS, 0, 0xFFFFFFFF, _CODE | _RING1)
        for segment in (cpu.ss, cpu.ds, cpu.es):
            segment.set(interface.FLAT_RING1_DS, 0, 0xFFFFFFFF, _DATA | _RING1)
        for segment in (cpu.fs, cpu.gs):
            segment.set(0, 0, 0, _NULL_SEGMENT)
        cpu.eflags = _IF
        cpu.eax = cpu.ebx = cpu.ecx = cpu.edx = cpu.edi = cpu.ebp = 0
        cpu.esi, cpu.esp, cpu.eip = base + start_info, base + directory, notes.entry
        d.started = True

    # --- What the domain did --------------------------------------------------------------------------------------

    @property
    def console(self):
        """What the guest wrote to Xen's console, its last 16 KiB."""
        cdef Domain* d = self.domain
        text = (<char*>d.console)[:CONSOLE_BYTES]
        end = d.console_written % CONSOLE_BYTES
        return text[:end] if d.console_written < CONSOLE_BYTES else text[end:] + text[:end]

    @property
    def hypercalls(self):
        """How many there were, by `xen_interface.Hypercall`; those inside a multicall too."""
        return {number: self.domain.hypercalls[number] for number in interface.Hypercall
                if self.domain.hypercalls[number]}

    @property
    def upcalls(self):
        """Event callbacks delivered."""
        return self.domain.upcalls

    @property
    def shutdown_reason(self):
        """A `xen_interface.Shutdown`, or its number when it has no name; None while the domain runs."""
        reason = self.domain.shutdown_reason
        if reason < 0:
            return None
        return interface.Shutdown(reason) if reason in set(interface.Shutdown) else reason

    # --- As a device ------------------------------------------------------------------------------------------------

    def next_event(self):
        """The guest's timer."""
        return None if self.domain.timer_cycles == NEVER else self.domain.timer_cycles

    def fire(self, machine):
        """Its own timer interrupt, for the guest's VIRQ_TIMER."""
        cdef Domain* d = self.domain
        if d.period_cycles:
            while d.timer_cycles <= <u64>machine.counters.cycles:
                d.timer_cycles += d.period_cycles
        else:
            d.timer_cycles = NEVER
        machine.inject_interrupt(TIMER_VECTOR)

    def save(self):
        return (<char*>self.domain)[:sizeof(Domain)]

    def restore(self, state):
        if not isinstance(state, bytes) or len(state) != sizeof(Domain):
            raise SnapshotError("the snapshot was taken from a machine without Xen")
        memcpy(self.domain, <char*>(<bytes>state), sizeof(Domain))


def _page_up(address):
    return -(-address // PAGE) * PAGE


def _hypercall_page():
    entries = [interface.hypercall_entry(number) for number in range(_HYPERCALL_PAGE_ENTRIES)]
    return b"".join([entry.ljust(interface.HYPERCALL_ENTRY_BYTES, b"\xcc") for entry in entries])


def _start_info(frames, shared_info, base, directory, tables, mfn_list, command_line):
    page = bytearray(PAGE)
    page[:len(_MAGIC)] = _MAGIC
    page[interface.START_INFO_CMD_LINE:interface.START_INFO_CMD_LINE + len(command_line)] = command_line
    for offset, value in ((interface.START_INFO_NR_PAGES, frames), (interface.START_INFO_SHARED_INFO, shared_info),
                          (interface.START_INFO_PT_BASE, base + directory),
                          (interface.START_INFO_NR_PT_FRAMES, tables + 1),
                          (interface.START_INFO_MFN_LIST, base + mfn_list)):
        struct.pack_into("<I", page, offset, value)
    return bytes(page)


def _shared_info():
    """Events masked, every channel masked; one cycle is one nanosecond of system time."""
    page = bytearray(PAGE)
    for cpu in range(interface.MAX_VIRT_CPUS):
        page[cpu * interface.VCPU_INFO_BYTES + interface.VCPU_EVTCHN_UPCALL_MASK] = 1
    struct.pack_into("<I", page, interface.VCPU_TIME_VERSION, 2)
    struct.pack_into("<Ib", page, interface.VCPU_TIME_TSC_TO_SYSTEM_MUL, 1 << 31, 1)
    for word in range(interface.EVENT_CHANNELS // 32):
        struct.pack_into("<I", page, interface.SHARED_EVTCHN_MASK + 4 * word, 0xFFFFFFFF)
    return bytes(page)


def _directory(base, first_table, tables):
    entries = [0] * _TABLE_ENTRIES
    for number in range(tables):
        entries[(base >> 22) + number] = first_table + number * PAGE | _PAGE_TABLE
    return struct.pack(f"<{_TABLE_ENTRIES}I", *entries)
