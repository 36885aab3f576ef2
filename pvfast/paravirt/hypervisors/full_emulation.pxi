# What trapped is carried out as the guest's ring 0 would have done it, on what its processor would hold.
#
# Enters: #GP and its like at an instruction of the guest. Leaves: EIP behind the instruction or where it leads, one
# more instruction retired; or a fault noted that the guest gets. Next: full_events.pxi.
#
# Each function checks first and commits last. An instruction that none of them knows keeps its fault.

cdef enum:
    HLT = 0xF4
    CR0_GUEST = CR0_TS | CR0_EM | CR0_MP | CR0_NE | CR0_AM      # bits that the processor's CR0 takes from the guest's
    CR4_GUEST = CR4_TSD | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT
    CR4_KNOWN = CR4_GUEST | CR4_DE | CR4_PSE | CR4_PGE


cdef bint emulate(Guest* g, CPU* cpu, u32 vector, u32 error) noexcept nogil:
    """False: the guest's fault is noted, its own or `vector`."""
    cdef Instruction insn
    cdef u64 physical
    cdef u32 opcode
    cdef u32 tf = cpu.eflags & TF
    cdef u32 next
    if not fetch(g, cpu, <u32>cpu.seg[CS].base + cpu.eip, &insn, &physical):
        return refuse(cpu, vector, error)
    next = cpu.eip + insn.length
    opcode = insn.opcode
    refuse(cpu, vector, error)          # what it stays unless something else is noted
    if cpu.cpl != KERNEL_RING:
        if not emulate_for_user(g, cpu, &insn, &next):
            return False
    elif error & 0xFFFC or not (opcode & TWO_BYTE) and is_segment_load(&insn):
        if not emulate_segment(g, cpu, &insn, &next):
            return False
    elif opcode & TWO_BYTE == TWO_BYTE:
        if not emulate_system(g, cpu, &insn, &next):
            return False
    elif is_transfer(&insn):
        if not emulate_transfer(g, cpu, &insn, physical, &next):
            return False
    elif not emulate_flags(g, cpu, &insn, &next):
        return False
    if g.step != STEP_NONE:
        return True                     # IN or OUT, which the processor is going to execute itself
    cpu.eip = next
    cpu.surplus -= 1                    # one instruction more has retired
    g.emulated += 1
    if tf:
        cpu.debug_traps |= DR6_BS
    return True


# --- Operands --------------------------------------------------------------------------------------------------------

cdef bint read_rm(Guest* g, CPU* cpu, Instruction* insn, u32 size, u32* value) noexcept nogil:
    if insn.mod == 3:
        value[0] = cpu.gpr[insn.rm].d if size == 4 else cpu.gpr[insn.rm].w
        return True
    if insn.address16:
        return False
    return operand_read(g, cpu, operand_segment(insn), operand_offset(cpu, insn), size, value)


cdef void set_register(CPU* cpu, u32 number, u32 size, u32 value) noexcept nogil:
    if size == 4:
        cpu.gpr[number].q = value
    else:
        cpu.gpr[number].w = <u16>value


cdef bint store_selector(Guest* g, CPU* cpu, Instruction* insn, u32 value) noexcept nogil:
    """SLDT, STR, SMSW, MOV r/m, Sreg: 16 bits in memory, a whole register."""
    if insn.mod == 3:
        set_register(cpu, insn.rm, insn.size, value)
        return True
    if insn.address16:
        return False
    return operand_write(g, cpu, operand_segment(insn), operand_offset(cpu, insn), 2, value & 0xFFFF)


cdef u32 stack_mask(CPU* cpu) noexcept nogil:
    return 0xFFFFFFFFu if cpu.seg[SS].attributes & SEG_DB else 0xFFFF


cdef void move_stack(CPU* cpu, u32 distance) noexcept nogil:
    cdef u32 mask = stack_mask(cpu)
    cpu.gpr[ESP].q = (cpu.gpr[ESP].d & ~mask) | ((cpu.gpr[ESP].d + distance) & mask)


cdef bint push(Guest* g, CPU* cpu, u32 size, u32 value) noexcept nogil:
    if not operand_write(g, cpu, SS, (cpu.gpr[ESP].d - size) & stack_mask(cpu), size, value):
        return False
    move_stack(cpu, <u32>-<i32>size)
    return True


cdef bint push_selector(Guest* g, CPU* cpu, u32 size, u32 selector) noexcept nogil:
    """PUSH Sreg moves the stack by a whole operand, and stores 16 bits of it (SDM 2, PUSH)."""
    if not operand_write(g, cpu, SS, (cpu.gpr[ESP].d - size) & stack_mask(cpu), 2, selector):
        return False
    move_stack(cpu, <u32>-<i32>size)
    return True


cdef bint on_stack(Guest* g, CPU* cpu, u32 distance, u32 size, u32* value) noexcept nogil:
    return operand_read(g, cpu, SS, (cpu.gpr[ESP].d + distance) & stack_mask(cpu), size, value)


# --- Flags, halting, ports -------------------------------------------------------------------------------------------

cdef void load_flags(Guest* g, CPU* cpu, u32 value, u32 size) noexcept nogil:
    """POPF and IRET in ring 0: IF and IOPL are the guest's own."""
    set_eflags(cpu, value, RESTORED_FLAGS if size == 4 else RESTORED_FLAGS & 0xFFFF)
    update_mode(cpu)                    # AC
    g.iopl = (value & IOPL) >> IOPL_SHIFT
    allow_interrupts(g, cpu, value & EFLAGS_IF != 0)


cdef bint emulate_flags(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    cdef u32 value
    cdef u32 opcode = insn.opcode
    if opcode == 0xFA:
        g.interrupts = False
    elif opcode == 0xFB:
        if not g.interrupts:
            hold_interrupts(cpu)
        allow_interrupts(g, cpu, True)
    elif opcode == HLT:
        cpu.halted = True
        if not g.interrupts:
            cpu.eflags &= ~<u32>EFLAGS_IF       # for good: nothing wakes it
    elif opcode == 0x9C:
        return push(g, cpu, insn.size, guest_flags(g, cpu))
    elif opcode == 0x9D:
        if not on_stack(g, cpu, 0, insn.size, &value):
            return False
        move_stack(cpu, insn.size)
        load_flags(g, cpu, value, insn.size)
    elif is_port_instruction(opcode):
        begin_step(g, cpu, STEP_PORT)
    else:
        return False
    return True


cdef bint is_port_instruction(u32 opcode) noexcept nogil:
    """INS, OUTS, IN, OUT."""
    return 0x6C <= opcode <= 0x6F or is_port_access(opcode)


# --- Transfers -------------------------------------------------------------------------------------------------------

cdef bint is_transfer(Instruction* insn) noexcept nogil:
    """What emulate_transfer() knows."""
    cdef u32 opcode = insn.opcode
    if opcode == 0xFF:
        return 2 <= insn.reg <= 5
    return opcode == 0xCF or opcode == 0x9A or opcode == 0x0E or opcode == 0x16 or opcode == 0x8C


cdef bint emulate_transfer(Guest* g, CPU* cpu, Instruction* insn, u64 physical, u32* next) noexcept nogil:
    """Jumps, calls and returns; PUSH and MOV of CS and SS, which show the ring."""
    cdef u32 opcode = insn.opcode
    if opcode == 0xCF:
        return interrupt_return(g, cpu, insn, next)
    if opcode == 0xFF and (insn.reg == 2 or insn.reg == 4):
        return near_transfer(g, cpu, insn, physical, next)
    if opcode == 0x9A or (opcode == 0xFF and (insn.reg == 3 or insn.reg == 5)):
        return far_transfer(g, cpu, insn, next)
    if opcode != 0x8C:
        return push_selector(g, cpu, insn.size, own_selector(cpu, CS if opcode == 0x0E else SS))
    return store_selector(g, cpu, insn, own_selector(cpu, insn.reg))


cdef bint interrupt_return(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    """IRET within ring 0 or to ring 3. Tasks, V86 mode and the rings between are not virtualized: #GP(0)."""
    cdef u32 eip, selector, flags
    cdef u32 ss = 0
    cdef u32 esp = cpu.gpr[ESP].d + 3 * insn.size
    if not (on_stack(g, cpu, 0, insn.size, &eip) and on_stack(g, cpu, insn.size, insn.size, &selector)
            and on_stack(g, cpu, 2 * insn.size, insn.size, &flags)):
        return False
    selector &= 0xFFFF
    if cpu.eflags & NT or (insn.size == 4 and flags & VM) or selector & RPL == 2:
        return refuse(cpu, VECTOR_GP, 0)
    if selector & RPL == 3 and not (on_stack(g, cpu, 3 * insn.size, insn.size, &esp)
                                    and on_stack(g, cpu, 4 * insn.size, insn.size, &ss)):
        return False
    refresh(g, cpu)
    if not return_to_guest(cpu, real_selector(selector), eip, ss & 0xFFFF, esp):
        return False
    load_flags(g, cpu, flags, insn.size)
    next[0] = eip
    if cpu.cpl == KERNEL_RING:
        scan(g, cpu, <u32>cpu.seg[CS].base + eip)
    return True


cdef bint near_transfer(Guest* g, CPU* cpu, Instruction* insn, u64 physical, u32* next) noexcept nogil:
    """An indirect jump or call: now its target is known. It traps no more when all it can reach has been scanned."""
    cdef u32 target
    cdef u64 first, last, where
    cdef u32 base = <u32>cpu.seg[CS].base
    if not read_rm(g, cpu, insn, insn.size, &target):
        return False
    if insn.reg == 2 and not push(g, cpu, insn.size, next[0]):
        return False
    scan(g, cpu, base + target)
    if close_gaps(g, cpu, base + cpu.eip, physical, &first, &last) and guest_physical(g, cpu, base + target, &where) \
            and first <= where <= last and is_trapped(g, cpu, physical):
        trap(g, cpu, physical, False)
    next[0] = target
    return True


cdef bint far_transfer(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    """CALL far, and JMP far through memory, within ring 0; not through gates."""
    cdef u32 offset, selector
    cdef u32 esp = cpu.gpr[ESP].d
    cdef bint call = insn.opcode == 0x9A or insn.reg == 3
    if insn.opcode == 0x9A:
        offset = <u32>insn.immediate if insn.size == 4 else <u32>insn.immediate & 0xFFFF
        selector = <u32>(insn.immediate >> 8 * insn.size) & 0xFFFF
    elif insn.mod == 3 or insn.address16:
        return refuse(cpu, VECTOR_UD, 0)
    elif not (read_rm(g, cpu, insn, insn.size, &offset)
              and operand_read(g, cpu, operand_segment(insn), operand_offset(cpu, insn) + insn.size, 2, &selector)):
        return False
    if selector & RPL:
        return refuse(cpu, VECTOR_GP, selector & 0xFFFC)
    if call:
        if not push(g, cpu, insn.size, own_selector(cpu, CS)):
            return False
        if not push(g, cpu, insn.size, next[0]):
            cpu.gpr[ESP].q = esp
            return False
    refresh(g, cpu)
    if not return_to_guest(cpu, real_selector(selector), offset, 0, cpu.gpr[ESP].d):
        cpu.gpr[ESP].q = esp
        return False
    scan(g, cpu, <u32>cpu.seg[CS].base + offset)
    next[0] = offset
    return True


# --- Segment registers -----------------------------------------------------------------------------------------------

cdef bint is_segment_load(Instruction* insn) noexcept nogil:
    """MOV to SS, POP SS, RETF: in ring 1 they refuse a selector of ring 0."""
    return insn.opcode == 0x8E or insn.opcode == 0x17 or 0xCA <= insn.opcode <= 0xCB


cdef bint emulate_segment(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    """Loads of SS and far returns, with the ring that the guest's selector means."""
    cdef u32 offset, selector
    cdef u32 opcode = insn.opcode
    cdef u32 vector = cpu.fault_vector
    cdef u32 error = cpu.fault_error
    if opcode == 0x8E and insn.reg == SS:
        if not read_rm(g, cpu, insn, 2, &selector):
            return False
        return load_stack_segment(g, cpu, selector)
    if opcode == 0x17:
        if not on_stack(g, cpu, 0, 2, &selector) or not load_stack_segment(g, cpu, selector):
            return False
        move_stack(cpu, insn.size)
        return True
    if opcode == (TWO_BYTE | 0xB2) and insn.mod != 3 and not insn.address16:
        if not (read_rm(g, cpu, insn, insn.size, &offset)
                and operand_read(g, cpu, operand_segment(insn), operand_offset(cpu, insn) + insn.size, 2, &selector)):
            return False
        if not load_stack_segment(g, cpu, selector):
            return False
        set_register(cpu, insn.reg, insn.size, offset)
        return True
    if opcode == 0xCA or opcode == 0xCB:
        if not (on_stack(g, cpu, 0, insn.size, &offset) and on_stack(g, cpu, insn.size, insn.size, &selector)):
            return False
        selector &= 0xFFFF
        refresh(g, cpu)
        if selector & RPL or not return_to_guest(
                cpu, real_selector(selector), offset, 0,
                cpu.gpr[ESP].d + 2 * insn.size + (<u32>insn.immediate if opcode == 0xCA else 0)):
            return refuse(cpu, VECTOR_GP, selector & 0xFFFC)
        scan(g, cpu, <u32>cpu.seg[CS].base + offset)
        next[0] = offset
        return True
    return refuse(cpu, vector, error)


cdef bint load_stack_segment(Guest* g, CPU* cpu, u32 selector) noexcept nogil:
    selector &= 0xFFFF
    if selector & RPL:
        return refuse(cpu, VECTOR_GP, selector & 0xFFFC)
    refresh(g, cpu)
    if not load_segment(cpu, SS, real_selector(selector)):
        return False
    hold_interrupts(cpu)
    return True


# --- System instructions ---------------------------------------------------------------------------------------------

cdef bint emulate_system(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    """0F xx."""
    cdef u32 selector
    cdef u32 second = insn.opcode & 0xFF
    if second == 0x00:
        return emulate_group6(g, cpu, insn)
    if second == 0x01:
        return emulate_group7(g, cpu, insn)
    if second == 0x02 or second == 0x03:
        return access_rights(g, cpu, insn)
    if second == 0x06:
        g.cr0 &= ~<u32>CR0_TS
        apply_cr0(g, cpu)
        return True
    if second == 0x08 or second == 0x09:        # INVD, WBINVD: there is no cache
        return True
    if 0x20 <= second <= 0x23:
        return emulate_move(g, cpu, insn)
    if second == 0x30 or second == 0x32:
        return emulate_msr(g, cpu, second == 0x30)
    if second == 0x31:                          # RDTSC, with CR4.TSD
        set_wide(cpu, cycles_now(cpu) + cpu.tsc_offset)
        return True
    if second == 0x33:                          # RDPMC
        if cpu.gpr[ECX].d >= 2:
            return False
        set_wide(cpu, cpu.performance_counter[cpu.gpr[ECX].d])
        return True
    if second != 0x35 or not g.sysenter_cs & 0xFFFC:
        return False
    selector = g.sysenter_cs & 0xFFFC           # SYSEXIT
    refresh(g, cpu)
    if not return_to_guest(cpu, selector + 16 | 3, cpu.gpr[EDX].d, selector + 24 | 3, cpu.gpr[ECX].d):
        return False
    next[0] = cpu.eip
    return True


cdef bint emulate_group6(Guest* g, CPU* cpu, Instruction* insn) noexcept nogil:
    """SLDT, STR, LLDT, LTR, VERR, VERW."""
    cdef u32 selector, low, high
    cdef bint found
    if insn.reg == 0 or insn.reg == 1:
        return store_selector(g, cpu, insn, g.tr if insn.reg else g.ldt)
    if not read_rm(g, cpu, insn, 2, &selector):
        return False
    if insn.reg == 2 and not selector & (INDEX | TI):
        g.ldt = selector
        make_stale(g, cpu)
        return True
    if insn.reg == 2 or insn.reg == 3:
        return load_system(g, cpu, selector, TYPE_LDT if insn.reg == 2 else TYPE_TSS32)
    if not look_up(g, cpu, selector, &low, &high, &found):
        return False
    high >>= 8
    if insn.reg == 4:
        found = found and high & SEG_S and (not high & SEG_CODE or high & SEG_READABLE)
    else:
        found = found and high & (SEG_S | SEG_CODE | SEG_WRITABLE) == (SEG_S | SEG_WRITABLE)
    set_eflags(cpu, ZF if found else 0, ZF)
    return True


cdef bint access_rights(Guest* g, CPU* cpu, Instruction* insn) noexcept nogil:
    """LAR and LSL."""
    cdef u32 selector, low, high
    cdef bint found
    cdef bint limit = insn.opcode & 1
    if not (read_rm(g, cpu, insn, 2, &selector) and look_up(g, cpu, selector, &low, &high, &found)):
        return False
    if found and not high & (SEG_S << 8):
        found = (LSL_TYPES if limit else LAR_TYPES) >> (high >> 8 & SEG_TYPE) & 1
    if found:
        set_register(cpu, insn.reg, insn.size, limit_of(low, high) if limit else high & LAR_RESULT)
    set_eflags(cpu, ZF if found else 0, ZF)
    return True


cdef bint emulate_group7(Guest* g, CPU* cpu, Instruction* insn) noexcept nogil:
    """SGDT, SIDT, LGDT, LIDT, SMSW, LMSW, INVLPG."""
    cdef u32 limit, base, offset, segment
    if insn.reg == 4:
        return store_selector(g, cpu, insn, g.cr0)
    if insn.reg == 6:
        if not read_rm(g, cpu, insn, 2, &limit):
            return False
        return write_cr0(g, cpu, (g.cr0 & ~<u32>(CR0_MP | CR0_EM | CR0_TS)) | (limit & 0xF))
    if insn.mod == 3 or insn.address16:
        return False
    offset = operand_offset(cpu, insn)
    segment = operand_segment(insn)
    if insn.reg == 7:
        invalidate(g, cpu, <u32>cpu.seg[segment].base + offset)
        return True
    if insn.reg < 2:
        return (operand_write(g, cpu, segment, offset + 2, 4, g.idt_base if insn.reg else g.gdt_base)
                and operand_write(g, cpu, segment, offset, 2, g.idt_limit if insn.reg else g.gdt_limit))
    if not (operand_read(g, cpu, segment, offset, 2, &limit) and operand_read(g, cpu, segment, offset + 2, 4, &base)):
        return False
    if insn.size == 2:
        base &= 0xFFFFFF
    if insn.reg == 3:
        g.idt_base = base
        g.idt_limit = limit
        scan_handlers(g, cpu)
    else:
        g.gdt_base = base
        g.gdt_limit = limit
        make_stale(g, cpu)
    return True


cdef void scan_handlers(Guest* g, CPU* cpu) noexcept nogil:
    """Gates that are there when the IDT is loaded; later ones are scanned when they are passed."""
    cdef u32 i, low, high
    for i in range((g.idt_limit + 1) >> 3):
        if i < 256 and guest_read(g, cpu, g.idt_base + 8 * i, 4, &low) \
                and guest_read(g, cpu, g.idt_base + 8 * i + 4, 4, &high) and high >> 8 & SEG_P:
            scan(g, cpu, low & 0xFFFF | (high & 0xFFFF0000u))


cdef void apply_cr0(Guest* g, CPU* cpu) noexcept nogil:
    """What the guest's CR0 means for the processor, whose paging and write protection are the host's."""
    cpu.cr0 = CR0_PG | CR0_WP | CR0_ET | CR0_PE | (g.cr0 & CR0_GUEST)
    update_mode(cpu)


cdef bint write_cr0(Guest* g, CPU* cpu, u32 value) noexcept nogil:
    """Real mode is not virtualized: clearing PE is #GP(0)."""
    cdef u32 changed
    value = (value & CR0_BITS) | CR0_ET
    if not value & CR0_PE or (value & CR0_NW and not value & CR0_CD):
        return refuse(cpu, VECTOR_GP, 0)
    changed = g.cr0 ^ value
    g.cr0 = value
    apply_cr0(g, cpu)
    if changed & (CR0_PG | CR0_WP):
        forget_all(g, cpu)
    return True


cdef bint emulate_move(Guest* g, CPU* cpu, Instruction* insn) noexcept nogil:
    """MOV between a general register and a control (20, 22) or debug register (21, 23)."""
    cdef u32 number = insn.reg
    cdef u32 value = cpu.gpr[insn.rm].d
    cdef u32 second = insn.opcode & 0xFF
    if second & 1:
        if number == 4 or number == 5:
            if g.cr4 & CR4_DE:
                return refuse(cpu, VECTOR_UD, 0)
            number += 2
        if second == 0x21:
            cpu.gpr[insn.rm].q = g.dr[number]
        elif number == 6:
            g.dr[6] = value & DR6_WRITABLE | DR6_ONES
        elif number == 7:
            g.dr[7] = value & DR7_WRITABLE | DR7_ONE
        else:
            g.dr[number] = value
        return True
    if second == 0x20:
        if number == 0:
            value = g.cr0
        elif number == 2:
            value = g.cr2
        elif number == 3:
            value = g.cr3
        elif number == 4:
            value = g.cr4
        else:
            return refuse(cpu, VECTOR_UD, 0)
        cpu.gpr[insn.rm].q = value
        return True
    if number == 0:
        return write_cr0(g, cpu, value)
    if number == 2:
        g.cr2 = value
    elif number == 3:
        g.cr3 = value
        look_again(g, cpu)
    elif number == 4:
        if value & ~<u32>CR4_KNOWN:
            return refuse(cpu, VECTOR_GP, 0)
        if (g.cr4 ^ value) & (CR4_PSE | CR4_PGE):
            forget_all(g, cpu)
        g.cr4 = value
        cpu.cr4 = value & CR4_GUEST
    else:
        return refuse(cpu, VECTOR_UD, 0)
    return True


cdef bint emulate_msr(Guest* g, CPU* cpu, bint write) noexcept nogil:
    """The time-stamp counter and what SYSENTER takes; no others."""
    cdef u32 msr = cpu.gpr[ECX].d
    cdef u64 value = <u64>cpu.gpr[EDX].d << 32 | cpu.gpr[EAX].d
    if msr == MSR_TSC:
        if write:
            cpu.tsc_offset = value - cycles_now(cpu)
        else:
            set_wide(cpu, cycles_now(cpu) + cpu.tsc_offset)
    elif msr == MSR_SYSENTER_CS:
        if write:
            g.sysenter_cs = <u32>value
        else:
            set_wide(cpu, g.sysenter_cs)
    elif msr == MSR_SYSENTER_ESP:
        if write:
            g.sysenter_esp = <u32>value
        else:
            set_wide(cpu, g.sysenter_esp)
    elif msr == MSR_SYSENTER_EIP:
        if write:
            g.sysenter_eip = <u32>value
        else:
            set_wide(cpu, g.sysenter_eip)
    else:
        return False
    return True


# --- Ring 3 ----------------------------------------------------------------------------------------------------------

cdef bint emulate_for_user(Guest* g, CPU* cpu, Instruction* insn, u32* next) noexcept nogil:
    """SYSENTER, and what the guest's IOPL or TSS allow its user."""
    cdef u32 opcode = insn.opcode
    cdef u32 port = cpu.gpr[EDX].w
    cdef u32 size = 1 if not opcode & 1 else insn.size
    cdef u32 selector = g.sysenter_cs & 0xFFFC
    cdef u32 vector = cpu.fault_vector
    cdef u32 error = cpu.fault_error
    if error == 0 and opcode == (TWO_BYTE | 0x34) and selector:
        refresh(g, cpu)
        if not interrupt_guest(cpu, selector | KERNEL_RING, g.sysenter_eip, selector + 8 | KERNEL_RING, g.sysenter_esp,
                               NULL, 0):
            return False
        g.interrupts = False
        scan(g, cpu, cpu.eip)
        next[0] = cpu.eip
        return True
    if error == 0 and is_port_instruction(opcode):
        if 0xE4 <= opcode <= 0xE7:
            port = <u32>insn.immediate & 0xFF
        if g.iopl == 3 or port_is_allowed(g, cpu, port, size):
            begin_step(g, cpu, STEP_PORT)
            return True
        return refuse(cpu, vector, error)
    if error == 0 and g.iopl == 3 and (opcode == 0xFA or opcode == 0xFB):
        return emulate_flags(g, cpu, insn, next)
    return refuse(cpu, vector, error)
