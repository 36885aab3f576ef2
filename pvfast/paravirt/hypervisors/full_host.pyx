# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""Full virtualization by ring compression: ring 0 under a kernel that knows of no hypervisor, served inside the core.

Enters: a guest image. Leaves: the guest at the entry of bare hardware, its kernel in ring 1; from then on everything
that traps. Reading order: ring1.pxi, full_guest.pxi (memory), full_decoder.pxi, full_scan.pxi (what does not trap
is made to), full_tables.pxi (segments), full_emulation.pxi, full_events.pxi, this file.

The host itself is no guest code. Its page tables lie in RAM that the guest has no entry for.
"""
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from pvfast.core.engine cimport *
from pvfast.core.flags cimport get_eflags, set_eflags
from pvfast.core.types cimport *

import struct

from pvfast.errors import PvfastError, SnapshotError
from pvfast.isa.forms import FORMS as _FORMS
from pvfast.isa.maps import opcode_places
from pvfast.processor.cpuid import feature_word

include "generated/constants.pxi"

include "ring1.pxi"
include "full_guest.pxi"
include "full_decoder.pxi"
include "full_scan.pxi"
include "full_tables.pxi"
include "full_emulation.pxi"
include "full_events.pxi"

_SHADOW = 0xE0000000                # physical: behind any RAM that a guest of this host has
_SHADOW_BYTES = (1 + 2 * TABLE_PAGES + LDT_PAGES) * PAGE_SIZE
_HOLE = 0xDFFFF                     # the frame before it
_TABLE = 0x067                      # present, writable, user, accessed, dirty
_LDT_PAGE = 0x061                   # present, accessed, dirty: the guest's kernel may read it
_CODE, _DATA, _NULL = 0xC0BB, 0xC0B3, 0x10000   # flat, present, accessed, ring 1
_CR0 = 0x80010011                   # PG WP ET PE
_GUEST_CR0 = 0x11
_FLAGS_AT_START = 0x202
_SELECTOR = 0x08                    # of code; data is behind it, as a new machine has them
_HIDDEN_FEATURES = feature_word(frozenset("VME PAE MCE MTRR MCA PAT PSE36".split()))    # CPUID.1:EDX
_IMMEDIATE_BYTES = {"imm8": 1, "simm8": 1, "rel8": 1, "imm16": 2, "rel16": 2, "imm32": 4, "rel32": 4,
                    "ptr16:16": 4, "ptr16:32": 6}


def fill_lengths():
    """What follows an opcode, from the rows of the instruction set."""
    for form in _FORMS:
        kind = L_VALID | (L_MODRM if form.has_modrm else 0)
        kind |= sum(_IMMEDIATE_BYTES.get(operand, 0) for operand in form.operands)
        if any(operand.startswith("moffs") for operand in form.operands):
            kind |= L_MOFFS
        extension = form.encoding.extension
        registers = [int(extension)] if extension in set("01234567") else range(8)
        if form.encoding.modrm is not None:
            registers = [form.encoding.modrm >> 3 & 7]
        for size, _, escape, opcode in opcode_places(form):
            for register in registers:
                lengths[size][escape][opcode][register] = kind


fill_lengths()


cdef class FullHost(HypervisorBase):
    """The host side of full virtualization, with one guest. `pvfast.paravirt.hypervisors.full.Full` is what to use."""

    cdef Guest* guest
    cdef bint attached

    def __cinit__(self, *args, **kwargs):
        self.guest = <Guest*>calloc(1, sizeof(Guest))
        if self.guest == NULL:
            raise MemoryError("no memory for a guest")
        self.hook = full_event
        self.state = self.guest
        self.descriptors = self.guest.gdt
        self.descriptor_count = DESCRIPTORS

    def __dealloc__(self):
        free(self.guest)

    def attach(self, machine):
        """Called by `Machine(hypervisor=...)`."""
        if self.attached:
            raise PvfastError("a host of full virtualization has one machine: make another")
        self.attached = True
        leaves = [list(leaf) for leaf in machine.processor.cpuid]
        if len(leaves) > 1:
            leaves[1][3] &= ~_HIDDEN_FEATURES
        super().attach(machine)
        machine._set_cpuid(leaves, machine.processor.cpuid_extended)
        machine.map_ram(_SHADOW, _SHADOW_BYTES)

    def start(self, machine, image):
        """Write a guest image to memory and stand at its entry, as bare hardware would: paging off, interrupts off.

        Parameters
        ----------
        machine : pvfast.Machine
            Made with this hypervisor.
        image : pvfast.guest.GuestImage
            Or anything with `load`.
        """
        cdef Guest* g = self.guest
        if machine.hypervisor is not self:
            raise PvfastError("start() needs the machine that was made with this hypervisor: Machine(hypervisor=...)")
        image.load(machine)
        memset(g, 0, sizeof(Guest))
        g.shadow, g.shadow_end, g.hole = _SHADOW, _SHADOW + _SHADOW_BYTES, _HOLE
        g.cr0 = _GUEST_CR0
        g.dr[6], g.dr[7] = DR6_ONES, DR7_ONE
        tables = [_SHADOW + (1 + i) * PAGE_SIZE | _TABLE for i in range(TABLE_PAGES)]
        machine.write(_SHADOW, struct.pack(f"<{TABLE_PAGES}I", *tables).ljust(_SHADOW_BYTES, b"\0"))
        window = _SHADOW + PAGE_SIZE + (LDT_WINDOW >> PAGE_BITS) * 4
        ldt = _SHADOW + (1 + 2 * TABLE_PAGES) * PAGE_SIZE
        machine.write(window, struct.pack(f"<{LDT_PAGES}I", *[ldt + i * PAGE_SIZE | _LDT_PAGE
                                                              for i in range(LDT_PAGES)]))

        cpu = machine.cpu
        cpu.idtr = cpu.gdtr = (_SHADOW, 0)
        cpu.cr4, cpu.cr3, cpu.cr0 = 0, _SHADOW, _CR0
        cpu.cs.set(_SELECTOR | KERNEL_RING, 0, 0xFFFFFFFF, _CODE)
        for segment in (cpu.ss, cpu.ds, cpu.es, cpu.fs, cpu.gs):
            segment.set(_SELECTOR + 8 | KERNEL_RING, 0, 0xFFFFFFFF, _DATA)
        cpu.eflags = _FLAGS_AT_START
        g.started = True

    def code_changed(self, machine, entry=None):
        """Scan what the embedder has written. Writes of the guest itself are seen; those of `Machine.write` are not.

        Parameters
        ----------
        machine : pvfast.Machine
            Stopped.
        entry : int, optional
            Linear address of kernel code that the embedder is going to put EIP at, and the guest has not come to yet.
        """
        cdef Guest* g = self.guest
        if machine.hypervisor is not self:
            raise PvfastError("this host runs no guest in that machine")
        if g.cpu == NULL:
            return                      # nothing has been scanned yet
        scan_all_changes(g, g.cpu)
        if entry is not None:
            scan(g, g.cpu, entry)

    # --- What the guest did -----------------------------------------------------------------------------------------

    @property
    def exits(self):
        """How often the host was needed, by what for: a mapping of str to int.

        ``emulated`` instructions, ``filled`` shadow entries, descriptor tables ``synchronised``, instructions
        ``stepped`` (ports, writes to code), exceptions and interrupts ``delivered`` to the guest.
        """
        g = self.guest
        return {"emulated": g.emulated, "filled": g.filled_total, "synchronised": g.synchronised,
                "stepped": g.stepped, "delivered": g.reflected}

    @property
    def traps(self):
        """Sensitive instructions and indirect branches in place of which the scan has put traps, so far."""
        return self.guest.trapped

    @property
    def registers(self):
        """What the guest's processor would hold where the real one holds the host's."""
        g = self.guest
        return {"cr0": g.cr0, "cr2": g.cr2, "cr3": g.cr3, "cr4": g.cr4, "gdtr": (g.gdt_base, g.gdt_limit),
                "idtr": (g.idt_base, g.idt_limit), "ldtr": g.ldt, "tr": g.tr, "interrupts": bool(g.interrupts),
                "iopl": g.iopl}

    # --- As a device ------------------------------------------------------------------------------------------------

    def save(self):
        cdef Guest* g = self.guest
        cdef CPU* cpu = g.cpu
        size = <char*>g.pages - <char*>g + g.page_count * sizeof(CodePage)
        g.cpu = NULL                    # of this machine only
        state = (<char*>g)[:size]
        g.cpu = cpu
        return state

    def restore(self, state):
        cdef Guest* g = self.guest
        cdef CPU* cpu
        cdef size_t fixed = <char*>g.pages - <char*>g
        if (not isinstance(state, bytes) or not fixed <= len(state) <= sizeof(Guest)
                or (len(state) - fixed) % sizeof(CodePage)):
            raise SnapshotError("the snapshot was taken from a machine without full virtualization")
        cpu = g.cpu
        memcpy(g, <char*>(<bytes>state), len(state))
        g.cpu = cpu
