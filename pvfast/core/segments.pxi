# Segmentation: descriptors, segment register loads in every mode, LDTR and TR, the decode mode, stack frames.
#
# Enters: selectors. Leaves: loaded Segment structures with their hidden parts, or False after noting the fault the
# manual names. Next: mode_8086.pxi (paragraphs for descriptors).
#
# Design: check first, commit last. Every function that can fail leaves the registers alone until nothing can fail any
# more, so an instruction that faults is as before. The accessed and busy bits in memory are written among the checks:
# the manual lets a processor set them early.

cdef extern from *:
    """
    #define PVFAST_NOT_IN_MEMORY 0xFFFFFFFFu
    """
    const u32 NOT_IN_MEMORY "PVFAST_NOT_IN_MEMORY"      # "address" of a descriptor in CPU.descriptors

cdef enum:
    SELECTOR_RPL = 0x3
    SELECTOR_TI = 0x4                   # 1: local descriptor table
    SELECTOR_INDEX = 0xFFFC             # with TI: what error codes carry
    NOTHING = 0                         # a null selector's index
    CODE_SEGMENT = SEG_S | SEG_CODE
    ATTRIBUTES = 0xF0FF                 # the attribute word without limit bits 16-19
    # 32-bit TSS (SDM 3:7.2.1, figure 7-2)
    TSS32_IO_MAP_BASE = 102
    TSS32_LIMIT = 103

cdef struct Descriptor:
    u32 low
    u32 high
    u32 attributes          # bits 40-55 without the limit, as in Segment
    u32 linear              # of the descriptor in its table | NOT_IN_MEMORY


cdef bint refuse(CPU* cpu, u32 vector, u32 error) noexcept nogil:
    """Note a fault; the answer of the checks that fail."""
    note_fault(cpu, vector, error)
    return False


cdef inline u32 dpl_of(u32 attributes) noexcept nogil:
    return (attributes & SEG_DPL) >> SEG_DPL_SHIFT


cdef inline bint is_code(u32 attributes) noexcept nogil:
    return (attributes & CODE_SEGMENT) == CODE_SEGMENT


cdef inline bint is_writable_data(u32 attributes) noexcept nogil:
    return (attributes & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE)


# --- Descriptors (SDM 3:3.4.5) ---------------------------------------------------------------------------------------

cdef bint in_table(CPU* cpu, u32 selector, u32* linear) noexcept nogil:
    """Is the selector within its table (SDM 3:3.5.1)? Index 0 of the GDT is the caller's to refuse."""
    cdef u32 index = (selector & 0xFFFF) >> 3
    if selector & SELECTOR_TI:
        if cpu.ldtr.attributes & SEG_NULL or (selector & 0xFFFF | 7) > cpu.ldtr.limit:
            return False
        linear[0] = <u32>cpu.ldtr.base + index * 8
        return True
    if cpu.descriptors != NULL:
        linear[0] = NOT_IN_MEMORY
        return index < cpu.descriptor_count
    if (selector & 0xFFFF | 7) > cpu.gdt_limit:
        return False
    linear[0] = cpu.gdt_base + index * 8
    return True


cdef bint read_descriptor(CPU* cpu, u32 selector, u32* low, u32* high, u32* linear) noexcept nogil:
    """The eight bytes a selector names: #GP(selector) outside the table, #PF when the table is not mapped."""
    cdef u64 kept
    if not in_table(cpu, selector, linear):
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if linear[0] == NOT_IN_MEMORY:
        kept = cpu.descriptors[(selector & 0xFFFF) >> 3]
        low[0] = <u32>kept
        high[0] = <u32>(kept >> 32)
        return True
    return linear_read(cpu, linear[0], 4, False, low) and linear_read(cpu, linear[0] + 4, 4, False, high)


cdef bint fetch_descriptor(CPU* cpu, u32 selector, Descriptor* d) noexcept nogil:
    """read_descriptor() with the attribute word taken out; a null selector is #GP(0)."""
    if selector & SELECTOR_INDEX == NOTHING:
        return refuse(cpu, VECTOR_GP, 0)
    if not read_descriptor(cpu, selector, &d.low, &d.high, &d.linear):
        return False
    d.attributes = (d.high >> 8) & ATTRIBUTES
    return True


cdef u32 descriptor_limit(Descriptor* d) noexcept nogil:
    """The last valid offset, granularity applied (SDM 3:3.4.5, "Segment limit field")."""
    cdef u32 limit = (d.low & 0xFFFF) | (d.high & 0xF0000)
    return (limit << 12) | 0xFFF if d.attributes & SEG_G else limit


cdef void fill_segment(Segment* s, u32 selector, Descriptor* d) noexcept nogil:
    """The visible and the hidden part of a segment register."""
    s.selector = <u16>selector
    s.base = (d.low >> 16) | ((d.high & 0xFF) << 16) | (d.high & 0xFF000000u)
    s.limit = descriptor_limit(d)
    s.attributes = d.attributes | (SEG_ACCESSED if d.attributes & SEG_S else 0)
    s.read_end = 0
    s.write_end = 0


cdef void clear_segment(Segment* s, u32 selector) noexcept nogil:
    """A null selector: every use faults."""
    s.selector = <u16>selector
    s.base = 0
    s.limit = 0
    s.attributes = SEG_NULL
    s.read_end = 0
    s.write_end = 0


cdef void flat_segment(Segment* s, u32 selector, u32 type, u32 dpl) noexcept nogil:
    """Base 0, limit 4 GiB, 32-bit, present, accessed: what SYSENTER, SYSEXIT and a new machine load."""
    s.selector = <u16>selector
    s.base = 0
    s.limit = 0xFFFFFFFFu
    s.attributes = type | SEG_ACCESSED | SEG_S | (dpl << SEG_DPL_SHIFT) | SEG_P | SEG_DB | SEG_G
    s.read_end = 0
    s.write_end = 0


cdef bint mark_accessed(CPU* cpu, Descriptor* d) noexcept nogil:
    """Set the accessed bit of a code or data descriptor in its table (SDM 3:3.4.5.1)."""
    if d.attributes & SEG_ACCESSED or d.linear == NOT_IN_MEMORY:
        return True
    return linear_write(cpu, d.linear + 5, 1, False, (d.attributes | SEG_ACCESSED) & 0xFF)


# --- Decode mode -----------------------------------------------------------------------------------------------------

cdef bint is_flat(Segment* s, u32 looked_at, u32 wanted) noexcept nogil:
    return s.base == 0 and s.limit == 0xFFFFFFFFu and s.attributes & looked_at == wanted


cdef void update_mode(CPU* cpu) noexcept nogil:
    """What decoding may assume from now on, and the memory that handlers get, after a change of CS, SS, DS, ES, CPL,
    CR0.PE, PG or AM, EFLAGS.VM or AC, or CPU.watching."""
    cdef u32 mode = (cpu.mode & MODE_SINGLE) | (cpu.cpl << MODE_CPL_SHIFT)
    cdef u32 code = SEG_P | CODE_SEGMENT | SEG_READABLE
    cdef u32 data = SEG_P | SEG_S | SEG_WRITABLE
    cdef u32 data_bits = SEG_NULL | data | SEG_CODE | SEG_DOWN
    if cpu.seg[CS].attributes & SEG_DB:
        mode |= MODE_CODE32
    if in_8086_mode(cpu):
        mode |= MODE_8086
    if cpu.seg[SS].attributes & SEG_DB:
        mode |= MODE_STACK32
        if (not mode & MODE_8086
                and is_flat(&cpu.seg[CS], SEG_NULL | code, code) and is_flat(&cpu.seg[SS], data_bits, data)
                and is_flat(&cpu.seg[DS], data_bits, data) and is_flat(&cpu.seg[ES], data_bits, data)):
            mode |= MODE_FLAT
    if cpu.watching or (cpu.cr0 & CR0_AM and cpu.eflags & AC and cpu.cpl == 3):
        mode = (mode & ~<u32>MODE_FLAT) | MODE_CHECKED
    if cpu.cr0 & CR0_PG:
        mode |= MODE_PAGING
        cpu.mem = <char*>&cpu.tlb[cpu.cpl == 3]
    else:
        cpu.mem = cpu.ram
    cpu.mode = mode
    if cpu.code_base != <u32>cpu.seg[CS].base or cpu.code_limit != cpu.seg[CS].limit:
        cpu.code_base = <u32>cpu.seg[CS].base
        cpu.code_limit = cpu.seg[CS].limit
        cpu.generation += 1     # links and inline caches hold EIPs


cdef void segments_set(CPU* cpu) noexcept nogil:
    """Segment registers or CR0 were set from outside."""
    cdef u32 which
    for which in range(6):
        refresh_segment(cpu, which)
    update_mode(cpu)


# --- Segment registers -----------------------------------------------------------------------------------------------

cdef bint check_data_segment(CPU* cpu, u32 selector, Descriptor* d) noexcept nogil:
    """May DS, ES, FS or GS hold this selector (SDM 3:5.6)?"""
    if not fetch_descriptor(cpu, selector, d):
        return False
    if not d.attributes & SEG_S or (d.attributes & SEG_CODE and not d.attributes & SEG_READABLE):
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not (d.attributes & SEG_CODE and d.attributes & SEG_CONFORMING):
        if dpl_of(d.attributes) < cpu.cpl or dpl_of(d.attributes) < selector & SELECTOR_RPL:
            return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    return mark_accessed(cpu, d)


cdef bint check_stack_segment(CPU* cpu, u32 selector, u32 cpl, u32 vector, Descriptor* d) noexcept nogil:
    """May SS hold this selector at privilege `cpl` (SDM 3:5.7)? `vector` is #GP, or #TS for a stack out of a TSS."""
    if selector & SELECTOR_INDEX == NOTHING:
        return refuse(cpu, vector, 0)
    if not in_table(cpu, selector, &d.linear):
        return refuse(cpu, vector, selector & SELECTOR_INDEX)
    if not fetch_descriptor(cpu, selector, d):
        return False
    if (selector & SELECTOR_RPL != cpl or not is_writable_data(d.attributes) or dpl_of(d.attributes) != cpl):
        return refuse(cpu, vector, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_SS, selector & SELECTOR_INDEX)
    return mark_accessed(cpu, d)


cdef bint load_segment(CPU* cpu, u32 seg, u32 selector) noexcept nogil:
    """Load ES, SS, DS, FS or GS as MOV, POP and LDS do (SDM 2, MOV, "Loading a segment register")."""
    cdef Descriptor d
    selector &= 0xFFFF
    if cpu.mode & MODE_8086:
        load_paragraph(cpu, seg, selector)
        return True
    if seg == SS:
        if not check_stack_segment(cpu, selector, cpu.cpl, VECTOR_GP, &d):
            return False
        fill_segment(&cpu.seg[seg], selector, &d)
    elif selector & SELECTOR_INDEX == NOTHING:
        clear_segment(&cpu.seg[seg], selector)
    else:
        if not check_data_segment(cpu, selector, &d):
            return False
        fill_segment(&cpu.seg[seg], selector, &d)
    refresh_segment(cpu, seg)
    if seg <= DS:
        update_mode(cpu)
    return True


cdef void set_stack(CPU* cpu, Segment* stack, u32 esp) noexcept nogil:
    """Commit a checked stack segment and its pointer: SP alone when the segment is 16-bit."""
    cpu.seg[SS] = stack[0]
    refresh_segment(cpu, SS)
    set_sp(cpu, esp)


cdef void set_code(CPU* cpu, u32 selector, Descriptor* d, u32 cpl) noexcept nogil:
    """Commit a checked code segment; its RPL becomes the new CPL."""
    cpu.cpl = cpl
    fill_segment(&cpu.seg[CS], (selector & SELECTOR_INDEX) | cpl, d)
    refresh_segment(cpu, CS)
    update_mode(cpu)


cdef bint load_ldtr(CPU* cpu, u32 selector) noexcept nogil:
    """LLDT (SDM 2, LLDT)."""
    cdef Descriptor d
    selector &= 0xFFFF
    if selector & SELECTOR_INDEX == NOTHING:
        clear_segment(&cpu.ldtr, selector)
        return True
    if selector & SELECTOR_TI:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not fetch_descriptor(cpu, selector, &d):
        return False
    if d.attributes & (SEG_S | SEG_TYPE) != TYPE_LDT:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    fill_segment(&cpu.ldtr, selector, &d)
    return True


cdef bint load_tr(CPU* cpu, u32 selector) noexcept nogil:
    """LTR: an available TSS, which becomes busy (SDM 2, LTR)."""
    cdef Descriptor d
    selector &= 0xFFFF
    if selector & SELECTOR_TI:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not fetch_descriptor(cpu, selector, &d):
        return False
    if (d.attributes & (SEG_S | SEG_TYPE) != TYPE_TSS16 and d.attributes & (SEG_S | SEG_TYPE) != TYPE_TSS32):
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    d.attributes |= TYPE_BUSY
    if d.linear != NOT_IN_MEMORY and not linear_write(cpu, d.linear + 5, 1, False, d.attributes & 0xFF):
        return False
    fill_segment(&cpu.tr, selector, &d)
    return True


# --- Stacks ----------------------------------------------------------------------------------------------------------

cdef inline u32 mask_of(Segment* stack) noexcept nogil:
    """SS.B: ESP or SP is the stack pointer (SDM 1:6.2.3)."""
    return 0xFFFFFFFFu if stack.attributes & SEG_DB else 0xFFFF


cdef bint stack_read(CPU* cpu, u32 distance, u32 size, u32* value) noexcept nogil:
    """An item `distance` bytes above the top of the current stack."""
    cdef u32 offset = (cpu.gpr[ESP].d + distance) & stack_mask(cpu)
    return virtual_read(cpu, SS, offset, size, value)


cdef bint push_frame(CPU* cpu, Segment* stack, u32* esp, u32* values, u32 count, u32 size, bint user,
                     u32 error) noexcept nogil:
    """Push items, the first one highest, on a stack that may not be the current one; all of them or none.

    `user` is the privilege of the stores, `error` the error code of #SS when there is no room.
    """
    cdef u32 mask = mask_of(stack)
    cdef u32 i, linear
    for i in range(count):
        if not segment_check(cpu, stack, SS, (esp[0] - (i + 1) * size) & mask, size, True, &linear):
            cpu.fault_error = error
            return False
        if not linear_probe_write(cpu, linear, size, user):
            return False
    for i in range(count):
        linear = <u32>(stack.base + ((esp[0] - (i + 1) * size) & mask))
        if not linear_write(cpu, linear, size, user, values[i]):
            return False        # a device, which the host serves before the instruction runs again
    esp[0] = (esp[0] & ~mask) | ((esp[0] - count * size) & mask)
    return True


cdef bint inner_stack(CPU* cpu, u32 cpl, Segment* stack, u32* esp) noexcept nogil:
    """The stack that the TSS names for an inner privilege level (SDM 3:5.8.5, 3:6.12.1), checked."""
    cdef Descriptor d
    cdef u32 selector
    cdef bint wide = (cpu.tr.attributes & TYPE_32) != 0
    cdef u32 offset = cpl * 8 + 4 if wide else cpl * 4 + 2
    cdef u32 size = 4 if wide else 2
    if cpu.tr.attributes & SEG_NULL or offset + size + 1 > cpu.tr.limit:
        return refuse(cpu, VECTOR_TS, cpu.tr.selector & SELECTOR_INDEX)
    if not (linear_read(cpu, <u32>cpu.tr.base + offset, size, False, esp)
            and linear_read(cpu, <u32>cpu.tr.base + offset + size, 2, False, &selector)):
        return False
    if not check_stack_segment(cpu, selector, cpl, VECTOR_TS, &d):
        return False
    fill_segment(stack, selector, &d)
    return True
