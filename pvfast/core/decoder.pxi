# Bytes to uops: prefixes, opcode maps, ModRM, immediates, then the choice of handler.
#
# Enters: guest code and a mode. Leaves: single uops. Next: block_decoder.pxi.
# The maps and FormInfo rows come from isa/ through the generated tables.pxi.

cdef enum:                  # FormInfo.attributes
    A_MODRM = 0x1
    A_REG8 = 0x2            # the ModRM.reg operand is an 8-bit register
    A_RM8 = 0x4             # the r/m operand is 8 bits wide
    A_PLUS_R = 0x8          # register in the opcode's low bits
    A_ENDS = 0x10
    A_LOCK = 0x20
    A_PRIVILEGED = 0x40
    A_TERMINATOR = 0x80     # uses the links behind it
    A_STRING = 0x100
    A_NOP = 0x200
    A_BARRIER = 0x400       # may fault or leave the block: flags before it are live
    A_ACCUMULATOR = 0x1000
    A_MEMORY_READ_ONLY = 0x800  # its memory operand is not written: CS may be used
    A_PROTECTED = 0x2000    # #UD in real and V86 mode

cdef enum ImmediateKind:
    I_NONE
    I_8
    I_S8
    I_16
    I_32
    I_REL8
    I_REL16
    I_REL32
    I_MOFFS
    I_FAR16                 # ptr16:16
    I_FAR32                 # ptr16:32
    I_16_8                  # ENTER

cdef enum:
    V_REGISTER = 7          # index of FormInfo handlers beside the variants of access.pxd
    UNDEFINED_FORM = 0
    GROUP = 0x8000
    ALWAYS = 255            # FormInfo.feature of what every processor has
    MAX_INSTRUCTION = 15

cdef struct FormInfo:
    u16 attributes
    u8 immediate
    u8 reads                # flags, as fold() of isa/maps.py makes them
    u8 writes
    u8 kills                # written whatever the operands
    u8 cost
    u8 register_cost        # without a memory operand
    u8 fuse                 # FUSE_ class of isa/specialisation.py, 0: none
    u8 condition            # of Jcc, else 255
    u8 feature              # bit of CPU.features without which it is #UD, or ALWAYS
    Handler live[8]
    Handler dead[8]
    Handler* special_register   # [live, dead][reg][r/m], or NULL; numbers as encoded
    Handler* special_per_cpu    # [SEGMENT, SEGMENT_PAGED][FS, GS][reg] for disp32 alone, or NULL
    Handler* special_memory     # [FLAT, PAGED][live, dead][slot of the address][reg], or NULL

include "generated/maps.pxi"


cdef void spread(Handler* table, u32 count, u32 stride, Handler run) noexcept nogil:
    cdef u32 i
    for i in range(count):
        table[i * stride] = run


cdef void describe(u32 index, u32 attributes, u32 immediate, u32 reads, u32 writes, u32 kills, u32 cost,
                   u32 register_cost, u32 fuse_class, u32 condition_code, u32 feature) noexcept nogil:
    """One call per row in the generated tables."""
    cdef FormInfo* info = &forms[index]
    info.attributes = <u16>attributes
    info.immediate = <u8>immediate
    info.reads = <u8>reads
    info.writes = <u8>writes
    info.kills = <u8>kills
    info.cost = <u8>cost
    info.register_cost = <u8>register_cost
    info.fuse = <u8>fuse_class
    info.condition = <u8>condition_code
    info.feature = <u8>feature


cdef struct Scratch:
    Block header
    Uop uops[MAX_BLOCK_UOPS + 8]
    Handler dead[MAX_BLOCK_UOPS + 8]
    u16 form[MAX_BLOCK_UOPS + 8]
    bint register_form[MAX_BLOCK_UOPS + 8]
    u32 used

cdef struct Fetch:          # what decode_one() reads from and remembers
    u8* bytes
    u32 available
    u32 eip
    u32 mode
    u32 target              # of a relative branch, else 0xFFFFFFFF
    bint relative
    bint register_form      # ModRM names a register


cdef inline u32 load32(u8* at) noexcept nogil:
    return (<u32*>at)[0]


cdef bint decode_address(Fetch* fetch, u32* at, Uop* op, u32 modrm, u32* segment) noexcept nogil:
    """ModRM, SIB and displacement of 32-bit addressing (SDM 2:2.1.5). False: bytes are missing."""
    cdef u32 mod = modrm >> 6
    cdef u32 rm = modrm & 7
    cdef u32 sib
    op.base = <u8>rm
    op.index = ZERO
    op.scale = 0
    if rm == 4:
        if at[0] >= fetch.available:
            return False
        sib = fetch.bytes[at[0]]
        at[0] += 1
        op.base = sib & 7
        op.scale = <u8>(sib >> 6)
        if (sib >> 3) & 7 != 4:
            op.index = (sib >> 3) & 7
        else:
            op.scale = 0
    segment[0] = SS if op.base == ESP or op.base == EBP else DS
    if mod == 0 and op.base == EBP:
        op.base = ZERO
        segment[0] = DS
        mod = 2
    if mod == 1:
        if at[0] + 1 > fetch.available:
            return False
        op.disp = <i8>fetch.bytes[at[0]]
        at[0] += 1
    elif mod == 2:
        if at[0] + 4 > fetch.available:
            return False
        op.disp = <i32>load32(fetch.bytes + at[0])
        at[0] += 4
    return True


cdef bint decode_address16(Fetch* fetch, u32* at, Uop* op, u32 modrm, u32* segment) noexcept nogil:
    """16-bit addressing (SDM 2, table 2-1)."""
    cdef u32 mod = modrm >> 6
    cdef u32 rm = modrm & 7
    op.extra |= ADDRESS16
    op.scale = 0
    op.base = EBX if rm == 0 or rm == 1 or rm == 7 else EBP if rm == 2 or rm == 3 or rm == 6 else \
        ESI if rm == 4 else EDI
    op.index = ZERO if rm >= 4 else ESI if rm == 0 or rm == 2 else EDI
    segment[0] = SS if op.base == EBP else DS
    if mod == 0 and rm == 6:
        op.base = ZERO
        segment[0] = DS
        mod = 2
    if mod == 1:
        if at[0] + 1 > fetch.available:
            return False
        op.disp = <i8>fetch.bytes[at[0]]
        at[0] += 1
    elif mod == 2:
        if at[0] + 2 > fetch.available:
            return False
        op.disp = fetch.bytes[at[0]] | fetch.bytes[at[0] + 1] << 8
        at[0] += 2
    return True


cdef inline u8 byte_register(u32 number) noexcept nogil:
    """AL CL DL BL AH CH DH BH as byte offsets into the register file."""
    return <u8>(number * 8 if number < 4 else (number - 4) * 8 + 1)


cdef u32 decode_one(CPU* cpu, Fetch* fetch, Uop* op, Handler* dead) noexcept nogil:
    """One instruction. Returns its form; 0 with op.length 0 when bytes are missing.

    Whatever cannot be executed decodes to a uop that raises the right fault.
    """
    cdef u32 at = 0
    cdef u32 mode = fetch.mode
    cdef bint size16 = not mode & MODE_CODE32
    cdef bint address16 = size16
    cdef bint lock = False
    cdef u32 rep = 0
    cdef u32 prefix = 0         # of PREFIXES in isa/form.py; F3 and F2 go before 66 (SDM 2:2.1.2)
    cdef u32 override = 255
    cdef u32 segment = DS
    cdef u32 opcode, modrm, number, entry, variant, two_byte, encoded
    cdef bint register_form = True
    cdef FormInfo* info
    memset(op, 0, sizeof(Uop))
    op.cycles = 1               # what is refused costs something too: a boundary never repeats at the same cycle
    op.base = ZERO
    op.index = ZERO
    fetch.register_form = False
    while True:
        if at >= fetch.available:
            return 0
        if at >= MAX_INSTRUCTION:
            op.length = MAX_INSTRUCTION
            op.run = dead[0] = raw_privileged       # #GP(0), SDM 2:2.3.11
            return UNDEFINED_FORM
        opcode = fetch.bytes[at]
        at += 1
        if opcode_map[0][0][0][opcode] != UNDEFINED_FORM:   # most opcodes; prefixes and 0F have no form
            break
        if opcode == 0x66:
            size16 = bool(mode & MODE_CODE32)
            prefix = prefix if prefix else 1
        elif opcode == 0x67:
            address16 = bool(mode & MODE_CODE32)
        elif opcode == 0xF0:
            lock = True
        elif opcode == 0xF3:
            rep = REP_Z
            prefix = 2
        elif opcode == 0xF2:
            rep = REP_NZ
            prefix = 3
        elif opcode == 0x26 or opcode == 0x2E or opcode == 0x36 or opcode == 0x3E:
            override = (opcode >> 3) & 3
        elif opcode == 0x64 or opcode == 0x65:
            override = opcode - 0x60
        else:
            break
    two_byte = 0
    if opcode == 0x0F:
        if at >= fetch.available:
            return 0
        opcode = fetch.bytes[at]
        at += 1
        two_byte = 1
    entry = opcode_map[size16][prefix][two_byte][opcode]
    modrm = 0
    if entry & GROUP or forms[entry].attributes & A_MODRM:
        if at >= fetch.available:
            return 0
        modrm = fetch.bytes[at]
        at += 1
        # MOV CR and MOV DR (0F 20-23) ignore mod: their r/m is a register (SDM 2, MOV)
        if two_byte and 0x20 <= opcode <= 0x23:
            modrm |= 0xC0
        register_form = modrm >= 0xC0
        if entry & GROUP:
            entry = opcode_groups[entry & ~<u32>GROUP][8 + (modrm & 0x3F) if register_form else (modrm >> 3) & 7]
        op.reg = (modrm >> 3) & 7
        if register_form:
            op.base = modrm & 7
        elif address16:
            if not decode_address16(fetch, &at, op, modrm, &segment):
                return 0
        elif not decode_address(fetch, &at, op, modrm, &segment):
            return 0
    info = &forms[entry]
    fetch.register_form = register_form and info.attributes & A_MODRM
    if entry == UNDEFINED_FORM or info.feature != ALWAYS and not cpu.features >> info.feature & 1:
        op.length = <u8>at
        op.run = dead[0] = raw_undefined
        return UNDEFINED_FORM
    if address16:
        op.extra |= ADDRESS16
    if info.attributes & A_PLUS_R:
        op.base = opcode & 7
    elif info.attributes & A_ACCUMULATOR:
        op.base = EAX
    encoded = op.reg * 8
    if info.attributes & A_REG8:
        op.reg = byte_register(op.reg)
    if info.attributes & A_RM8 and register_form:
        op.base = byte_register(op.base)
    # Immediate
    number = immediate_bytes(info.immediate, address16)
    if at + number > fetch.available:
        return 0
    if info.immediate == I_8:
        op.imm = fetch.bytes[at]
    elif info.immediate == I_S8 or info.immediate == I_REL8:
        op.imm = <u32><i32><i8>fetch.bytes[at]
    elif info.immediate == I_16 or info.immediate == I_REL16:
        op.imm = fetch.bytes[at] | fetch.bytes[at + 1] << 8
    elif info.immediate == I_32 or info.immediate == I_REL32:
        op.imm = load32(fetch.bytes + at)
    elif info.immediate == I_16_8:
        op.imm = fetch.bytes[at] | fetch.bytes[at + 1] << 8 | fetch.bytes[at + 2] << 16
    elif info.immediate == I_FAR16:
        op.imm = fetch.bytes[at] | fetch.bytes[at + 1] << 8
        op.disp = fetch.bytes[at + 2] | fetch.bytes[at + 3] << 8
    elif info.immediate == I_FAR32:
        op.imm = load32(fetch.bytes + at)
        op.disp = fetch.bytes[at + 4] | fetch.bytes[at + 5] << 8
    elif info.immediate == I_MOFFS:
        register_form = False
        op.base = ZERO
        op.disp = <i32>load32(fetch.bytes + at) if not address16 else fetch.bytes[at] | fetch.bytes[at + 1] << 8
    at += number
    if at > MAX_INSTRUCTION:
        op.length = MAX_INSTRUCTION
        op.run = dead[0] = raw_privileged
        return UNDEFINED_FORM
    op.length = <u8>at
    op.segment = <u8>(override if override != 255 else segment)
    op.cycles = cpu.cost[info.register_cost if register_form else info.cost]
    if lock and info.cost != COST_XCHG:     # which locks by itself (SDM 2, XCHG)
        op.cycles += cpu.cost[COST_LOCK]
    if op.segment >= FS and not register_form:
        op.cycles += cpu.cost[COST_SEGMENT_BASE]
    # An empty inline cache is for 0xFFFFFFFF, and so is the stub that it leads to.
    fetch.target = 0xFFFFFFFFu
    fetch.relative = I_REL8 <= info.immediate <= I_REL32
    if fetch.relative:
        fetch.target = (fetch.eip + at + op.imm) & (0xFFFF if size16 else 0xFFFFFFFFu)
    if info.attributes & A_TERMINATOR and info.immediate != I_16:
        op.imm = fetch.eip + at                     # the return address of calls
    if info.attributes & A_STRING:
        op.reg = <u8>rep
        op.imm = cpu.cost[COST_REP_ITERATION]
    if opcode & 0xF8 == 0xD8 and not two_byte:
        op.imm = (opcode & 7) << 8 | modrm          # what the x87 remembers as its opcode (SDM 1:8.1.9)
    # Handler
    if (lock and (not info.attributes & A_LOCK or register_form)
            or info.attributes & A_PROTECTED and mode & MODE_8086):
        op.run = dead[0] = raw_undefined
        return UNDEFINED_FORM
    if info.attributes & A_PRIVILEGED and mode & MODE_CPL:
        op.run = dead[0] = raw_privileged
        return UNDEFINED_FORM
    variant = GENERAL
    if not mode & MODE_CHECKED:
        if op.extra & ADDRESS16:
            variant = SEGMENT_A16_PAGED if mode & MODE_PAGING else SEGMENT_A16
        elif mode & MODE_FLAT and op.segment <= DS and (
                op.segment != CS or info.attributes & A_MEMORY_READ_ONLY and cpu.seg[CS].attributes & SEG_READABLE):
            variant = PAGED if mode & MODE_PAGING else FLAT
        else:
            variant = SEGMENT_PAGED if mode & MODE_PAGING else SEGMENT
    if register_form if info.attributes & A_MODRM else info.live[FLAT] == NULL and info.live[GENERAL] == NULL:
        variant = V_REGISTER
        if info.special_register != NULL:
            op.run = info.special_register[encoded + (modrm & 7)]
            dead[0] = info.special_register[64 + encoded + (modrm & 7)]
            return entry
    elif info.special_memory != NULL and variant <= PAGED:
        if op.index == ZERO:
            number = 8 if op.base == ZERO else op.base
        else:
            number = 9 + op.index if op.base == ZERO else 17
        op.run = info.special_memory[variant * 288 + number * 8 + (encoded >> 3)]
        dead[0] = info.special_memory[variant * 288 + 144 + number * 8 + (encoded >> 3)]
        return entry
    elif info.live[variant] == NULL:
        variant = GENERAL
    elif info.special_per_cpu != NULL and variant <= SEGMENT_PAGED and op.segment >= FS and op.base == ZERO \
            and op.index == ZERO:
        number = (variant - SEGMENT) * 16 + (op.segment - FS) * 8 + (encoded >> 3)
        op.run = dead[0] = info.special_per_cpu[number]
        return entry
    op.run = info.live[variant]
    dead[0] = info.dead[variant]
    if variant <= PAGED and (entry == FORM_PUSH or entry == FORM_POP):
        op.run = dead[0] = stack_special[variant][entry == FORM_POP][op.base]
    if op.run == NULL:      # the manual has no such form, e.g. LEA with a register
        op.run = dead[0] = raw_undefined
        return UNDEFINED_FORM
    return entry


cdef inline u32 immediate_bytes(u32 kind, bint address16) noexcept nogil:
    if kind == I_NONE:
        return 0
    if kind == I_8 or kind == I_S8 or kind == I_REL8:
        return 1
    if kind == I_16 or kind == I_REL16:
        return 2
    if kind == I_16_8:
        return 3
    if kind == I_FAR32:
        return 6
    if kind == I_MOFFS:
        return 2 if address16 else 4
    return 4
