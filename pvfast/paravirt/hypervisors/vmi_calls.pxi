# Calls that trap: a slot of the ROM executed int $VMI_VECTOR; arguments in EAX, EDX, ECX and on the stack, behind the
# address that the slot returns to; the answer in EAX or EDX:EAX.
#
# Enters: the guest behind its INT, in ring 1. Leaves: the guest there, or in a handler of its own. Next: vmi_host.pyx.

cdef enum:
    TRAP_BYTES = 2          # of int $VMI_VECTOR
    CR0_MINE = CR0_TS | CR0_MP | CR0_EM         # what the guest may change


cdef u32 slot_of(CPU* cpu) noexcept nogil:
    """Which call it is; VMI_INIT + 1 or more: none, the INT is not in the ROM."""
    return (cpu.eip - TRAP_BYTES - (LOWMEM_LINEAR + ROM_PHYSICAL + ROM_SLOTS)) // ROM_SLOT_BYTES


cdef void call(Guest* g, CPU* cpu, u32 number) noexcept nogil:
    cdef bint done
    charge_hypercall(cpu)
    g.calls[number] += 1
    if number == VMI_CALL_WriteGDTEntry or number == VMI_CALL_WriteLDTEntry or number == VMI_CALL_WriteIDTEntry:
        done = write_entry(g, cpu, number, cpu.gpr[EAX].d, cpu.gpr[EDX].d, cpu.gpr[ECX].d)
    elif VMI_CALL_SetPxE <= number <= VMI_CALL_SetLinearMapping:
        done = memory_call(g, cpu, number, cpu.gpr[EAX].d, cpu.gpr[EDX].d, cpu.gpr[ECX].d)
    elif VMI_CALL_GetCycleFrequency <= number <= VMI_CALL_WallclockUpdated:
        done = time_call(g, cpu, number, cpu.gpr[EAX].d)
    else:
        done = processor_call(g, cpu, number, cpu.gpr[EAX].d, cpu.gpr[EDX].d)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE            # an argument in device memory
        done = False
    if not done:
        refuse_call(g, cpu)
    deliver_pending(g, cpu)


cdef bint argument(CPU* cpu, u32 number, u32* value) noexcept nogil:
    """One that is on the stack, the first being 0."""
    return stack_read(cpu, 4 + 4 * number, 4, value)


# --- Processor -------------------------------------------------------------------------------------------------------

cdef bint processor_call(Guest* g, CPU* cpu, u32 number, u32 eax, u32 edx) noexcept nogil:
    if (number == VMI_CALL_EnableInterrupts or number == VMI_CALL_SetInterruptMask or number == VMI_CALL_IRET
            or number == VMI_CALL_SetLazyMode):
        return True                     # the slot has changed the flag or the mode: what waited, waits no longer
    if number == VMI_CALL_Halt:
        enable_interrupts(cpu, True)
        cpu.halted = first_pending(g) == VECTORS
    elif number == VMI_CALL_UpdateKernelStack:
        g.kernel_ss = eax & 0xFFFC | KERNEL_RING
        g.kernel_esp = edx
    elif number == VMI_CALL_SetGDT or number == VMI_CALL_SetIDT:
        return set_table(g, cpu, number, eax)
    elif number == VMI_CALL_GetGDT:
        return get_table(cpu, eax, g.gdt_base, g.gdt_limit)
    elif number == VMI_CALL_GetIDT:
        return get_table(cpu, eax, g.idt_base, g.idt_limit)
    elif number == VMI_CALL_SetLDT:
        return set_ldt(g, cpu, eax & 0xFFFF)
    elif number == VMI_CALL_GetLDT:
        cpu.gpr[EAX].q = cpu.ldtr.selector
    elif number == VMI_CALL_SetTR:
        cpu.tr.selector = <u16>eax      # what STR tells; its TSS is not the processor's
    elif VMI_CALL_SetCR0 <= number <= VMI_CALL_SetCR4:
        return set_control_register(g, cpu, number - VMI_CALL_SetCR0 + (number > VMI_CALL_SetCR0), eax)
    elif number == VMI_CALL_CLTS:
        return set_control_register(g, cpu, 0, cpu.cr0 & ~<u32>CR0_TS)
    elif number == VMI_CALL_SetDR:
        return set_debugreg(cpu, eax, edx)
    elif number == VMI_CALL_GetDR:
        cpu.gpr[EAX].q = cpu.dr[eax & 7]
    elif number == VMI_CALL_SetIOPLMask:
        g.iopl = (eax & IOPL) >> IOPL_SHIFT
    elif number == VMI_CALL_Reboot:
        end(g, cpu, ENDED_REBOOT, VMI_VECTOR, number)
    elif number == VMI_CALL_Shutdown:
        end(g, cpu, ENDED_SHUTDOWN, VMI_VECTOR, number)
    else:
        return number == VMI_CALL_WBINVD         # there is nothing to write back
    return True


cdef bint set_control_register(Guest* g, CPU* cpu, u32 number, u32 value) noexcept nogil:
    """Only TS, MP and EM of CR0 are the guest's. CR4 is kept and shown, and changes nothing."""
    if number == 0:
        if (value ^ cpu.cr0) & ~<u32>CR0_MINE:
            return False
        cpu.cr0 = value
        update_mode(cpu)
    elif number == 2:
        cpu.cr2 = value
    elif number == 3:
        if value >> 12 >= g.frames:
            return False
        cpu.cr3 = value & 0xFFFFF000u
        flush_tlb(cpu)
    else:
        shared_write(cpu, SHARED_CR4, value)
        return True
    show_control_registers(cpu)
    return True


cdef bint set_debugreg(CPU* cpu, u32 number, u32 value) noexcept nogil:
    """Breakpoints may be anywhere: there is no code of the hypervisor in the guest's address space."""
    if number > 7 or number == 4 or number == 5:
        return False
    set_debug_register(cpu, number, value)
    return True


# --- Descriptor tables -----------------------------------------------------------------------------------------------

cdef bint set_table(Guest* g, CPU* cpu, u32 number, u32 pointer) noexcept nogil:
    """`pointer` is what LGDT and LIDT take: a word and a doubleword."""
    cdef u32 limit, base
    if not (linear_read(cpu, pointer, 2, False, &limit) and linear_read(cpu, pointer + 2, 4, False, &base)):
        return False
    return take_gdt(g, cpu, base, limit) if number == VMI_CALL_SetGDT else take_idt(g, cpu, base, limit)


cdef bint get_table(CPU* cpu, u32 pointer, u32 base, u32 limit) noexcept nogil:
    return linear_write(cpu, pointer, 2, False, limit) and linear_write(cpu, pointer + 2, 4, False, base)


cdef bint set_ldt(Guest* g, CPU* cpu, u32 selector) noexcept nogil:
    """The LDT stays in guest memory: what the guest puts there cannot lead to ring 0, for no stack is there."""
    cdef u64 descriptor
    cdef u32 high
    if selector & 0xFFFC == 0:
        cpu.ldtr.attributes = SEG_NULL
        cpu.ldtr.selector = <u16>selector
        return True
    if selector & 4 or not read_table(cpu, g.gdt_base, g.gdt_limit, selector >> 3, &descriptor):
        return False
    high = <u32>(descriptor >> 32)
    if high >> 8 & (SEG_P | SEG_S | SEG_TYPE) != SEG_P | TYPE_LDT or high >> 8 & SEG_G:
        return False
    cpu.ldtr.base = <u32>(descriptor >> 16) & 0xFFFFFF | high & 0xFF000000u
    cpu.ldtr.limit = <u32>descriptor & 0xFFFF | high & 0xF0000
    cpu.ldtr.attributes = SEG_P | TYPE_LDT
    cpu.ldtr.selector = <u16>selector
    return True


cdef bint write_entry(Guest* g, CPU* cpu, u32 number, u32 table, u32 entry, u32 low) noexcept nogil:
    """Into the guest's own table, and of GDT and IDT into the copy."""
    cdef u32 high
    if entry >= GDT_SLOTS or not argument(cpu, 0, &high):
        return False
    if not (linear_write(cpu, table + 8 * entry, 4, False, low)
            and linear_write(cpu, table + 8 * entry + 4, 4, False, high)):
        return False
    if number == VMI_CALL_WriteGDTEntry:
        if table == g.gdt_base and 8 * entry + 7 <= g.gdt_limit:
            g.gdt[entry] = outside_ring_0(<u64>high << 32 | low)
    elif number == VMI_CALL_WriteIDTEntry:
        if table == g.idt_base and 8 * entry + 7 <= g.idt_limit and entry < VECTORS:
            g.idt[entry] = checked_gate(<u64>high << 32 | low)
    return True


# --- Page tables -----------------------------------------------------------------------------------------------------

cdef bint set_entry(Guest* g, CPU* cpu, u32 value, u32 linear, u32 flags) noexcept nogil:
    """SetPxE; with QUEUED_UPDATE, UpdatePxE: the guest has changed the entry itself."""
    if linear & 3:
        return False
    if flags & QUEUED_UPDATE:
        return linear_read(cpu, linear, 4, False, &value) and is_entry(g, value)
    if not is_entry(g, value) or (flags & VMI_PAGE_PD and value & PTE_P and not is_table(g, cpu, value >> 12)):
        return False
    return linear_write(cpu, linear, 4, False, value)


cdef bint work_off(Guest* g, CPU* cpu, u32 queued) noexcept nogil:
    """What the ROM has queued in lazy MMU mode. False: an entry that may not be."""
    cdef u32 i, at
    shared_write(cpu, SHARED_QUEUED, 0)
    for i in range(queued if queued < SHARED_QUEUE_ENTRIES else SHARED_QUEUE_ENTRIES):
        at = SHARED_QUEUE + i * SHARED_QUEUE_ENTRY_BYTES
        if not set_entry(g, cpu, shared_read(cpu, at), shared_read(cpu, at + 4), shared_read(cpu, at + 8)):
            return False
    return True


cdef bint memory_call(Guest* g, CPU* cpu, u32 number, u32 eax, u32 edx, u32 ecx) noexcept nogil:
    if number == VMI_CALL_SetPxE:                # entry, where, flags
        return set_entry(g, cpu, eax, edx, ecx)
    if number == VMI_CALL_UpdatePxE:            # where, flags
        return set_entry(g, cpu, 0, eax, edx | QUEUED_UPDATE)
    if number == VMI_CALL_AllocatePage:          # frame, flags, frame that it is a copy of, first, how many
        if edx & VMI_PAGE_CLONE and (ecx >= g.frames or g.page_types[ecx] != VMI_PAGE_PD):
            return False
        if edx & 3 != VMI_PAGE_PT and edx & 3 != VMI_PAGE_PD or not is_table(g, cpu, eax) or g.page_types[eax]:
            return False
        g.page_types[eax] = <u8>(edx & 3)
    elif number == VMI_CALL_ReleasePage:
        if eax >= g.frames or g.page_types[eax] != edx & 3 or not edx & 3:
            return False
        g.page_types[eax] = 0
    elif number == VMI_CALL_InvalPage:
        flush_page(cpu, eax)
    elif number == VMI_CALL_FlushTLB:
        flush_tlb(cpu)
    else:                                       # slot, linear, pages, frame: lowmem is where the ROM expects it
        return number == VMI_CALL_SetLinearMapping and (eax != 0 or edx == <u32>LOWMEM_LINEAR)
    return True


# --- Time: one cycle is one nanosecond -------------------------------------------------------------------------------

cdef bint time_call(Guest* g, CPU* cpu, u32 number, u32 eax) noexcept nogil:
    cdef u32 words[2]
    cdef u64 when, period
    if number == VMI_CALL_GetCycleFrequency:
        set_wide(cpu, NSEC_PER_SEC)
    elif number == VMI_CALL_GetWallclockTime:
        set_wide(cpu, cycles_now(cpu))
    elif number == VMI_CALL_WallclockUpdated:
        cpu.gpr[EAX].q = 0              # nobody sets it
    elif number == VMI_CALL_GetCycleCounter:
        if eax > VMI_CYCLES_STOLEN:
            return False
        set_wide(cpu, 0 if eax == VMI_CYCLES_STOLEN else cycles_now(cpu))
    elif number == VMI_CALL_CancelAlarm:
        cpu.gpr[EAX].q = g.alarm_cycles != NEVER
        g.alarm_cycles = NEVER
    else:                               # SetAlarm: flags, when, period
        if not (argument(cpu, 0, &words[0]) and argument(cpu, 1, &words[1])):
            return False
        when = <u64>cpu.gpr[ECX].d << 32 | cpu.gpr[EDX].d
        period = <u64>words[1] << 32 | words[0] if eax & VMI_ALARM_IS_PERIODIC else 0
        if (eax & VMI_ALARM_IS_PERIODIC and period < MIN_PERIOD_NS) or (period | when) >> FAR_BITS:
            return False
        g.period_cycles = period
        g.alarm_cycles = when
        wake_at(cpu, when)
    return True
