# Real-address and virtual-8086 mode: paragraphs for segments, vectors for gates, virtual interrupts (SDM 3:20).
#
# Enters: selectors and vectors in the two modes without descriptors (MODE_8086). Leaves: loaded segments and handlers
# entered, or False after noting a fault, with nothing changed. Next: tasks.pxi.

cdef enum:
    PARAGRAPH_LIMIT = 0xFFFF
    PARAGRAPH_ATTRIBUTES = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED     # and DPL 3 in V86 mode
    VECTOR_TABLE_LIMIT = 0x3FF          # of an 8086 program in V86 mode, whose table is at linear 0
    REDIRECTION_BYTES = 32              # of the interrupt redirection bitmap, below the I/O permission bitmap


cdef inline bint real_mode(CPU* cpu) noexcept nogil:
    return not cpu.cr0 & CR0_PE


cdef inline bint v86_mode(CPU* cpu) noexcept nogil:
    return (cpu.eflags & VM) != 0


cdef inline bint in_8086_mode(CPU* cpu) noexcept nogil:
    """Real-address or virtual-8086 mode."""
    return real_mode(cpu) or v86_mode(cpu)


# --- Segments (SDM 3:20.1.1, 3:20.2.1) -------------------------------------------------------------------------------

cdef void fill_paragraph(CPU* cpu, u32 seg, u32 selector) noexcept nogil:
    """V86 mode fixes the hidden part. Real mode changes the base alone: limit and attributes are those that protected
    mode left ("unreal mode"), except that a null segment becomes usable again."""
    cdef Segment* s = &cpu.seg[seg]
    s.selector = <u16>selector
    s.base = selector << 4
    if v86_mode(cpu):
        s.limit = PARAGRAPH_LIMIT
        s.attributes = PARAGRAPH_ATTRIBUTES | SEG_DPL
    elif s.attributes & SEG_NULL:
        s.limit = PARAGRAPH_LIMIT
        s.attributes = PARAGRAPH_ATTRIBUTES
    refresh_segment(cpu, seg)


cdef void load_paragraph(CPU* cpu, u32 seg, u32 selector) noexcept nogil:
    fill_paragraph(cpu, seg, selector)
    update_mode(cpu)


cdef void load_v86_segments(CPU* cpu, u32* selectors) noexcept nogil:
    """Enter V86 mode: EFLAGS.VM is set already; `selectors` are of ES, CS, SS, DS, FS and GS."""
    cdef u32 seg
    cpu.cpl = 3
    for seg in range(6):
        fill_paragraph(cpu, seg, selectors[seg] & 0xFFFF)
    update_mode(cpu)


cdef void leave_protected_mode(CPU* cpu) noexcept nogil:
    """CR0.PE has been cleared. CS can be written in real mode, whatever it was."""
    cpu.cpl = 0
    cpu.seg[CS].attributes = (cpu.seg[CS].attributes & ~<u32>SEG_TYPE) | PARAGRAPH_ATTRIBUTES
    refresh_segment(cpu, CS)


cdef bint go_to_paragraph(CPU* cpu, u32 selector, u32 eip, u32* target) noexcept nogil:
    """Load CS in real or V86 mode, whose limit stays as it is."""
    if not check_near(cpu, eip):
        return False
    load_paragraph(cpu, CS, selector & 0xFFFF)
    target[0] = eip
    return True


# --- Handlers of 8086 style (SDM 3:20.1.4) ---------------------------------------------------------------------------

cdef bint pass_vector(CPU* cpu, u32 table, u32 limit, u32 vector, u32 flags, u32 return_eip) noexcept nogil:
    """Enter a handler by a far pointer out of a table: a frame of three words, no error code. What becomes of IF, or
    of VIF, is the caller's."""
    cdef u32 frame[3]
    cdef u32 esp = cpu.gpr[ESP].d
    cdef u32 offset, selector
    if vector * 4 + 3 > limit:
        return refuse(cpu, VECTOR_GP, 0)
    if not (linear_read(cpu, table + vector * 4, 2, False, &offset)
            and linear_read(cpu, table + vector * 4 + 2, 2, False, &selector) and check_near(cpu, offset)):
        return False
    frame[0] = flags
    frame[1] = cpu.seg[CS].selector
    frame[2] = return_eip
    if not push_frame(cpu, &cpu.seg[SS], &esp, frame, 3, 2, cpu.cpl == 3, 0):
        return False
    cpu.gpr[ESP].q = esp
    cpu.eflags &= ~<u32>(TF | RF)
    load_paragraph(cpu, CS, selector)
    arrive_at_handler(cpu, offset)
    return True


cdef bint return_in_8086_mode(CPU* cpu, u32 size, u32* target) noexcept nogil:
    """IRET in real mode and within V86 mode (SDM 2, IRET)."""
    cdef u32 eip, selector, flags
    if v86_mode(cpu) and not may_use_flags(cpu, size):
        return False
    if not (stack_read(cpu, 0, size, &eip) and stack_read(cpu, size, size, &selector)
            and stack_read(cpu, 2 * size, size, &flags)):
        return False
    if not may_restore_flags(cpu, flags) or not go_to_paragraph(cpu, selector, eip, target):
        return False
    set_sp(cpu, cpu.gpr[ESP].d + 3 * size)
    restore_flags_image(cpu, flags, size)
    if size == 4:
        cpu.eflags |= flags & RF
    return True


cdef bint return_to_v86(CPU* cpu, u32 eip, u32 code, u32 flags, u32* target) noexcept nogil:
    """IRETD at CPL 0 with VM in the image: ESP, SS, ES, DS, FS and GS lie above it (SDM 3:20.2.2)."""
    cdef u32 selectors[6]
    cdef u32 esp
    selectors[CS] = code
    if not (stack_read(cpu, 12, 4, &esp) and stack_read(cpu, 16, 4, &selectors[SS])
            and stack_read(cpu, 20, 4, &selectors[ES]) and stack_read(cpu, 24, 4, &selectors[DS])
            and stack_read(cpu, 28, 4, &selectors[FS]) and stack_read(cpu, 32, 4, &selectors[GS])):
        return False
    cpu.gpr[ESP].q = esp
    set_eflags(cpu, flags, RESTORED_FLAGS | IOPL | EFLAGS_IF | RF | VM | VIF | VIP)
    load_v86_segments(cpu, selectors)
    target[0] = eip & 0xFFFF
    return True


# --- Virtual interrupts: VME and PVI (SDM 3:20.3, 3:20.4) ------------------------------------------------------------

cdef inline bint virtual_interrupts(CPU* cpu) noexcept nogil:
    """At CPL 3 with IOPL below it, IF is not the program's: VIF takes its place with CR4.VME in V86 mode, and with
    CR4.PVI in protected mode."""
    return (cpu.cpl == 3 and iopl_of(cpu) < 3
            and (cpu.cr4 & (CR4_VME if v86_mode(cpu) else CR4_PVI)) != 0)


cdef inline bint refused_virtual_interrupt(CPU* cpu) noexcept nogil:
    """#GP(0) in front of an instruction that finds VIF and VIP both set (SDM 3:20.3.2). STI, POPF and IRET of the
    program refuse to get there, so only what comes from elsewhere can: by way of the dispatcher."""
    return cpu.eflags & (VIF | VIP) == VIF | VIP and virtual_interrupts(cpu)


cdef bint may_use_flags(CPU* cpu, u32 size) noexcept nogil:
    """PUSHF, POPF and IRET in V86 mode need IOPL 3; those of 16 bits only, virtual interrupts instead."""
    if iopl_of(cpu) < 3 and not (size == 2 and virtual_interrupts(cpu)):
        return refuse(cpu, VECTOR_GP, 0)
    return True


cdef u32 flags_image(CPU* cpu) noexcept nogil:
    """EFLAGS as PUSHF and INT n show them: a V86 program with virtual interrupts sees VIF as IF, and IOPL 3."""
    cdef u32 flags = get_eflags(cpu)
    if v86_mode(cpu) and virtual_interrupts(cpu):
        flags = (flags & ~<u32>EFLAGS_IF) | IOPL | (EFLAGS_IF if flags & VIF else 0)
    return flags


cdef bint may_restore_flags(CPU* cpu, u32 flags) noexcept nogil:
    """POPF and IRET of a V86 program with virtual interrupts: a trap, or interrupts with one pending, are the
    monitor's."""
    if v86_mode(cpu) and virtual_interrupts(cpu) and (flags & TF or (flags & EFLAGS_IF and cpu.eflags & VIP)):
        return refuse(cpu, VECTOR_GP, 0)
    return True


cdef void restore_flags_image(CPU* cpu, u32 flags, u32 size) noexcept nogil:
    """The reverse of flags_image(), in every mode. RF is the caller's."""
    cdef u32 before = cpu.eflags
    if v86_mode(cpu) and virtual_interrupts(cpu):
        set_eflags(cpu, (flags & 0xFFFF) | (VIF if flags & EFLAGS_IF else 0), (RESTORED_FLAGS & 0xFFFF) | VIF)
    else:
        set_eflags(cpu, flags, restorable_flags(cpu, size))
    if (cpu.eflags ^ before) & AC:
        update_mode(cpu)


cdef bint is_redirected(CPU* cpu, u32 vector, bint* redirected) noexcept nogil:
    """Does INT n in V86 mode go to the program's own handler (SDM 3:20.3.3, table 20-2)? False: a fault is noted."""
    cdef u32 base = <u32>cpu.tr.base
    cdef u32 at, bits
    redirected[0] = False
    if cpu.cr4 & CR4_VME:
        if cpu.tr.attributes & SEG_NULL or not cpu.tr.attributes & TYPE_32 or cpu.tr.limit < TSS32_LIMIT:
            return refuse(cpu, VECTOR_GP, 0)
        if not linear_read(cpu, base + TSS32_IO_MAP_BASE, 2, False, &at):
            return False
        at += (vector >> 3) - REDIRECTION_BYTES
        if at > cpu.tr.limit:
            return refuse(cpu, VECTOR_GP, 0)
        if not linear_read(cpu, base + at, 1, False, &bits):
            return False
        redirected[0] = not (bits >> (vector & 7)) & 1
    if not redirected[0] and iopl_of(cpu) < 3:
        return refuse(cpu, VECTOR_GP, 0)
    return True


cdef void v86_interrupt(CPU* cpu, Uop* op, u32 vector) noexcept nogil:
    """INT n in V86 mode. INT3 and INTO always go through the IDT."""
    cdef bint redirected
    cpu.debug_traps = 0                     # no single-step trap behind it
    if not is_redirected(cpu, vector, &redirected):
        raise_fault(cpu, op)
        return
    if not redirected:
        software_interrupt(cpu, op, vector)
        return
    if not pass_vector(cpu, 0, VECTOR_TABLE_LIMIT, vector, flags_image(cpu), next_eip(op)):
        raise_fault(cpu, op)
        return
    cpu.eflags &= ~<u32>(VIF if iopl_of(cpu) < 3 else EFLAGS_IF)
    cpu.interrupts += 1
    arrive(cpu, op, cpu.eip)
