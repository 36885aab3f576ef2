# Hypercalls that change tables: traps and callbacks, stacks, descriptors, page tables.
#
# Enters: dispatch() of xen_hypercalls.pxi. Leaves: the answer for EAX. Next: xen_host.pyx.
#
# Design: one domain and no memory of anybody else's, so pages have no types here: any frame of the guest may be a page
# table, pinning only checks the frame, and a page table may be mapped writable. Entries and frames are checked.

# --- Traps, stacks, descriptors --------------------------------------------------------------------------------------

cdef u16 guest_selector(u32 selector) noexcept nogil:
    """Of code or a stack: what names ring 0 gets ring 1."""
    return <u16>(selector if selector & 3 else selector | KERNEL_RING)


cdef i32 set_trap_table(Domain* d, CPU* cpu, u32 list) noexcept nogil:
    cdef u32 words[2]
    cdef u32 i
    cdef Trap* trap
    if list == 0:
        memset(d.traps, 0, sizeof(d.traps))
        return 0
    for i in range(2 * TRAP_VECTORS):
        if not copy_in(cpu, list + i * TRAP_INFO_BYTES, words, 2):
            return -ERRNO_FAULT
        if words[1] == 0:
            return 0
        trap = &d.traps[words[0] & 0xFF]
        trap.flags = <u8>(words[0] >> 8)
        trap.cs = guest_selector(words[0] >> 16)
        trap.address = words[1]
    return -ERRNO_INVAL


cdef i32 set_callbacks(Domain* d, u32* a) noexcept nogil:
    d.event_cs = guest_selector(a[0] & 0xFFFF)
    d.event_eip = a[1]
    d.failsafe_cs = guest_selector(a[2] & 0xFFFF)
    d.failsafe_eip = a[3]
    return 0


cdef i32 stack_switch(Domain* d, u32 ss, u32 esp) noexcept nogil:
    if ss & 3 != KERNEL_RING:
        return -ERRNO_PERM
    d.kernel_ss = ss & 0xFFFF
    d.kernel_esp = esp
    return 0


cdef i32 set_gdt(Domain* d, CPU* cpu, u32 list, u32 entries) noexcept nogil:
    """A list of frames; every descriptor in them is checked before any is taken."""
    cdef u32 frames[FIRST_RESERVED_GDT_PAGE]
    cdef u32 i
    cdef u32 pages = (entries + GDT_ENTRIES_PER_PAGE - 1) // GDT_ENTRIES_PER_PAGE
    if entries > GUEST_GDT_SLOTS:
        return -ERRNO_INVAL
    if not copy_in(cpu, list, frames, pages):
        return -ERRNO_FAULT
    for i in range(pages):
        if frames[i] >= d.frames or not read_gdt_page(cpu, frames[i], NULL):
            return -ERRNO_INVAL
    memset(d.gdt, 0, GUEST_GDT_SLOTS * sizeof(u64))
    for i in range(pages):
        d.gdt_frames[i] = frames[i]
        read_gdt_page(cpu, frames[i], &d.gdt[i * GDT_ENTRIES_PER_PAGE])
    d.gdt_pages = pages
    return 0


cdef i32 update_descriptor(Domain* d, CPU* cpu, u32 address, u32 address_high, u64 descriptor) noexcept nogil:
    """`address` is a machine address, in a page of the GDT or elsewhere."""
    cdef u32 i
    if address & 7 or address_high or address >> 12 >= d.frames or not is_harmless(descriptor):
        return -ERRNO_INVAL
    physical_write(cpu, address, 4, <u32>descriptor)
    physical_write(cpu, address + 4, 4, <u32>(descriptor >> 32))
    for i in range(d.gdt_pages):
        if d.gdt_frames[i] == address >> 12:
            d.gdt[i * GDT_ENTRIES_PER_PAGE + ((address & 0xFFF) >> 3)] = with_accessed(descriptor)
    return 0


cdef i32 set_debugreg(CPU* cpu, u32 number, u32 value) noexcept nogil:
    if number > 7 or number == 4 or number == 5 or (number < 4 and value >= XEN_START):
        return -ERRNO_INVAL
    if number == 6:
        value = value & 0xE00F | DR6_ONES
    elif number == 7:
        value = value & ~<u32>0xDC00 | 0x400
    cpu.dr[number] = value
    return 0


# --- Page tables -----------------------------------------------------------------------------------------------------

cdef i32 write_entry(Domain* d, CPU* cpu, u64 physical, u64 value) noexcept nogil:
    """Store a page-table entry: it maps a frame of the guest, small, or nothing. The TLB is the guest's to flush."""
    if physical & 3 or physical >> 12 >= d.frames or value >> 32:
        return -ERRNO_INVAL
    if value & 1 and (value & 0x80 or not is_frame(d, <u32>(value >> 12))):
        return -ERRNO_INVAL
    physical_write(cpu, physical, 4, <u32>value)
    return 0


cdef i32 mmu_update(Domain* d, CPU* cpu, u32 list, u32 count, u32 done, u32 domain) noexcept nogil:
    cdef u32 words[4]                   # ptr, val
    cdef u32 i = 0
    cdef i32 result = 0
    if count > MAX_ARGUMENTS or domain != DOMID_SELF:
        return -ERRNO_INVAL if domain == DOMID_SELF else -ERRNO_PERM
    while i < count and result == 0:
        if not copy_in(cpu, list + i * MMU_UPDATE_BYTES, words, 4):
            result = -ERRNO_FAULT
        elif words[1] or words[0] & 3 > MMUUPDATE_MACHPHYS_UPDATE:
            result = -ERRNO_INVAL
        elif words[0] & 3 == MMUUPDATE_NORMAL_PT_UPDATE:
            result = write_entry(d, cpu, words[0], <u64>words[3] << 32 | words[2])
        if result == 0:
            i += 1
    if done and not copy_out(cpu, done, i):
        return -ERRNO_FAULT
    return result


cdef i32 update_va_mapping(Domain* d, CPU* cpu, u32 linear, u32 low, u32 high, u32 flags) noexcept nogil:
    cdef u32 entry = table_read(cpu, (cpu.cr3 & 0xFFFFF000u) | ((linear >> 22) << 2))
    cdef i32 result
    if not entry & 1:
        return -ERRNO_INVAL
    result = write_entry(d, cpu, (entry & 0xFFFFF000u) | (((linear >> 12) & 0x3FF) << 2), <u64>high << 32 | low)
    if result == 0 and flags & UPDATEVA_FLUSH_MASK == UPDATEVA_TLB_FLUSH:
        flush_tlb(cpu)
    elif result == 0 and flags & UPDATEVA_FLUSH_MASK == UPDATEVA_INVLPG:
        flush_page(cpu, linear)
    return result


cdef bint new_baseptr(Domain* d, CPU* cpu, u32 frame) noexcept nogil:
    if frame >= d.frames:
        return False
    cpu.cr3 = frame << 12
    flush_tlb(cpu)
    return True


cdef i32 mmuext(Domain* d, CPU* cpu, u32 command, u32 argument, u32 entries) noexcept nogil:
    if command <= MMUEXT_UNPIN_TABLE:
        return 0 if argument < d.frames else -ERRNO_INVAL
    if command == MMUEXT_NEW_BASEPTR:
        return 0 if new_baseptr(d, cpu, argument) else -ERRNO_INVAL
    if command == MMUEXT_TLB_FLUSH_LOCAL or command == MMUEXT_TLB_FLUSH_MULTI or command == MMUEXT_TLB_FLUSH_ALL:
        flush_tlb(cpu)
        return 0
    if command == MMUEXT_INVLPG_LOCAL or command == MMUEXT_INVLPG_MULTI or command == MMUEXT_INVLPG_ALL:
        flush_page(cpu, argument)
        return 0
    if command == MMUEXT_FLUSH_CACHE:
        return 0
    if command == MMUEXT_SET_LDT:
        return 0 if entries == 0 else -ERRNO_NOSYS      # Later: a checked copy, as of the GDT.
    return -ERRNO_NOSYS


cdef i32 mmuext_op(Domain* d, CPU* cpu, u32 list, u32 count, u32 done, u32 domain) noexcept nogil:
    cdef u32 words[3]
    cdef u32 i = 0
    cdef i32 result = 0
    if count > MAX_ARGUMENTS or domain != DOMID_SELF:
        return -ERRNO_INVAL if domain == DOMID_SELF else -ERRNO_PERM
    while i < count and result == 0:
        if not copy_in(cpu, list + i * MMUEXT_OP_BYTES, words, 3):
            result = -ERRNO_FAULT
        else:
            result = mmuext(d, cpu, words[0], words[1], words[2])
        if result == 0:
            i += 1
    if done and not copy_out(cpu, done, i):
        return -ERRNO_FAULT
    return result
