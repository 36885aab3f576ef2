# Guest memory: the physical map, 32-bit and PAE paging (SDM 3:4.3, 4.4), the TLB, segment checks, and checked accesses.
#
# Enters: linear or segmented addresses. Leaves: values, or False after noting a guest fault (fault_vector,
# fault_error, cr2) or an exit (EXIT_IO: the host performs a device access, then the instruction is run again with
# the result in `replay`). Next: sem_stack.pxi. The inline fast paths of generated handlers are in access.pxd.

cdef enum:
    PTE_PAT_LARGE = 0x1000  # of a PDE that maps a page
    PSE36_ADDRESS = 0x1E000         # of a 4 MiB PDE: address bits 35:32 ...
    PSE36_SHIFT = 32 - 13
    LARGE_RESERVED_PSE36 = 0x3E0000     # ... and what stays reserved, not LARGE_RESERVED
    LARGE_RESERVED_PAE = 0x1FE000

cdef extern from *:
    """
    #define PVFAST_PTE_XD 0x8000000000000000ull
    #define PVFAST_PAE_FRAME 0x0000000FFFFFF000ull
    #define PVFAST_PAE_RESERVED 0x7FFFFFF000000000ull
    #define PVFAST_PDPTE_RESERVED 0xFFFFFFF0000001E6ull
    """
    const u64 PTE_XD "PVFAST_PTE_XD"
    const u64 PAE_FRAME "PVFAST_PAE_FRAME"              # MAXPHYADDR is 36, as on every processor without its CPUID leaf
    const u64 PAE_RESERVED "PVFAST_PAE_RESERVED"        # bits 62:36
    const u64 PDPTE_RESERVED "PVFAST_PDPTE_RESERVED"

cdef struct Walk:           # the entries that translate an address
    u64 pde_at              # physical addresses and contents
    u64 pde
    u64 pte_at
    u64 pte                 # the PDE again when that maps a large page
    u64 page                # physical address of the 4 KiB page
    u32 error               # PFE_P | PFE_RSVD when a reserved bit ended the walk, 0 when an entry is not present
    bint large
    bint writable           # a TLB entry made now may serve stores: write access is allowed and D is set


cdef void note_fault(CPU* cpu, u32 vector, u32 error) noexcept nogil:
    cpu.fault_vector = vector
    cpu.fault_error = error


# --- Physical --------------------------------------------------------------------------------------------------------

cdef Region* find_region(CPU* cpu, u64 physical) noexcept nogil:
    """The region that holds an address, or NULL: nothing there, reads float high."""
    cdef u32 i
    for i in range(cpu.region_count):
        if physical - cpu.regions[i].start < cpu.regions[i].end - cpu.regions[i].start:
            return &cpu.regions[i]
    return NULL


cdef bint is_device(CPU* cpu, u64 physical) noexcept nogil:
    cdef Region* region = find_region(cpu, physical)
    return region != NULL and region.kind == REGION_MMIO


cdef bint device_access(CPU* cpu, u32 kind, u64 address, u32 size, u32* value) noexcept nogil:
    """A port or MMIO access: replayed when the host has performed it, otherwise an exit that asks the host to."""
    cdef Io* done
    if cpu.replayed < cpu.replays:
        done = &cpu.replay[cpu.replayed]
        if done.kind == kind and done.address == address and done.size == size:
            cpu.replayed += 1
            value[0] = <u32>done.value
            return True
        cpu.replays = cpu.replayed      # the instruction took another way: what was performed is not its own
    cpu.io.kind = kind
    cpu.io.address = address
    cpu.io.size = size
    cpu.io.value = value[0]
    cpu.exit = EXIT_IO
    return False


cdef bint physical_read(CPU* cpu, u64 physical, u32 size, u32* value) noexcept nogil:
    """1, 2 or 4 bytes that lie in one page."""
    cdef Region* region = find_region(cpu, physical)
    value[0] = 0
    if region == NULL or physical + size > region.end:
        if size > 1:            # it may reach into another region
            return split_read(cpu, physical, physical, size, size, value)
        value[0] = 0xFF
        return True
    if region.kind == REGION_MMIO:
        return device_access(cpu, IO_MMIO_READ, physical, size, value)
    memcpy(value, cpu.ram + physical, size)
    return True


cdef bint physical_write(CPU* cpu, u64 physical, u32 size, u32 value) noexcept nogil:
    """1, 2 or 4 bytes that lie in one page. ROM and empty space ignore them."""
    cdef Region* region = find_region(cpu, physical)
    if region == NULL or physical + size > region.end:
        return size == 1 or split_write(cpu, physical, physical, size, size, value)
    if region.kind == REGION_ROM:
        return True
    if region.kind == REGION_MMIO:
        return device_access(cpu, IO_MMIO_WRITE, physical, size, &value)
    memcpy(cpu.ram + physical, &value, size)
    code_written(cpu, <u32>physical, size)
    return True


cdef inline u32 table_read(CPU* cpu, u64 physical) noexcept nogil:
    """A page-table entry. Tables in device space read as not present."""
    cdef Region* region
    cdef u32 value
    if rare(physical >= cpu.flat_end):
        region = find_region(cpu, physical)
        if region == NULL or region.kind == REGION_MMIO or physical + 4 > region.end:
            return 0
    memcpy(&value, cpu.ram + physical, 4)
    return value


cdef void table_write(CPU* cpu, u64 physical, u32 value) noexcept nogil:
    cdef Region* region = find_region(cpu, physical)
    if region != NULL and region.kind == REGION_RAM:
        memcpy(cpu.ram + physical, &value, 4)
        code_written(cpu, <u32>physical, 4)


# --- Paging ----------------------------------------------------------------------------------------------------------

cdef void update_reserved_bits(CPU* cpu) noexcept nogil:
    """Which bits of present entries must be 0 (SDM 3:4.3, 4.4.2), after a change of CR4, EFER or the features."""
    cpu.reserved_pde = cpu.reserved_large = cpu.reserved_pte = 0
    if cpu.cr4 & CR4_PAE:
        cpu.reserved_pde = PAE_RESERVED | (0 if cpu.efer & EFER_NXE else PTE_XD)
        cpu.reserved_large = cpu.reserved_pde | LARGE_RESERVED_PAE
        cpu.reserved_pte = cpu.reserved_pde
    elif cpu.cr4 & CR4_PSE:
        cpu.reserved_large = LARGE_RESERVED_PSE36 if has_feature(cpu, FEATURE_PSE36) else LARGE_RESERVED
    if cpu.cr4 & (CR4_PAE | CR4_PSE) and not has_feature(cpu, FEATURE_PAT):
        cpu.reserved_large |= PTE_PAT_LARGE
        cpu.reserved_pte |= PTE_PAT


cdef inline u64 read_entry(CPU* cpu, u64 physical, bint pae) noexcept nogil:
    return table_read(cpu, physical) | (<u64>table_read(cpu, physical + 4) << 32 if pae else 0)


cdef bint load_pdptes(CPU* cpu, u32 cr3) noexcept nogil:
    """Load the page-directory-pointer-table entries into their registers (SDM 3:4.4.1); #GP(0) for a reserved bit."""
    cdef u64 entries[4]
    cdef u32 i
    for i in range(4):
        entries[i] = read_entry(cpu, (cr3 & 0xFFFFFFE0u) + 8 * i, True)
        if entries[i] & PTE_P and entries[i] & PDPTE_RESERVED:
            note_fault(cpu, VECTOR_GP, 0)
            return False
    memcpy(cpu.pdpte, entries, sizeof(entries))
    return True


cdef bint find_page(CPU* cpu, u32 linear, Walk* w) noexcept nogil:
    """Follow the paging structures without a look at rights and without a trace. False: nothing translates."""
    cdef bint pae = (cpu.cr4 & CR4_PAE) != 0
    cdef u64 table
    w.error = 0
    if pae:
        table = cpu.pdpte[linear >> 30]
        if not table & PTE_P:
            return False
        w.pde_at = (table & PAE_FRAME) | (((linear >> 21) & 0x1FF) << 3)
    else:
        w.pde_at = (cpu.cr3 & 0xFFFFF000u) | ((linear >> 22) << 2)
    w.pde = read_entry(cpu, w.pde_at, pae)
    if not w.pde & PTE_P:
        return False
    w.large = w.pde & PTE_PS and cpu.cr4 & (CR4_PAE | CR4_PSE)
    if w.pde & (cpu.reserved_large if w.large else cpu.reserved_pde):
        w.error = PFE_P | PFE_RSVD
        return False
    if w.large:
        w.pte_at = w.pde_at
        w.pte = w.pde
        if pae:
            w.page = (w.pde & PAE_FRAME & ~<u64>0x1FFFFF) | (linear & 0x1FF000)
        else:
            w.page = (w.pde & 0xFFC00000u) | (w.pde & PSE36_ADDRESS) << PSE36_SHIFT | (linear & 0x3FF000)
        return True
    if pae:
        w.pte_at = (w.pde & PAE_FRAME) | (((linear >> 12) & 0x1FF) << 3)
    else:
        w.pte_at = (w.pde & 0xFFFFF000u) | (((linear >> 12) & 0x3FF) << 2)
    w.pte = read_entry(cpu, w.pte_at, pae)
    if not w.pte & PTE_P:
        return False
    if w.pte & cpu.reserved_pte:
        w.error = PFE_P | PFE_RSVD
        return False
    w.page = w.pte & PAE_FRAME
    return True


cdef bint page_fault(CPU* cpu, u32 linear, u32 error) noexcept nogil:
    """Note #PF (SDM 3:4.7). The page leaves the TLB (SDM 3:4.10.4.1)."""
    if not (cpu.cr4 & CR4_PAE and cpu.efer & EFER_NXE):
        error &= ~<u32>PFE_FETCH
    flush_page(cpu, linear)
    cpu.cr2 = linear
    note_fault(cpu, VECTOR_PF, error)
    return False


cdef bint walk(CPU* cpu, u32 linear, u32 access, Walk* w) noexcept nogil:
    """Page walk for an access, given as its bits of the error code: checks rights (SDM 3:4.6), sets A and D (4.8)."""
    cdef u64 rights
    cdef bint allowed
    if not find_page(cpu, linear, w):
        return page_fault(cpu, linear, access | w.error)
    rights = w.pde & w.pte
    allowed = rights & PTE_W or (not access & PFE_U and not cpu.cr0 & CR0_WP)
    if (access & PFE_U and not rights & PTE_U) or (access & PFE_W and not allowed) \
            or (access & PFE_FETCH and (w.pde | w.pte) & PTE_XD):
        return page_fault(cpu, linear, access | PFE_P)
    if not w.large and not w.pde & PTE_A:
        table_write(cpu, w.pde_at, <u32>w.pde | PTE_A)
    if not w.pte & PTE_A or (access & PFE_W and not w.pte & PTE_D):
        w.pte |= PTE_A | (PTE_D if access & PFE_W else 0)
        table_write(cpu, w.pte_at, <u32>w.pte)
    w.writable = allowed and w.pte & PTE_D
    return True


cdef inline u64 large_bit(u32 linear) noexcept nogil:
    """Of CPU.large_cached."""
    return <u64>1 << ((linear >> LARGE_SHIFT) & LARGE_MASK)


cdef inline bint is_global(CPU* cpu, Walk* w) noexcept nogil:
    return w.pte & PTE_G and cpu.cr4 & CR4_PGE


cdef bint translate(CPU* cpu, u32 linear, bint write, bint user, u64* physical) noexcept nogil:
    """Linear to physical for data, through the TLB. Pages that are not all RAM or ROM are never kept there."""
    cdef TlbEntry* entry
    cdef u32 page = linear & 0xFFFFF000u
    cdef u32 slot = (linear >> 12) & (TLB_ENTRIES - 1)
    cdef Walk w
    cdef Region* region
    if not cpu.cr0 & CR0_PG:
        physical[0] = linear
        return True
    entry = &cpu.tlb[user][slot]
    if (entry.write_tag if write else entry.read_tag) == page:
        physical[0] = entry.addend + linear - <u64>cpu.ram
        return True
    if cpu.cost[COST_TLB_MISS]:
        if cpu.restartable and not cpu.in_new_task:
            cpu.miss_due = True
            return False
        charge_event(cpu, cpu.cost[COST_TLB_MISS])
    if not walk(cpu, linear, (PFE_W if write else 0) | (PFE_U if user else 0), &w):
        return False
    physical[0] = w.page | (linear & 0xFFF)
    region = find_region(cpu, w.page)
    if region != NULL and region.kind != REGION_MMIO and w.page + PAGE_SIZE <= region.end:
        entry.read_tag = page
        entry.write_tag = page if w.writable and region.kind == REGION_RAM else TLB_INVALID
        entry.addend = <u64>cpu.ram + w.page - page
        cpu.tlb_global[user][slot] = is_global(cpu, &w)
        if w.large:
            cpu.large_cached |= large_bit(linear)
    return True


cdef bint translate_fetch(CPU* cpu, u32 linear, bint user, u64* physical) noexcept nogil:
    """Linear to physical for instruction fetch, through its own TLB.

    Replacing a valid entry starts a new mapping generation: links between blocks in different pages are only
    followed within one, so that skipping this look-up can never be told from making it.
    """
    cdef FetchEntry* entry
    cdef u32 page = linear & 0xFFFFF000u
    cdef u32 slot = (linear >> 12) & (TLB_ENTRIES - 1)
    cdef Walk w
    if not cpu.cr0 & CR0_PG:
        physical[0] = linear
        return True
    entry = &cpu.fetch[user][slot]
    if entry.tag != page:
        if entry.tag != TLB_INVALID:
            cpu.generation += 1
            entry.tag = TLB_INVALID
        if not walk(cpu, linear, PFE_FETCH | (PFE_U if user else 0), &w):
            return False
        entry.frame = <u32>(w.page >> 12)
        entry.tag = page
        cpu.fetch_global[user][slot] = is_global(cpu, &w)
        if w.large:
            cpu.large_cached |= large_bit(linear)
    physical[0] = <u64>entry.frame << 12 | (linear & 0xFFF)
    return True


cdef void flush_tlb(CPU* cpu) noexcept nogil:
    """Forget every translation, those of global pages too (SDM 3:4.10.4.1)."""
    cdef u32 user, i
    for user in range(2):
        for i in range(TLB_ENTRIES):
            cpu.tlb[user][i].read_tag = TLB_INVALID
            cpu.tlb[user][i].write_tag = TLB_INVALID
            cpu.fetch[user][i].tag = TLB_INVALID
    cpu.large_cached = 0
    cpu.generation += 1


cdef void flush_local(CPU* cpu) noexcept nogil:
    """Forget every translation but those of global pages, as a load of CR3 does (SDM 3:4.10.4.1)."""
    cdef u32 user, i
    if not cpu.cr4 & CR4_PGE:
        flush_tlb(cpu)
        return
    for user in range(2):
        for i in range(TLB_ENTRIES):
            if not cpu.tlb_global[user][i]:
                cpu.tlb[user][i].read_tag = TLB_INVALID
                cpu.tlb[user][i].write_tag = TLB_INVALID
            if not cpu.fetch_global[user][i]:
                cpu.fetch[user][i].tag = TLB_INVALID
    cpu.generation += 1


cdef void flush_page(CPU* cpu, u32 linear) noexcept nogil:
    """Forget the translation of one page (INVLPG), all of it when it is a large one."""
    cdef u32 page = linear & 0xFFFFF000u
    cdef u32 slot = (linear >> 12) & (TLB_ENTRIES - 1)
    cdef u32 user
    if cpu.large_cached & large_bit(linear):
        flush_large(cpu, linear)
        return
    for user in range(2):
        cpu.tlb[user][slot].read_tag = TLB_INVALID
        cpu.tlb[user][slot].write_tag = TLB_INVALID
        if cpu.fetch[user][slot].tag == page:
            cpu.fetch[user][slot].tag = TLB_INVALID
            cpu.generation += 1


cdef void flush_large(CPU* cpu, u32 linear) noexcept nogil:
    """Forget every piece of the large page at an address, and of all that share its bit of CPU.large_cached."""
    cdef u32 bits = LARGE_MASK << LARGE_SHIFT
    cdef u32 user, i
    for user in range(2):
        for i in range(TLB_ENTRIES):
            if not (cpu.tlb[user][i].read_tag ^ linear) & bits:
                cpu.tlb[user][i].read_tag = TLB_INVALID
                cpu.tlb[user][i].write_tag = TLB_INVALID
            if not (cpu.fetch[user][i].tag ^ linear) & bits:
                cpu.fetch[user][i].tag = TLB_INVALID
    cpu.generation += 1
    cpu.large_cached &= ~large_bit(linear)


# --- Linear ----------------------------------------------------------------------------------------------------------

cdef bint linear_read(CPU* cpu, u32 linear, u32 size, bint user, u32* value) noexcept nogil:
    """1, 2 or 4 bytes: at once where the TLB or the end of RAM allows it, as generated handlers do."""
    cdef char* host
    if cpu.cr0 & CR0_PG:
        if rare(not read_at(cpu, <char*>&cpu.tlb[user], DS, linear, size, PAGED, &host)):
            return checked_read(cpu, linear, size, user, value)
    elif rare(not read_at(cpu, cpu.ram, DS, linear, size, FLAT, &host)):
        return checked_read(cpu, linear, size, user, value)
    if size == 4:
        value[0] = (<u32*>host)[0]
    elif size == 2:
        value[0] = (<u16*>host)[0]
    else:
        value[0] = (<u8*>host)[0]
    return True


cdef bint checked_read(CPU* cpu, u32 linear, u32 size, bint user, u32* value) noexcept nogil:
    cdef u64 low, high
    cdef u32 first = PAGE_SIZE - (linear & 0xFFF)
    if first >= size:
        return translate(cpu, linear, False, user, &low) and physical_read(cpu, low, size, value)
    if not (translate(cpu, linear, False, user, &low) and translate(cpu, linear + first, False, user, &high)):
        return False
    return split_read(cpu, low, high, first, size, value)


cdef bint split_read(CPU* cpu, u64 low, u64 high, u32 first, u32 size, u32* value) noexcept nogil:
    """A read across two pages or regions, byte by byte."""
    cdef u32 i, part
    cdef u32 result = 0
    for i in range(size):
        if not physical_read(cpu, low + i if i < first else high + i - first, 1, &part):
            return False
        result |= part << (8 * i)
    value[0] = result
    return True


cdef bint linear_write(CPU* cpu, u32 linear, u32 size, bint user, u32 value) noexcept nogil:
    """Stores all of it or, on a fault in either page, nothing; at once where that is possible."""
    cdef char* host
    if cpu.cr0 & CR0_PG:
        if rare(not write_at(cpu, <char*>&cpu.tlb[user], DS, linear, size, PAGED, &host)):
            return checked_write(cpu, linear, size, user, value)
    elif rare(not write_at(cpu, cpu.ram, DS, linear, size, FLAT, &host)):
        return checked_write(cpu, linear, size, user, value)
    if size == 4:
        (<u32*>host)[0] = value
    elif size == 2:
        (<u16*>host)[0] = <u16>value
    else:
        (<u8*>host)[0] = <u8>value
    return True


cdef bint checked_write(CPU* cpu, u32 linear, u32 size, bint user, u32 value) noexcept nogil:
    cdef u64 low, high
    cdef u32 first = PAGE_SIZE - (linear & 0xFFF)
    if first >= size:
        return translate(cpu, linear, True, user, &low) and physical_write(cpu, low, size, value)
    if not (translate(cpu, linear, True, user, &low) and translate(cpu, linear + first, True, user, &high)):
        return False
    return split_write(cpu, low, high, first, size, value)


cdef bint split_write(CPU* cpu, u64 low, u64 high, u32 first, u32 size, u32 value) noexcept nogil:
    """A store across two pages or regions, byte by byte: first to devices, for which the instruction runs again and
    may read the memory again."""
    cdef u32 i, part
    cdef u64 at
    for part in range(2):
        for i in range(size):
            at = low + i if i < first else high + i - first
            if is_device(cpu, at) == (part == 0) and not physical_write(cpu, at, 1, (value >> (8 * i)) & 0xFF):
                return False
    return True


cdef bint linear_probe_write(CPU* cpu, u32 linear, u32 size, bint user) noexcept nogil:
    """Would a store fault? Notes the fault if so. `size` is at most a page."""
    cdef u64 physical
    if not translate(cpu, linear, True, user, &physical):
        return False
    if (linear & 0xFFF) + size > PAGE_SIZE:
        return translate(cpu, (linear | 0xFFF) + 1, True, user, &physical)
    return True


# --- Operands of 8 to 512 bytes: x87, MMX, SSE, and the images of FSAVE and FXSAVE ------------------------------------

cdef bint virtual_load(CPU* cpu, u32 segment, u32 offset, u32 size, void* bytes) noexcept nogil:
    """`size` is even. Checked as one access, read in words."""
    cdef u32 linear, value, part
    cdef u32 done = 0
    cdef bint user = cpu.cpl == 3
    if not segment_check(cpu, &cpu.seg[segment], segment, offset, size, False, &linear):
        return False
    while done < size:
        part = 4 if size - done >= 4 else 2
        if not linear_read(cpu, linear + done, part, user, &value):
            return False
        memcpy(<char*>bytes + done, &value, part)
        done += part
    return True


cdef bint virtual_store(CPU* cpu, u32 segment, u32 offset, u32 size, const void* bytes) noexcept nogil:
    """All of it, or nothing and a fault."""
    cdef u32 linear, part
    cdef u32 value = 0
    cdef u32 done = 0
    cdef bint user = cpu.cpl == 3
    if not (segment_check(cpu, &cpu.seg[segment], segment, offset, size, True, &linear)
            and linear_probe_write(cpu, linear, size, user)):
        return False
    while done < size:
        part = 4 if size - done >= 4 else 2
        memcpy(&value, <const char*>bytes + done, part)
        if not linear_write(cpu, linear + done, part, user, value):
            return False
        done += part
    return True


# --- Segmented -------------------------------------------------------------------------------------------------------

cdef void refresh_segment(CPU* cpu, u32 which) noexcept nogil:
    """Work out how far the fast paths may go in a segment without the full check."""
    cdef Segment* s = &cpu.seg[which]
    cdef u64 end = 0
    s.read_end = 0
    s.write_end = 0
    if s.attributes & SEG_NULL or not s.attributes & SEG_P or not s.attributes & SEG_S:
        return
    if s.attributes & SEG_CODE:
        if s.attributes & SEG_READABLE and s.limit >= 8:
            s.read_end = s.limit - 7
        return
    if s.attributes & SEG_DOWN or s.limit < 8:
        return
    s.read_end = s.limit - 7
    if s.attributes & SEG_WRITABLE:
        s.write_end = s.limit - 7


cdef bint segment_check(CPU* cpu, Segment* s, u32 which, u32 offset, u32 size, bint write,
                        u32* linear) noexcept nogil:
    """Limit and rights of a data access (SDM 3:5.3, 5.5): #SS(0) for the stack segment, #GP(0) for the others."""
    cdef u32 attributes = s.attributes
    cdef u64 last = <u64>offset + size - 1
    cdef bint good
    if offset < (s.write_end if write else s.read_end) and size <= 8 and not cpu.mode & MODE_CHECKED:
        linear[0] = <u32>(s.base + offset)
        return True
    if attributes & SEG_NULL or not attributes & SEG_P or not attributes & SEG_S:
        good = False
    elif attributes & SEG_CODE:
        good = not write and (attributes & SEG_READABLE) != 0 and last <= s.limit
    elif write and not attributes & SEG_WRITABLE:
        good = False
    elif attributes & SEG_DOWN:
        good = offset > s.limit and last <= (0xFFFFFFFFu if attributes & SEG_DB else 0xFFFFu)
    else:
        good = last <= s.limit
    if not good:
        note_fault(cpu, VECTOR_SS if which == SS else VECTOR_GP, 0)
        return False
    linear[0] = <u32>(s.base + offset)
    return not cpu.mode & MODE_CHECKED or checked_access(cpu, s, which, linear[0], size, write)


cdef bint virtual_read(CPU* cpu, u32 segment, u32 offset, u32 size, u32* value) noexcept nogil:
    cdef u32 linear
    return (segment_check(cpu, &cpu.seg[segment], segment, offset, size, False, &linear)
            and linear_read(cpu, linear, size, cpu.cpl == 3, value))


cdef bint virtual_write(CPU* cpu, u32 segment, u32 offset, u32 size, u32 value) noexcept nogil:
    cdef u32 linear
    return (segment_check(cpu, &cpu.seg[segment], segment, offset, size, True, &linear)
            and linear_write(cpu, linear, size, cpu.cpl == 3, value))


cdef bint virtual_read_locked(CPU* cpu, u32 segment, u32 offset, u32 size, u32* value) noexcept nogil:
    """The read of a read-modify-write: write permission is checked before anything is computed."""
    cdef u32 linear
    cdef bint user = cpu.cpl == 3
    return (segment_check(cpu, &cpu.seg[segment], segment, offset, size, True, &linear)
            and linear_probe_write(cpu, linear, size, user) and linear_read(cpu, linear, size, user, value))


cdef bint virtual_probe_write(CPU* cpu, u32 segment, u32 offset, u32 size) noexcept nogil:
    """Would this store fault? For instructions that store several times and must fault before the first.

    A breakpoint on it is a matter of the store.
    """
    cdef u32 linear
    cdef u32 traps = cpu.debug_traps
    cdef bint good = (segment_check(cpu, &cpu.seg[segment], segment, offset, size, True, &linear)
                      and linear_probe_write(cpu, linear, size, cpu.cpl == 3))
    cpu.debug_traps = traps
    return good
