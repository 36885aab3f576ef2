# The guest: what its processor would hold, and its memory behind shadow page tables.
#
# Enters: nothing. Leaves: the structure Guest, and reads and writes of guest memory that fill the shadow on their way.
# Next: full_decoder.pxi.
#
# Design: the processor's CR3 points to tables of the host, in RAM that the guest is not told about. They work as a
# large TLB: entries are made from the guest's own tables when an access misses, and looked at again when the guest
# executes what flushes a TLB (MOV CR3, INVLPG ...). A guest that changes its tables without that may find the old
# translation, as on hardware, so its tables need not be watched. A miss takes in the whole guest table, as far as its
# entries have been accessed before, and keeps a copy of it: if MOV CR3 finds table and copy equal, its translations
# stay. So the kernel's own pages are not faulted in again at each switch.

cdef enum:
    PAGE_BITS = 12
    TABLE_PAGES = 1024                  # one shadow table for each region of 4 MiB
    ENTRIES = 1024
    LDT_PAGES = 16
    DESCRIPTORS = 8192
    MAX_CODE_PAGES = 1024
    MAX_WORK = 4096                     # branches waiting to be followed
    MAX_STEP_PAGES = 4
    TABLE_FRAMES = 2 * (LDT_PAGES + 1)  # that GDT and LDT may lie in
    NOTHING = 0xFFFFF                   # an index or frame that is none
    SHADOW_BITS = PTE_P | PTE_A | PTE_D

cdef enum Step:
    STEP_NONE
    STEP_PORT               # one instruction with IOPL raised: IN, OUT, INS, OUTS
    STEP_WRITE              # one instruction that may write to scanned code

cdef struct CodePage:       # a frame that kernel code has been found in
    u32 frame
    u32 next                # in its hash chain
    u8 start[512]           # bit: a scanned instruction begins here
    u8 trapped[512]         # bit: its first byte is HLT in memory, and in `original` here
    u8 original[4096]       # the page as the guest wrote it

cdef struct Region4M:       # 4 MiB of linear addresses with entries in the shadow
    u32 number              # linear >> 22
    u32 pde                 # the guest's, when it was opened; 0 when paging was off
    bint copied             # it names a table of which there is a copy

cdef struct Guest:
    bint started
    CPU* cpu                # of its machine, once there has been an event
    # What the guest's processor would hold
    u32 cr0
    u32 cr2
    u32 cr3
    u32 cr4
    u32 gdt_base
    u32 gdt_limit
    u32 idt_base
    u32 idt_limit
    u32 ldt                 # selector; hidden parts
    u32 ldt_base
    u32 ldt_limit
    u32 tr
    u32 tr_base
    u32 tr_limit
    u32 dr[8]
    u32 sysenter_cs
    u32 sysenter_esp
    u32 sysenter_eip
    bint interrupts         # EFLAGS.IF; the processor's own is always set
    u32 iopl                # EFLAGS.IOPL; the processor's own is 0
    u32 pending             # PENDING | vector of an interrupt that waits for `interrupts`
    # Shadow page tables
    u64 shadow              # physical: a directory, TABLE_PAGES tables, as many copies of the guest's, LDT_PAGES
    u64 shadow_end
    u32 hole                # a frame with nothing behind it: what the guest finds at the shadow's place
    Region4M regions[TABLE_PAGES]
    u32 region_count
    u16 region_of[TABLE_PAGES]          # 1 + index in `regions`; 0: it has no entries
    # Segments: checked copies of the guest's tables
    u64 gdt[DESCRIPTORS]
    u32 gdt_entries
    bint stale              # the copies are empty: the guest may have changed its tables, whose pages are writable
    u32 table_frames[TABLE_FRAMES]
    u32 table_frame_count
    # An instruction that runs by itself, with more rights
    u32 step                # Step
    u32 step_tf
    u32 step_pages[MAX_STEP_PAGES]      # code pages that are writable meanwhile
    u32 step_count
    # What happened
    u64 emulated
    u64 filled_total
    u64 synchronised
    u64 stepped
    u64 reflected           # exceptions and interrupts delivered to the guest
    u64 trapped             # sensitive instructions replaced
    # Scanned code, last: a snapshot takes the pages in use
    u32 work[MAX_WORK]
    u32 hash[1024]          # by frame: 1 + index in `pages`
    u32 page_count
    CodePage pages[MAX_CODE_PAGES]

cdef enum:
    PENDING = 0x100


cdef bint refuse(CPU* cpu, u32 vector, u32 error) noexcept nogil:
    """Note a fault of the guest; the answer of what cannot be done."""
    cpu.fault_vector = vector
    cpu.fault_error = error
    return False


# --- Guest-physical memory -------------------------------------------------------------------------------------------

cdef bint is_shadow(Guest* g, u64 physical) noexcept nogil:
    return g.shadow <= physical < g.shadow_end


cdef u32 guest_entry(Guest* g, CPU* cpu, u64 physical) noexcept nogil:
    """A word of the guest's page tables."""
    return 0 if is_shadow(g, physical) else table_read(cpu, physical)


cdef bint is_memory(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    """RAM or ROM of the guest?"""
    cdef Region* region = find_region(cpu, <u64>frame << PAGE_BITS)
    return region != NULL and region.kind != REGION_MMIO and not is_shadow(g, <u64>frame << PAGE_BITS)


cdef void mark_entry(Guest* g, CPU* cpu, u64 physical, u32 entry, u32 bits) noexcept nogil:
    """Set accessed and dirty bits as a walk does."""
    cdef Region* region
    if entry & bits == bits or is_shadow(g, physical):
        return
    region = find_region(cpu, physical)
    if region != NULL and region.kind == REGION_RAM:
        physical_write(cpu, physical, 4, entry | bits)


# --- The guest's own translation -------------------------------------------------------------------------------------

cdef struct Mapping:
    u32 frame
    u32 rights              # PTE_W, PTE_U as both levels allow; PTE_A, PTE_D of the last one
    u64 pde_at              # 0: paging is off
    u32 pde
    u64 pte_at
    u32 pte
    u32 error               # PFE_P | PFE_RSVD when a reserved bit ended the walk


cdef bint guest_walk(Guest* g, CPU* cpu, u32 linear, Mapping* m) noexcept nogil:
    """Follow the guest's tables, without a look at rights and without a trace."""
    m.error = 0
    m.pde_at = 0
    if not g.cr0 & CR0_PG:
        m.frame = linear >> PAGE_BITS
        m.rights = PTE_W | PTE_U | PTE_A | PTE_D
        return True
    m.pde_at = (g.cr3 & 0xFFFFF000u) | (linear >> 22 << 2)
    m.pde = guest_entry(g, cpu, m.pde_at)
    if not m.pde & PTE_P:
        return False
    if m.pde & PTE_PS and g.cr4 & CR4_PSE:
        if m.pde & LARGE_RESERVED:
            m.error = PFE_P | PFE_RSVD
            return False
        m.pte_at = m.pde_at
        m.pte = m.pde
        m.frame = m.pde >> PAGE_BITS | (linear >> PAGE_BITS & 0x3FF)
    else:
        m.pte_at = (m.pde & 0xFFFFF000u) | (linear >> PAGE_BITS & 0x3FF) << 2
        m.pte = guest_entry(g, cpu, m.pte_at)
        if not m.pte & PTE_P:
            return False
        m.frame = m.pte >> PAGE_BITS
    m.rights = (m.pde & m.pte & (PTE_W | PTE_U)) | (m.pte & (PTE_A | PTE_D))
    return True


cdef bint guest_physical(Guest* g, CPU* cpu, u32 linear, u64* physical) noexcept nogil:
    """Where something of the guest's memory lies; False: not mapped, or no memory."""
    cdef Mapping m
    if not guest_walk(g, cpu, linear, &m) or not is_memory(g, cpu, m.frame):
        return False
    physical[0] = <u64>m.frame << PAGE_BITS | (linear & 0xFFF)
    return True


# --- Shadow entries --------------------------------------------------------------------------------------------------

cdef inline u32* shadow_table(Guest* g, CPU* cpu, u32 number) noexcept nogil:
    """The host's table for a region."""
    return <u32*>(cpu.ram + g.shadow + PAGE_SIZE + <u64>number * PAGE_SIZE)


cdef inline u32* copied_table(Guest* g, CPU* cpu, u32 number) noexcept nogil:
    """The guest's table for a region, as the shadow knows it."""
    return <u32*>(cpu.ram + g.shadow + PAGE_SIZE + <u64>(TABLE_PAGES + number) * PAGE_SIZE)


cdef inline bint is_window(u32 page) noexcept nogil:
    """The host's own: where the processor finds the LDT."""
    return page >> 4 == LDT_WINDOW >> 16


cdef void close_region(Guest* g, CPU* cpu, u32 index) noexcept nogil:
    """Forget its entries; the caller flushes the TLB."""
    cdef u32 i
    cdef u32 number = g.regions[index].number
    cdef u32* shadow = shadow_table(g, cpu, number)
    for i in range(ENTRIES):
        if not is_window(number << 10 | i):
            shadow[i] = 0
    g.region_of[number] = 0
    g.region_count -= 1
    if index != g.region_count:
        g.regions[index] = g.regions[g.region_count]
        g.region_of[g.regions[index].number] = <u16>(index + 1)


cdef void forget_all(Guest* g, CPU* cpu) noexcept nogil:
    while g.region_count:
        close_region(g, cpu, g.region_count - 1)
    flush_tlb(cpu)


cdef Region4M* open_region(Guest* g, CPU* cpu, Mapping* m, u32 number) noexcept nogil:
    """The region of an address that the guest maps, with entries for what its table held already."""
    cdef Region4M* region
    cdef u32* shadow = shadow_table(g, cpu, number)
    cdef u32* copy = copied_table(g, cpu, number)
    cdef u32 pde = m.pde | PTE_A if m.pde_at else 0
    cdef u32 i
    if g.region_of[number]:
        region = &g.regions[g.region_of[number] - 1]
        if region.pde == pde:
            return region
        close_region(g, cpu, g.region_of[number] - 1)
        flush_tlb(cpu)
    region = &g.regions[g.region_count]
    g.region_count += 1
    g.region_of[number] = <u16>g.region_count
    region.number = number
    region.pde = pde
    region.copied = m.pde_at != m.pte_at and is_memory(g, cpu, m.pde >> PAGE_BITS)
    if region.copied:
        memcpy(copy, cpu.ram + (m.pde & 0xFFFFF000u), PAGE_SIZE)
        for i in range(ENTRIES):
            if copy[i] & (PTE_P | PTE_A) == (PTE_P | PTE_A) and not is_window(number << 10 | i):
                shadow[i] = known_entry(g, copy[i], pde)
    return region


cdef u32 known_entry(Guest* g, u32 pte, u32 pde) noexcept nogil:
    """The shadow of an entry that has been accessed before: nothing needs to be noted in the guest's tables."""
    cdef u32 frame = pte >> PAGE_BITS
    cdef u32 entry = frame << PAGE_BITS | SHADOW_BITS | (pte & pde & PTE_U)
    if is_shadow(g, <u64>frame << PAGE_BITS):
        return g.hole << PAGE_BITS | SHADOW_BITS
    if pte & PTE_D and pte & pde & PTE_W and not is_table_frame(g, frame) and find_code_page(g, frame) == NOTHING:
        entry |= PTE_W
    return entry


cdef bint is_still_right(Guest* g, CPU* cpu, u32 page, u32 entry) noexcept nogil:
    """Does a shadow entry allow no more than the guest's tables do now?"""
    cdef Mapping m
    if not guest_walk(g, cpu, page << PAGE_BITS, &m) or not m.rights & PTE_A:
        return False
    if m.frame != entry >> PAGE_BITS or (entry & PTE_U and not m.rights & PTE_U):
        return False
    if not entry & PTE_W:
        return True
    return m.rights & PTE_D and (m.rights & PTE_W or not (g.cr0 & CR0_WP or entry & PTE_U))


cdef void look_again(Guest* g, CPU* cpu) noexcept nogil:
    """The guest has loaded CR3: what its tables do not say any more goes."""
    cdef u32 i, pde, page
    cdef u32* shadow
    cdef u32* copy
    cdef u32 index = 0
    while index < g.region_count:
        shadow = shadow_table(g, cpu, g.regions[index].number)
        copy = copied_table(g, cpu, g.regions[index].number)
        pde = guest_entry(g, cpu, (g.cr3 & 0xFFFFF000u) | g.regions[index].number << 2) if g.cr0 & CR0_PG else 0
        if g.regions[index].pde != pde or (pde and not g.regions[index].copied):
            close_region(g, cpu, index)         # another takes its place
            flush_tlb(cpu)
            continue
        if g.regions[index].copied and memcmp(copy, cpu.ram + (pde & 0xFFFFF000u), PAGE_SIZE) != 0:
            memcpy(copy, cpu.ram + (pde & 0xFFFFF000u), PAGE_SIZE)
            for i in range(ENTRIES):
                page = g.regions[index].number << 10 | i
                if shadow[i] and not is_window(page) and not is_still_right(g, cpu, page, shadow[i]):
                    shadow[i] = 0
                    flush_page(cpu, page << PAGE_BITS)
        index += 1


cdef void invalidate(Guest* g, CPU* cpu, u32 linear) noexcept nogil:
    """INVLPG."""
    cdef Mapping m
    cdef u32 number = linear >> 22
    cdef u32 i = linear >> PAGE_BITS & 0x3FF
    if not g.region_of[number] or is_window(linear >> PAGE_BITS):
        return
    shadow_table(g, cpu, number)[i] = 0
    flush_page(cpu, linear)
    if g.regions[g.region_of[number] - 1].copied:
        guest_walk(g, cpu, linear, &m)
        copied_table(g, cpu, number)[i] = m.pte


cdef void protect_frame(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    """No entry lets the guest write to a frame from now on."""
    cdef u32 index, i
    cdef u32* shadow
    for index in range(g.region_count):
        shadow = shadow_table(g, cpu, g.regions[index].number)
        for i in range(ENTRIES):
            if shadow[i] >> PAGE_BITS == frame and shadow[i] & PTE_W:
                shadow[i] &= ~<u32>PTE_W
                flush_page(cpu, g.regions[index].number << 22 | i << PAGE_BITS)


cdef bint is_table_frame(Guest* g, u32 frame) noexcept nogil:
    """Do the guest's descriptors lie there, and are there copies of them?"""
    cdef u32 i
    if g.stale:
        return False
    for i in range(g.table_frame_count):
        if g.table_frames[i] == frame:
            return True
    return False


cdef bint fill(Guest* g, CPU* cpu, u32 linear, u32 access, bint internal) noexcept nogil:
    """Make a shadow entry for an access, given as bits of the error code. False: the guest's own page fault, noted.

    `internal`: the host is going to write there for the guest, at once.
    """
    cdef Mapping m
    cdef Region4M* region
    cdef bint allowed, writable
    cdef u32 number = linear >> 22
    cdef u32 i = linear >> PAGE_BITS & 0x3FF
    cdef u32 code, entry
    if is_window(linear >> PAGE_BITS):
        cpu.cr2 = linear
        return refuse(cpu, VECTOR_PF, access | PFE_P)
    if not guest_walk(g, cpu, linear, &m):
        cpu.cr2 = linear
        return refuse(cpu, VECTOR_PF, access | m.error)
    allowed = m.rights & PTE_W or not (access & PFE_U or g.cr0 & CR0_WP)
    if (access & PFE_U and not m.rights & PTE_U) or (access & PFE_W and not allowed):
        cpu.cr2 = linear
        return refuse(cpu, VECTOR_PF, access | PFE_P)
    if m.pde_at != 0:
        if m.pte_at != m.pde_at:
            mark_entry(g, cpu, m.pde_at, m.pde, PTE_A)
        mark_entry(g, cpu, m.pte_at, m.pte, PTE_A | PTE_D if access & PFE_W else PTE_A)
    region = open_region(g, cpu, &m, number)
    writable = allowed and (access & PFE_W or (m.rights & PTE_D and m.rights & PTE_W))
    if writable and is_table_frame(g, m.frame):
        if access & PFE_W:
            make_stale(g, cpu)
        else:
            writable = False
    if writable:
        code = find_code_page(g, m.frame)
        if code != NOTHING:
            if not access & PFE_W:
                writable = False
            elif internal or not begin_write(g, cpu, code):
                forget_code(g, cpu, code)
    entry = m.frame << PAGE_BITS | SHADOW_BITS
    if is_shadow(g, <u64>m.frame << PAGE_BITS):
        entry = g.hole << PAGE_BITS | SHADOW_BITS
    if m.rights & PTE_U and (m.rights & PTE_W or not writable):
        entry |= PTE_U              # a read-only page that the kernel may write without CR0.WP is not the user's then
    if writable:
        entry |= PTE_W
    shadow_table(g, cpu, number)[i] = entry
    if region.copied:
        copied_table(g, cpu, number)[i] = guest_entry(g, cpu, m.pte_at)
    flush_page(cpu, linear)
    g.filled_total += 1
    return True


# --- Access for the guest's sake -------------------------------------------------------------------------------------

cdef bint try_again(Guest* g, CPU* cpu, u32 access) noexcept nogil:
    """An access of the host's has failed. True: the shadow was only empty there."""
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE            # tables and stacks in device memory: nothing that this host serves
        return refuse(cpu, VECTOR_GP, 0)
    return cpu.fault_vector == VECTOR_PF and fill(g, cpu, cpu.cr2, access, access & PFE_W != 0)


cdef bint guest_read(Guest* g, CPU* cpu, u32 linear, u32 size, u32* value) noexcept nogil:
    """With the rights of the guest's kernel."""
    cdef u32 tries
    for tries in range(4):
        if linear_read(cpu, linear, size, False, value):
            return True
        if not try_again(g, cpu, 0):
            return False
    return refuse(cpu, VECTOR_GP, 0)


cdef bint guest_write(Guest* g, CPU* cpu, u32 linear, u32 size, u32 value) noexcept nogil:
    cdef u32 tries
    for tries in range(4):
        if linear_write(cpu, linear, size, False, value):
            return True
        if not try_again(g, cpu, PFE_W):
            return False
    return refuse(cpu, VECTOR_GP, 0)


cdef bint operand_read(Guest* g, CPU* cpu, u32 segment, u32 offset, u32 size, u32* value) noexcept nogil:
    """An operand of an instruction that is emulated, with all checks of its segment."""
    cdef u32 tries
    for tries in range(4):
        if virtual_read(cpu, segment, offset, size, value):
            return True
        if not try_again(g, cpu, PFE_U if cpu.cpl == 3 else 0):
            return False
    return refuse(cpu, VECTOR_GP, 0)


cdef bint operand_write(Guest* g, CPU* cpu, u32 segment, u32 offset, u32 size, u32 value) noexcept nogil:
    cdef u32 tries
    for tries in range(4):
        if virtual_write(cpu, segment, offset, size, value):
            return True
        if not try_again(g, cpu, PFE_W | PFE_U if cpu.cpl == 3 else PFE_W):
            return False
    return refuse(cpu, VECTOR_GP, 0)
