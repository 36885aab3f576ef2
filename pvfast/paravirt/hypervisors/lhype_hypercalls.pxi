# Hypercalls: int $0x1f in ring 1, number in EAX, arguments in EDX, EBX, ECX (2.6.31: EBX, ECX, EDX), answer in EAX; and
# the ring of those that the guest has put off.
#
# Enters: the guest behind its INT. Leaves: the guest there, in an interrupt handler, or killed: a hypercall with
# arguments that make no sense has no error code, it ends the guest. Next: lhype_host.pyx.

cdef void hypercall(Guest* g, CPU* cpu) noexcept nogil:
    cdef u32 first = cpu.gpr[EBX if g.later else EDX].d
    cdef u32 second = cpu.gpr[ECX if g.later else EBX].d
    cdef u32 third = cpu.gpr[EDX if g.later else ECX].d
    charge_hypercall(cpu)
    if not g.initialised:
        if cpu.gpr[EAX].d == LHCALL_LGUEST_INIT:
            g.hypercalls[LHCALL_LGUEST_INIT] += 1
            lguest_init(g, cpu, first)
        else:
            kill_guest(g, cpu, KILLED_BAD_HYPERCALL)
    else:
        do_async_hcalls(g, cpu)
        if g.killed < 0:
            do_hcall(g, cpu, cpu.gpr[EAX].d, first, second, third)
    maybe_do_interrupt(g, cpu)


cdef void lguest_init(Guest* g, CPU* cpu, u32 lguest_data) noexcept nogil:
    if lguest_data & 3 or not address_ok(g, lguest_data, g.layout.bytes):
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    g.lguest_data = lguest_data
    g.initialised = True
    g.noirq_start = get_word(cpu, lguest_data + g.layout.noirq_start)
    g.noirq_end = get_word(cpu, lguest_data + g.layout.noirq_end)
    if g.later:
        g.page_offset = get_word(cpu, lguest_data + LGUEST_DATA_KERNEL_ADDRESS_2_6_31)
        put_word(cpu, lguest_data + LGUEST_DATA_PGDIR_2_6_31, g.directories[g.current].guest)
    put_word(cpu, lguest_data + g.layout.reserve_mem, 0)     # no part of the host is in the guest's addresses
    put_word(cpu, lguest_data + g.layout.tsc_khz, NSEC_PER_SEC // 1000)
    write_timestamp(g, cpu)


cdef void do_async_hcalls(Guest* g, CPU* cpu) noexcept nogil:
    """At most once round the ring, from where the last one stopped."""
    cdef u32 i, entry, status, shift
    for i in range(LHCALL_RING_SIZE):
        status = g.lguest_data + g.layout.hcall_status + (g.next_hcall & ~<u32>3)
        shift = 8 * (g.next_hcall & 3)
        if get_word(cpu, status) >> shift & 0xFF == LHCALL_DONE:
            return
        entry = g.lguest_data + g.layout.hcalls + g.next_hcall * g.layout.entry_bytes
        g.next_hcall = (g.next_hcall + 1) & (LHCALL_RING_SIZE - 1)
        charge_event(cpu, cpu.cost[COST_HYPERCALL])
        do_hcall(g, cpu, get_word(cpu, entry), get_word(cpu, entry + 4), get_word(cpu, entry + 8),
                 get_word(cpu, entry + 12))
        if g.killed >= 0:
            return
        put_word(cpu, status, get_word(cpu, status) | <u32>LHCALL_DONE << shift)


cdef bint is_number(Guest* g, u32 number) noexcept nogil:
    """Does the guest's release have this hypercall?"""
    if number > LHCALL_LOAD_TLS:
        return g.later and number < HYPERCALLS
    if number == LHCALL_LOAD_GDT or number == LHCALL_BIND_DMA or number == LHCALL_SEND_DMA:
        return not g.later
    return number != LHCALL_UNUSED


cdef void do_hcall(Guest* g, CPU* cpu, u32 number, u32 first, u32 second, u32 third) noexcept nogil:
    if not is_number(g, number) or number == LHCALL_LGUEST_INIT:
        kill_guest(g, cpu, KILLED_BAD_HYPERCALL)
        return
    g.hypercalls[number] += 1
    if number == LHCALL_FLUSH_ASYNC or number == LHCALL_SEND_INTERRUPTS:
        pass                            # that the host was entered is enough
    elif number == LHCALL_TS:
        cpu.cr0 = cpu.cr0 | CR0_TS if first else cpu.cr0 & ~<u32>CR0_TS
    elif number == LHCALL_SET_PTE:
        set_pte(g, cpu, first, second, third)
    elif number == LHCALL_SET_PMD:
        set_pmd(g, cpu, first, second)
    elif number == LHCALL_FLUSH_TLB:
        if first:
            release_all(g, cpu)
        else:
            release_user(g, cpu)
    elif number == LHCALL_NEW_PGTABLE:
        new_page_table(g, cpu, first)
    elif number == LHCALL_SET_STACK:
        set_stack(g, cpu, first, second, third)
    elif number == LHCALL_LOAD_TLS:
        load_tls(g, cpu, first)
    elif number == LHCALL_LOAD_GDT:
        load_gdt(g, cpu, first, second)
    elif number == LHCALL_LOAD_IDT_ENTRY:
        load_idt_entry(g, cpu, first, second, third)
    elif number == LHCALL_SET_CLOCKEVENT:
        set_clockevent(g, cpu, first)
    elif number == LHCALL_HALT:
        g.halted = cpu.halted = True
    elif number == LHCALL_BIND_DMA:
        cpu.gpr[EAX].q = 0              # no interrupt for it: there is no device that sends
    elif number == LHCALL_SEND_DMA:
        send_dma(g, cpu, first, second)
    elif number == LHCALL_CRASH:
        crash(g, cpu, first)
    elif number == LHCALL_NOTIFY:
        notify(g, cpu, first)
    else:
        load_gdt_entry(g, cpu, first, second, third)


cdef void set_stack(Guest* g, CPU* cpu, u32 ss, u32 esp, u32 pages) noexcept nogil:
    if ss & 3 != GUEST_PL or pages > LGUEST_STACK_PAGES:
        kill_guest(g, cpu, KILLED_BAD_STACK)
        return
    g.kernel_ss = ss & 0xFFFF
    g.kernel_esp = esp


cdef void load_gdt(Guest* g, CPU* cpu, u32 table, u32 entries) noexcept nogil:
    if entries > LGUEST_GDT_ENTRIES:
        kill_guest(g, cpu, KILLED_BAD_GDT)
    elif not address_ok(g, table, 8 * entries):
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
    else:
        read_descriptors(g, cpu, table, 0, entries)


cdef void load_gdt_entry(Guest* g, CPU* cpu, u32 number, u32 low, u32 high) noexcept nogil:
    if number >= LGUEST_GDT_ENTRIES:
        kill_guest(g, cpu, KILLED_BAD_GDT)
    else:
        g.gdt[number] = outside_ring_0(<u64>high << 32 | low)


cdef void load_tls(Guest* g, CPU* cpu, u32 table) noexcept nogil:
    if not address_ok(g, table, 8 * LGUEST_GDT_TLS_ENTRIES):
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    read_descriptors(g, cpu, table, LGUEST_GDT_TLS_MIN, LGUEST_GDT_TLS_ENTRIES)


cdef void load_idt_entry(Guest* g, CPU* cpu, u32 vector, u32 low, u32 high) noexcept nogil:
    """NMI, #DF, the spurious interrupt and the hypercall are never the guest's, nor is what there is no gate for."""
    cdef u32 index = gate_index(vector)
    cdef u32 type = high >> GATE_TYPE_SHIFT & 0xF
    if index > GATES or vector == 2 or vector == VECTOR_DF or vector == 15 or vector == LGUEST_TRAP_ENTRY:
        return
    if not high & GATE_PRESENT:
        g.idt[index] = 0
    elif type != TYPE_INTERRUPT_GATE32 and type != TYPE_TRAP_GATE32:
        kill_guest(g, cpu, KILLED_BAD_IDT_TYPE)
    else:
        g.idt[index] = <u64>high << 32 | low


cdef void set_clockevent(Guest* g, CPU* cpu, u32 delta_ns) noexcept nogil:
    """Interrupt 0 once, so many nanoseconds from now. 0: not any more."""
    g.timer_cycles = cycles_now(cpu) + delta_ns if delta_ns else NEVER
    if delta_ns:
        wake_at(cpu, g.timer_cycles)


cdef void send_dma(Guest* g, CPU* cpu, u32 key, u32 dma) noexcept nogil:
    """To the launcher's console, the only device: up to 16 pieces, each inside a page, ended by an empty one."""
    cdef u32 i, at, at_byte, length
    cdef u32 sent = 0
    if not address_ok(g, dma, LGUEST_DMA_LEN + 2 * LGUEST_MAX_DMA_SECTIONS) or dma & 3:
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    if key != LGUEST_CONSOLE_DMA_KEY:
        return
    for i in range(LGUEST_MAX_DMA_SECTIONS):
        length = get_word(cpu, dma + LGUEST_DMA_LEN + (2 * i & ~<u32>3)) >> (16 * (i & 1)) & 0xFFFF
        at = get_word(cpu, dma + LGUEST_DMA_ADDR + 4 * i)
        if length == 0:
            break
        if (at & 0xFFF) + length > PAGE_SIZE or not address_ok(g, at, length):
            kill_guest(g, cpu, KILLED_BAD_ADDRESS)
            return
        for at_byte in range(at, at + length):
            write_console(g, get_byte(cpu, at_byte))
        sent += length
    put_word(cpu, dma, sent)


cdef void notify(Guest* g, CPU* cpu, u32 text) noexcept nogil:
    """In memory it is the early console's: at most a page of text up to a zero."""
    cdef u32 i
    for i in range(PAGE_SIZE):
        if not address_ok(g, text + i, 1):
            kill_guest(g, cpu, KILLED_BAD_ADDRESS)
            return
        if not get_byte(cpu, text + i):
            return
        write_console(g, get_byte(cpu, text + i))


cdef void write_console(Guest* g, u8 byte) noexcept nogil:
    g.console[g.console_written % CONSOLE_BYTES] = <char>byte
    g.console_written += 1


cdef void crash(Guest* g, CPU* cpu, u32 message) noexcept nogil:
    """The guest ends itself, with a text for whoever looks."""
    cdef u32 i
    if not address_ok(g, message, LGUEST_CRASH_BYTES):
        kill_guest(g, cpu, KILLED_BAD_ADDRESS)
        return
    for i in range(LGUEST_CRASH_BYTES - 1):
        g.message[i] = <char>get_byte(cpu, message + i)
    kill_guest(g, cpu, KILLED_CRASH)
