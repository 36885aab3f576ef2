# x87: control instructions, the environment, and the images of FNSAVE and FXSAVE.
#
# Enters: uops of forms_x87.py rows. Leaves: the next uop. Next: sem_vector.pxd.
# Control instructions do not wait: a pending exception does not stop them, except FWAIT, FLDCW, FLDENV and FRSTOR.

cdef enum:
    TAG_VALID = 0           # SDM 1:8.1.7
    TAG_ZERO = 1
    TAG_SPECIAL = 2
    TAG_EMPTY = 3
    REAL_BYTES = 10         # of a register in FNSAVE's image
    FXSAVE_BYTES = 512
    FXSAVE_ALIGNMENT = 16
    FXSAVE_XMM = 160        # offsets in its image (SDM 2, FXSAVE, table 3-43)
    FXSAVE_END = 288        # of what is written


cdef void renew_summary(CPU* cpu) noexcept nogil:
    """ES and B after flags or masks have been loaded."""
    cpu.fpu_status &= ~<u32>(FSW_ES | FSW_B)
    if cpu.fpu_status & ~<u32>cpu.fpu_control & FSW_FLAGS:
        cpu.fpu_status |= FSW_ES | FSW_B


cdef inline u16 control_word(u32 value) noexcept nogil:
    return <u16>((value & FCW_WRITABLE) | FCW_ONE)


cdef void initialise_x87(CPU* cpu) noexcept nogil:
    """As FNINIT leaves it (SDM 1:8.1, SDM 2 FINIT); register contents stay."""
    cpu.fpu_control = NORMAL_CONTROL
    cpu.fpu_status = 0
    cpu.fpu_empty = 0xFF
    cpu.fpu_opcode = cpu.fpu_cs = cpu.fpu_ds = 0
    cpu.fpu_eip = cpu.fpu_data = 0


# --- Control ---------------------------------------------------------------------------------------------------------

cdef void raw_fwait(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FWAIT (SDM 2): #NM when both MP and TS are set, whatever EM says."""
    if rare(cpu.cr0 & (CR0_MP | CR0_TS) == (CR0_MP | CR0_TS)):
        fault(cpu, op, VECTOR_NM, 0)
        return
    if rare(cpu.fpu_status & FSW_ES):
        fault(cpu, op, VECTOR_MF, 0)
        return
    next_uop(cpu, op, mem)


cdef void raw_fnop(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNOP (SDM 2): it waits, and is remembered."""
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    next_uop(cpu, op, mem)


cdef void raw_fpu_nothing(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNENI, FNDISI, FNSETPM: NOPs since the 80387 (SDM 3:22.18.9)."""
    if not unavailable(cpu, op):
        next_uop(cpu, op, mem)


cdef inline void x87_turn(CPU* cpu, Uop* op, char* mem, const u32 by) noexcept nogil:
    """FINCSTP, FDECSTP: TOP moves, tags do not."""
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    settle(cpu, op, 0)
    turn(cpu, by)
    next_uop(cpu, op, mem)


cdef inline void x87_free(CPU* cpu, Uop* op, char* mem, const bint pop) noexcept nogil:
    """FFREE, FFREEP."""
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    settle(cpu, op, 0)
    cpu.fpu_empty |= <u8>(1 << place_of(cpu, op.base))
    if pop:
        drop(cpu)
    next_uop(cpu, op, mem)


cdef void raw_fnclex(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNCLEX (SDM 2)."""
    if unavailable(cpu, op):
        return
    cpu.fpu_status &= FSW_CODES | FSW_TOP
    next_uop(cpu, op, mem)


cdef void raw_fninit(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNINIT (SDM 2)."""
    if unavailable(cpu, op):
        return
    initialise_x87(cpu)
    next_uop(cpu, op, mem)


cdef void raw_fldcw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FLDCW (SDM 2): unmasking a flag that is set makes an exception pending."""
    cdef u32 value
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if not virtual_read(cpu, op.segment, effective_address(cpu, op), 2, &value):
        raise_fault(cpu, op)
        return
    cpu.fpu_control = control_word(value)
    renew_summary(cpu)
    finish(cpu, op, mem)


cdef void raw_fnstcw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSTCW (SDM 2)."""
    if not unavailable(cpu, op):
        store_word(cpu, op, mem, cpu.fpu_control)


cdef void raw_fnstsw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSTSW m2byte (SDM 2)."""
    if not unavailable(cpu, op):
        store_word(cpu, op, mem, cpu.fpu_status)


cdef void raw_fnstsw_ax(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSTSW AX."""
    if unavailable(cpu, op):
        return
    cpu.gpr[EAX].w = cpu.fpu_status
    next_uop(cpu, op, mem)


# --- The environment (SDM 1:8.1.10, figures 8-9 to 8-12) -------------------------------------------------------------

cdef u32 tag_of(CPU* cpu, u32 place) noexcept nogil:
    cdef u32 exponent = cpu.fpu[place].exponent & EXPONENT
    if is_empty(cpu, place):
        return TAG_EMPTY
    if exponent == 0 and cpu.fpu[place].significand == 0:
        return TAG_ZERO
    if exponent == 0 or exponent == EXPONENT or not cpu.fpu[place].significand & INTEGER_BIT:
        return TAG_SPECIAL
    return TAG_VALID


cdef u32 tag_word(CPU* cpu) noexcept nogil:
    cdef u32 place
    cdef u32 tags = 0
    for place in range(8):
        tags |= tag_of(cpu, place) << 2 * place
    return tags


cdef inline bint linear_pointers(CPU* cpu) noexcept nogil:
    """In real and virtual-8086 mode the environment holds 20-bit linear addresses."""
    return not cpu.cr0 & CR0_PE or cpu.eflags & VM


cdef u32 environment_out(CPU* cpu, u32* words, u32 size) noexcept nogil:
    """The environment in `words`; returns its bytes. `size`: of the operand."""
    cdef u16* half = <u16*>words
    cdef u32 instruction = cpu.fpu_eip
    cdef u32 data = cpu.fpu_data
    cdef u32 i
    cdef u32[7] all
    all[0] = cpu.fpu_control
    all[1] = cpu.fpu_status
    all[2] = tag_word(cpu)
    if linear_pointers(cpu):
        instruction += <u32>cpu.fpu_cs << 4
        data += <u32>cpu.fpu_ds << 4
        all[3] = instruction & 0xFFFF
        all[5] = data & 0xFFFF
        if size == 4:
            all[4] = instruction >> 16 << 12 & 0x0FFFF000 | cpu.fpu_opcode
            all[6] = data >> 16 << 12 & 0x0FFFF000
        else:
            all[4] = instruction >> 16 << 12 & 0xF000 | cpu.fpu_opcode
            all[6] = data >> 16 << 12 & 0xF000
    else:
        all[3] = instruction
        all[4] = cpu.fpu_cs | (<u32>cpu.fpu_opcode << 16 if size == 4 else 0)
        all[5] = data
        all[6] = cpu.fpu_ds
    if size == 4:
        for i in range(7):
            words[i] = all[i]
        for i in range(3):
            words[i] |= 0xFFFF0000u         # reserved: ones
        if linear_pointers(cpu):
            words[3] |= 0xFFFF0000u
            words[5] |= 0xFFFF0000u
        else:
            words[6] |= 0xFFFF0000u
        return 28
    for i in range(7):
        half[i] = <u16>all[i]
    return 14


cdef void environment_in(CPU* cpu, const u32* words, u32 size) noexcept nogil:
    """The pointers of real mode are kept as offsets in a segment 0."""
    cdef const u16* half = <const u16*>words
    cdef u32[7] all
    cdef u32 i
    for i in range(7):
        all[i] = words[i] if size == 4 else half[i]
    cpu.fpu_control = control_word(all[0])
    cpu.fpu_status = <u16>all[1]
    renew_summary(cpu)
    cpu.fpu_empty = 0
    for i in range(8):
        if all[2] >> 2 * i & 3 == TAG_EMPTY:
            cpu.fpu_empty |= <u8>(1 << i)
    if linear_pointers(cpu):
        cpu.fpu_eip = (all[3] & 0xFFFF) | (all[4] >> 12 << 16)
        cpu.fpu_data = (all[5] & 0xFFFF) | (all[6] >> 12 << 16)
        cpu.fpu_opcode = all[4] & 0x7FF
        cpu.fpu_cs = cpu.fpu_ds = 0
        return
    cpu.fpu_eip = all[3]
    cpu.fpu_cs = <u16>all[4]
    cpu.fpu_data = all[5]
    cpu.fpu_ds = <u16>all[6]
    if size == 4:
        cpu.fpu_opcode = all[4] >> 16 & 0x7FF


cdef void store_environment(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    """FNSTENV: all exceptions are masked behind it."""
    cdef u32* image = cpu.fpu_image
    cdef u32 length
    if unavailable(cpu, op):
        return
    length = environment_out(cpu, image, size)
    if not virtual_store(cpu, op.segment, effective_address(cpu, op), length, image):
        raise_fault(cpu, op)
        return
    cpu.fpu_control |= FSW_FLAGS
    renew_summary(cpu)
    finish(cpu, op, mem)


cdef void load_environment(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    cdef u32* image = cpu.fpu_image
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if not virtual_load(cpu, op.segment, effective_address(cpu, op), 7 * size, image):
        raise_fault(cpu, op)
        return
    environment_in(cpu, image, size)
    finish(cpu, op, mem)


cdef void store_state(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    """FNSAVE: the environment and ST(0)-ST(7), then as FNINIT."""
    cdef u32* image = cpu.fpu_image
    cdef u32 i, length
    if unavailable(cpu, op):
        return
    length = environment_out(cpu, image, size)
    for i in range(8):
        memcpy(<char*>image + length, register_at(cpu, place_of(cpu, i)), REAL_BYTES)
        length += REAL_BYTES
    if not virtual_store(cpu, op.segment, effective_address(cpu, op), length, image):
        raise_fault(cpu, op)
        return
    initialise_x87(cpu)
    finish(cpu, op, mem)


cdef void load_state(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    """FRSTOR."""
    cdef u32* image = cpu.fpu_image
    cdef u32 i
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if not virtual_load(cpu, op.segment, effective_address(cpu, op), 7 * size + 8 * REAL_BYTES, image):
        raise_fault(cpu, op)
        return
    environment_in(cpu, image, size)
    for i in range(8):
        memcpy(register_at(cpu, place_of(cpu, i)), <char*>image + 7 * size + i * REAL_BYTES, REAL_BYTES)
    finish(cpu, op, mem)


cdef void raw_fnstenv_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSTENV m28byte (SDM 2, FSTENV)."""
    store_environment(cpu, op, mem, 4)


cdef void raw_fnstenv16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSTENV m14byte."""
    store_environment(cpu, op, mem, 2)


cdef void raw_fldenv_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FLDENV m28byte (SDM 2)."""
    load_environment(cpu, op, mem, 4)


cdef void raw_fldenv16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FLDENV m14byte."""
    load_environment(cpu, op, mem, 2)


cdef void raw_fnsave_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSAVE m108byte (SDM 2, FSAVE)."""
    store_state(cpu, op, mem, 4)


cdef void raw_fnsave16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FNSAVE m94byte."""
    store_state(cpu, op, mem, 2)


cdef void raw_frstor_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FRSTOR m108byte (SDM 2)."""
    load_state(cpu, op, mem, 4)


cdef void raw_frstor16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FRSTOR m94byte."""
    load_state(cpu, op, mem, 2)


# --- FXSAVE, FXRSTOR (SDM 2) -----------------------------------------------------------------------------------------

cdef struct FxsaveImage:
    u16 control
    u16 status
    u8 valid                # by physical number: a set bit is a register that is not empty
    u8 reserved
    u16 opcode
    u32 eip
    u16 cs
    u16 reserved_cs
    u32 data
    u16 ds
    u16 reserved_ds
    u32 mxcsr
    u32 mxcsr_mask
    Float80 registers[8]    # ST(0)-ST(7)
    Vector xmm[8]


cdef void fxsave_out(CPU* cpu, FxsaveImage* image) noexcept nogil:
    cdef u32 i
    sync_mxcsr(cpu)
    memset(image, 0, sizeof(FxsaveImage))
    image.control = cpu.fpu_control
    image.status = cpu.fpu_status
    image.valid = ~cpu.fpu_empty
    image.opcode = cpu.fpu_opcode
    image.eip = cpu.fpu_eip
    image.cs = cpu.fpu_cs
    image.data = cpu.fpu_data
    image.ds = cpu.fpu_ds
    image.mxcsr = cpu.mxcsr
    image.mxcsr_mask = MXCSR_DEFINED
    for i in range(8):
        image.registers[i] = cpu.fpu[place_of(cpu, i)]
        image.xmm[i] = cpu.xmm[i]


cdef void fxsave_in(CPU* cpu, FxsaveImage* image, bint with_sse) noexcept nogil:
    cdef u32 i
    cpu.fpu_control = control_word(image.control)
    cpu.fpu_status = image.status
    renew_summary(cpu)
    cpu.fpu_empty = ~image.valid
    cpu.fpu_opcode = image.opcode & 0x7FF
    cpu.fpu_eip = image.eip
    cpu.fpu_cs = image.cs
    cpu.fpu_data = image.data
    cpu.fpu_ds = image.ds
    for i in range(8):
        memset(&cpu.fpu[place_of(cpu, i)], 0, sizeof(Float80))
        memcpy(&cpu.fpu[place_of(cpu, i)], &image.registers[i], REAL_BYTES)
    if with_sse:
        leave_mxcsr(cpu)
        cpu.mxcsr = image.mxcsr
        for i in range(8):
            cpu.xmm[i] = image.xmm[i]


cdef bint check_fxsave_area(CPU* cpu, Uop* op, bint write, u32* offset) noexcept nogil:
    """512 bytes on a 16-byte boundary, else #GP(0)."""
    cdef u32 linear
    offset[0] = effective_address(cpu, op)
    if not segment_check(cpu, &cpu.seg[op.segment], op.segment, offset[0], FXSAVE_BYTES, write, &linear):
        return False
    if linear & FXSAVE_ALIGNMENT - 1:
        return refuse(cpu, VECTOR_GP, 0)
    return not write or linear_probe_write(cpu, linear, FXSAVE_BYTES, cpu.cpl == 3)


cdef void raw_fxsave_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FXSAVE (SDM 2): XMM registers and MXCSR when CR4.OSFXSR is set; a pending exception does not stop it."""
    cdef FxsaveImage* image = <FxsaveImage*>cpu.fpu_image
    cdef u32 offset
    if unavailable(cpu, op):
        return
    fxsave_out(cpu, image)
    if not (check_fxsave_area(cpu, op, True, &offset)
            and virtual_store(cpu, op.segment, offset, FXSAVE_END if cpu.cr4 & CR4_OSFXSR else FXSAVE_XMM, image)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_fxrstor_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FXRSTOR (SDM 2): reserved bits of MXCSR are #GP(0)."""
    cdef FxsaveImage* image = <FxsaveImage*>cpu.fpu_image
    cdef u32 offset
    cdef bint with_sse = (cpu.cr4 & CR4_OSFXSR) != 0
    if unavailable(cpu, op):
        return
    if not (check_fxsave_area(cpu, op, False, &offset)
            and virtual_load(cpu, op.segment, offset, FXSAVE_END, image)):
        raise_fault(cpu, op)
        return
    if with_sse and image.mxcsr & ~<u32>MXCSR_DEFINED:
        fault(cpu, op, VECTOR_GP, 0)
        return
    fxsave_in(cpu, image, with_sse)
    finish(cpu, op, mem)
