# Hypercalls that change tables: traps and callbacks, stacks, descriptors, page tables.
#
# Enters: dispatch() of xen_hypercalls.pxi. Leaves: the answer for EAX. Next: xen_host.pyx.
#
# What may become of a frame is decided in xen_pages.pxi.

# --- Traps, stacks, descriptors --------------------------------------------------------------------------------------

cdef u16 guest_selector(u32 selector) noexcept nogil:
    """Of code or a stack: what names ring 0 gets ring 1."""
    return <u16>(selector if selector & 3 else selector | KERNEL_RING)


cdef bint is_gate_selector(u32 selector) noexcept nogil:
    """A handler's code is in a segment of the guest's GDT or LDT, or in Xen's flat one for ring 1."""
    return (selector & 4) != 0 or selector >> 3 < GUEST_GDT_SLOTS or guest_selector(selector) == FLAT_RING1_CS


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
        if not is_gate_selector(words[0] >> 16):
            return -ERRNO_PERM
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
    cdef u32 i, slot
    cdef u32 pages = (entries + GDT_ENTRIES_PER_PAGE - 1) // GDT_ENTRIES_PER_PAGE
    if entries > GUEST_GDT_SLOTS:
        return -ERRNO_INVAL
    if not copy_in(cpu, list, frames, pages):
        return -ERRNO_FAULT
    if not get_frames(d, cpu, frames, pages, PAGE_GDT):
        return -ERRNO_INVAL
    put_frames(d, cpu, d.gdt_frames, d.gdt_pages, PAGE_GDT)
    memset(d.gdt, 0, GUEST_GDT_SLOTS * sizeof(u64))
    for i in range(pages):
        d.gdt_frames[i] = frames[i]
        for slot in range(GDT_ENTRIES_PER_PAGE):
            d.gdt[i * GDT_ENTRIES_PER_PAGE + slot] = read_slot(cpu, frames[i], slot)
    d.gdt_pages = pages
    return 0


cdef i32 set_ldt(Domain* d, CPU* cpu, u32 linear, u32 entries) noexcept nogil:
    """Map the pages at a linear address into Xen's own hole, where LDTR finds them whatever the guest maps later."""
    cdef u32 frames[LDT_PAGES]
    cdef u32 i
    cdef u32 pages = (entries + GDT_ENTRIES_PER_PAGE - 1) // GDT_ENTRIES_PER_PAGE
    if entries > LDT_PAGES * GDT_ENTRIES_PER_PAGE or linear & 0xFFF:
        return -ERRNO_INVAL
    memset(frames, 0, sizeof(frames))
    for i in range(pages):
        frames[i] = frame_at(cpu, linear + (i << 12))
    if not get_frames(d, cpu, frames, pages, PAGE_LDT):
        return -ERRNO_INVAL
    put_frames(d, cpu, d.ldt_frames, d.ldt_pages, PAGE_LDT)
    for i in range(LDT_PAGES):
        physical_write(cpu, d.ldt_table + 4 * i, 4, frames[i] << 12 | ENTRY_OF_XEN if i < pages else 0)
        flush_page(cpu, LDT_LINEAR + (i << 12))
    memcpy(d.ldt_frames, frames, sizeof(frames))
    d.ldt_pages = pages
    cpu.ldtr.selector = 0
    cpu.ldtr.base = LDT_LINEAR
    cpu.ldtr.limit = 8 * entries - 1 if entries else 0
    cpu.ldtr.attributes = SEG_P | TYPE_LDT if entries else SEG_NULL
    return 0


cdef bint get_frames(Domain* d, CPU* cpu, u32* frames, u32 count, u32 type) noexcept nogil:
    """All of them, or none."""
    cdef u32 i
    for i in range(count):
        if not get_page_type(d, cpu, frames[i], type):
            put_frames(d, cpu, frames, i, type)
            return False
    return True


cdef void put_frames(Domain* d, CPU* cpu, u32* frames, u32 count, u32 type) noexcept nogil:
    cdef u32 i
    for i in range(count):
        put_page_type(d, cpu, frames[i], type)


cdef i32 update_descriptor(Domain* d, CPU* cpu, u32 address, u32 address_high, u64 descriptor) noexcept nogil:
    """`address` is a machine address, in a page of a GDT or LDT, or in one that is no table yet."""
    cdef u32 i
    cdef u32 frame = address >> 12
    cdef u32 slot = (address & 0xFFF) >> 3
    cdef u32 type = PAGE_WRITABLE
    if address & 7 or address_high or not is_frame(d, frame) or not is_harmless(descriptor):
        return -ERRNO_INVAL
    if d.pages[frame].uses and (d.pages[frame].type == PAGE_GDT or d.pages[frame].type == PAGE_LDT):
        type = d.pages[frame].type
        descriptor = with_accessed(descriptor)
    if not get_page_type(d, cpu, frame, type):
        return -ERRNO_INVAL
    write_slot(cpu, frame, slot, descriptor)
    if type == PAGE_GDT:
        for i in range(d.gdt_pages):
            if d.gdt_frames[i] == frame:
                d.gdt[i * GDT_ENTRIES_PER_PAGE + slot] = descriptor
    put_page_type(d, cpu, frame, type)
    return 0


cdef i32 set_debugreg(CPU* cpu, u32 number, u32 value) noexcept nogil:
    if number > 7 or number == 4 or number == 5 or (number < 4 and value >= HYPERVISOR_VIRT_START):
        return -ERRNO_INVAL
    set_debug_register(cpu, number, value)
    return 0


# --- Page tables -----------------------------------------------------------------------------------------------------

cdef i32 write_entry(Domain* d, CPU* cpu, u64 physical, u64 value) noexcept nogil:
    """Change an entry of a page table or a directory, or a word of what is neither yet.

    The new entry is checked first, then stored, then the old one's reference is dropped. The TLB is the guest's to
    flush.
    """
    cdef u32 frame = <u32>(physical >> 12)
    cdef u32 entry = <u32>value
    cdef u32 old
    cdef u32 type = PAGE_WRITABLE
    if physical & 3 or value >> 32 or not is_frame(d, frame):
        return -ERRNO_INVAL
    if d.pages[frame].uses:
        type = d.pages[frame].type
    if type == PAGE_L1:
        old = table_read(cpu, physical)
        if not get_l1_entry(d, cpu, entry):
            return -ERRNO_INVAL
        physical_write(cpu, physical, 4, entry)
        put_l1_entry(d, cpu, old)
        return 0
    if type == PAGE_L2:
        old = table_read(cpu, physical)
        if (physical & 0xFFF) >> 2 >= GUEST_DIRECTORY_ENTRIES or not get_l2_entry(d, cpu, entry):
            return -ERRNO_INVAL
        physical_write(cpu, physical, 4, entry)
        put_l2_entry(d, cpu, old)
        return 0
    if not get_page_type(d, cpu, frame, PAGE_WRITABLE):
        return -ERRNO_INVAL
    physical_write(cpu, physical, 4, entry)
    put_page_type(d, cpu, frame, PAGE_WRITABLE)
    return 0


cdef i32 write_machine_to_phys(Domain* d, CPU* cpu, u32 frame, u32 number) noexcept nogil:
    """What the guest calls one of its frames is its own affair."""
    if not is_frame(d, frame):
        return -ERRNO_INVAL
    physical_write(cpu, d.machine_to_phys + 4 * <u64>frame, 4, number)
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
        else:
            result = write_machine_to_phys(d, cpu, words[0] >> 12, words[2])
        if result == 0:
            i += 1
    if done and not copy_out(cpu, done, i):
        return -ERRNO_FAULT
    return result


cdef i32 update_va_mapping(Domain* d, CPU* cpu, u32 linear, u32 low, u32 high, u32 flags) noexcept nogil:
    cdef u64 slot = entry_of(cpu, linear)
    cdef i32 result
    if not slot:
        return -ERRNO_INVAL
    result = write_entry(d, cpu, slot, <u64>high << 32 | low)
    if result == 0 and flags & UPDATEVA_FLUSH_MASK == UPDATEVA_TLB_FLUSH:
        flush_tlb(cpu)
    elif result == 0 and flags & UPDATEVA_FLUSH_MASK == UPDATEVA_INVLPG:
        flush_page(cpu, linear)
    return result


cdef bint new_baseptr(Domain* d, CPU* cpu, u32 frame) noexcept nogil:
    """CR3. A directory that is not pinned is checked now."""
    cdef u32 old = d.base_frame
    if not get_page_type(d, cpu, frame, PAGE_L2):
        return False
    d.base_frame = frame
    cpu.cr3 = frame << 12
    flush_tlb(cpu)
    put_page_type(d, cpu, old, PAGE_L2)
    return True


cdef i32 pin(Domain* d, CPU* cpu, u32 frame, u32 type) noexcept nogil:
    """Keep a table checked while nothing else holds it."""
    if not is_frame(d, frame) or d.pages[frame].pinned or not get_page_type(d, cpu, frame, type):
        return -ERRNO_INVAL
    d.pages[frame].pinned = True
    return 0


cdef i32 unpin(Domain* d, CPU* cpu, u32 frame) noexcept nogil:
    if not is_frame(d, frame) or not d.pages[frame].pinned:
        return -ERRNO_INVAL
    d.pages[frame].pinned = False
    put_page_type(d, cpu, frame, d.pages[frame].type)
    return 0


cdef i32 mmuext(Domain* d, CPU* cpu, u32 command, u32 argument, u32 entries) noexcept nogil:
    if command == MMUEXT_PIN_L1_TABLE or command == MMUEXT_PIN_L2_TABLE:
        return pin(d, cpu, argument, PAGE_L1 if command == MMUEXT_PIN_L1_TABLE else PAGE_L2)
    if command == MMUEXT_UNPIN_TABLE:
        return unpin(d, cpu, argument)
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
        return set_ldt(d, cpu, argument, entries)
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
