# MMX, SSE and SSE2: when they are allowed, their memory operands, MXCSR, and the instructions that fit no pattern.
#
# Enters: generated handlers (isa/vectors.py). Leaves: results committed, or a noted fault. Next: hypervisor.pxi.
#
# Design: floating point runs under the guest's own MXCSR, loaded into the host's by the first instruction of a run that
# needs it, and taken back when the run is left (leave_mxcsr): rounding, DAZ, FTZ and sticky flags then cost nothing.
# `mxcsr_loaded` says that it is there; CPU.mxcsr is then only valid after sync_mxcsr(). While the guest has an
# exception unmasked it never stays: each instruction runs by itself, masked, from cleared flags, and end_float()
# decides from the flags whether its result is committed.

cdef enum:                  # what an instruction needs, for blocked() and permit()
    USES_MMX = 1
    USES_SSE = 2
    USES_MXCSR = 4          # blocked() only: its value is in force in the host

cdef enum:                  # MXCSR (SDM 1:10.2.3)
    MXCSR_IE = 0x1
    MXCSR_DE = 0x2
    MXCSR_ZE = 0x4
    MXCSR_OE = 0x8
    MXCSR_UE = 0x10
    MXCSR_PE = 0x20
    MXCSR_FLAGS = 0x3F
    MXCSR_BEFORE = MXCSR_IE | MXCSR_DE | MXCSR_ZE       # found before the computation
    MXCSR_MASKS = 0x1F80
    MXCSR_MASK_SHIFT = 7
    MXCSR_FTZ = 0x8000
    MXCSR_DEFINED = 0xFFFF


# --- Permission (SDM 3:2.5, 3:12.1, 3:13.1; SDM 2:2.4) ---------------------------------------------------------------

cdef inline bint blocked(CPU* cpu, const u32 uses) noexcept nogil:
    """Has something to be looked at before the instruction? The quick question of every handler."""
    cdef u32 bits = 0
    if uses & (USES_MMX | USES_SSE):
        bits = cpu.cr0 & (CR0_EM | CR0_TS)
    if uses & USES_SSE:
        bits |= ~cpu.cr4 & CR4_OSFXSR
    if uses & USES_MMX:
        bits |= cpu.fpu_status & FSW_ES
    if uses & USES_MXCSR:
        bits |= not cpu.mxcsr_loaded
    return bits != 0


cdef bint permit(CPU* cpu, u32 uses) noexcept nogil:
    """The full answer: notes #UD, #NM or #MF."""
    if (uses and cpu.cr0 & CR0_EM) or (uses & USES_SSE and not cpu.cr4 & CR4_OSFXSR):
        note_fault(cpu, VECTOR_UD, 0)
    elif uses and cpu.cr0 & CR0_TS:
        note_fault(cpu, VECTOR_NM, 0)
    elif uses & USES_MMX and cpu.fpu_status & FSW_ES:
        note_fault(cpu, VECTOR_MF, 0)
    else:
        return True
    return False


cdef void refuse_vector(CPU* cpu, Uop* op, u32 uses) noexcept nogil:
    """Raise what permit() notes."""
    permit(cpu, uses)
    raise_fault(cpu, op)


cdef inline void enter_mmx(CPU* cpu) noexcept nogil:
    """Every MMX instruction but EMMS: TOP is 0 and all registers are valid (SDM 1:9.5.1)."""
    cpu.fpu_status &= ~<u32>FSW_TOP
    cpu.fpu_empty = 0


cdef inline void set_mm(CPU* cpu, u32 number, u64 value) noexcept nogil:
    cpu.fpu[number].significand = value
    cpu.fpu[number].exponent = 0xFFFF


cdef inline void set_order(CPU* cpu, u32 flags) noexcept nogil:
    """COMISS and its kind: ZF, PF and CF; OF, SF and AF are cleared."""
    set_eflags(cpu, flags, ARITHMETIC)


# --- Memory operands -------------------------------------------------------------------------------------------------

cdef inline bint misaligned(char* host) noexcept nogil:
    """RAM begins at a page, so host addresses are aligned as linear ones are."""
    return <u64>host & 15 != 0


cdef bint check_alignment(CPU* cpu, Uop* op, u32 offset) noexcept nogil:
    """128-bit operands lie on 16 bytes, else #GP(0) (SDM 2, table 2-19)."""
    if <u32>(cpu.seg[op.segment].base + offset) & 15:
        note_fault(cpu, VECTOR_GP, 0)
        return False
    return True


cdef bint load_vector(CPU* cpu, Uop* op, u32 size, bint aligned, Vector* value) noexcept nogil:
    cdef u32 offset = effective_address(cpu, op)
    return ((not aligned or check_alignment(cpu, op, offset))
            and virtual_load(cpu, op.segment, offset, size, value))


cdef bint store_vector(CPU* cpu, Uop* op, u32 size, bint aligned, const Vector* value) noexcept nogil:
    cdef u32 offset = effective_address(cpu, op)
    return ((not aligned or check_alignment(cpu, op, offset))
            and virtual_store(cpu, op.segment, offset, size, value))


# --- MXCSR (SDM 1:10.2.3, 1:11.5) ------------------------------------------------------------------------------------

ctypedef fused wide_lane:
    u32
    u64


cdef bint begin_float(CPU* cpu) noexcept nogil:
    """The guest's MXCSR into the host, for this instruction or, with all exceptions masked, for the run. Always True:
    it stands behind permit() in conditions."""
    if cpu.mxcsr_loaded:
        return True
    cpu.host_mxcsr = get_host_mxcsr()
    if cpu.mxcsr & MXCSR_MASKS == MXCSR_MASKS:
        set_host_mxcsr(cpu.mxcsr)
        cpu.mxcsr_loaded = True
    else:
        set_host_mxcsr(guarded_mxcsr(cpu))
        cpu.mxcsr_guarded = True
    return True


cdef inline u32 unmasked(CPU* cpu) noexcept nogil:
    """The exceptions that are raised, as flags."""
    return ~(cpu.mxcsr >> MXCSR_MASK_SHIFT) & MXCSR_FLAGS


cdef u32 guarded_mxcsr(CPU* cpu) noexcept nogil:
    """All exceptions masked, flags clear; FTZ works only while the guest has underflow masked."""
    return ((cpu.mxcsr | MXCSR_MASKS) & ~<u32>MXCSR_FLAGS
            & ~<u32>(MXCSR_FTZ if unmasked(cpu) & MXCSR_UE else 0))


cdef bint end_float(CPU* cpu) noexcept nogil:
    """Behind an instruction under begin_float() with an exception unmasked. False: it is raised (SDM 1:11.5.2)."""
    cdef u32 flags = get_host_mxcsr() & MXCSR_FLAGS
    cdef u32 raised = unmasked(cpu)
    set_host_mxcsr(cpu.host_mxcsr)
    cpu.mxcsr_guarded = False
    if flags & MXCSR_BEFORE & raised:
        flags &= MXCSR_BEFORE       # nothing was computed that could overflow or be inexact
    cpu.mxcsr |= flags
    if flags & raised:
        note_fault(cpu, VECTOR_XM if cpu.cr4 & CR4_OSXMMEXCPT else VECTOR_UD, 0)
        return False
    return True


# An unmasked overflow or underflow delivers the result with an exponent that has no bounds (SDM 1:4.9.1.4-5). So a tiny
# result underflows even if it is exact, and either is inexact only if the fraction was rounded. refine_flags() finds
# that out lane by lane, with operands whose exponents have been brought to the middle.

ctypedef void (*ScalarFloat)(Vector* result, const Vector* a, const Vector* b) noexcept nogil

cdef enum:
    A_SUM                   # the exponents have to keep their distance
    A_PRODUCT               # or not: MUL, DIV, and conversions


cdef inline wide_lane moderate(wide_lane x, const u32 kind) noexcept nogil:
    cdef u32 fraction_bits = 23 if wide_lane is u32 else 52
    cdef wide_lane hidden = <wide_lane>1 << fraction_bits
    cdef wide_lane exponents = (<wide_lane>-1 << 1 >> 1) & ~(hidden - 1)
    cdef wide_lane one = exponents >> 1 & exponents     # the exponent of 1.0
    if kind == A_SUM:
        return x - 4 * hidden if x & exponents >= 8 * hidden else x
    if x & exponents == 0:
        while x & hidden == 0:
            x = (x & ~exponents & ~(hidden - 1)) | (x & (hidden - 1)) << 1
    return x & ~exponents | one


cdef u32 flags_of(CPU* cpu, ScalarFloat compute, Vector* result, wide_lane a, wide_lane b) noexcept nogil:
    cdef Vector first, second
    pair(&first, a, 0)
    pair(&second, b, 0)
    set_host_mxcsr(guarded_mxcsr(cpu))
    compute(result, &first, &second)
    return get_host_mxcsr() & MXCSR_FLAGS


cdef void refine_flags(CPU* cpu, ScalarFloat compute, u32 kind, bint single, const wide_lane* a, const wide_lane* b,
                       u32 n) noexcept nogil:
    """`single`: the result is of that precision, whatever the operands are."""
    cdef u32 i, flags
    cdef u32 total = 0
    cdef Vector result
    cdef bint tiny
    if not unmasked(cpu) & (MXCSR_OE | MXCSR_UE):
        return
    for i in range(n):
        flags = flags_of[wide_lane](cpu, compute, &result, a[i], b[i])
        if single:
            tiny = result.d[0] & 0x7F800000u == 0 and result.d[0] & 0x7FFFFF != 0
        else:
            tiny = result.q[0] << 1 >> 53 == 0 and result.q[0] << 12 != 0
        if tiny:
            flags |= MXCSR_UE & unmasked(cpu)
        if flags & unmasked(cpu) & (MXCSR_OE | MXCSR_UE):
            flags &= ~<u32>MXCSR_PE
            flags |= MXCSR_PE & flags_of[wide_lane](cpu, compute, &result, moderate[wide_lane](a[i], kind),
                                                    moderate[wide_lane](b[i], kind))
        total |= flags
    set_host_mxcsr(guarded_mxcsr(cpu) | total)


cdef void sync_mxcsr(CPU* cpu) noexcept nogil:
    """Make CPU.mxcsr valid."""
    if cpu.mxcsr_loaded:
        cpu.mxcsr = get_host_mxcsr()


cdef void leave_mxcsr(CPU* cpu) noexcept nogil:
    """Give the host its MXCSR back: at the end of a run, and before CPU.mxcsr is written."""
    if cpu.mxcsr_loaded:
        cpu.mxcsr = get_host_mxcsr()
        set_host_mxcsr(cpu.host_mxcsr)
        cpu.mxcsr_loaded = False


cdef void raw_ldmxcsr_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LDMXCSR m32: #GP(0) for reserved bits."""
    cdef u32 value
    if not (permit(cpu, USES_SSE) and virtual_read(cpu, op.segment, effective_address(cpu, op), 4, &value)):
        raise_fault(cpu, op)
        return
    if value & ~<u32>MXCSR_DEFINED:
        fault(cpu, op, VECTOR_GP, 0)
        return
    leave_mxcsr(cpu)
    cpu.mxcsr = value
    finish(cpu, op, mem)


cdef void raw_stmxcsr_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """STMXCSR m32."""
    sync_mxcsr(cpu)
    if not (permit(cpu, USES_SSE) and virtual_write(cpu, op.segment, effective_address(cpu, op), 4, cpu.mxcsr)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


# --- The rest --------------------------------------------------------------------------------------------------------

cdef void raw_emms(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """EMMS: all x87 registers are empty; TOP as behind any MMX instruction."""
    if rare(blocked(cpu, USES_MMX)) and not permit(cpu, USES_MMX):
        raise_fault(cpu, op)
        return
    enter_mmx(cpu)
    cpu.fpu_empty = 0xFF
    next_uop(cpu, op, mem)


cdef void store_masked(CPU* cpu, Uop* op, char* mem, const Vector* value, const Vector* mask, u32 size,
                       u32 uses) noexcept nogil:
    """MASKMOVQ, MASKMOVDQU: the bytes whose mask has its top bit set, at DS:(E)DI; all of them, or none and a fault."""
    cdef u32 offset = cpu.gpr[EDI].w if op.extra & ADDRESS16 else cpu.gpr[EDI].d
    cdef u32 i
    if not permit(cpu, uses):
        raise_fault(cpu, op)
        return
    for i in range(size):
        if mask.b[i] & 0x80 and not virtual_probe_write(cpu, op.segment, offset + i, 1):
            raise_fault(cpu, op)
            return
    for i in range(size):
        if mask.b[i] & 0x80 and not virtual_write(cpu, op.segment, offset + i, 1, value.b[i]):
            raise_fault(cpu, op)
            return
    if uses & USES_MMX:
        enter_mmx(cpu)
    finish(cpu, op, mem)


cdef void raw_maskmovq(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_masked(cpu, op, mem, <Vector*>&cpu.fpu[op.reg], <Vector*>&cpu.fpu[op.base], 8, USES_MMX)


cdef void raw_maskmovdqu(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_masked(cpu, op, mem, &cpu.xmm[op.reg], &cpu.xmm[op.base], 16, USES_SSE)


cdef void raw_fence(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LFENCE, MFENCE, SFENCE: one processor, in order."""
    next_uop(cpu, op, mem)


cdef void raw_clflush_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """CLFLUSH m8: no cache, but the checks of a load."""
    cdef u32 linear
    cdef u64 physical
    if not (segment_check(cpu, &cpu.seg[op.segment], op.segment, effective_address(cpu, op), 1, False, &linear)
            and translate(cpu, linear, False, cpu.cpl == 3, &physical)):
        raise_fault(cpu, op)
        return
    next_uop(cpu, op, mem)
