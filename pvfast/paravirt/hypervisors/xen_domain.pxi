# A domain: what Xen knows about its one guest, and access to the memory they share.
#
# Enters: nothing. Leaves: the structure Domain, and functions on vcpu_info, shared_info and the guest's arguments.
# Next: xen_pages.pxi.
#
# Design: everything Xen must be able to trust is here, in host memory: the GDT and the trap table as checked copies.
# So a guest that writes to its own tables by hand reaches no ring that Xen did not give it.

cdef enum:
    GDT_PAGES = 16                      # 14 of the guest's, then Xen's
    GDT_SLOTS = GDT_PAGES * GDT_ENTRIES_PER_PAGE
    GUEST_GDT_SLOTS = FIRST_RESERVED_GDT_PAGE * GDT_ENTRIES_PER_PAGE
    CONSOLE_BYTES = 16384
    HYPERCALLS = 64
    TIMER_VECTOR = FIRST_EXTERNAL_VECTOR        # Xen's own timer
    MAX_ARGUMENTS = 65536               # entries of a list that one hypercall works off
    LDT_PAGES = 16

cdef struct Trap:
    u8 flags
    u16 cs
    u32 address             # 0: none

cdef struct Page:
    u32 uses                # as `type`; 0: it was that last, and may become something else
    u8 type                 # PAGE_*
    u8 pinned
    u8 owned                # by the guest, shared_info too

cdef struct Domain:
    Page* pages             # by frame of the machine; the structure is saved from the next member on
    u32 page_count
    bint started
    u32 frames              # memory of the guest, in pages
    u64 shared_info         # machine addresses from here on
    u64 vcpu_info           # in shared_info until the guest registers another place
    bint registered
    u64 machine_to_phys     # 32 bits a frame
    u64 ldt_table           # Xen's page table of the linear addresses from LDT_LINEAR on
    u32 xen_slots[16]       # of every page directory, from GUEST_DIRECTORY_ENTRIES on
    u32 base_frame          # the directory in CR3
    u64 gdt[GDT_SLOTS]
    u32 gdt_frames[FIRST_RESERVED_GDT_PAGE]
    u32 gdt_pages           # how many of them are in use
    u32 ldt_frames[LDT_PAGES]
    u32 ldt_pages
    Trap traps[TRAP_VECTORS]
    u32 kernel_ss           # stack_switch
    u32 kernel_esp
    u32 event_cs            # set_callbacks
    u32 event_eip
    u32 failsafe_cs
    u32 failsafe_eip
    u32 iopl                # virtual; the real one stays 0
    u8 port_type[EVENT_CHANNELS]        # EVENTSTATUS_*
    u16 port_source[EVENT_CHANNELS]     # virtual interrupt, vector of the physical one, or port of the other end
    u32 virq_port[VIRQS]
    u64 timer_cycles        # the single-shot timer; NEVER: off
    u64 periodic_cycles     # the periodic timer's next; NEVER: off
    u64 period_cycles
    bint polling            # blocked in SCHEDOP_poll: any event ends it, masked or not
    u64 poll_cycles         # its timeout; NEVER: none
    bint poll_is_over       # it has come: the next timer interrupt says so, and is no VIRQ_TIMER
    i32 shutdown_reason     # -1: running
    u64 upcalls
    u64 hypercalls[HYPERCALLS]
    u64 console_written     # bytes; the last CONSOLE_BYTES are kept
    char console[CONSOLE_BYTES]


cdef void crash(Domain* d, CPU* cpu, u32 vector, u32 error) noexcept nogil:
    """End the domain: an event cannot be delivered to it."""
    d.shutdown_reason = SHUTDOWN_CRASH
    shut_down(cpu, vector, error)


# --- Memory ----------------------------------------------------------------------------------------------------------

cdef bint is_frame(Domain* d, u32 frame) noexcept nogil:
    """May the guest map this frame?"""
    return frame < d.page_count and d.pages[frame].owned


cdef bint copy_in(CPU* cpu, u32 linear, u32* words, u32 count) noexcept nogil:
    """Arguments out of guest memory, at once where the TLB has their page. False: -EFAULT."""
    cdef char* host
    cdef u32 i
    if tlb_read(<char*>&cpu.tlb[0], linear, 4 * count, &host):
        memcpy(words, host, 4 * count)
        return True
    for i in range(count):
        if not linear_read(cpu, linear + 4 * i, 4, False, &words[i]):
            return False
    return True


cdef bint copy_out(CPU* cpu, u32 linear, u32 value) noexcept nogil:
    return linear_write(cpu, linear, 4, False, value)


cdef inline u32 shared_read(CPU* cpu, u64 physical, u32 size) noexcept nogil:
    """Of shared_info, vcpu_info and tables, which lie in RAM from physical 0 on: this is in every hypercall."""
    cdef u32 value = 0
    if physical + size <= cpu.flat_end:
        memcpy(&value, cpu.ram + physical, size)
    else:
        physical_read(cpu, physical, size, &value)
    return value


cdef bint events_masked(Domain* d, CPU* cpu) noexcept nogil:
    return shared_read(cpu, d.vcpu_info + VCPU_EVTCHN_UPCALL_MASK, 1) != 0


cdef void mask_events(Domain* d, CPU* cpu, bint masked) noexcept nogil:
    physical_write(cpu, d.vcpu_info + VCPU_EVTCHN_UPCALL_MASK, 1, masked)


# --- Descriptors -----------------------------------------------------------------------------------------------------

cdef bint is_harmless(u64 descriptor) noexcept nogil:
    """May the guest's GDT or LDT hold it? No segment of ring 0, and nothing of the system that is present."""
    cdef u32 high = <u32>(descriptor >> 32)
    if not high & (SEG_P << 8):
        return True
    return high & (SEG_S << 8) != 0 and high & (SEG_DPL << 8) != 0


cdef u64 with_accessed(u64 descriptor) noexcept nogil:
    """Present segments have the accessed bit set: the processor writes neither to our copy nor to the guest's page."""
    return descriptor | (<u64>SEG_ACCESSED << 40) if descriptor & (<u64>SEG_P << 40) else descriptor


cdef u64 read_slot(CPU* cpu, u32 frame, u32 slot) noexcept nogil:
    """A descriptor in a page of them."""
    cdef u64 place = (<u64>frame << 12) + 8 * slot
    return <u64>shared_read(cpu, place + 4, 4) << 32 | shared_read(cpu, place, 4)


cdef void write_slot(CPU* cpu, u32 frame, u32 slot, u64 descriptor) noexcept nogil:
    cdef u64 place = (<u64>frame << 12) + 8 * slot
    physical_write(cpu, place, 4, <u32>descriptor)
    physical_write(cpu, place + 4, 4, <u32>(descriptor >> 32))


cdef bint check_descriptors(CPU* cpu, u32 frame) noexcept nogil:
    """May the whole page be part of a GDT or LDT? Then segments in it are accessed already: nobody writes to it now."""
    cdef u32 i
    for i in range(GDT_ENTRIES_PER_PAGE):
        if not is_harmless(read_slot(cpu, frame, i)):
            return False
    for i in range(GDT_ENTRIES_PER_PAGE):
        write_slot(cpu, frame, i, with_accessed(read_slot(cpu, frame, i)))
    return True
