# Model-specific registers: what RDMSR, WRMSR and RDPMC reach (SDM 4:2).
#
# Enters: uops of forms_system.py rows whose `raw` names one of these. Leaves: the next uop, or the block.
# Next: raw_segments.pxi (segment registers and far transfers).
#
# A register exists when the processor has the feature that the manual ties it to; any other is #GP(0). Memory types,
# performance counters and DEBUGCTL are storage: checked, kept, and without effect. No counter counts.

cdef enum:
    MSR_P5_MC_TYPE = 0x1            # behind MSR_P5_MC_ADDR, 0
    MSR_PLATFORM_ID = 0x17
    MSR_APIC_BASE = 0x1B
    MSR_BIOS_UPDATE_TRIGGER = 0x79
    MSR_BIOS_SIGNATURE = 0x8B
    MSR_COUNTER0 = 0xC1             # P6 family: PerfCtr0 and 1
    MSR_MTRR_CAP = 0xFE
    MSR_MCG_CAP = 0x179
    MSR_MCG_STATUS = 0x17A
    MSR_EVENT_SELECT0 = 0x186       # P6 family: PerfEvtSel0 and 1
    MSR_MISC_ENABLE = 0x1A0
    MSR_DEBUGCTL = 0x1D9
    MSR_MTRR_VARIABLE = 0x200       # PHYSBASE0, PHYSMASK0, PHYSBASE1 ...
    MSR_MTRR_64K = 0x250
    MSR_MTRR_16K = 0x258            # two of them
    MSR_MTRR_4K = 0x268             # eight
    MSR_PAT = 0x277
    MSR_MTRR_DEFAULT = 0x2FF
    COUNTERS = 2
    MTRR_PAIRS = 8
    MTRR_CAP = MTRR_PAIRS | 0x100 | 0x400       # fixed-range registers, write combining (SDM 3:11.11.1)
    MTRR_DEFAULT_BITS = 0xCFF                   # E, FE, type (SDM 3:11.11.2.1)
    MCG_STATUS_BITS = 0x7                       # SDM 3:15.3.1.2
    DEBUGCTL_BITS = 0x7F                        # P6 family: TR, PB3-PB0, BTF, LBR
    MISC_ENABLE_AT_RESET = 0x1801               # fast strings; neither BTS nor PEBS

cdef extern from *:
    """
    #define PVFAST_MSR_EFER 0xC0000080u
    #define PVFAST_PAT_AT_RESET 0x0007040600070406ull
    #define PVFAST_MTRR_BASE_BITS 0x0000000FFFFFF0FFull
    #define PVFAST_MTRR_MASK_BITS 0x0000000FFFFFF800ull
    #define PVFAST_COUNTER_BITS 0x000000FFFFFFFFFFull
    #define PVFAST_APIC_BASE_AT_RESET 0xFEE00100u
    """
    const u32 MSR_EFER "PVFAST_MSR_EFER"
    const u64 PAT_AT_RESET "PVFAST_PAT_AT_RESET"                # SDM 3:11.12.4
    const u64 MTRR_BASE_BITS "PVFAST_MTRR_BASE_BITS"            # SDM 3:11.11.2.3, for MAXPHYADDR 36
    const u64 MTRR_MASK_BITS "PVFAST_MTRR_MASK_BITS"
    const u64 COUNTER_BITS "PVFAST_COUNTER_BITS"
    const u32 APIC_BASE_AT_RESET "PVFAST_APIC_BASE_AT_RESET"    # boot processor, local APIC off


cdef u64* stored_msr(CPU* cpu, u32 msr) noexcept nogil:
    """Where a register that is storage lies; NULL for the others, and for those that the processor lacks."""
    cdef bint p6 = has_feature(cpu, FEATURE_CMOV)
    if has_feature(cpu, FEATURE_MTRR):
        if msr - MSR_MTRR_VARIABLE < 2 * MTRR_PAIRS:
            return &cpu.mtrr_variable[msr - MSR_MTRR_VARIABLE]
        if msr == MSR_MTRR_64K:
            return &cpu.mtrr_fixed[0]
        if msr - MSR_MTRR_16K < 2:
            return &cpu.mtrr_fixed[1 + msr - MSR_MTRR_16K]
        if msr - MSR_MTRR_4K < 8:
            return &cpu.mtrr_fixed[3 + msr - MSR_MTRR_4K]
        if msr == MSR_MTRR_DEFAULT:
            return &cpu.mtrr_default
    if msr == MSR_PAT and has_feature(cpu, FEATURE_PAT):
        return &cpu.pat
    if msr == MSR_MCG_STATUS and has_feature(cpu, FEATURE_MCA):
        return &cpu.mcg_status
    if p6 and msr - MSR_COUNTER0 < COUNTERS:
        return &cpu.performance_counter[msr - MSR_COUNTER0]
    if p6 and msr - MSR_EVENT_SELECT0 < COUNTERS:
        return &cpu.event_select[msr - MSR_EVENT_SELECT0]
    if p6 and msr == MSR_DEBUGCTL:
        return &cpu.debugctl
    if msr == MSR_MISC_ENABLE and has_feature(cpu, FEATURE_SSE2):
        return &cpu.misc_enable
    return NULL


cdef bint are_memory_types(u64 value, u32 count, bint pat) noexcept nogil:
    """Is each of the low `count` bytes a memory type (SDM 3:11.3, table 11-11)? UC- is one in the PAT only."""
    cdef u32 i, kind
    for i in range(count):
        kind = (value >> (8 * i)) & 0xFF
        if kind > 7 or kind == 2 or kind == 3 or (kind == 7 and not pat):
            return False
    return True


cdef bint is_storable(u32 msr, u64 value) noexcept nogil:
    """May a stored register hold this value? Reserved bits and memory types are #GP(0)."""
    if msr - MSR_MTRR_VARIABLE < 2 * MTRR_PAIRS:
        if msr & 1:
            return not value & ~MTRR_MASK_BITS
        return not value & ~MTRR_BASE_BITS and are_memory_types(value, 1, False)
    if msr == MSR_MTRR_DEFAULT:
        return not value & ~<u64>MTRR_DEFAULT_BITS and are_memory_types(value, 1, False)
    if MSR_MTRR_64K <= msr <= MSR_PAT:
        return are_memory_types(value, 8, msr == MSR_PAT)
    if msr == MSR_MCG_STATUS:
        return not value & ~<u64>MCG_STATUS_BITS
    if msr == MSR_DEBUGCTL:
        return not value & ~<u64>DEBUGCTL_BITS
    return True


cdef bint read_msr(CPU* cpu, u32 msr, u64* value) noexcept nogil:
    """False: there is no such register, or it cannot be read."""
    cdef bint p6 = has_feature(cpu, FEATURE_CMOV)
    cdef u64* stored = stored_msr(cpu, msr)
    value[0] = 0
    if stored != NULL:
        value[0] = stored[0]
    elif msr == MSR_SYSENTER_CS and has_feature(cpu, FEATURE_SEP):
        value[0] = cpu.sysenter_cs
    elif msr == MSR_SYSENTER_ESP and has_feature(cpu, FEATURE_SEP):
        value[0] = cpu.sysenter_esp
    elif msr == MSR_SYSENTER_EIP and has_feature(cpu, FEATURE_SEP):
        value[0] = cpu.sysenter_eip
    elif msr == MSR_EFER and has_feature(cpu, FEATURE_NX):
        value[0] = cpu.efer
    elif msr == MSR_APIC_BASE and p6:
        value[0] = APIC_BASE_AT_RESET
    elif msr == MSR_MTRR_CAP and has_feature(cpu, FEATURE_MTRR):
        value[0] = MTRR_CAP
    elif msr <= MSR_P5_MC_TYPE:
        return has_feature(cpu, FEATURE_MCE)        # no machine check has happened
    elif msr == MSR_MCG_CAP:
        return has_feature(cpu, FEATURE_MCA)        # no banks
    elif msr == MSR_PLATFORM_ID or msr == MSR_BIOS_SIGNATURE:
        return p6                                   # no microcode update is loaded
    else:
        return False
    return True


cdef bint write_msr(CPU* cpu, u32 msr, u64 value) noexcept nogil:
    """False: there is no such register, it cannot be written, or not with this value."""
    cdef u64* stored = stored_msr(cpu, msr)
    if stored != NULL:
        if not is_storable(msr, value):
            return False
        if msr - MSR_COUNTER0 < COUNTERS:
            value = <u64><i64><i32><u32>value & COUNTER_BITS        # SDM 3:18.6.8
        stored[0] = value
    elif msr == MSR_SYSENTER_CS and has_feature(cpu, FEATURE_SEP):
        cpu.sysenter_cs = <u32>value
    elif msr == MSR_SYSENTER_ESP and has_feature(cpu, FEATURE_SEP):
        cpu.sysenter_esp = <u32>value
    elif msr == MSR_SYSENTER_EIP and has_feature(cpu, FEATURE_SEP):
        cpu.sysenter_eip = <u32>value
    elif msr == MSR_EFER and has_feature(cpu, FEATURE_NX):
        if value & ~<u64>EFER_NXE:
            return False
        cpu.efer = <u32>value
        update_reserved_bits(cpu)
        flush_tlb(cpu)
    else:
        return (msr == MSR_BIOS_UPDATE_TRIGGER or msr == MSR_BIOS_SIGNATURE) and has_feature(cpu, FEATURE_CMOV)
    return True


cdef void raw_rdmsr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """RDMSR (SDM 2)."""
    cdef u32 msr = cpu.gpr[ECX].d
    cdef u64 value
    if msr == MSR_TSC and has_feature(cpu, FEATURE_TSC):
        value = now_cycles(cpu, op) + cpu.tsc_offset
    elif not read_msr(cpu, msr, &value):
        fault(cpu, op, VECTOR_GP, 0)
        return
    cpu.gpr[EAX].q = <u32>value
    cpu.gpr[EDX].q = <u32>(value >> 32)
    next_uop(cpu, op, mem)


cdef void raw_wrmsr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """WRMSR (SDM 2)."""
    cdef u32 msr = cpu.gpr[ECX].d
    cdef u64 value = <u64>cpu.gpr[EDX].d << 32 | cpu.gpr[EAX].d
    if msr == MSR_TSC and has_feature(cpu, FEATURE_TSC):
        cpu.tsc_offset = value - now_cycles(cpu, op)
    elif not write_msr(cpu, msr, value):
        fault(cpu, op, VECTOR_GP, 0)
        return
    if msr == MSR_EFER:
        leave_after(cpu, op)        # the next instruction may not be executable any more
        return
    next_uop(cpu, op, mem)


cdef void raw_rdpmc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """RDPMC (SDM 2): outside CPL 0 only with CR4.PCE."""
    cdef u32 counter = cpu.gpr[ECX].d
    if counter >= COUNTERS or (cpu.cpl != 0 and not cpu.cr4 & CR4_PCE):
        fault(cpu, op, VECTOR_GP, 0)
        return
    cpu.gpr[EAX].q = <u32>cpu.performance_counter[counter]
    cpu.gpr[EDX].q = <u32>(cpu.performance_counter[counter] >> 32)
    next_uop(cpu, op, mem)
