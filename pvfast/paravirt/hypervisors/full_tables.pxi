# Segments: the guest's descriptor tables, and the checked copies of them that its processor really uses.
#
# Enters: the guest's LGDT, LLDT, LTR, and segment loads that fault. Leaves: copies in which no segment is of ring 0.
# Next: full_emulation.pxi.
#
# The pages of the guest's GDT and LDT are read-only in the shadow while there are copies. A write makes the pages
# writable and empties the copies, so that the next load of a segment faults; then they are made anew.

cdef extern from *:
    """
    #define PVFAST_LDT_WINDOW 0xFFB00000u
    """
    const u32 LDT_WINDOW "PVFAST_LDT_WINDOW"        # linear: where the processor finds the copy of the LDT

cdef enum:
    RPL = 3
    TI = 4
    INDEX = 0xFFF8
    TSS_ESP0 = 4
    TSS_SS0 = 8
    TSS_IO_MAP_BASE = 102


cdef u32 real_selector(u32 selector) noexcept nogil:
    """The guest's kernel thinks it is in ring 0."""
    selector &= 0xFFFF
    return selector if selector & RPL or not selector & (INDEX | TI) else selector | KERNEL_RING


cdef u32 own_selector(CPU* cpu, u32 segment) noexcept nogil:
    """CS or SS as the guest shall see it."""
    cdef u32 selector = cpu.seg[segment].selector
    return selector & ~<u32>RPL if cpu.cpl == KERNEL_RING else selector


# --- Copies ----------------------------------------------------------------------------------------------------------

cdef void make_stale(Guest* g, CPU* cpu) noexcept nogil:
    """The guest's tables are not what they were: nothing is to be loaded from the copies."""
    memset(g.gdt, 0, 8 * g.gdt_entries)
    cpu.ldtr.attributes = SEG_NULL
    g.stale = True


cdef void watch_table(Guest* g, CPU* cpu, u32 base, u32 limit) noexcept nogil:
    """Writes to these pages make the copies stale."""
    cdef u64 physical
    cdef u32 page
    for page in range((limit + (base & 0xFFF) >> PAGE_BITS) + 1):
        if g.table_frame_count < TABLE_FRAMES and guest_physical(g, cpu, base + (page << PAGE_BITS), &physical):
            g.table_frames[g.table_frame_count] = <u32>(physical >> PAGE_BITS)
            g.table_frame_count += 1
            protect_frame(g, cpu, <u32>(physical >> PAGE_BITS))


cdef u64 copied(Guest* g, CPU* cpu, u32 linear) noexcept nogil:
    cdef u32 low, high
    if not (guest_read(g, cpu, linear, 4, &low) and guest_read(g, cpu, linear + 4, 4, &high)):
        return 0
    return outside_ring_0(<u64>high << 32 | low)


cdef void synchronise(Guest* g, CPU* cpu) noexcept nogil:
    """Copy the guest's tables anew."""
    cdef u32 i
    cdef u32 entries = (g.gdt_limit + 1) >> 3
    cdef u64 ldt = g.shadow_end - LDT_PAGES * PAGE_SIZE
    cdef u64 descriptor
    g.stale = False
    g.table_frame_count = 0
    g.synchronised += 1
    g.gdt_entries = entries
    for i in range(entries):
        g.gdt[i] = copied(g, cpu, g.gdt_base + 8 * i)
    if entries:
        watch_table(g, cpu, g.gdt_base, g.gdt_limit)
    cpu.ldtr.attributes = SEG_NULL
    if g.ldt & (INDEX | TI) and g.ldt_limit >= 7:
        entries = (g.ldt_limit + 1) >> 3
        for i in range(entries):
            descriptor = copied(g, cpu, g.ldt_base + 8 * i)
            physical_write(cpu, ldt + 8 * i, 4, <u32>descriptor)
            physical_write(cpu, ldt + 8 * i + 4, 4, <u32>(descriptor >> 32))
        watch_table(g, cpu, g.ldt_base, g.ldt_limit)
        cpu.ldtr.selector = <u16>g.ldt
        cpu.ldtr.base = LDT_WINDOW
        cpu.ldtr.limit = 8 * entries - 1
        cpu.ldtr.attributes = SEG_P | TYPE_LDT


cdef void refresh(Guest* g, CPU* cpu) noexcept nogil:
    if g.stale:
        synchronise(g, cpu)


# --- The guest's tables themselves -----------------------------------------------------------------------------------

cdef bint find_descriptor(Guest* g, u32 selector, u32* linear) noexcept nogil:
    """Within its table? A null selector is not."""
    cdef u32 limit = g.ldt_limit if selector & TI else g.gdt_limit
    if not selector & (INDEX | TI) or (selector & TI and not g.ldt & (INDEX | TI)) or (selector & INDEX) + 7 > limit:
        return False
    linear[0] = (g.ldt_base if selector & TI else g.gdt_base) + (selector & INDEX)
    return True


cdef u32 base_of(u32 low, u32 high) noexcept nogil:
    return low >> 16 | (high & 0xFF) << 16 | (high & 0xFF000000u)


cdef u32 limit_of(u32 low, u32 high) noexcept nogil:
    cdef u32 limit = (low & 0xFFFF) | (high & 0xF0000)
    return limit << 12 | 0xFFF if high & (SEG_G << 8) else limit


cdef bint load_system(Guest* g, CPU* cpu, u32 selector, u32 type) noexcept nogil:
    """LLDT and LTR, all but the null selector of LLDT."""
    cdef u32 linear, low, high
    if selector & TI or not find_descriptor(g, selector, &linear):
        return refuse(cpu, VECTOR_GP, selector & 0xFFFC)
    if not (guest_read(g, cpu, linear, 4, &low) and guest_read(g, cpu, linear + 4, 4, &high)):
        return False
    if high >> 8 & (SEG_S | SEG_TYPE) != type:
        return refuse(cpu, VECTOR_GP, selector & 0xFFFC)
    if not high >> 8 & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & 0xFFFC)
    if type == TYPE_LDT:
        g.ldt = selector
        g.ldt_base = base_of(low, high)
        g.ldt_limit = limit_of(low, high) & 0xFFFF
        make_stale(g, cpu)
        return True
    if not guest_write(g, cpu, linear + 4, 4, high | (TYPE_TSS32_BUSY ^ TYPE_TSS32) << 8):
        return False
    g.tr = selector
    g.tr_base = base_of(low, high)
    g.tr_limit = limit_of(low, high)
    return True


cdef bint look_up(Guest* g, CPU* cpu, u32 selector, u32* low, u32* high, bint* found) noexcept nogil:
    """For LAR, LSL, VERR and VERW in the guest's ring 0. False: the table is not mapped."""
    cdef u32 linear, rights
    found[0] = False
    if not find_descriptor(g, selector, &linear):
        return True
    if not (guest_read(g, cpu, linear, 4, low) and guest_read(g, cpu, linear + 4, 4, high)):
        return False
    rights = high[0] >> 8
    found[0] = (rights & (SEG_S | SEG_CODE | SEG_CONFORMING) == (SEG_S | SEG_CODE | SEG_CONFORMING)
                or (rights & SEG_DPL) >> SEG_DPL_SHIFT >= selector & RPL)
    return True


cdef bint port_is_allowed(Guest* g, CPU* cpu, u32 port, u32 size) noexcept nogil:
    """By the permission bitmap in the guest's TSS, for its ring 3."""
    cdef u32 at, bits
    if not g.tr & INDEX or g.tr_limit < TSS_IO_MAP_BASE + 1:
        return False
    if not guest_read(g, cpu, g.tr_base + TSS_IO_MAP_BASE, 2, &at):
        return False
    at += port >> 3
    if at + 1 > g.tr_limit or not guest_read(g, cpu, g.tr_base + at, 2, &bits):
        return False
    return not bits >> (port & 7) & ((1 << size) - 1)
