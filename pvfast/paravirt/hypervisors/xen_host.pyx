# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""Xen's side of the interface: ring 0 under a 32-bit paravirtual guest, served inside the core.

Enters: a guest image. Leaves: the domain at the guest's Xen entry, and from then on every interrupt, exception and
hypercall of it. Reading order: ring1.pxi, xen_domain.pxi, xen_pages.pxi, xen_events.pxi, xen_emulation.pxi,
xen_hypercalls.pxi, xen_tables.pxi, this file.

Xen itself is no guest code: there is no image of it. It plays ring 0 from outside, the guest kernel runs in ring 1
with paging on, user code in ring 3.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pvfast.core.access cimport tlb_read
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
    #define PVFAST_LDT_LINEAR 0xFC400000u
    #define PVFAST_NOT_MAPPED 0xFFFFFFFFu
    """
    const u32 LDT_LINEAR "PVFAST_LDT_LINEAR"        # where LDTR points, in LDT_SLOT of every directory
    const u32 NOT_MAPPED "PVFAST_NOT_MAPPED"        # no frame

include "ring1.pxi"
include "xen_domain.pxi"
include "xen_pages.pxi"
include "xen_events.pxi"
include "xen_emulation.pxi"
include "xen_hypercalls.pxi"
include "xen_tables.pxi"

PAGE = 4096
_SAVED_BYTES = sizeof(Domain) - sizeof(Page*)       # Domain.pages, its first member, apart
_TYPES = ("none", "writable", "L1", "L2", "GDT", "LDT")      # by PAGE_*
_PAGE_KERNEL = 0x063                # present, writable, accessed, dirty
_PAGE_READ_ONLY = 0x061
_PAGE_TABLE = 0x067                 # writable, and for ring 3
_CR0 = 0x80010031                   # PG WP NE ET PE
_IF = 0x200
_NULL_SEGMENT = 0x10000
_CODE, _DATA, _RING1, _RING3 = 0xC09B, 0xC093, 0x20, 0x60       # flat, 4 GiB, present, accessed
_HIDDEN_FEATURES = feature_word(frozenset("SEP VME DE MCE MTRR MCA PSE36".split()))     # CPUID.1:EDX
_MAGIC = interface.XEN_MAGIC + b"-x86_32"
_OTHER_DOMAINS_FRAMES = 16
_INVALID_M2P_ENTRY = 0xFFFFFFFF     # of a frame that is no page of the domain
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

    Design: segments reach all 4 GiB, where Xen's end below its own hole, because full segments let the core decode the
    guest as flat. What is in the hole is read-only: the machine-to-physical table and the guest's own LDT.
    """

    cdef Domain* domain

    def __cinit__(self, *args, **kwargs):
        self.domain = <Domain*>calloc(1, sizeof(Domain))
        if self.domain == NULL:
            raise MemoryError("no memory for a domain")
        self._forget(0)
        self.hook = xen_event
        self.state = self.domain
        self.descriptors = self.domain.gdt
        self.descriptor_count = GDT_SLOTS

    def __dealloc__(self):
        free(self.domain.pages)
        free(self.domain)

    cdef _forget(self, u32 page_count):
        """A new domain, in a machine with so many pages."""
        cdef Page* pages = <Page*>calloc(page_count + 1, sizeof(Page))
        if pages == NULL:
            raise MemoryError("no memory for the page types of a domain")
        free(self.domain.pages)
        memset(self.domain, 0, sizeof(Domain))
        self.domain.pages = pages
        self.domain.page_count = page_count
        self.domain.timer_cycles = self.domain.periodic_cycles = self.domain.poll_cycles = NEVER
        self.domain.shutdown_reason = -1

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

        The last pages of RAM are Xen's: page tables for its own hole, the machine-to-physical table, shared_info. Of
        the others some in the middle are another domain's, and this domain has the rest from the top down: no page has
        the number of its frame, and pages beside each other are so in reverse or not at all.

        As the domain counts its pages, they hold from the image on, a page-aligned piece each: the image, the frame
        list, start_info, a stack of one page, and the page tables that map it all at the image's virt_base. They are
        read-only there, as a domain may not write them, and their directory is pinned.

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
        total = len(machine.ram) // PAGE
        frames = total - _OTHER_DOMAINS_FRAMES - -(-4 * total // PAGE) - 3
        tables = -(-frames // PAGE_ENTRIES)
        mfn_list = _page_up(image.physical + len(image.code))
        start_info = _page_up(mfn_list + 4 * frames)
        stack = start_info + PAGE
        directory = stack + PAGE
        first_table = directory + PAGE
        end = first_table + tables * PAGE
        if end > frames * PAGE or base + frames * PAGE > interface.HYPERVISOR_VIRT_START:
            raise ImageError(f"a machine of {total} pages cannot hold this kernel: it takes {end >> 12} pages, Xen and "
                             f"another domain {total - frames}, and everything is mapped at {base:#x}, below "
                             f"{interface.HYPERVISOR_VIRT_START:#x}")
        if len(command_line) >= interface.START_INFO_CMD_LINE_BYTES:
            raise ImageError(f"a command line of {len(command_line)} bytes: Xen has room for 1023")
        mfns = _machine_frames(frames)
        shared_info = (frames + _OTHER_DOMAINS_FRAMES) * PAGE
        ldt_table = shared_info + PAGE
        phys_table = ldt_table + PAGE
        machine_to_phys = phys_table + PAGE

        self._forget(total)
        d.frames = frames
        d.shared_info = d.vcpu_info = shared_info
        d.machine_to_phys = machine_to_phys
        d.ldt_table = ldt_table
        d.xen_slots[0] = phys_table | ENTRY_OF_XEN
        d.xen_slots[LDT_SLOT - GUEST_DIRECTORY_ENTRIES] = ldt_table | ENTRY_OF_XEN
        for selector, kind in ((interface.FLAT_RING1_CS, _CODE | _RING1), (interface.FLAT_RING1_DS, _DATA | _RING1),
                               (interface.FLAT_RING3_CS, _CODE | _RING3), (interface.FLAT_RING3_DS, _DATA | _RING3)):
            d.gdt[selector >> 3] = kind << 40 | 0xF << 48 | 0xFFFF

        machine.write(shared_info, _shared_info())
        phys = [_INVALID_M2P_ENTRY] * total
        for pfn, mfn in enumerate(mfns):
            phys[mfn] = pfn
        machine.write(machine_to_phys, struct.pack(f"<{total}I", *phys))
        machine.write(phys_table, struct.pack(f"<{-(-4 * total // PAGE)}I", *range(
            machine_to_phys | ENTRY_OF_XEN, total * PAGE, PAGE)))

        # What follows is in the domain's own memory, at the addresses that it calls physical.
        entries = [0] * PAGE_ENTRIES
        for number in range(tables):
            entries[(base >> 22) + number] = mfns[(first_table >> 12) + number] << 12 | _PAGE_TABLE
        entries[GUEST_DIRECTORY_ENTRIES:GUEST_DIRECTORY_ENTRIES + 2] = d.xen_slots[0], d.xen_slots[1]
        mapping = [mfn << 12 | (_PAGE_READ_ONLY if directory <= pfn << 12 < end else _PAGE_KERNEL)
                   for pfn, mfn in enumerate(mfns)]
        info = _start_info(frames, shared_info, base, directory, tables, mfn_list, command_line)
        for physical, content in ((image.physical, image.code), (notes.hypercall_page - base, _hypercall_page()),
                                  (mfn_list, struct.pack(f"<{frames}I", *mfns)), (start_info, info),
                                  (directory, struct.pack(f"<{PAGE_ENTRIES}I", *entries)),
                                  (first_table, struct.pack(f"<{frames}I", *mapping))):
            _write_pages(machine, mfns, physical, content)

        # The references that these tables hold; and Xen's own, on shared_info and on the directory by CR3 and the pin.
        for pfn, mfn in enumerate((*mfns, shared_info >> 12)):
            d.pages[mfn].owned = True
            d.pages[mfn].type = PAGE_L1 if first_table <= pfn << 12 < end else PAGE_WRITABLE
            d.pages[mfn].uses = 1
        d.base_frame = mfns[directory >> 12]
        d.pages[d.base_frame].type = PAGE_L2
        d.pages[d.base_frame].uses = 2
        d.pages[d.base_frame].pinned = True

        cpu = machine.cpu
        cpu.idtr = cpu.gdtr = (0, 0)
        cpu.cr4, cpu.cr3, cpu.cr0 = 0, d.base_frame << 12, _CR0
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

    def page(self, frame):
        """What Xen knows about a frame of the domain.

        Parameters
        ----------
        frame : int
            Of the machine.

        Returns
        -------
        (str, int, bool)
            What it is used as ("none", "writable", "L1", "L2", "GDT" or "LDT"), how often, and whether it is pinned.
        """
        cdef Domain* d = self.domain
        cdef Page page
        if not 0 <= frame < d.page_count or not d.pages[frame].owned:
            raise PvfastError(f"frame {frame:#x} is none of the domain's: it has {d.frames:#x}")
        page = d.pages[frame]
        return _TYPES[page.type if page.uses else PAGE_NONE], page.uses, bool(page.pinned)

    @property
    def shutdown_reason(self):
        """A `xen_interface.Shutdown`, or its number when it has no name; None while the domain runs."""
        reason = self.domain.shutdown_reason
        if reason < 0:
            return None
        return interface.Shutdown(reason) if reason in set(interface.Shutdown) else reason

    # --- As a device ------------------------------------------------------------------------------------------------

    def next_event(self):
        """The guest's timers, and its patience in a poll."""
        cdef Domain* d = self.domain
        due = min(d.timer_cycles, d.periodic_cycles, d.poll_cycles)
        return None if due == NEVER else due

    def fire(self, machine):
        """Xen's own timer interrupt: for the guest's VIRQ_TIMER, or because a poll is over."""
        cdef Domain* d = self.domain
        cdef u64 now = machine.counters.cycles
        d.poll_is_over = min(d.timer_cycles, d.periodic_cycles) > now
        if d.timer_cycles <= now:
            d.timer_cycles = NEVER
        if d.periodic_cycles <= now:
            d.periodic_cycles += ((now - d.periodic_cycles) // d.period_cycles + 1) * d.period_cycles
            if d.periodic_cycles >> FAR_BITS:
                d.periodic_cycles = NEVER
        if d.poll_cycles <= now:
            d.poll_cycles = NEVER
        machine.inject_interrupt(TIMER_VECTOR)

    def save(self):
        cdef Domain* d = self.domain
        return (<char*>d + sizeof(Page*))[:_SAVED_BYTES] + (<char*>d.pages)[:d.page_count * sizeof(Page)]

    def restore(self, state):
        cdef Domain* d = self.domain
        cdef Domain saved
        if not isinstance(state, bytes) or len(state) < _SAVED_BYTES:
            raise SnapshotError("the snapshot was taken from a machine without Xen")
        memcpy(<char*>&saved + sizeof(Page*), <char*>(<bytes>state), _SAVED_BYTES)
        if len(state) != _SAVED_BYTES + saved.page_count * sizeof(Page):
            raise SnapshotError("the snapshot was taken from a machine without Xen")
        if saved.page_count != d.page_count:
            self._forget(saved.page_count)
        memcpy(<char*>d + sizeof(Page*), <char*>&saved + sizeof(Page*), _SAVED_BYTES)
        memcpy(d.pages, <char*>(<bytes>state) + <u32>_SAVED_BYTES, d.page_count * sizeof(Page))


def _page_up(address):
    return -(-address // PAGE) * PAGE


def _machine_frames(count):
    """The frames of a domain's pages, by page: those of the machine from the last down, but for another domain's."""
    descending = range(count + _OTHER_DOMAINS_FRAMES - 1, -1, -1)
    half = (count + 1) // 2
    return (*descending[:half], *descending[half + _OTHER_DOMAINS_FRAMES:])


def _write_pages(machine, mfns, physical, content):
    """Into a domain's memory, at an address that it calls physical."""
    done = 0
    while done < len(content):
        pfn, offset = divmod(physical + done, PAGE)
        piece = content[done:done + PAGE - offset]
        machine.write(mfns[pfn] * PAGE + offset, piece)
        done += len(piece)


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
