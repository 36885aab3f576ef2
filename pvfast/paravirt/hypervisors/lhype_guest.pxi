# A guest: what the host knows about it, and access to the memory they share.
#
# Enters: nothing. Leaves: the structure Guest, and functions on lguest_data and descriptors. Next: lhype_pages.pxi.
#
# Design: as for Xen, what the host must be able to trust is here in host memory: GDT and IDT as checked copies. Shadow
# page tables are where the processor can walk them: in RAM behind the guest's.

cdef enum:
    SYSCALL_VECTOR = 0x80
    GATES = FIRST_EXTERNAL_VECTOR + LGUEST_IRQS         # lguest keeps these, and the system call's
    SYSCALL_GATE = GATES
    CONSOLE_BYTES = 16384
    HYPERCALLS = LHCALL_SEND_INTERRUPTS + 1
    LHCALL_UNUSED = 11                  # in every release
    GATE_TYPE_SHIFT = 8
    GATE_PRESENT = 0x8000
    GATE_DPL_SHIFT = 13

cdef enum:
    PAGE_DIRECTORIES = 4
    SHADOW_PAGES = 64                   # the directories, then page tables
    SHADOW_TABLES = SHADOW_PAGES - PAGE_DIRECTORIES

cdef struct Layout:         # of lguest_data, where releases differ
    u32 bytes
    u32 irq_pending         # 0: it has none
    u32 hcall_status
    u32 hcalls
    u32 entry_bytes
    u32 reserve_mem
    u32 tsc_khz
    u32 noirq_start
    u32 noirq_end

cdef struct PageDirectory:
    bint used
    u32 guest               # physical address of the guest's
    u64 last_use            # the one not used for longest gives way

cdef struct Guest:
    bint started
    bint later              # the interface of 2.6.31, not of 2.6.23
    Layout layout
    u32 frames              # physical memory of the guest, in pages: [0, frames); the shadow pages follow
    u32 page_offset         # linear address of its physical 0: kernel mappings are at and above it
    bint initialised        # by LHCALL_LGUEST_INIT
    u32 lguest_data         # physical
    u32 noirq_start
    u32 noirq_end
    u32 next_hcall          # of the ring
    u64 gdt[LGUEST_GDT_ENTRIES]
    u64 idt[GATES + 1]      # 0: none
    u32 kernel_ss           # LHCALL_SET_STACK
    u32 kernel_esp
    u32 irqs_pending
    bint halted
    u64 timer_cycles        # NEVER: off
    PageDirectory directories[PAGE_DIRECTORIES]
    u32 current             # directory
    u64 switches
    u32 free_tables[SHADOW_TABLES]      # frames
    u32 free_count
    i32 killed              # -1: running
    u64 interrupts          # delivered
    u64 demand_pages        # page faults that were the host's
    u64 hypercalls[HYPERCALLS]
    u64 console_written     # bytes; the last CONSOLE_BYTES are kept
    char console[CONSOLE_BYTES]
    char message[LGUEST_CRASH_BYTES]


cdef void choose_layout(Guest* g, bint later) noexcept nogil:
    g.later = later
    if later:
        g.layout = [LGUEST_DATA_BYTES_2_6_31, LGUEST_DATA_IRQ_PENDING_2_6_31, LGUEST_DATA_HCALL_STATUS_2_6_31,
                    LGUEST_DATA_HCALLS_2_6_31, LHCALL_ENTRY_BYTES_2_6_31, LGUEST_DATA_RESERVE_MEM_2_6_31,
                    LGUEST_DATA_TSC_KHZ_2_6_31, LGUEST_DATA_NOIRQ_START_2_6_31, LGUEST_DATA_NOIRQ_END_2_6_31]
    else:
        g.layout = [LGUEST_DATA_BYTES, 0, LGUEST_DATA_HCALL_STATUS, LGUEST_DATA_HCALLS, LHCALL_ENTRY_BYTES,
                    LGUEST_DATA_RESERVE_MEM, LGUEST_DATA_TSC_KHZ, LGUEST_DATA_NOIRQ_START, LGUEST_DATA_NOIRQ_END]


cdef void kill_guest(Guest* g, CPU* cpu, u32 reason) noexcept nogil:
    """End the guest for what it asked for."""
    g.killed = <i32>reason
    shut_down(cpu, LGUEST_TRAP_ENTRY, reason)


# --- Memory ----------------------------------------------------------------------------------------------------------

cdef bint address_ok(Guest* g, u32 physical, u32 size) noexcept nogil:
    """Does it lie in the guest's memory?"""
    return <u64>physical + size <= <u64>g.frames * PAGE_SIZE


cdef u32 get_word(CPU* cpu, u32 physical) noexcept nogil:
    return table_read(cpu, physical)


cdef u8 get_byte(CPU* cpu, u32 physical) noexcept nogil:
    return <u8>(get_word(cpu, physical & ~<u32>3) >> (8 * (physical & 3)))


cdef void put_word(CPU* cpu, u32 physical, u32 value) noexcept nogil:
    """A device where the guest's memory should be ignores it."""
    physical_write(cpu, physical, 4, value)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE


cdef bint irq_enabled(Guest* g, CPU* cpu) noexcept nogil:
    return g.initialised and get_word(cpu, g.lguest_data + LGUEST_DATA_IRQ_ENABLED) & EFLAGS_IF != 0


cdef void set_irq_enabled(Guest* g, CPU* cpu, u32 flags) noexcept nogil:
    if g.initialised:
        put_word(cpu, g.lguest_data + LGUEST_DATA_IRQ_ENABLED, flags)


cdef void set_irq_pending(Guest* g, CPU* cpu, u32 flags) noexcept nogil:
    """Tell a guest that looks for it whether there is something to fetch when it enables interrupts."""
    if g.layout.irq_pending:
        put_word(cpu, g.lguest_data + g.layout.irq_pending, flags)


cdef void write_timestamp(Guest* g, CPU* cpu) noexcept nogil:
    """The guest's clock, by which one cycle is one nanosecond."""
    cdef u64 now = cycles_now(cpu)
    put_word(cpu, g.lguest_data + LGUEST_DATA_TIME_SEC, <u32>(now // NSEC_PER_SEC))
    put_word(cpu, g.lguest_data + LGUEST_DATA_TIME_NSEC, <u32>(now % NSEC_PER_SEC))


# --- Descriptors -----------------------------------------------------------------------------------------------------

cdef void read_descriptors(Guest* g, CPU* cpu, u32 physical, u32 first, u32 count) noexcept nogil:
    cdef u32 i, low, high
    for i in range(count):
        low = get_word(cpu, physical + 8 * i)
        high = get_word(cpu, physical + 8 * i + 4)
        g.gdt[first + i] = outside_ring_0(<u64>high << 32 | low)
