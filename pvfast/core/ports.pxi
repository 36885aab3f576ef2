# IN and OUT, in part INS and OUTS: the privilege check by IOPL or the TSS's I/O permission bitmap, then the device.
#
# Enters: uops of forms_system.py rows. Leaves: the dispatcher, since a device may have raised an interrupt.
# The host performs the access: the first time the instruction ends in EXIT_IO, then it is replayed (memory.pxi).
# Next: x87.pxi.

cdef bint port_allowed(CPU* cpu, u32 port, u32 size) noexcept nogil:
    """May the ports be used? Every access to them asks, so breakpoints on them are looked for here."""
    if not port_permitted(cpu, port, size):
        return False
    watch_port(cpu, port, size)
    return True


cdef bint port_permitted(CPU* cpu, u32 port, u32 size) noexcept nogil:
    """SDM 1:19.5: CPL <= IOPL, which does not count in V86 mode, or every bit of the ports clear in the bitmap of a
    32-bit TSS; else #GP(0)."""
    cdef u32 base = <u32>cpu.tr.base
    cdef u32 at, bits
    if cpu.cpl <= iopl_of(cpu) and not v86_mode(cpu):
        return True
    if cpu.tr.attributes & SEG_NULL or not cpu.tr.attributes & TYPE_32 or cpu.tr.limit < TSS32_LIMIT:
        return refuse(cpu, VECTOR_GP, 0)
    if not linear_read(cpu, base + TSS32_IO_MAP_BASE, 2, False, &at):
        return False
    at += port >> 3
    if at + 1 > cpu.tr.limit:           # two bytes are read, always
        return refuse(cpu, VECTOR_GP, 0)
    if not linear_read(cpu, base + at, 2, False, &bits):
        return False
    if (bits >> (port & 7)) & ((1 << size) - 1):
        return refuse(cpu, VECTOR_GP, 0)
    return True


cdef void port_read(CPU* cpu, Uop* op, u32 port, u32 size) noexcept nogil:
    """IN (SDM 2)."""
    cdef u32 value = 0
    if not (port_allowed(cpu, port, size) and device_access(cpu, IO_PORT_READ, port, size, &value)):
        raise_fault(cpu, op)
        return
    if size == 1:
        cpu.gpr[EAX].b[0] = <u8>value
    elif size == 2:
        cpu.gpr[EAX].w = <u16>value
    else:
        cpu.gpr[EAX].q = value
    leave_after(cpu, op)


cdef void port_write(CPU* cpu, Uop* op, u32 port, u32 size) noexcept nogil:
    """OUT (SDM 2)."""
    cdef u32 value = cpu.gpr[EAX].d & (0xFFFFFFFFu >> (32 - 8 * size))
    if not (port_allowed(cpu, port, size) and device_access(cpu, IO_PORT_WRITE, port, size, &value)):
        raise_fault(cpu, op)
        return
    leave_after(cpu, op)


cdef void raw_in8_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, op.imm & 0xFF, 1)


cdef void raw_in16_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, op.imm & 0xFF, 2)


cdef void raw_in32_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, op.imm & 0xFF, 4)


cdef void raw_in8_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, cpu.gpr[EDX].w, 1)


cdef void raw_in16_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, cpu.gpr[EDX].w, 2)


cdef void raw_in32_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_read(cpu, op, cpu.gpr[EDX].w, 4)


cdef void raw_out8_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, op.imm & 0xFF, 1)


cdef void raw_out16_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, op.imm & 0xFF, 2)


cdef void raw_out32_imm(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, op.imm & 0xFF, 4)


cdef void raw_out8_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, cpu.gpr[EDX].w, 1)


cdef void raw_out16_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, cpu.gpr[EDX].w, 2)


cdef void raw_out32_dx(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    port_write(cpu, op, cpu.gpr[EDX].w, 4)
