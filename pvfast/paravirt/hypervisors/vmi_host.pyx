# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""The hypervisor behind VMI: it owns ring 0 from the moment the kernel calls `vmi_init`.

Enters: a machine with the ROM in it, and a kernel that boots as on bare hardware. Leaves: the kernel in ring 1, and
from then on every interrupt, exception and trapping call of it. Reading order: ring1.pxi, vmi_guest.pxi,
vmi_events.pxi, vmi_calls.pxi, this file.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pvfast.core.engine cimport *
from pvfast.core.flags cimport get_eflags
from pvfast.core.types cimport *

from pvfast.errors import PvfastError, SnapshotError
from pvfast.paravirt.hypervisors import vmi_interface as interface
from pvfast.paravirt.hypervisors.vmi_rom import rom
from pvfast.processor.cpuid import feature_word

include "generated/constants.pxi"
include "vmi_numbers.pxi"

include "ring1.pxi"
include "vmi_guest.pxi"
include "vmi_events.pxi"
include "vmi_calls.pxi"

PAGE = 4096
_HIDDEN_FEATURES = feature_word(frozenset("VME DE PSE MCE MTRR MCA PSE36".split()))     # CPUID.1:EDX
_ENDINGS = {ENDED_NOT: None, ENDED_CRASH: "crash", ENDED_REBOOT: "reboot", ENDED_SHUTDOWN: "shutdown"}


cdef bint vmi_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook: everything that would go to ring 0."""
    cdef Guest* g = <Guest*>state
    cdef u32 number, queued
    if not g.started:
        if kind == EVENT_SOFTWARE and vector == VMI_VECTOR and cpu.cpl == 0 and slot_of(cpu) == VMI_INIT:
            cpu.gpr[EAX].q = 0 if take_over(g, cpu) else 0xFFFFFFFFu
            return True
        return False
    queued = shared_read(cpu, SHARED_QUEUED)
    if queued:
        if not work_off(g, cpu, queued):
            end(g, cpu, ENDED_CRASH, VECTOR_GP, 0)
            return True
        if kind == EVENT_FAULT and vector == VECTOR_PF:
            charge_trap(cpu)            # the entry may have been in the queue: it tries again
            return True
    if kind == EVENT_SOFTWARE:
        number = slot_of(cpu)
        if vector == VMI_VECTOR and cpu.cpl == KERNEL_RING and number < VMI_INIT:
            call(g, cpu, number)
            return True
        return software_interrupt(g, cpu, vector)
    if kind == EVENT_EXTERNAL:
        hardware_interrupt(g, cpu, vector)
    else:
        exception(g, cpu, vector, error, has_error)
    return True


cdef bint take_over(Guest* g, CPU* cpu) noexcept nogil:
    """vmi_init: the kernel goes on in ring 1. It must have flat segments, 32-bit paging and its interrupts off."""
    cdef u32 i
    cdef Segment* segment
    charge_hypercall(cpu)
    if cpu.cr0 & (CR0_PG | CR0_WP) != CR0_PG | CR0_WP or cpu.cr4 & CR4_PAE or cpu.eflags & (EFLAGS_IF | VM | NT | TF):
        return False
    if not (take_gdt(g, cpu, cpu.gdt_base, cpu.gdt_limit) and take_idt(g, cpu, cpu.idt_base, cpu.idt_limit)):
        cpu.exit = EXIT_NONE
        return False
    g.cpu = cpu
    g.started = True
    cpu.descriptors = g.gdt
    cpu.descriptor_count = GDT_SLOTS
    for i in range(6):
        segment = &cpu.seg[i]
        if not segment.attributes & SEG_NULL and not segment.attributes & SEG_DPL:
            segment.attributes |= KERNEL_RING << SEG_DPL_SHIFT
            segment.selector |= KERNEL_RING
    cpu.cpl = KERNEL_RING
    cpu.eflags = cpu.eflags & ~<u32>IOPL | EFLAGS_IF
    cpu.idt_base = cpu.idt_limit = cpu.gdt_base = cpu.gdt_limit = 0
    cpu.sysenter_cs = 0
    memset(&cpu.ldtr, 0, sizeof(Segment))
    cpu.ldtr.attributes = SEG_NULL
    memset(&cpu.tr, 0, sizeof(Segment))
    cpu.tr.attributes = SEG_P | TYPE_TSS32_BUSY
    enable_interrupts(cpu, False)
    shared_write(cpu, SHARED_PENDING, 0)
    shared_write(cpu, SHARED_CR4, cpu.cr4)
    show_control_registers(cpu)
    update_mode(cpu)
    flush_tlb(cpu)
    return True


cdef class VmiHost(HypervisorBase):
    """The host side of VMI, with one guest. `pvfast.paravirt.hypervisors.vmi.Vmi` is what to use.

    Until the kernel calls `vmi_init` it is on bare hardware: nothing is intercepted, and one that does not find the
    ROM stays there.
    """

    cdef Guest* guest

    def __cinit__(self, *args, **kwargs):
        self.guest = <Guest*>calloc(1, sizeof(Guest))
        if self.guest == NULL:
            raise MemoryError("no memory for a guest")
        self.guest.alarm_cycles = NEVER
        self.hook = vmi_event
        self.state = self.guest

    def __dealloc__(self):
        free(self.guest)

    def attach(self, machine):
        """Called by `Machine(hypervisor=...)`."""
        frames = len(machine.ram) // PAGE
        if not interface.VROM_END // PAGE <= frames <= MAX_FRAMES:
            raise PvfastError(f"a machine of {frames} pages: VMI's ROM is below 1 MiB, and at most {MAX_FRAMES} pages "
                              "can be watched")
        super().attach(machine)
        self.guest.frames = frames
        machine.map_rom(interface.ROM_PHYSICAL, self.rom())
        leaves = [list(leaf) for leaf in machine.processor.cpuid]
        if len(leaves) > 1:
            leaves[1][3] &= ~_HIDDEN_FEATURES
            machine._set_cpuid(leaves, machine.processor.cpuid_extended)

    def rom(self):
        """The option ROM's bytes."""
        return rom().code

    # --- What the guest did -------------------------------------------------------------------------------------------

    @property
    def started(self):
        """Whether `vmi_init` has moved the kernel out of ring 0."""
        return bool(self.guest.started)

    @property
    def calls(self):
        """How many calls trapped, by `vmi_interface.VmiCall`; `vmi_init` is not among them."""
        return {number: self.guest.calls[number] for number in interface.VmiCall if self.guest.calls[number]}

    @property
    def interrupts(self):
        """External interrupts delivered to the guest."""
        return self.guest.interrupts

    @property
    def ended(self):
        """None while it runs; "crash", "reboot" or "shutdown"."""
        return _ENDINGS[self.guest.ended]

    # --- As a device ------------------------------------------------------------------------------------------------

    def next_event(self):
        """The guest's alarm."""
        return None if self.guest.alarm_cycles == NEVER else self.guest.alarm_cycles

    def fire(self, machine):
        """The alarm: line 0."""
        cdef Guest* g = self.guest
        cdef u64 now = machine.counters.cycles
        if g.period_cycles:
            g.alarm_cycles += ((now - g.alarm_cycles) // g.period_cycles + 1) * g.period_cycles
        if not g.period_cycles or g.alarm_cycles >> FAR_BITS:
            g.alarm_cycles = NEVER
        machine.inject_interrupt(TIMER_VECTOR)

    def save(self):
        cdef CPU* cpu = self.guest.cpu
        self.guest.cpu = NULL           # of this machine only
        state = (<char*>self.guest)[:sizeof(Guest)]
        self.guest.cpu = cpu
        return state

    def restore(self, state):
        cdef CPU* cpu = self.guest.cpu
        if not isinstance(state, bytes) or len(state) != sizeof(Guest):
            raise SnapshotError("the snapshot was taken from a machine without VMI")
        if cpu == NULL and (<Guest*><char*>(<bytes>state)).started:
            raise SnapshotError("in the snapshot the kernel is out of ring 0: restore it in a machine where that has "
                                "happened")
        memcpy(self.guest, <char*>(<bytes>state), sizeof(Guest))
        self.guest.cpu = cpu
        if cpu != NULL:
            cpu.descriptors = self.guest.gdt if self.guest.started else NULL
            cpu.descriptor_count = GDT_SLOTS if self.guest.started else 0
