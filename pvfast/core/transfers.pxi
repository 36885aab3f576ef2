# Far control transfers: JMP, CALL and RET through segments and call gates, SYSENTER, SYSEXIT.
#
# Enters: the selector and offset of a far pointer. Leaves: CS, SS and CPL committed and the offset to go on at, or
# False after noting a fault, with nothing changed. Next: debug.pxi.

cdef enum:
    GATE_COUNT = 0x1F       # parameters of a call gate: bits 0-4 of its high word (SDM 3:5.8.3)
    MAX_PARAMETERS = 31


cdef inline u32 next_eip(Uop* op) noexcept nogil:
    """The offset of the next instruction: what calls and software interrupts push."""
    return block_of(op).eip + op.offset + op.length


cdef void arrive(CPU* cpu, Uop* op, u32 eip) noexcept nogil:
    """The instruction retires and the next one is elsewhere."""
    leave_after(cpu, op)
    cpu.eip = eip


cdef bint check_offset(CPU* cpu, Descriptor* code, u32 eip) noexcept nogil:
    """The first byte to execute lies within the code segment, else #GP(0)."""
    if eip > descriptor_limit(code):
        return refuse(cpu, VECTOR_GP, 0)
    return True


cdef bint check_near(CPU* cpu, u32 eip) noexcept nogil:
    """The same where CS keeps its limit: near transfers, and far ones in real and V86 mode."""
    if eip > cpu.seg[CS].limit:
        return refuse(cpu, VECTOR_GP, 0)
    return True


# --- JMP and CALL (SDM 2, JMP and CALL, "Far ... in protected mode"; SDM 3:5.8) --------------------------------------

cdef bint check_direct_code(CPU* cpu, u32 selector, Descriptor* d) noexcept nogil:
    """A code segment named by the instruction itself: same privilege, or conforming (SDM 3:5.8.1)."""
    cdef bint allowed
    if d.attributes & SEG_CONFORMING:
        allowed = dpl_of(d.attributes) <= cpu.cpl
    else:
        allowed = selector & SELECTOR_RPL <= cpu.cpl and dpl_of(d.attributes) == cpu.cpl
    if not allowed:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    return mark_accessed(cpu, d)


cdef bint open_call_gate(CPU* cpu, u32 selector, Descriptor* gate, bint jump, u32* code_selector,
                         Descriptor* code) noexcept nogil:
    """Follow a call gate to its code segment (SDM 3:5.8.4, table 5-1). Anything that is no call gate is refused."""
    cdef u32 type = gate.attributes & (SEG_S | SEG_TYPE)
    cdef u32 dpl = dpl_of(gate.attributes)
    cdef bint allowed
    if type != TYPE_CALL_GATE16 and type != TYPE_CALL_GATE32:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if dpl < cpu.cpl or dpl < selector & SELECTOR_RPL:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not gate.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    code_selector[0] = gate.low >> 16
    if not fetch_descriptor(cpu, code_selector[0], code):
        return False
    dpl = dpl_of(code.attributes)
    if jump and not code.attributes & SEG_CONFORMING:
        allowed = dpl == cpu.cpl
    else:
        allowed = dpl <= cpu.cpl
    if not is_code(code.attributes) or not allowed:
        return refuse(cpu, VECTOR_GP, code_selector[0] & SELECTOR_INDEX)
    if not code.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, code_selector[0] & SELECTOR_INDEX)
    return mark_accessed(cpu, code)


cdef u32 gate_offset(Descriptor* gate) noexcept nogil:
    if gate.attributes & TYPE_32:
        return (gate.low & 0xFFFF) | (gate.high & 0xFFFF0000u)
    return gate.low & 0xFFFF


cdef bint far_jump(CPU* cpu, u32 selector, u32 offset, u32 return_eip, u32* target) noexcept nogil:
    cdef Descriptor d, gate
    if cpu.mode & MODE_8086:
        return go_to_paragraph(cpu, selector, offset, target)
    if not fetch_descriptor(cpu, selector, &d):
        return False
    if is_code(d.attributes):
        if not check_direct_code(cpu, selector, &d):
            return False
    elif names_task(d.attributes):
        if not transfer_to_task(cpu, selector, &d, SWITCH_JUMP, return_eip):
            return False
        target[0] = cpu.eip
        return True
    else:
        gate = d
        if not open_call_gate(cpu, selector, &gate, True, &selector, &d):
            return False
        offset = gate_offset(&gate)
    if not check_offset(cpu, &d, offset):
        return False
    set_code(cpu, selector, &d, cpu.cpl)
    target[0] = offset
    return True


cdef bint far_call(CPU* cpu, u32 selector, u32 offset, u32 size, u32 return_eip, u32* target) noexcept nogil:
    """`size` is the operand size of the instruction; a gate's own size replaces it."""
    cdef Descriptor d, gate
    cdef u32 frame[2]
    cdef u32 esp = cpu.gpr[ESP].d
    frame[0] = cpu.seg[CS].selector
    frame[1] = return_eip
    if cpu.mode & MODE_8086:
        if not (check_near(cpu, offset) and push_frame(cpu, &cpu.seg[SS], &esp, frame, 2, size, cpu.cpl == 3, 0)):
            return False
        cpu.gpr[ESP].q = esp
        return go_to_paragraph(cpu, selector, offset, target)
    if not fetch_descriptor(cpu, selector, &d):
        return False
    if is_code(d.attributes):
        if not check_direct_code(cpu, selector, &d):
            return False
    elif names_task(d.attributes):
        if not transfer_to_task(cpu, selector, &d, SWITCH_NEST, return_eip):
            return False
        target[0] = cpu.eip
        return True
    else:
        gate = d
        if not open_call_gate(cpu, selector, &gate, False, &selector, &d):
            return False
        offset = gate_offset(&gate)
        size = 4 if gate.attributes & TYPE_32 else 2
        if not d.attributes & SEG_CONFORMING and dpl_of(d.attributes) < cpu.cpl:
            target[0] = offset
            return call_inner(cpu, selector, &d, offset, gate.high & GATE_COUNT, size, return_eip)
    if not check_offset(cpu, &d, offset):
        return False
    if not push_frame(cpu, &cpu.seg[SS], &esp, frame, 2, size, cpu.cpl == 3, 0):
        return False
    cpu.gpr[ESP].q = esp
    set_code(cpu, selector, &d, cpu.cpl)
    target[0] = offset
    return True


cdef bint call_inner(CPU* cpu, u32 selector, Descriptor* code, u32 offset, u32 parameters, u32 size,
                     u32 return_eip) noexcept nogil:
    """A call gate to more privilege: switch stacks and copy the parameters over (SDM 3:5.8.5)."""
    cdef u32 frame[MAX_PARAMETERS + 4]
    cdef u32 cpl = dpl_of(code.attributes)
    cdef u32 esp, i
    cdef Segment stack
    if not inner_stack(cpu, cpl, &stack, &esp):
        return False
    if not check_offset(cpu, code, offset):
        return False
    frame[0] = cpu.seg[SS].selector
    frame[1] = cpu.gpr[ESP].d
    for i in range(parameters):
        if not stack_read(cpu, (parameters - 1 - i) * size, size, &frame[2 + i]):
            return False
    frame[2 + parameters] = cpu.seg[CS].selector
    frame[3 + parameters] = return_eip
    if not push_frame(cpu, &stack, &esp, frame, parameters + 4, size, cpl == 3, stack.selector & SELECTOR_INDEX):
        return False
    set_stack(cpu, &stack, esp)
    set_code(cpu, selector, code, cpl)
    return True


# --- RET, and what IRET shares with it (SDM 2, RET and IRET; SDM 3:5.8.6) --------------------------------------------

cdef bint check_return_code(CPU* cpu, u32 selector, Descriptor* d) noexcept nogil:
    """The code segment to return to: the same privilege or less."""
    cdef u32 rpl = selector & SELECTOR_RPL
    cdef bint allowed
    if not fetch_descriptor(cpu, selector, d):
        return False
    if d.attributes & SEG_CONFORMING:
        allowed = dpl_of(d.attributes) <= rpl
    else:
        allowed = dpl_of(d.attributes) == rpl
    if not is_code(d.attributes) or rpl < cpu.cpl or not allowed:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    return mark_accessed(cpu, d)


cdef bint check_outer_stack(CPU* cpu, u32 distance, u32 size, u32 cpl, Segment* stack, u32* esp) noexcept nogil:
    """Read and check the SS:ESP to return to, `distance` bytes up the current stack."""
    cdef Descriptor d
    cdef u32 selector
    if not (stack_read(cpu, distance, size, esp) and stack_read(cpu, distance + size, size, &selector)):
        return False
    selector &= 0xFFFF
    if not check_stack_segment(cpu, selector, cpl, VECTOR_GP, &d):
        return False
    fill_segment(stack, selector, &d)
    return True


cdef void drop_inner_segments(CPU* cpu) noexcept nogil:
    """A less privileged CPL must not keep data segments it could not load: they become null (SDM 3:5.8.6)."""
    cdef u32 seg, attributes
    for seg in range(6):
        attributes = cpu.seg[seg].attributes
        if seg == CS or seg == SS or attributes & SEG_NULL:
            continue
        if attributes & SEG_CODE and attributes & SEG_CONFORMING:
            continue
        if dpl_of(attributes) < cpu.cpl:
            clear_segment(&cpu.seg[seg], 0)
    update_mode(cpu)


cdef bint far_return(CPU* cpu, u32 size, u32 release, u32* target) noexcept nogil:
    """RETF imm16: `release` bytes of parameters go, on the outer stack as well."""
    cdef Descriptor d
    cdef Segment stack
    cdef u32 eip, selector, esp, cpl
    if not (stack_read(cpu, 0, size, &eip) and stack_read(cpu, size, size, &selector)):
        return False
    selector &= 0xFFFF
    cpl = selector & SELECTOR_RPL
    if cpu.mode & MODE_8086:
        if not go_to_paragraph(cpu, selector, eip, target):
            return False
        set_sp(cpu, cpu.gpr[ESP].d + 2 * size + release)
        return True
    if not check_return_code(cpu, selector, &d):
        return False
    if cpl == cpu.cpl:
        if not check_offset(cpu, &d, eip):
            return False
        set_sp(cpu, cpu.gpr[ESP].d + 2 * size + release)
        set_code(cpu, selector, &d, cpl)
    else:
        if not check_outer_stack(cpu, 2 * size + release, size, cpl, &stack, &esp):
            return False
        if not check_offset(cpu, &d, eip):
            return False
        set_stack(cpu, &stack, esp + release)
        set_code(cpu, selector, &d, cpl)
        drop_inner_segments(cpu)
    target[0] = eip
    return True


# --- SYSENTER and SYSEXIT (SDM 2; SDM 3:5.8.7) -----------------------------------------------------------------------

cdef bint system_enter(CPU* cpu, u32* target) noexcept nogil:
    """To CPL 0 at the MSRs' CS:EIP and ESP, interrupts off; nothing is saved. Out of V86 mode too."""
    cdef u32 selector = cpu.sysenter_cs & SELECTOR_INDEX
    if real_mode(cpu) or cpu.sysenter_cs & SELECTOR_INDEX == NOTHING:
        return refuse(cpu, VECTOR_GP, 0)
    cpu.eflags &= ~<u32>(VM | EFLAGS_IF | RF)
    enter_flat(cpu, selector, selector + 8, 0, cpu.sysenter_esp)
    target[0] = cpu.sysenter_eip
    return True


cdef bint system_exit(CPU* cpu, u32* target) noexcept nogil:
    """To CPL 3 at EDX with stack ECX. DS, ES, FS and GS stay, whatever their privilege."""
    cdef u32 selector = (cpu.sysenter_cs + 16) & 0xFFFF
    if cpu.cpl != 0 or real_mode(cpu) or cpu.sysenter_cs & SELECTOR_INDEX == NOTHING:
        return refuse(cpu, VECTOR_GP, 0)
    target[0] = cpu.gpr[EDX].d
    enter_flat(cpu, selector | 3, (selector + 8) | 3, 3, cpu.gpr[ECX].d)
    return True


cdef void enter_flat(CPU* cpu, u32 code, u32 stack, u32 cpl, u32 esp) noexcept nogil:
    """CS and SS as SYSENTER and SYSEXIT define them, without a look at the GDT."""
    cpu.cpl = cpl
    flat_segment(&cpu.seg[CS], code, SEG_CODE | SEG_READABLE, cpl)
    flat_segment(&cpu.seg[SS], stack, SEG_WRITABLE, cpl)
    refresh_segment(cpu, CS)
    refresh_segment(cpu, SS)
    update_mode(cpu)
    cpu.gpr[ESP].q = esp
