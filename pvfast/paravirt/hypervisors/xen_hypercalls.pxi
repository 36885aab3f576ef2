# Hypercalls: int $0x82 in ring 1, number in EAX, arguments in EBX, ECX, EDX, ESI, EDI, answer in EAX.
#
# Enters: the guest behind its INT. Leaves: the guest there, or where iret or a pending event takes it.
# Next: xen_tables.pxi has those that change a table, for the processor or for Xen.

cdef void hypercall(Domain* d, CPU* cpu) noexcept nogil:
    cdef u32 number = cpu.gpr[EAX].d
    cdef u32 arguments[5]
    charge_hypercall(cpu)
    if number < HYPERCALLS:
        d.hypercalls[number] += 1
    if number == HYPERCALL_IRET:
        iret(d, cpu)
    else:
        arguments[0] = cpu.gpr[EBX].d
        arguments[1] = cpu.gpr[ECX].d
        arguments[2] = cpu.gpr[EDX].d
        arguments[3] = cpu.gpr[ESI].d
        arguments[4] = cpu.gpr[EDI].d
        if number == HYPERCALL_MULTICALL:
            cpu.gpr[EAX].q = <u32>multicall(d, cpu, arguments[0], arguments[1])
        else:
            cpu.gpr[EAX].q = <u32>dispatch(d, cpu, number, arguments)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE            # an argument in device memory: -EFAULT
    deliver_pending(d, cpu)


cdef i32 dispatch(Domain* d, CPU* cpu, u32 number, u32* a) noexcept nogil:
    if number == HYPERCALL_XEN_VERSION:
        return xen_version(cpu, a[0], a[1])
    elif number == HYPERCALL_SET_TRAP_TABLE:
        return set_trap_table(d, cpu, a[0])
    elif number == HYPERCALL_MMU_UPDATE:
        return mmu_update(d, cpu, a[0], a[1], a[2], a[3])
    elif number == HYPERCALL_SET_GDT:
        return set_gdt(d, cpu, a[0], a[1])
    elif number == HYPERCALL_STACK_SWITCH:
        return stack_switch(d, a[0], a[1])
    elif number == HYPERCALL_SET_CALLBACKS:
        return set_callbacks(d, a)
    elif number == HYPERCALL_FPU_TASKSWITCH:
        cpu.cr0 = cpu.cr0 | CR0_TS if a[0] else cpu.cr0 & ~<u32>CR0_TS
        return 0
    elif number == HYPERCALL_SET_DEBUGREG:
        return set_debugreg(cpu, a[0], a[1])
    elif number == HYPERCALL_GET_DEBUGREG:
        return <i32>cpu.dr[a[0]] if a[0] < 8 and a[0] & 6 != 4 else -ERRNO_INVAL
    elif number == HYPERCALL_UPDATE_DESCRIPTOR:
        return update_descriptor(d, cpu, a[0], a[1], <u64>a[3] << 32 | a[2])
    elif number == HYPERCALL_UPDATE_VA_MAPPING:
        return update_va_mapping(d, cpu, a[0], a[1], a[2], a[3])
    elif number == HYPERCALL_MMUEXT_OP:
        return mmuext_op(d, cpu, a[0], a[1], a[2], a[3])
    elif number == HYPERCALL_SET_TIMER_OP:
        return set_timer(d, cpu, <u64>a[1] << 32 | a[0])
    elif number == HYPERCALL_EVENT_CHANNEL_OP:
        return event_channel_op(d, cpu, a[0], a[1])
    elif number == HYPERCALL_SCHED_OP:
        return sched_op(d, cpu, a[0], a[1], True)
    elif number == HYPERCALL_SCHED_OP_COMPAT:
        return sched_op(d, cpu, a[0], a[1], False)
    elif number == HYPERCALL_VCPU_OP:
        return vcpu_op(d, cpu, a[0], a[1], a[2])
    elif number == HYPERCALL_CONSOLE_IO:
        return console_io(d, cpu, a[0], a[1], a[2])
    elif number == HYPERCALL_PHYSDEV_OP:
        return physdev_op(d, cpu, a[0], a[1])
    elif number == HYPERCALL_VM_ASSIST:
        return 0 if a[0] <= 1 and a[1] <= 3 else -ERRNO_INVAL
    return -ERRNO_NOSYS


cdef i32 multicall(Domain* d, CPU* cpu, u32 list, u32 count) noexcept nogil:
    """Entries of op, result, six arguments. An iret or another multicall among them is -ENOSYS."""
    cdef u32 words[8]
    cdef u32 i
    cdef i32 result
    if count > MAX_ARGUMENTS:
        return -ERRNO_INVAL
    for i in range(count):
        if not copy_in(cpu, list + i * MULTICALL_ENTRY_BYTES, words, 8):
            return -ERRNO_FAULT
        charge_event(cpu, cpu.cost[COST_HYPERCALL])
        if words[0] < HYPERCALLS:
            d.hypercalls[words[0]] += 1
        result = dispatch(d, cpu, words[0], &words[2])
        if cpu.exit == EXIT_IO:
            cpu.exit = EXIT_NONE
        if not copy_out(cpu, list + i * MULTICALL_ENTRY_BYTES + MULTICALL_RESULT, <u32>result):
            return -ERRNO_FAULT
        if cpu.exit != EXIT_NONE:
            return 0
    return 0


cdef void iret(Domain* d, CPU* cpu) noexcept nogil:
    """Leave the kernel: EAX, EIP, CS, EFLAGS, and to ring 3 ESP and SS, from the kernel stack.

    The event mask is set from IF. A frame that leads nowhere ends the domain: the failsafe callback comes later.
    """
    cdef u32 frame[6]
    cdef u32 i
    cdef u32 esp = cpu.gpr[ESP].d + 16
    for i in range(4):
        if not stack_read(cpu, 4 * i, 4, &frame[i]):
            crash(d, cpu, cpu.fault_vector, cpu.fault_error)
            return
    frame[5] = 0
    if frame[2] & 3 != KERNEL_RING:
        if not (stack_read(cpu, 16, 4, &esp) and stack_read(cpu, 20, 4, &frame[5])):
            crash(d, cpu, cpu.fault_vector, cpu.fault_error)
            return
    if frame[3] & VM or not return_to_guest(cpu, frame[2] & 0xFFFF, frame[1], frame[5] & 0xFFFF, esp):
        crash(d, cpu, VECTOR_GP, frame[2] & 0xFFFC)
        return
    set_eflags(cpu, frame[3], RESTORED_FLAGS)
    update_mode(cpu)        # AC
    cpu.gpr[EAX].q = frame[0]
    mask_events(d, cpu, not frame[3] & EFLAGS_IF)


# --- Scheduling, time, console ---------------------------------------------------------------------------------------

cdef i32 set_timer(Domain* d, CPU* cpu, u64 when_ns) noexcept nogil:
    """The single-shot timer. System time is modelled cycles: one a nanosecond. 0: no timer."""
    d.timer_cycles = NEVER
    if when_ns and not when_ns >> FAR_BITS:
        d.timer_cycles = when_ns
        wake_at(cpu, when_ns)
    return 0


cdef i32 poll(Domain* d, CPU* cpu, u32 argument) noexcept nogil:
    """Wait until one of the ports is pending, masked or not, or until the timeout. Nothing is delivered by it."""
    cdef u32 words[4]
    cdef u32 port, i
    cdef u64 timeout
    if not copy_in(cpu, argument, words, 4):
        return -ERRNO_FAULT
    if words[1] > MAX_POLL_PORTS:
        return -ERRNO_INVAL
    for i in range(words[1]):
        if not copy_in(cpu, words[0] + 4 * i, &port, 1):
            return -ERRNO_FAULT
        if port >= EVENT_CHANNELS:
            return -ERRNO_INVAL
        if shared_read(cpu, d.shared_info + SHARED_EVTCHN_PENDING + port // 32 * 4, 4) >> (port & 31) & 1:
            return 0
    timeout = <u64>words[3] << 32 | words[2]
    if timeout and timeout <= cycles_now(cpu):
        return 0
    d.polling = True
    cpu.halted = True
    if timeout and not timeout >> FAR_BITS:
        d.poll_cycles = timeout
        wake_at(cpu, timeout)
    return 0


cdef i32 sched_op(Domain* d, CPU* cpu, u32 command, u32 argument, bint by_pointer) noexcept nogil:
    cdef u32 reason = argument
    if command == SCHEDOP_YIELD:
        return 0
    if command == SCHEDOP_BLOCK:
        mask_events(d, cpu, False)
        if not shared_read(cpu, d.vcpu_info + VCPU_EVTCHN_UPCALL_PENDING, 1):
            cpu.halted = True
        return 0
    if command == SCHEDOP_POLL and by_pointer:
        return poll(d, cpu, argument)
    if command == SCHEDOP_SHUTDOWN:
        if by_pointer and not copy_in(cpu, argument, &reason, 1):
            return -ERRNO_FAULT
        d.shutdown_reason = <i32>(reason & 0xFF)
        shut_down(cpu, HYPERCALL_VECTOR, reason)
        return 0
    return -ERRNO_NOSYS


cdef i32 vcpu_op(Domain* d, CPU* cpu, u32 command, u32 vcpu, u32 argument) noexcept nogil:
    cdef u32 words[4]
    cdef u64 period, when
    if vcpu != 0:
        return -ERRNO_NOENT
    if command == VCPUOP_UP:
        return 0
    if command == VCPUOP_IS_UP:
        return 1
    if command == VCPUOP_DOWN:
        cpu.eflags &= ~<u32>EFLAGS_IF   # nothing wakes it: there is no other virtual CPU that could
        cpu.halted = True
        return 0
    if command == VCPUOP_REGISTER_VCPU_INFO:
        return register_vcpu_info(d, cpu, argument)
    if command == VCPUOP_STOP_SINGLESHOT_TIMER:
        return set_timer(d, cpu, 0)
    if command == VCPUOP_STOP_PERIODIC_TIMER:
        d.periodic_cycles = NEVER
        return 0
    if command == VCPUOP_SET_PERIODIC_TIMER:
        if not copy_in(cpu, argument, words, 2):
            return -ERRNO_FAULT
        period = <u64>words[1] << 32 | words[0]
        when = cycles_now(cpu) + period
        if period < MIN_PERIOD_NS or period >> FAR_BITS or when >> FAR_BITS:
            return -ERRNO_INVAL
        d.period_cycles = period
        d.periodic_cycles = when
        wake_at(cpu, d.periodic_cycles)
        return 0
    if command == VCPUOP_SET_SINGLESHOT_TIMER:      # timeout_abs_ns, flags
        if not copy_in(cpu, argument, words, 3):
            return -ERRNO_FAULT
        when = <u64>words[1] << 32 | words[0]
        if words[2] & VCPU_SSHOTTMR_FUTURE and when <= cycles_now(cpu):
            return -ERRNO_TIME
        return set_timer(d, cpu, when)
    return -ERRNO_NOSYS


cdef i32 register_vcpu_info(Domain* d, CPU* cpu, u32 argument) noexcept nogil:
    """Once: vcpu_info moves, with its content, to where the guest wants it (mfn u64, offset, reserved)."""
    cdef u32 words[3]
    cdef u32 i
    cdef u64 place
    if d.registered:
        return -ERRNO_INVAL
    if not copy_in(cpu, argument, words, 3):
        return -ERRNO_FAULT
    if words[1] or words[2] > 4096 - VCPU_INFO_BYTES or words[2] & 3:
        return -ERRNO_INVAL
    if not get_page_type(d, cpu, words[0], PAGE_WRITABLE):      # for good: Xen writes there
        return -ERRNO_INVAL
    place = (<u64>words[0] << 12) + words[2]
    for i in range(VCPU_INFO_BYTES // 4):
        physical_write(cpu, place + 4 * i, 4, shared_read(cpu, d.vcpu_info + 4 * i, 4))
    d.vcpu_info = place
    d.registered = True
    return 0


cdef i32 console_io(Domain* d, CPU* cpu, u32 command, u32 count, u32 text) noexcept nogil:
    cdef u32 i, byte
    if command == CONSOLEIO_READ:
        return 0                        # nobody types
    if command != CONSOLEIO_WRITE:
        return -ERRNO_NOSYS
    if count > MAX_ARGUMENTS:
        return -ERRNO_INVAL
    for i in range(count):
        if not linear_read(cpu, text + i, 1, False, &byte):
            return -ERRNO_FAULT
        d.console[d.console_written % CONSOLE_BYTES] = <char>byte
        d.console_written += 1
    return <i32>count


cdef i32 physdev_op(Domain* d, CPU* cpu, u32 command, u32 argument) noexcept nogil:
    cdef u32 iopl
    if command == PHYSDEV_SET_IOBITMAP:
        return 0
    if command != PHYSDEV_SET_IOPL:
        return -ERRNO_NOSYS
    if not copy_in(cpu, argument, &iopl, 1):
        return -ERRNO_FAULT
    if iopl > 3:
        return -ERRNO_INVAL
    d.iopl = iopl
    return 0


cdef i32 xen_version(CPU* cpu, u32 command, u32 argument) noexcept nogil:
    cdef u32 i, index
    if command == XENVERSION_VERSION:
        return 3 << 16 | 1
    if command == XENVERSION_EXTRAVERSION:
        for i in range(4):
            if not copy_out(cpu, argument + 4 * i, 0):
                return -ERRNO_FAULT
        return 0
    if command == XENVERSION_PLATFORM_PARAMETERS:
        return 0 if copy_out(cpu, argument, HYPERVISOR_VIRT_START) else -ERRNO_FAULT
    if command == XENVERSION_GET_FEATURES:      # submap_idx, submap: none
        if not copy_in(cpu, argument, &index, 1) or not copy_out(cpu, argument + 4, 0):
            return -ERRNO_FAULT
        return 0 if index == 0 else -ERRNO_INVAL
    if command == XENVERSION_PAGESIZE:
        return 4096
    return -ERRNO_NOSYS
