# x87: the register stack, readiness, pointers, and what exceptions leave (SDM 1:8).
#
# Enters: uops of forms_x87.py rows. Leaves: registers and the status word. Next: x87_arithmetic.pxi.
# The arithmetic itself is in C (x87.h): the host's processor computes, or soft_x87.h does.
#
# Design: registers are kept by their physical number, so pushing and popping only turn TOP. An instruction looks in
# this order at: CR0.EM and TS (#NM), a pending exception (#MF), its memory operand, the stack, its operands. Nothing
# is changed before the memory operand has been read; a store happens before anything else is changed.
# Vector 16 reports exceptions whatever CR0.NE says: the external way of NE = 0 (FERR#, IRQ 13) is not there.
# The opcode is kept for unmasked exceptions only, the pointers for all instructions, as the Pentium 4 does
# (SDM 1:8.1.9.1).

cdef extern from "x87.h" nogil:
    enum:
        X87_ADD, X87_MUL, X87_SUB, X87_SUBR, X87_DIV, X87_DIVR
        X87_PREM, X87_PREM1, X87_SCALE
        X87_YL2X, X87_YL2XP1, X87_ATAN
        X87_SQRT, X87_ROUND, X87_F2XM1, X87_SIN, X87_COS
        X87_TAN, X87_SINCOS, X87_EXTRACT
    enum:
        M32, M64, M80, I16, I32, I64, BCD
    ctypedef struct x87_real:
        u64 significand
        u16 exponent
    const u32 NORMAL_CONTROL "X87_NORMAL_CONTROL"
    u32 x87_enter()
    void x87_leave(u32 before)
    void x87_from_integer(x87_real* a, i64 value)
    u32 maker_arithmetic "x87_arithmetic"(u32 what, x87_real* a, const x87_real* b, u32 control, u32 status)
    u32 x87_arithmetic_m32(u32 what, x87_real* a, const void* b, u32 control, u32 status)
    u32 x87_arithmetic_m64(u32 what, x87_real* a, const void* b, u32 control, u32 status)
    u32 maker_binary "x87_binary"(u32 what, x87_real* a, const x87_real* b, u32 control, u32 status)
    u32 maker_pop "x87_pop"(u32 what, x87_real* a, const x87_real* b, u32 control, u32 status)
    u32 maker_unary "x87_unary"(u32 what, x87_real* a, u32 control, u32 status)
    u32 maker_push "x87_push"(u32 what, x87_real* a, x87_real* top, u32 control, u32 status)
    u32 x87_com(const x87_real* a, const x87_real* b, u32 control, u32 status)
    u32 x87_ucom(const x87_real* a, const x87_real* b, u32 control, u32 status)
    u32 x87_com_m32(const x87_real* a, const void* b, u32 control, u32 status)
    u32 x87_com_m64(const x87_real* a, const void* b, u32 control, u32 status)
    u32 x87_load_m32(x87_real* a, const void* b, u32 control, u32 status)
    u32 x87_load_m64(x87_real* a, const void* b, u32 control, u32 status)
    u32 x87_store_m32(void* b, const x87_real* a, u32 control, u32 status)
    u32 x87_store_m64(void* b, const x87_real* a, u32 control, u32 status)
    u32 x87_store_i16(void* b, const x87_real* a, u32 control, u32 status)
    u32 x87_store_i32(void* b, const x87_real* a, u32 control, u32 status)
    u32 x87_store_i64(void* b, const x87_real* a, u32 control, u32 status)
    u32 x87_store_bcd(void* b, const x87_real* a, u32 control, u32 status)

cdef enum:                  # the status word (SDM 1:8.1.3)
    FSW_IE = 0x1
    FSW_DE = 0x2
    FSW_ZE = 0x4
    FSW_FLAGS = 0x3F        # with OE, UE, PE; the control word's masks have the same places
    FSW_SF = 0x40
    FSW_ES = 0x80
    FSW_C0 = 0x100
    FSW_C1 = 0x200
    FSW_C2 = 0x400
    FSW_TOP = 0x3800
    FSW_TOP_SHIFT = 11
    FSW_ONE = 0x800         # of TOP
    FSW_C3 = 0x4000
    FSW_B = 0x8000
    FSW_CODES = 0x4700      # C0-C3
    FSW_UNORDERED = 0x4500
    BEFORE_COMPUTING = FSW_IE | FSW_DE | FSW_ZE     # unmasked, the instruction is not carried out (SDM 1:8.5)
    NOT_STORED = 0x1F       # and neither is a store that overflows or underflows (SDM 1:8.5.4, 8.5.5)

cdef enum:                  # the control word (SDM 1:8.1.5)
    FCW_WRITABLE = 0x1F3F
    FCW_ONE = 0x40
    FCW_RC_SHIFT = 10

cdef extern from *:
    """
    #define PVFAST_INTEGER_BIT 0x8000000000000000ull
    #define PVFAST_INDEFINITE 0xC000000000000000ull
    """
    const u64 INTEGER_BIT "PVFAST_INTEGER_BIT"          # of the significand, explicit (SDM 1:4.2.2)
    const u64 INDEFINITE "PVFAST_INDEFINITE"            # significand of the real indefinite QNaN

cdef enum:
    EXPONENT = 0x7FFF
    SIGN = 0x8000


# --- The stack -------------------------------------------------------------------------------------------------------

cdef inline u32 top_of(CPU* cpu) noexcept nogil:
    return cpu.fpu_status >> FSW_TOP_SHIFT & 7


cdef inline u32 place_of(CPU* cpu, u32 i) noexcept nogil:
    """The physical register of ST(i)."""
    return (cpu.fpu_status >> FSW_TOP_SHIFT) + i & 7


cdef inline x87_real* register_at(CPU* cpu, u32 place) noexcept nogil:
    return <x87_real*>&cpu.fpu[place]


cdef inline bint is_empty(CPU* cpu, u32 place) noexcept nogil:
    return cpu.fpu_empty >> place & 1


cdef inline void turn(CPU* cpu, u32 by) noexcept nogil:
    cpu.fpu_status = <u16>((cpu.fpu_status & ~<u32>FSW_TOP) | (cpu.fpu_status + by * FSW_ONE & FSW_TOP))


cdef inline void drop(CPU* cpu) noexcept nogil:
    """Pop."""
    cpu.fpu_empty |= <u8>(1 << top_of(cpu))
    turn(cpu, 1)


cdef inline void set_place(CPU* cpu, u32 place, x87_real* value) noexcept nogil:
    register_at(cpu, place)[0] = value[0]
    cpu.fpu_empty &= <u8>~<u32>(1 << place)


cdef void set_indefinite(CPU* cpu, u32 place) noexcept nogil:
    """The masked response to #IS and #IA."""
    cpu.fpu[place].significand = INDEFINITE
    cpu.fpu[place].exponent = EXPONENT | SIGN
    cpu.fpu_empty &= <u8>~<u32>(1 << place)


# --- Readiness -------------------------------------------------------------------------------------------------------

cdef inline bint unready(CPU* cpu) noexcept nogil:
    """Neither usable nor free of a pending exception: refuse_x87() says which."""
    return rare(cpu.cr0 & (CR0_EM | CR0_TS) or cpu.fpu_status & FSW_ES)


cdef void refuse_x87(CPU* cpu, Uop* op) noexcept nogil:
    """#NM goes before #MF (SDM 3:6.15, interrupts 7 and 16)."""
    fault(cpu, op, VECTOR_NM if cpu.cr0 & (CR0_EM | CR0_TS) else VECTOR_MF, 0)


cdef inline bint unavailable(CPU* cpu, Uop* op) noexcept nogil:
    """For control instructions, which do not wait: True after #NM."""
    if rare(cpu.cr0 & (CR0_EM | CR0_TS)):
        fault(cpu, op, VECTOR_NM, 0)
        return True
    return False


# --- What an instruction leaves --------------------------------------------------------------------------------------

cdef inline void remember(CPU* cpu, Uop* op) noexcept nogil:
    """The instruction pointer (SDM 1:8.1.8)."""
    cpu.fpu_eip = block_of(op).eip + op.offset
    cpu.fpu_cs = cpu.seg[CS].selector


cdef inline void remember_data(CPU* cpu, Uop* op, u32 offset) noexcept nogil:
    """The data pointer too."""
    remember(cpu, op)
    cpu.fpu_data = offset
    cpu.fpu_ds = cpu.seg[op.segment].selector


cdef inline bint settle(CPU* cpu, Uop* op, u32 result) noexcept nogil:
    """Put flags and C1 of a result into the status word. False: an unmasked exception is pending now."""
    cpu.fpu_status = <u16>((cpu.fpu_status & ~<u32>FSW_C1) | (result & (FSW_FLAGS | FSW_SF | FSW_C1)))
    if rare(result & ~<u32>cpu.fpu_control & FSW_FLAGS):
        cpu.fpu_status |= FSW_ES | FSW_B
        cpu.fpu_opcode = <u16>op.imm
        return False
    return True


cdef inline void set_codes(CPU* cpu, u32 codes) noexcept nogil:
    cpu.fpu_status = <u16>((cpu.fpu_status & ~<u32>FSW_CODES) | (codes & FSW_CODES))


cdef inline bint carried_out(CPU* cpu, u32 result) noexcept nogil:
    """No unmasked exception came before the computation."""
    return not rare(result & ~<u32>cpu.fpu_control & BEFORE_COMPUTING)


cdef bint underflow(CPU* cpu, Uop* op) noexcept nogil:
    """Stack underflow: #IS with C1 clear (SDM 1:8.5.1.1). True: masked."""
    return settle(cpu, op, FSW_IE | FSW_SF)


cdef bint overflow(CPU* cpu, Uop* op) noexcept nogil:
    """Stack overflow: #IS with C1 set. True: masked."""
    return settle(cpu, op, FSW_IE | FSW_SF | FSW_C1)


cdef void push_indefinite(CPU* cpu) noexcept nogil:
    turn(cpu, 7)
    set_indefinite(cpu, top_of(cpu))


cdef void fail_at(CPU* cpu, Uop* op, char* mem, u32 place, bint pop) noexcept nogil:
    """An operand is empty: the masked response puts the indefinite into the destination."""
    remember(cpu, op)
    if underflow(cpu, op):
        set_indefinite(cpu, place)
        if pop:
            drop(cpu)
    next_uop(cpu, op, mem)
