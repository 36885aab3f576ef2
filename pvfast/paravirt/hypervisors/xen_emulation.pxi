# Privileged instructions of the guest kernel, which trap in ring 1 and which Xen carries out or refuses.
#
# Enters: #GP(0) in ring 1, #UD anywhere. Leaves: EIP behind the instruction, or False: the guest gets its exception.
# Next: xen_hypercalls.pxi.
#
# CLI and STI are not emulated: they would have to work on the event mask, and Xen refuses that. HLT, LGDT, LIDT, LTR,
# INVLPG and the like have hypercalls instead.

cdef bint emulate_privileged(Domain* d, CPU* cpu) noexcept nogil:
    cdef u32 first, second, modrm, prefixes
    if not fetch_opcode(cpu, &first, &prefixes):
        return False
    if is_port_access(first):
        if d.iopl < KERNEL_RING:
            return False
        finish_port_access(cpu, first, prefixes, 0xFFFFFFFFu)      # there are no devices for it
        return True
    if first == 0xFA or first == 0xFB:
        if d.iopl < KERNEL_RING:
            return False
        cpu.eip += 1 + prefixes           # allowed, and without effect
        return True
    if first != 0x0F or prefixes or not fetch_code(cpu, 1, &second):
        return False
    if second == 0x06:                  # CLTS
        cpu.cr0 &= ~<u32>CR0_TS
    elif second == 0x09:                # WBINVD
        pass
    elif second == 0x30 or second == 0x32:
        if not emulate_msr(cpu, second == 0x30):
            return False
    elif 0x20 <= second <= 0x23:
        if not fetch_code(cpu, 2, &modrm):
            return False
        if not emulate_move(d, cpu, second, modrm >> 3 & 7, modrm & 7):
            return False
        cpu.eip += 1
    else:
        return False
    cpu.eip += 2
    return True


cdef bint emulate_msr(CPU* cpu, bint write) noexcept nogil:
    """The time-stamp counter can be read, and writing it is ignored; there is no other."""
    if cpu.gpr[ECX].d != MSR_TSC:
        return False
    if not write:
        set_wide(cpu, cycles_now(cpu) + cpu.tsc_offset)
    return True


cdef bint emulate_move(Domain* d, CPU* cpu, u32 opcode, u32 number, u32 register) noexcept nogil:
    """MOV between a general register and a control (20, 22) or debug register (21, 23)."""
    cdef Register* general = &cpu.gpr[register]
    if opcode == 0x21:
        if number == 4 or number == 5:
            return False
        general.q = cpu.dr[number]
    elif opcode == 0x23:
        return set_debugreg(cpu, number, general.d) == 0
    elif opcode == 0x20:
        if number == 0:
            general.q = cpu.cr0
        elif number == 2:
            general.q = shared_read(cpu, d.vcpu_info + VCPU_ARCH_CR2, 4)
        elif number == 3:
            general.q = cpu.cr3
        elif number == 4:
            general.q = cpu.cr4
        else:
            return False
    elif number == 0:
        if (general.d ^ cpu.cr0) & ~<u32>CR0_TS:
            return False                # only TS is the guest's
        cpu.cr0 = general.d
    elif number == 2:
        physical_write(cpu, d.vcpu_info + VCPU_ARCH_CR2, 4, general.d)
    elif number == 3:
        return new_baseptr(d, cpu, general.d >> 12)
    else:
        return number == 4              # ignored
    return True


cdef bint emulate_forced_cpuid(CPU* cpu) noexcept nogil:
    """UD2, "xen", CPUID: Xen's answer, which is the processor's here, for its table is Xen's already."""
    cdef u32 i, byte
    for i in range(7):
        if not fetch_code(cpu, i, &byte) or byte != <u8>FORCED_CPUID[i]:
            return False
    identify(cpu)
    cpu.eip += 7
    return True


cdef const char* FORCED_CPUID = b"\x0f\x0bxen\x0f\xa2"
