# Page types: what each frame of the domain may be used for now, and how often it is.
#
# Enters: a frame and a use of it. Leaves: whether the use is allowed. Next: xen_events.pxi.
#
# A frame has one type at a time, and counts the uses as that type; with none left it may become something else. What is
# mapped writable cannot be a page table, and a page table cannot be mapped writable, so every page table that the
# processor walks was checked when it became one, and every change since. A mapping that is not writable is no use:
# nothing ever leaves this domain. As in Xen, tables hold references: a directory on its page tables, a page table on
# what it maps writable, a pin and CR3 on a directory.
#
# Design: no linear page tables (a directory that maps itself), which Xen allows read-only.

cdef enum:
    PAGE_NONE = 0
    PAGE_WRITABLE
    PAGE_L1                             # page table
    PAGE_L2                             # page directory
    PAGE_GDT
    PAGE_LDT
    ENTRY_DISALLOWED = 0x180            # PSE or PAT, and global: L1_DISALLOW_MASK, L2_DISALLOW_MASK
    ENTRY_OF_XEN = 0x061                # present, accessed, dirty; ring 1 may read
    PAGE_ENTRIES = 1024
    GUEST_DIRECTORY_ENTRIES = 1008      # below HYPERVISOR_VIRT_START
    LDT_SLOT = 1009


cdef bint get_page_type(Domain* d, CPU* cpu, u32 frame, u32 type) noexcept nogil:
    """One more use of the frame. False: it is in use as something else, or its content does not bear the type."""
    cdef Page* page
    if not is_frame(d, frame):
        return False
    page = &d.pages[frame]
    if page.uses:
        if page.type != type:
            return False
        page.uses += 1
        return True
    if page.type == PAGE_WRITABLE and type != PAGE_WRITABLE:
        flush_tlb(cpu)                  # a translation that the guest has not flushed could still write to it
    page.type = <u8>type
    page.uses = 1                       # while it is checked too: a page table that maps itself writable is refused
    if validate_page(d, cpu, frame, type):
        return True
    page.type = PAGE_NONE
    page.uses = 0
    return False


cdef void put_page_type(Domain* d, CPU* cpu, u32 frame, u32 type) noexcept nogil:
    """One use less as `type`; of what has no such use, nothing: the host has changed a table behind Xen's back."""
    cdef Page* page
    if not is_frame(d, frame):
        return
    page = &d.pages[frame]
    if page.uses == 0 or page.type != type:
        return
    page.uses -= 1
    if page.uses == 0 and type != PAGE_WRITABLE:
        page.type = PAGE_NONE
        release_page(d, cpu, frame, type, PAGE_ENTRIES)


cdef bint validate_page(Domain* d, CPU* cpu, u32 frame, u32 type) noexcept nogil:
    """Does its content bear the type? If so, it holds references on what it names."""
    cdef u32 i
    cdef u64 table = <u64>frame << 12
    if type == PAGE_L1:
        for i in range(PAGE_ENTRIES):
            if not get_l1_entry(d, cpu, table_read(cpu, table + 4 * i)):
                release_page(d, cpu, frame, type, i)
                return False
    elif type == PAGE_L2:
        for i in range(GUEST_DIRECTORY_ENTRIES):
            if not get_l2_entry(d, cpu, table_read(cpu, table + 4 * i)):
                release_page(d, cpu, frame, type, i)
                return False
        for i in range(GUEST_DIRECTORY_ENTRIES, PAGE_ENTRIES):
            physical_write(cpu, table + 4 * i, 4, d.xen_slots[i - GUEST_DIRECTORY_ENTRIES])
    elif type == PAGE_GDT or type == PAGE_LDT:
        return check_descriptors(cpu, frame)
    return True


cdef void release_page(Domain* d, CPU* cpu, u32 frame, u32 type, u32 entries) noexcept nogil:
    """Drop the references of the first entries of what was a page table or a directory."""
    cdef u32 i
    cdef u64 table = <u64>frame << 12
    if type == PAGE_L1:
        for i in range(entries):
            put_l1_entry(d, cpu, table_read(cpu, table + 4 * i))
    elif type == PAGE_L2:
        for i in range(entries if entries < GUEST_DIRECTORY_ENTRIES else GUEST_DIRECTORY_ENTRIES):
            put_l2_entry(d, cpu, table_read(cpu, table + 4 * i))


cdef bint get_l1_entry(Domain* d, CPU* cpu, u32 entry) noexcept nogil:
    if not entry & PTE_P:
        return True
    if entry & ENTRY_DISALLOWED or not is_frame(d, entry >> 12):
        return False
    return not entry & PTE_W or get_page_type(d, cpu, entry >> 12, PAGE_WRITABLE)


cdef void put_l1_entry(Domain* d, CPU* cpu, u32 entry) noexcept nogil:
    if entry & PTE_P and entry & PTE_W:
        put_page_type(d, cpu, entry >> 12, PAGE_WRITABLE)


cdef bint get_l2_entry(Domain* d, CPU* cpu, u32 entry) noexcept nogil:
    if not entry & PTE_P:
        return True
    return not entry & ENTRY_DISALLOWED and get_page_type(d, cpu, entry >> 12, PAGE_L1)


cdef void put_l2_entry(Domain* d, CPU* cpu, u32 entry) noexcept nogil:
    if entry & PTE_P:
        put_page_type(d, cpu, entry >> 12, PAGE_L1)


cdef u32 frame_at(CPU* cpu, u32 linear) noexcept nogil:
    """The frame that a linear address below Xen's hole is mapped to; NOT_MAPPED: none."""
    cdef u64 slot = entry_of(cpu, linear)
    cdef u32 entry = table_read(cpu, slot) if slot else 0
    return entry >> 12 if entry & PTE_P else NOT_MAPPED


cdef u64 entry_of(CPU* cpu, u32 linear) noexcept nogil:
    """Physical address of the page-table entry of a linear address; 0: no page table there, or Xen's."""
    cdef u32 entry = table_read(cpu, (cpu.cr3 & 0xFFFFF000u) | ((linear >> 22) << 2))
    if not entry & PTE_P or linear >> 22 >= GUEST_DIRECTORY_ENTRIES:
        return 0
    return (entry & 0xFFFFF000u) | (((linear >> 12) & 0x3FF) << 2)
