# Control and debug registers, the TLB and caches, time, identification, descriptor-table registers.
#
# Enters: uops of forms_system.py rows whose `raw` names one of these. Leaves: the next uop, or the block.
# Next: msr.pxi (model-specific registers).

cdef extern from *:
    """
    #define PVFAST_EXTENDED_LEAF 0x80000000u
    #define PVFAST_HYPERVISOR_LEAF 0x40000000u
    """
    const u32 EXTENDED_LEAF "PVFAST_EXTENDED_LEAF"              # of CPUID: the first of the extended ones
    const u32 HYPERVISOR_LEAF "PVFAST_HYPERVISOR_LEAF"          # the first of those that hypervisors answer


# --- Control registers (SDM 2, MOV to/from control registers; SDM 3:2.5) ---------------------------------------------

cdef bint write_cr0(CPU* cpu, u32 value) noexcept nogil:
    cdef u32 changed
    value = (value & CR0_BITS) | CR0_ET
    if (value & CR0_PG and not value & CR0_PE) or (value & CR0_NW and not value & CR0_CD):
        return refuse(cpu, VECTOR_GP, 0)
    changed = cpu.cr0 ^ value
    if value & CR0_PG and cpu.cr4 & CR4_PAE and changed & (CR0_PG | CR0_CD | CR0_NW) and not load_pdptes(cpu, cpu.cr3):
        return False
    cpu.cr0 = value
    if changed & CR0_PE and not value & CR0_PE:
        leave_protected_mode(cpu)
    if changed & (CR0_PG | CR0_WP):
        flush_tlb(cpu)
    update_mode(cpu)
    return True


cdef u32 cr4_bits(CPU* cpu) noexcept nogil:
    """The CR4 bits that exist, by the feature that announces each."""
    cdef u32 bits = 0
    if has_feature(cpu, FEATURE_VME):
        bits |= CR4_VME | CR4_PVI
    if has_feature(cpu, FEATURE_TSC):
        bits |= CR4_TSD
    if has_feature(cpu, FEATURE_DE):
        bits |= CR4_DE
    if has_feature(cpu, FEATURE_PSE):
        bits |= CR4_PSE
    if has_feature(cpu, FEATURE_PAE):
        bits |= CR4_PAE
    if has_feature(cpu, FEATURE_MCE):
        bits |= CR4_MCE
    if has_feature(cpu, FEATURE_PGE):
        bits |= CR4_PGE
    if has_feature(cpu, FEATURE_RDPMC):
        bits |= CR4_PCE
    if has_feature(cpu, FEATURE_FXSR):
        bits |= CR4_OSFXSR
    if has_feature(cpu, FEATURE_SSE):
        bits |= CR4_OSXMMEXCPT
    return bits


cdef inline bint has_feature(CPU* cpu, u32 bit) noexcept nogil:
    return cpu.features >> bit & 1


cdef bint write_cr3(CPU* cpu, u32 value) noexcept nogil:
    """MOV to CR3, and task switches: with PAE paging it loads the PDPTEs (SDM 3:4.4.1)."""
    if cpu.cr0 & CR0_PG and cpu.cr4 & CR4_PAE and not load_pdptes(cpu, value):
        return False
    cpu.cr3 = value
    flush_local(cpu)
    return True


cdef bint write_cr4(CPU* cpu, u32 value) noexcept nogil:
    cdef bint remapped = (cpu.cr4 ^ value) & (CR4_PSE | CR4_PAE | CR4_PGE) != 0
    if value & ~cr4_bits(cpu):
        return refuse(cpu, VECTOR_GP, 0)
    if remapped and cpu.cr0 & CR0_PG and value & CR4_PAE and not load_pdptes(cpu, cpu.cr3):
        return False
    cpu.cr4 = value
    if remapped:
        update_reserved_bits(cpu)
        flush_tlb(cpu)
    return True


cdef bint write_cr(CPU* cpu, u32 number, u32 value) noexcept nogil:
    """MOV to CR0, CR2, CR3 or CR4, with all that follows from it."""
    if number == 0:
        return write_cr0(cpu, value)
    if number == 2:
        cpu.cr2 = value
        return True
    if number == 3:
        return write_cr3(cpu, value)
    if number == 4 and has_feature(cpu, FEATURE_CPUID):     # CR4 came with what CPUID announces
        return write_cr4(cpu, value)
    return refuse(cpu, VECTOR_UD, 0)


cdef void raw_mov_to_cr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV CRn, r32: `reg` is the control register, `base` the general one."""
    if not write_cr(cpu, op.reg, cpu.gpr[op.base & 7].d):
        raise_fault(cpu, op)
        return
    leave_after(cpu, op)


cdef void raw_mov_from_cr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV r32, CRn."""
    if op.reg == 0:
        cpu.gpr[op.base & 7].q = cpu.cr0
    elif op.reg == 2:
        cpu.gpr[op.base & 7].q = cpu.cr2
    elif op.reg == 3:
        cpu.gpr[op.base & 7].q = cpu.cr3
    elif op.reg == 4 and has_feature(cpu, FEATURE_CPUID):
        cpu.gpr[op.base & 7].q = cpu.cr4
    else:
        fault(cpu, op, VECTOR_UD, 0)
        return
    next_uop(cpu, op, mem)


cdef void raw_clts(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """CLTS (SDM 2)."""
    cpu.cr0 &= ~<u32>CR0_TS
    next_uop(cpu, op, mem)


cdef void load_machine_status(CPU* cpu, Uop* op, u32 value) noexcept nogil:
    """LMSW (SDM 2): CR0 bits 0-3; PE can be set, not cleared."""
    value = (cpu.cr0 & ~<u32>(CR0_MP | CR0_EM | CR0_TS)) | (value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS))
    if not write_cr0(cpu, value):
        raise_fault(cpu, op)
        return
    leave_after(cpu, op)


cdef void raw_lmsw_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LMSW r16."""
    load_machine_status(cpu, op, cpu.gpr[op.base].d)


cdef void raw_lmsw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LMSW m16."""
    cdef u32 value
    if not virtual_read(cpu, op.segment, effective_address(cpu, op), 2, &value):
        raise_fault(cpu, op)
        return
    load_machine_status(cpu, op, value)


cdef void raw_smsw_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SMSW r32 (SDM 2): processors store the whole of CR0."""
    cpu.gpr[op.base].q = cpu.cr0
    next_uop(cpu, op, mem)


cdef void raw_smsw16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SMSW r16."""
    cpu.gpr[op.base].w = <u16>cpu.cr0
    next_uop(cpu, op, mem)


cdef void raw_smsw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SMSW m16."""
    store_word(cpu, op, mem, cpu.cr0)


cdef void raw_smsw16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SMSW m16."""
    store_word(cpu, op, mem, cpu.cr0)


cdef void store_word(CPU* cpu, Uop* op, char* mem, u32 value) noexcept nogil:
    """Store 16 bits whatever the operand size, as SMSW, SLDT, STR and MOV m16, Sreg do, and go on."""
    if not virtual_write(cpu, op.segment, effective_address(cpu, op), 2, value & 0xFFFF):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


# --- Debug registers (SDM 3:17.2). What they do is in debug.pxi. -----------------------------------------------------

cdef i32 debug_register(CPU* cpu, u32 number) noexcept nogil:
    """DR4 and DR5 are DR6 and DR7, or undefined (-1) when CR4.DE is set (SDM 3:17.2.2)."""
    if number == 4 or number == 5:
        return -1 if cpu.cr4 & CR4_DE else number + 2
    return number


cdef void raw_mov_from_dr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV r32, DRn (SDM 2)."""
    cdef i32 number = debug_register(cpu, op.reg)
    if number < 0:
        fault(cpu, op, VECTOR_UD, 0)
        return
    if cpu.dr[7] & DR7_GD:
        general_detect(cpu, op)
        return
    if number == 6:
        cpu.gpr[op.base & 7].q = cpu.dr[6] | DR6_ONES
    elif number == 7:
        cpu.gpr[op.base & 7].q = cpu.dr[7] | DR7_ONE
    else:
        cpu.gpr[op.base & 7].q = cpu.dr[number]
    next_uop(cpu, op, mem)


cdef void raw_mov_to_dr(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV DRn, r32 (SDM 2)."""
    cdef i32 number = debug_register(cpu, op.reg)
    cdef u32 value = cpu.gpr[op.base & 7].d
    if number < 0:
        fault(cpu, op, VECTOR_UD, 0)
        return
    if cpu.dr[7] & DR7_GD:
        general_detect(cpu, op)
        return
    if number == 6:
        value = (value & DR6_WRITABLE) | DR6_ONES
    elif number == 7:
        value = (value & DR7_WRITABLE) | DR7_ONE
    cpu.dr[number] = value
    if number == 7:
        breakpoints_changed(cpu)
    leave_after(cpu, op)


# --- Caches and TLB --------------------------------------------------------------------------------------------------

cdef void raw_invlpg_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INVLPG m (SDM 2): the address is not accessed, so neither limit nor rights matter."""
    flush_page(cpu, <u32>(cpu.seg[op.segment].base + effective_address(cpu, op)))
    leave_after(cpu, op)


cdef void raw_wbinvd(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """WBINVD (SDM 2): there is no cache to write back."""
    next_uop(cpu, op, mem)


cdef void raw_invd(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INVD (SDM 2)."""
    next_uop(cpu, op, mem)


# --- Time and identification -----------------------------------------------------------------------------------------

cdef void raw_rdtsc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """RDTSC (SDM 2): modelled cycles. CR4.TSD keeps it to CPL 0."""
    cdef u64 tsc
    if rare(cpu.cr4 & CR4_TSD and cpu.cpl != 0):
        raw_privileged(cpu, op, mem)
        return
    tsc = now_cycles(cpu, op) + cpu.tsc_offset
    cpu.gpr[EAX].q = <u32>tsc
    cpu.gpr[EDX].q = <u32>(tsc >> 32)
    next_uop(cpu, op, mem)


cdef void identify(CPU* cpu) noexcept nogil:
    """What CPUID answers (SDM 2, CPUID): a leaf beyond the last answers as the last basic one does."""
    cdef u32 leaf = cpu.gpr[EAX].d
    cdef u32* answer = cpu.cpuid[cpu.cpuid_leaves - 1 if cpu.cpuid_leaves else 0]
    if leaf < cpu.cpuid_leaves:
        answer = cpu.cpuid[leaf]
    elif leaf - EXTENDED_LEAF < cpu.cpuid_extended_leaves:
        answer = cpu.cpuid_extended[leaf - EXTENDED_LEAF]
    elif leaf - HYPERVISOR_LEAF < cpu.cpuid_hypervisor_leaves:
        answer = cpu.cpuid_hypervisor[leaf - HYPERVISOR_LEAF]
    cpu.gpr[EAX].q = answer[0]
    cpu.gpr[EBX].q = answer[1]
    cpu.gpr[ECX].q = answer[2]
    cpu.gpr[EDX].q = answer[3]


cdef void raw_cpuid(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """CPUID (SDM 2)."""
    identify(cpu)
    next_uop(cpu, op, mem)


# --- Descriptor-table registers (SDM 2, LGDT and SGDT; SDM 3:2.4) ----------------------------------------------------

cdef bint read_table_register(CPU* cpu, Uop* op, u32* limit, u32* base) noexcept nogil:
    """The six bytes of a pseudo-descriptor (SDM 3:3.5.1)."""
    cdef u32 offset = effective_address(cpu, op)
    return (virtual_read(cpu, op.segment, offset, 2, limit)
            and virtual_read(cpu, op.segment, offset + 2, 4, base))


cdef void load_gdtr(CPU* cpu, Uop* op, char* mem, u32 base_mask) noexcept nogil:
    cdef u32 limit, base
    if not read_table_register(cpu, op, &limit, &base):
        raise_fault(cpu, op)
        return
    cpu.gdt_limit = limit
    cpu.gdt_base = base & base_mask
    finish(cpu, op, mem)


cdef void load_idtr(CPU* cpu, Uop* op, char* mem, u32 base_mask) noexcept nogil:
    cdef u32 limit, base
    if not read_table_register(cpu, op, &limit, &base):
        raise_fault(cpu, op)
        return
    cpu.idt_limit = limit
    cpu.idt_base = base & base_mask
    finish(cpu, op, mem)


cdef void raw_lgdt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LGDT m16&32."""
    load_gdtr(cpu, op, mem, 0xFFFFFFFFu)


cdef void raw_lgdt16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LGDT with 16-bit operand size: 24 bits of base."""
    load_gdtr(cpu, op, mem, 0xFFFFFF)


cdef void raw_lidt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LIDT m16&32."""
    load_idtr(cpu, op, mem, 0xFFFFFFFFu)


cdef void raw_lidt16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """LIDT with 16-bit operand size: 24 bits of base."""
    load_idtr(cpu, op, mem, 0xFFFFFF)


cdef void store_table_register(CPU* cpu, Uop* op, char* mem, u32 limit, u32 base) noexcept nogil:
    """All six bytes or none: a word and a doubleword, each to be aligned (SDM 3:3.5.1)."""
    cdef u32 linear, behind
    cdef u32 offset = effective_address(cpu, op)
    cdef Segment* s = &cpu.seg[op.segment]
    cdef bint user = cpu.cpl == 3
    if not (segment_check(cpu, s, op.segment, offset, 2, True, &linear)
            and segment_check(cpu, s, op.segment, offset + 2, 4, True, &behind)
            and linear_probe_write(cpu, linear, 6, user) and linear_write(cpu, linear, 2, user, limit & 0xFFFF)
            and linear_write(cpu, linear + 2, 4, user, base)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_sgdt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SGDT m."""
    store_table_register(cpu, op, mem, cpu.gdt_limit, cpu.gdt_base)


cdef void raw_sidt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SIDT m."""
    store_table_register(cpu, op, mem, cpu.idt_limit, cpu.idt_base)
