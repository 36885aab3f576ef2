# What hosts share whose guest has its kernel in ring 1: descriptors, interrupt frames, instructions that trap there.
#
# Enters: nothing of a host: these work on the processor. Leaves: functions. Next: the host's first file, which says
# where it keeps what it knows of its guest.

cdef enum:
    KERNEL_RING = 1
    OPERAND_SIZE = 0x66                 # the prefix
    FIRST_EXTERNAL_VECTOR = 0x20        # line 0 of the interrupt controller
    NSEC_PER_SEC = 1000000000           # a cycle is a nanosecond of the guest's time
    MIN_PERIOD_NS = 1000000             # of a timer that goes on by itself
    FAR_BITS = 62                       # a time of more bits, 146 years, does not come: sums of times do not overflow

# --- Descriptors and gates -------------------------------------------------------------------------------------------

cdef u64 outside_ring_0(u64 descriptor) noexcept nogil:
    """What of a guest's descriptor the processor may see: ring 1 for ring 0, and nothing for one of the system.

    The accessed bit is set, for the processor does not write to a copy.
    """
    cdef u32 high = <u32>(descriptor >> 32)
    cdef u32 needed = (SEG_P | SEG_S) << 8
    if high & needed != needed:
        return 0
    if not high & (SEG_DPL << 8):
        high |= KERNEL_RING << (SEG_DPL_SHIFT + 8)
    return <u64>(high | SEG_ACCESSED << 8) << 32 | <u32>descriptor


cdef u32 gate_offset(u64 gate) noexcept nogil:
    return <u32>gate & 0xFFFF | <u32>(gate >> 32) & 0xFFFF0000u


cdef u32 make_frame(CPU* cpu, u32* frame, u32 flags, u32 cs, u32 error, bint has_error) noexcept nogil:
    """What an interrupt pushes, the first word first; how many words, 6 at most."""
    cdef u32 count = 0
    if cpu.cpl != KERNEL_RING:
        frame[0] = cpu.seg[SS].selector
        frame[1] = cpu.gpr[ESP].d
        count = 2
    frame[count] = flags
    frame[count + 1] = cs
    frame[count + 2] = cpu.eip
    count += 3
    if has_error:
        frame[count] = error
        count += 1
    return count


# --- Instructions that trap ------------------------------------------------------------------------------------------

cdef bint fetch_code(CPU* cpu, u32 distance, u32* byte) noexcept nogil:
    """A byte of the instruction at EIP. False: not mapped, or in device memory."""
    cdef bint read = linear_read(cpu, <u32>cpu.seg[CS].base + cpu.eip + distance, 1, cpu.cpl == 3, byte)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE
    return read


cdef bint fetch_opcode(CPU* cpu, u32* opcode, u32* prefixes) noexcept nogil:
    """The first opcode byte, and how many prefixes are in front of it: none, or that of the operand size."""
    prefixes[0] = 0
    if not fetch_code(cpu, 0, opcode):
        return False
    if opcode[0] == OPERAND_SIZE:
        prefixes[0] = 1
        return fetch_code(cpu, 1, opcode)
    return True


cdef bint is_port_access(u32 opcode) noexcept nogil:
    """IN or OUT: port in the instruction, or in DX (bit 3); an odd opcode is not for a byte."""
    return opcode & ~<u32>0x0B == 0xE4


cdef u32 port_access_bytes(u32 opcode, u32 prefixes) noexcept nogil:
    return 1 if not opcode & 1 else 2 if prefixes else 4


cdef void finish_port_access(CPU* cpu, u32 opcode, u32 prefixes, u32 value) noexcept nogil:
    """IN gets its value, and both are over."""
    if not opcode & 2:
        if not opcode & 1:
            cpu.gpr[EAX].b[0] = <u8>value
        elif prefixes:
            cpu.gpr[EAX].w = <u16>value
        else:
            cpu.gpr[EAX].q = value
    cpu.eip += prefixes + (1 if opcode & 8 else 2)


cdef void set_wide(CPU* cpu, u64 value) noexcept nogil:
    """EDX:EAX, where RDTSC, RDMSR and many calls answer."""
    cpu.gpr[EAX].q = <u32>value
    cpu.gpr[EDX].q = <u32>(value >> 32)


cdef void set_debug_register(CPU* cpu, u32 number, u32 value) noexcept nogil:
    """DR0-DR3, DR6, DR7; breakpoints take effect."""
    if number == 6:
        value = value & DR6_WRITABLE | DR6_ONES
    elif number == 7:
        value = value & DR7_WRITABLE & ~<u32>DR7_GD | DR7_ONE
    cpu.dr[number] = value
    cpu.watching = cpu.dr[7] & DR7_ENABLES != 0
    update_mode(cpu)
