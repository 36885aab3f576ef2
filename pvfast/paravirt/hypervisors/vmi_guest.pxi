# The guest: what its hypervisor knows about it, the shared area, and the descriptors it may have.
#
# Enters: nothing. Leaves: the structure Guest, and functions on its memory and descriptors. Next: vmi_events.pxi.
#
# Design: everything the hypervisor must be able to trust is here, in host memory: GDT and IDT as checked copies. The
# real TR holds a TSS without stacks and without an I/O permission map, so no gate that the guest writes into its LDT
# by hand leads to ring 0, and no port is reached but through the hypervisor.

cdef enum:
    GDT_SLOTS = 8192
    VECTORS = 256
    PENDING_WORDS = 8                   # of 32 vectors
    TIMER_VECTOR = FIRST_EXTERNAL_VECTOR        # what an alarm raises
    MAX_FRAMES = 65536                  # 256 MiB
    TABLE_ENTRIES = 1024
    GATE_INTERRUPT = 0x8E00             # high word of a gate: present, 32-bit, clears IF
    GATE_TRAP = 0x8F00
    GATE_KIND = 0x9F00                  # present, and the type

cdef struct Guest:
    bint started            # vmi_init has been called: the kernel is in ring 1
    u8 ended                # ENDED_*
    CPU* cpu                # whose `descriptors` are `gdt`
    u32 frames              # physical memory, in pages: [0, frames)
    u32 gdt_base            # linear: the guest's own tables
    u32 gdt_limit
    u32 idt_base
    u32 idt_limit
    u64 gdt[GDT_SLOTS]      # checked copies
    u64 idt[VECTORS]
    u32 kernel_ss           # UpdateKernelStack
    u32 kernel_esp
    u32 iopl                # virtual; the real one stays 0
    u32 sysenter[3]         # virtual MSR_IA32_SYSENTER_CS, _ESP, _EIP
    u32 pending[PENDING_WORDS]
    u8 page_types[MAX_FRAMES]           # AllocatePage: VMI_PAGE_PT or VMI_PAGE_PD; 0: none of these
    u64 alarm_cycles        # NEVER: off
    u64 period_cycles       # 0: once
    u64 interrupts          # delivered
    u64 calls[VMI_CALLS]             # that trapped

cdef enum:
    ENDED_NOT = 0
    ENDED_CRASH
    ENDED_REBOOT
    ENDED_SHUTDOWN


cdef void end(Guest* g, CPU* cpu, u8 how, u32 vector, u32 error) noexcept nogil:
    g.ended = how
    shut_down(cpu, vector, error)


# --- The shared area: the guest may write there, so nothing in it is believed ---------------------------------------

cdef inline u32 shared_read(CPU* cpu, u32 offset) noexcept nogil:
    """At every event, so not through the memory map where that is plain RAM."""
    cdef u32 value = 0
    if SHARED_PHYSICAL + offset + 4 <= cpu.flat_end:
        memcpy(&value, cpu.ram + SHARED_PHYSICAL + offset, 4)
    elif not physical_read(cpu, SHARED_PHYSICAL + offset, 4, &value):
        cpu.exit = EXIT_NONE            # a device has been put there
    return value


cdef void shared_write(CPU* cpu, u32 offset, u32 value) noexcept nogil:
    if not physical_write(cpu, SHARED_PHYSICAL + offset, 4, value):
        cpu.exit = EXIT_NONE


cdef bint interrupts_enabled(CPU* cpu) noexcept nogil:
    return shared_read(cpu, SHARED_IF) & EFLAGS_IF != 0


cdef void enable_interrupts(CPU* cpu, bint enabled) noexcept nogil:
    shared_write(cpu, SHARED_IF, EFLAGS_IF if enabled else 0)


cdef void show_control_registers(CPU* cpu) noexcept nogil:
    """What GetCR0, GetCR2 and GetCR3 answer. CR4 there is the guest's own."""
    shared_write(cpu, SHARED_CR0, cpu.cr0)
    shared_write(cpu, SHARED_CR2, cpu.cr2)
    shared_write(cpu, SHARED_CR3, cpu.cr3)


# --- Descriptors -----------------------------------------------------------------------------------------------------

cdef u64 checked_gate(u64 gate) noexcept nogil:
    """Interrupt and trap gates of 32 bits, into ring 1 at most; anything else is not there."""
    cdef u32 kind = <u32>(gate >> 32) & GATE_KIND
    if kind != GATE_INTERRUPT and kind != GATE_TRAP:
        return 0
    if not <u32>gate >> 16 & 3:
        gate |= <u64>KERNEL_RING << 16
    return gate


cdef bint read_table(CPU* cpu, u32 base, u32 limit, u32 entry, u64* value) noexcept nogil:
    """An entry of a table in guest memory; behind its limit there is none."""
    cdef u32 low, high
    value[0] = 0
    if 8 * entry + 7 > limit:
        return True
    if not (linear_read(cpu, base + 8 * entry, 4, False, &low)
            and linear_read(cpu, base + 8 * entry + 4, 4, False, &high)):
        return False
    value[0] = <u64>high << 32 | low
    return True


cdef bint take_gdt(Guest* g, CPU* cpu, u32 base, u32 limit) noexcept nogil:
    """All of it is readable, or nothing changes."""
    cdef u32 i
    cdef u64 value
    for i in range((limit + 1) // 8):
        if not read_table(cpu, base, limit, i, &value):
            return False
    g.gdt_base = base
    g.gdt_limit = limit
    for i in range(GDT_SLOTS):
        read_table(cpu, base, limit, i, &value)
        g.gdt[i] = outside_ring_0(value)
    return True


cdef bint take_idt(Guest* g, CPU* cpu, u32 base, u32 limit) noexcept nogil:
    cdef u32 i
    cdef u64 value
    for i in range(VECTORS):
        if not read_table(cpu, base, limit, i, &value):
            return False
    g.idt_base = base
    g.idt_limit = limit
    for i in range(VECTORS):
        read_table(cpu, base, limit, i, &value)
        g.idt[i] = checked_gate(value)
    return True


# --- Page tables -----------------------------------------------------------------------------------------------------

cdef bint is_entry(Guest* g, u32 entry) noexcept nogil:
    """May a page table or directory hold it? It maps memory that the guest has, small, or nothing."""
    return not entry & PTE_P or (entry >> 12 < g.frames and not entry & PTE_PS)


cdef bint is_table(Guest* g, CPU* cpu, u32 frame) noexcept nogil:
    cdef u32 i
    if frame >= g.frames:
        return False
    for i in range(TABLE_ENTRIES):
        if not is_entry(g, table_read(cpu, (<u64>frame << 12) + 4 * i)):
            return False
    return True
