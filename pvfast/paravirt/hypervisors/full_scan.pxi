# The scan: kernel code is looked through before it runs, and what is sensitive in it becomes a trap.
#
# Enters: addresses that the guest's kernel is about to execute. Leaves: HLT, which ring 1 may not execute, in place of
# the first byte of every instruction that would not trap by itself and would do the wrong thing. Next: full_tables.pxi.
#
# From an entry the scan follows direct jumps and calls, the far side of a call too, and a call or jump through a
# pointer at a fixed address, as the pointer is now. Any other indirect jump or call is made a trap: its target is
# scanned when it is known. What lies between two pieces of scanned code is taken for code when decoding it leads
# exactly from one to the other; when all that lies between is, indirect jumps into it need not trap any more. So a
# return to an address that somebody has pushed finds scanned code too.
#
# A scanned page is read-only in the shadow. Writing to it runs one instruction by itself, then what has changed is
# scanned again. The guest can read its code, and will find the HLTs.

cdef enum:
    NO_FRAME = 0x7FFFFFFF   # of a CodePage that is not used any more

cdef extern from *:
    const u64 ANYWHERE "UINT64_MAX"


cdef bint get_bit(const u8* bits, u32 n) noexcept nogil:
    return bits[n >> 3] >> (n & 7) & 1


cdef void set_bit(u8* bits, u32 n, bint value) noexcept nogil:
    if value:
        bits[n >> 3] |= <u8>(1 << (n & 7))
    else:
        bits[n >> 3] &= <u8>~(1 << (n & 7))


# --- Code pages ------------------------------------------------------------------------------------------------------

cdef u32 find_code_page(Guest* g, u32 frame) noexcept nogil:
    """Its index, or NOTHING."""
    cdef u32 entry = g.hash[frame & 1023]
    while entry != 0:
        if g.pages[entry - 1].frame == frame:
            return entry - 1
        entry = g.pages[entry - 1].next
    return NOTHING


cdef u32 code_page(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    """Find or make it; NOTHING: there are too many."""
    cdef u32 i = find_code_page(g, frame)
    if i != NOTHING or g.page_count == MAX_CODE_PAGES:
        return i
    i = g.page_count
    memset(&g.pages[i], 0, sizeof(CodePage))
    g.pages[i].frame = frame
    g.pages[i].next = g.hash[frame & 1023]
    memcpy(g.pages[i].original, cpu.ram + (<u64>frame << PAGE_BITS), PAGE_SIZE)
    g.hash[frame & 1023] = i + 1
    g.page_count += 1
    protect_frame(g, cpu, frame)
    return i


cdef bint is_scanned(Guest* g, u64 physical) noexcept nogil:
    cdef u32 i = find_code_page(g, <u32>(physical >> PAGE_BITS))
    return i != NOTHING and get_bit(g.pages[i].start, physical & 0xFFF)


cdef bint is_trapped(Guest* g, CPU* cpu, u64 physical) noexcept nogil:
    """Has the instruction there been replaced, and is our HLT still there?"""
    cdef u32 i = find_code_page(g, <u32>(physical >> PAGE_BITS))
    cdef u32 byte
    if i == NOTHING or not get_bit(g.pages[i].trapped, physical & 0xFFF):
        return False
    return physical_read(cpu, physical, 1, &byte) and byte == HLT


cdef void trap(Guest* g, CPU* cpu, u64 physical, bint trapped) noexcept nogil:
    """Replace the instruction there, or put it back."""
    cdef CodePage* page = &g.pages[find_code_page(g, <u32>(physical >> PAGE_BITS))]
    cdef u32 offset = physical & 0xFFF
    set_bit(page.trapped, offset, trapped)
    physical_write(cpu, physical, 1, HLT if trapped else page.original[offset])
    if trapped:
        g.trapped += 1


cdef u32 original_code(Guest* g, CPU* cpu, u64 physical, u8* code, u32 room) noexcept nogil:
    """Bytes of guest memory up to the end of the page, as the guest wrote them; how many."""
    cdef u32 i
    cdef u32 count = PAGE_SIZE - <u32>(physical & 0xFFF)
    cdef u32 page = find_code_page(g, <u32>(physical >> PAGE_BITS))
    if not is_memory(g, cpu, <u32>(physical >> PAGE_BITS)):
        return 0
    if count > room:
        count = room
    memcpy(code, cpu.ram + physical, count)
    if page != NOTHING:
        for i in range(count):
            if code[i] == HLT and get_bit(g.pages[page].trapped, (physical + i) & 0xFFF):
                code[i] = g.pages[page].original[(physical + i) & 0xFFF]
    return count


cdef bint fetch(Guest* g, CPU* cpu, u32 linear, Instruction* insn, u64* physical) noexcept nogil:
    """The instruction at a linear address, as the guest wrote it, and where it lies."""
    cdef u8 code[MAX_INSTRUCTION]
    cdef u64 behind
    cdef u32 count
    if not guest_physical(g, cpu, linear, physical):
        return False
    count = original_code(g, cpu, physical[0], code, MAX_INSTRUCTION)
    if count < MAX_INSTRUCTION and guest_physical(g, cpu, linear + count, &behind):
        count += original_code(g, cpu, behind, code + count, MAX_INSTRUCTION - count)
    return decode(code, count, insn)


# --- What is looked for ----------------------------------------------------------------------------------------------

cdef bint is_sensitive(Instruction* insn) noexcept nogil:
    """Does it work in ring 1 without a trap, and show or change something else than the guest's ring 0 would have?"""
    cdef u32 opcode = insn.opcode
    if opcode == 0x9C or opcode == 0x9D or opcode == 0xCF:      # PUSHF, POPF, IRET
        return True
    if opcode == 0x0E or opcode == 0x16 or opcode == 0x9A:      # PUSH CS, PUSH SS, CALL far
        return True
    if opcode == 0x8C:                                          # MOV from CS, SS
        return insn.reg == CS or insn.reg == SS
    if opcode == 0xFF:                                          # CALL far, JMP far through memory
        return insn.reg == 3 or insn.reg == 5
    if opcode == TWO_BYTE:                                      # SLDT, STR, VERR, VERW
        return insn.reg == 0 or insn.reg == 1 or insn.reg == 4 or insn.reg == 5
    if opcode == (TWO_BYTE | 0x01):                             # SGDT, SIDT, SMSW
        return insn.reg == 4 or (insn.mod != 3 and insn.reg < 2)
    return opcode == (TWO_BYTE | 0x02) or opcode == (TWO_BYTE | 0x03)   # LAR, LSL


cdef bint is_indirect(Instruction* insn) noexcept nogil:
    """A near jump or call whose target is not in the instruction."""
    return insn.opcode == 0xFF and (insn.reg == 2 or insn.reg == 4)


cdef bint is_direct_branch(Instruction* insn) noexcept nogil:
    cdef u32 opcode = insn.opcode
    if 0x70 <= opcode <= 0x7F or 0xE0 <= opcode <= 0xE3 or opcode == 0xE8 or opcode == 0xE9 or opcode == 0xEB:
        return True
    return (TWO_BYTE | 0x80) <= opcode <= (TWO_BYTE | 0x8F)


cdef bint ends_flow(Instruction* insn) noexcept nogil:
    """Does nothing behind it follow it?"""
    cdef u32 opcode = insn.opcode
    if opcode == 0xFF:
        return insn.reg == 4 or insn.reg == 5
    if opcode == 0xE9 or opcode == 0xEB or opcode == 0xEA or opcode == 0xCF:
        return True
    if 0xC2 <= opcode <= 0xC3 or 0xCA <= opcode <= 0xCB:
        return True
    return opcode == (TWO_BYTE | 0x0B) or opcode == (TWO_BYTE | 0x35)           # UD2, SYSEXIT


cdef u32 branch_target(Instruction* insn, u32 linear) noexcept nogil:
    cdef u32 opcode = insn.opcode
    cdef i32 distance = <i32><u32>insn.immediate
    if opcode < 0x80 or 0xE0 <= opcode <= 0xE3 or opcode == 0xEB:
        distance = <i8><u8>insn.immediate
    elif insn.size == 2:
        return (linear + insn.length + <u32>distance) & 0xFFFF
    return linear + insn.length + <u32>distance


# --- Following code --------------------------------------------------------------------------------------------------

cdef void scan(Guest* g, CPU* cpu, u32 linear) noexcept nogil:
    """Make code harmless that is about to run: from here as far as it can be followed."""
    cdef u64 physical
    if not (guest_physical(g, cpu, linear, &physical) and is_scanned(g, physical)):
        follow(g, cpu, linear, 0, ANYWHERE)


cdef void follow(Guest* g, CPU* cpu, u32 linear, u64 first, u64 last) noexcept nogil:
    """Within these physical addresses only."""
    cdef Instruction insn
    cdef u64 physical
    cdef u32 page, pointer
    cdef u32 waiting = 1
    g.work[0] = linear
    while waiting:
        waiting -= 1
        linear = g.work[waiting]
        while fetch(g, cpu, linear, &insn, &physical) and not is_scanned(g, physical) and first <= physical <= last:
            page = code_page(g, cpu, <u32>(physical >> PAGE_BITS))
            if page == NOTHING:
                return
            set_bit(g.pages[page].start, physical & 0xFFF, True)
            if is_direct_branch(&insn):
                if waiting < MAX_WORK:
                    g.work[waiting] = branch_target(&insn, linear)
                    waiting += 1
            elif insn.opcode == 0xEA and waiting < MAX_WORK:
                g.work[waiting] = <u32>insn.immediate
                waiting += 1
            elif is_indirect(&insn) and insn.mod == 0 and insn.base == NO_REGISTER and insn.index == NO_REGISTER \
                    and not insn.address16:
                if fixed_pointer(g, cpu, <u32>insn.displacement, &pointer) and waiting < MAX_WORK:
                    g.work[waiting] = pointer
                    waiting += 1
            elif is_sensitive(&insn) or is_indirect(&insn):
                trap(g, cpu, physical, True)
            if ends_flow(&insn):
                break
            linear += insn.length


cdef bint fixed_pointer(Guest* g, CPU* cpu, u32 linear, u32* pointer) noexcept nogil:
    """What a pointer of the guest holds, if it can be read now."""
    cdef u64 physical
    if linear & 3 or not guest_physical(g, cpu, linear, &physical):
        return False
    pointer[0] = table_read(cpu, physical)
    return pointer[0] != 0


cdef bint close_gaps(Guest* g, CPU* cpu, u32 linear, u64 physical, u64* first, u64* last) noexcept nogil:
    """Scan what lies between scanned code in the pages around. True: from `first` to `last` nothing is unknown."""
    cdef u8 code[MAX_INSTRUCTION]
    cdef Instruction insn
    cdef u64 at, gap
    cdef u32 count
    cdef bint closed = True
    first[0] = physical
    last[0] = physical
    if not is_scanned(g, physical):     # its page has been written to since: nothing there is known
        return False
    while find_code_page(g, <u32>(first[0] >> PAGE_BITS) - 1) != NOTHING:
        first[0] -= PAGE_SIZE
    while find_code_page(g, <u32>(last[0] >> PAGE_BITS) + 1) != NOTHING:
        last[0] += PAGE_SIZE
    first[0] &= ~<u64>0xFFF
    last[0] |= 0xFFF
    while not is_scanned(g, first[0]):          # they end at `physical` at the latest
        first[0] += 1
    while not is_scanned(g, last[0]):
        last[0] -= 1
    at = gap = first[0]
    while at < last[0]:
        count = original_code(g, cpu, at, code, MAX_INSTRUCTION)
        if count < MAX_INSTRUCTION:
            count += original_code(g, cpu, at + count, code + count, MAX_INSTRUCTION - count)
        if decode(code, count, &insn) and at + insn.length <= last[0]:
            at += insn.length
            if not is_scanned(g, at):
                continue
        else:
            closed = False              # data, or code that does not end where the next begins
            at += 1
            while at < last[0] and not is_scanned(g, at):
                at += 1
            gap = at
        while gap < at:                 # it has led to scanned code, so all of it was code
            follow(g, cpu, linear + <u32>(gap - physical), first[0], last[0])
            count = original_code(g, cpu, gap, code, MAX_INSTRUCTION)
            if count < MAX_INSTRUCTION:
                count += original_code(g, cpu, gap + count, code + count, MAX_INSTRUCTION - count)
            if not decode(code, count, &insn):
                break
            gap += insn.length
        gap = at
    return closed


# --- Code that changes -----------------------------------------------------------------------------------------------

cdef void put_back(Guest* g, CPU* cpu, u32 page) noexcept nogil:
    """A page of code as the guest wrote it, and nothing in it scanned."""
    cdef u64 physical = <u64>g.pages[page].frame << PAGE_BITS
    cdef u32 i
    for i in range(PAGE_SIZE):
        if is_trapped(g, cpu, physical + i):
            trap(g, cpu, physical + i, False)
    memset(g.pages[page].start, 0, sizeof(g.pages[page].start))
    memset(g.pages[page].trapped, 0, sizeof(g.pages[page].trapped))


cdef void forget_code(Guest* g, CPU* cpu, u32 page) noexcept nogil:
    """It becomes data; it is scanned again where the guest enters it next."""
    cdef u32* link = &g.hash[g.pages[page].frame & 1023]
    put_back(g, cpu, page)
    while link[0] != page + 1:
        link = &g.pages[link[0] - 1].next
    link[0] = g.pages[page].next
    g.pages[page].next = 0
    g.pages[page].frame = NO_FRAME      # its place is not used again


cdef bint begin_write(Guest* g, CPU* cpu, u32 page) noexcept nogil:
    """Let the guest's next instruction write to a page of code. False: it writes to too many."""
    cdef u32 i, byte
    if g.step == STEP_PORT or g.step_count == MAX_STEP_PAGES:
        return False
    for i in range(g.step_count):
        if g.step_pages[i] == page:
            return True
    g.step_pages[g.step_count] = page
    g.step_count += 1
    begin_step(g, cpu, STEP_WRITE)
    return True


cdef void end_write(Guest* g, CPU* cpu, u32 page) noexcept nogil:
    """The instruction has run."""
    protect_frame(g, cpu, g.pages[page].frame)
    scan_changes(g, cpu, page)


cdef void scan_changes(Guest* g, CPU* cpu, u32 page) noexcept nogil:
    """If a page is not as we left it: scan it anew, from where instructions began before."""
    cdef u8 starts[512]
    cdef CodePage* code = &g.pages[page]
    cdef u64 physical = <u64>code.frame << PAGE_BITS
    cdef const u8* memory = <u8*>cpu.ram + physical
    cdef u32 linear, i
    cdef u32 first = PAGE_SIZE
    cdef u32 last = 0
    for i in range(PAGE_SIZE):
        if memory[i] != (HLT if get_bit(code.trapped, i) else code.original[i]):
            first = i if i < first else first
            last = i
            code.original[i] = memory[i]
            set_bit(code.trapped, i, False)
    if first > last or not touches_code(g, page, first, last):
        return
    linear = linear_of(g, cpu, code.frame)
    memcpy(starts, code.start, sizeof(starts))
    put_back(g, cpu, page)
    for i in range(PAGE_SIZE):
        if linear and get_bit(starts, i) and not first < i <= last:
            scan(g, cpu, linear + i)


cdef void scan_all_changes(Guest* g, CPU* cpu) noexcept nogil:
    """Somebody outside has changed memory."""
    cdef u32 page
    for page in range(g.page_count):
        if g.pages[page].frame != NO_FRAME:
            scan_changes(g, cpu, page)


cdef bint touches_code(Guest* g, u32 page, u32 first, u32 last) noexcept nogil:
    """Does a scanned instruction lie in this part of the page, or begin shortly before it?"""
    cdef u32 i = first - MAX_INSTRUCTION + 1 if first >= MAX_INSTRUCTION else 0
    while i <= last:
        if get_bit(g.pages[page].start, i):
            return True
        i += 1
    return False


cdef u32 linear_of(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    """A linear address that the shadow maps to a frame, or 0."""
    cdef u32 index, i
    cdef u32* shadow
    for index in range(g.region_count):
        shadow = shadow_table(g, cpu, g.regions[index].number)
        for i in range(ENTRIES):
            if shadow[i] & PTE_P and shadow[i] >> PAGE_BITS == frame:
                return g.regions[index].number << 22 | i << PAGE_BITS
    return 0
