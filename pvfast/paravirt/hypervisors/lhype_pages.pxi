# Shadow page tables: what the processor walks, made from the guest's tables on demand.
#
# Enters: page faults, and hypercalls that say what has changed. Leaves: shadow entries, or False: the fault is the
# guest's. Next: lhype_traps.pxi.
#
# Design: lguest's page_tables.c. The guest's own tables are ordinary memory that nothing protects; a shadow entry is
# made when a page is first touched, from a guest entry that is checked, and dropped when the guest says that it has
# changed one. So no frame behind the guest's is ever mapped, whatever its tables say. Four directories are kept;
# kernel mappings are taken to be the same in all. Three differences: the directory that gives way is the one not used
# for longest, not one at random, so that runs repeat; when there is no page left for a table, all are dropped; and a
# table of the kernel's is filled when it is made, with what is accessed or dirty, so that whoever looks at the kernel
# from outside finds it mapped.

cdef enum:
    PTE_FLAGS = 0xFFF
    PGD_FLAGS = 0x67        # _PAGE_TABLE: all that a guest's directory entry may have
    SHADOW_FLAGS = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D
    TABLE_ENTRIES = 1024
    PGDIR_SHIFT = 22


cdef bint check_directory_entry(Guest* g, CPU* cpu, u32 entry) noexcept nogil:
    if entry & PTE_FLAGS & ~<u32>PGD_FLAGS or entry >> 12 >= g.frames:
        kill_guest(g, cpu, KILLED_BAD_PAGE_DIRECTORY_ENTRY)
        return False
    return True


cdef bint is_table_entry(Guest* g, u32 entry) noexcept nogil:
    return not entry & (PTE_PWT | PTE_PS) and entry >> 12 < g.frames


cdef bint check_table_entry(Guest* g, CPU* cpu, u32 entry) noexcept nogil:
    if not is_table_entry(g, entry):
        kill_guest(g, cpu, KILLED_BAD_PAGE_TABLE_ENTRY)
        return False
    return True


cdef u32 shadow_of(u32 entry) noexcept nogil:
    """A page that is not dirty yet is read-only, so that its first store comes here and the guest's entry says so."""
    if not entry & PTE_D:
        entry &= ~<u32>PTE_W
    return entry & (SHADOW_FLAGS | ~<u32>PTE_FLAGS)


cdef u32* shadow_page(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    """A table of the shadow; NULL: it is none, whatever somebody has written there from outside."""
    if frame - g.frames >= SHADOW_PAGES:
        return NULL
    return <u32*>(cpu.ram + (<u64>frame << 12))


cdef u32* directory_entry(Guest* g, CPU* cpu, u32 directory, u32 linear) noexcept nogil:
    return shadow_page(g, cpu, g.frames + directory) + (linear >> PGDIR_SHIFT)


cdef void release_table(Guest* g, u32* entry) noexcept nogil:
    """What a directory entry leads to is free again."""
    cdef u32 frame = entry[0] >> 12
    if entry[0] & PTE_P and frame - g.frames - PAGE_DIRECTORIES < SHADOW_TABLES and g.free_count < SHADOW_TABLES:
        g.free_tables[g.free_count] = frame
        g.free_count += 1
    entry[0] = 0


cdef void release_directory(Guest* g, CPU* cpu, u32 directory, u32 end) noexcept nogil:
    """All tables of the linear addresses below `end` << 22."""
    cdef u32* entry = directory_entry(g, cpu, directory, 0)
    cdef u32 i
    for i in range(end):
        if entry[i]:
            release_table(g, &entry[i])


cdef void release_all(Guest* g, CPU* cpu) noexcept nogil:
    cdef u32 i
    for i in range(PAGE_DIRECTORIES):
        release_directory(g, cpu, i, TABLE_ENTRIES)
    flush_tlb(cpu)


cdef void release_user(Guest* g, CPU* cpu) noexcept nogil:
    """User mappings of the current directory."""
    release_directory(g, cpu, g.current, g.page_offset >> PGDIR_SHIFT)
    flush_tlb(cpu)


cdef u32* table_entry(Guest* g, CPU* cpu, u32 directory, u32 linear) noexcept nogil:
    """The shadow page-table entry; NULL: there is no table for it."""
    cdef u32 entry = directory_entry(g, cpu, directory, linear)[0]
    cdef u32* table = shadow_page(g, cpu, entry >> 12) if entry & PTE_P else NULL
    return table + ((linear >> 12) & (TABLE_ENTRIES - 1)) if table != NULL else NULL


cdef void fill_table(Guest* g, CPU* cpu, u32* table, u32 guest_entry) noexcept nogil:
    """A new table: what the guest's has there that will be used, or nothing (guest_entry 0)."""
    cdef u32 i, entry
    memset(table, 0, PAGE_SIZE)
    if not guest_entry:
        return
    for i in range(TABLE_ENTRIES):
        entry = get_word(cpu, (guest_entry & ~<u32>PTE_FLAGS) + 4 * i)
        if entry & PTE_P and entry & (PTE_A | PTE_D) and is_table_entry(g, entry):
            table[i] = shadow_of(entry)


cdef u32* make_table_entry(Guest* g, CPU* cpu, u32 linear, u32 guest_entry) noexcept nogil:
    """The same for the current directory, with a table; the rights of the directory entry are the guest's now."""
    cdef u32* entry = directory_entry(g, cpu, g.current, linear)
    cdef u32* found = table_entry(g, cpu, g.current, linear)
    cdef u32 frame = entry[0] >> 12
    if found == NULL:
        if g.free_count == 0:
            release_all(g, cpu)
        if g.free_count == 0:
            return NULL                 # somebody has overwritten the directories from outside
        g.free_count -= 1
        frame = g.free_tables[g.free_count]
        fill_table(g, cpu, shadow_page(g, cpu, frame), guest_entry if linear >= g.page_offset else 0)
    entry[0] = frame << 12 | (guest_entry & PGD_FLAGS)
    return table_entry(g, cpu, g.current, linear)


cdef bint demand_page(Guest* g, CPU* cpu, u32 linear, u32 error) noexcept nogil:
    """A page fault. True: the guest's tables allow the access, and now the shadow does too."""
    cdef u32 upper, lower, at
    cdef u32* entry
    upper = get_word(cpu, g.directories[g.current].guest + ((linear >> PGDIR_SHIFT) << 2))
    if not upper & PTE_P or not check_directory_entry(g, cpu, upper):
        return False
    at = (upper & ~<u32>PTE_FLAGS) + (((linear >> 12) & (TABLE_ENTRIES - 1)) << 2)
    lower = get_word(cpu, at)
    if (not lower & PTE_P or (error & PFE_W and not upper & lower & PTE_W)
            or (error & PFE_U and not upper & lower & PTE_U) or not check_table_entry(g, cpu, lower)):
        return False
    entry = make_table_entry(g, cpu, linear, upper)
    if entry == NULL:
        return False
    lower |= PTE_A | (PTE_D if error & PFE_W else 0)
    put_word(cpu, at, lower)
    entry[0] = shadow_of(lower)
    flush_page(cpu, linear)
    g.demand_pages += 1
    return True


# --- What the guest says has changed ---------------------------------------------------------------------------------

cdef u32 find_directory(Guest* g, u32 guest) noexcept nogil:
    """PAGE_DIRECTORIES: there is no shadow of it."""
    cdef u32 i
    for i in range(PAGE_DIRECTORIES):
        if g.directories[i].used and g.directories[i].guest == guest:
            return i
    return PAGE_DIRECTORIES


cdef u32 new_directory(Guest* g, CPU* cpu, u32 guest) noexcept nogil:
    """In an unused place or in that of the one not used for longest, which keeps its kernel mappings."""
    cdef u32 i
    cdef u32 chosen = 0
    for i in range(1, PAGE_DIRECTORIES):
        if g.directories[i].last_use < g.directories[chosen].last_use:
            chosen = i
    release_directory(g, cpu, chosen, g.page_offset >> PGDIR_SHIFT)
    g.directories[chosen].used = True
    g.directories[chosen].guest = guest
    return chosen


cdef void new_page_table(Guest* g, CPU* cpu, u32 cr3) noexcept nogil:
    cdef u32 guest = cr3 & ~<u32>PTE_FLAGS
    cdef u32 found
    if not address_ok(g, guest, PAGE_SIZE):
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    found = find_directory(g, guest)
    if found == PAGE_DIRECTORIES:
        found = new_directory(g, cpu, guest)
    g.switches += 1
    g.directories[found].last_use = g.switches
    g.current = found
    cpu.cr3 = (g.frames + found) << 12
    flush_tlb(cpu)


cdef void set_entry(Guest* g, CPU* cpu, u32 directory, u32 linear, u32 value) noexcept nogil:
    """An accessed or dirty entry goes in at once: it will be used. Others wait for it."""
    cdef u32* entry = table_entry(g, cpu, directory, linear)
    if entry == NULL:
        return
    if not value & PTE_P or not value & (PTE_A | PTE_D):
        entry[0] = 0
    elif check_table_entry(g, cpu, value):
        entry[0] = shadow_of(value)
    flush_page(cpu, linear)


cdef void set_pte(Guest* g, CPU* cpu, u32 cr3, u32 linear, u32 value) noexcept nogil:
    """Kernel mappings change in every directory."""
    cdef u32 i
    if linear >= g.page_offset:
        for i in range(PAGE_DIRECTORIES):
            if g.directories[i].used and g.killed < 0:
                set_entry(g, cpu, i, linear, value)
        return
    i = find_directory(g, cr3 & ~<u32>PTE_FLAGS)
    if i < PAGE_DIRECTORIES:
        set_entry(g, cpu, i, linear, value)


cdef void set_pmd(Guest* g, CPU* cpu, u32 cr3, u32 index) noexcept nogil:
    cdef u32* entry
    cdef u32 i
    if index >= TABLE_ENTRIES:
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    i = find_directory(g, cr3 & ~<u32>PTE_FLAGS)
    if i < PAGE_DIRECTORIES:
        entry = directory_entry(g, cpu, i, index << PGDIR_SHIFT)
        if entry[0]:
            release_table(g, entry)
            if i == g.current:
                flush_tlb(cpu)
