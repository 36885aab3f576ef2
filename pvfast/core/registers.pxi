# What Python sees of a CPU: registers, counters, stops, and the object that owns the memory.
#
# Enters: attribute accesses from Python. Leaves: values, or typed errors. Next: machine.pxi.

import enum
from operator import index

from cpython.buffer cimport PyBuffer_FillInfo

from pvfast.errors import AddressError, ArgumentError, MachineBusy

cdef tuple REGISTER_NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
cdef tuple SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")


class StopReason(enum.Enum):
    """Why `Machine.run` came back."""

    UNTIL = "until"             # the next instruction is at the `until` address
    BUDGET = "budget"           # max_instructions have run
    HALT = "halt"               # HLT, and nothing will wake the processor
    SHUTDOWN = "shutdown"       # a fault while delivering a double fault ("triple fault")
    REQUESTED = "requested"     # Machine.stop() was called


cdef dict STOP_REASONS = {EXIT_UNTIL: StopReason.UNTIL, EXIT_BUDGET: StopReason.BUDGET, EXIT_HALT: StopReason.HALT,
                          EXIT_SHUTDOWN: StopReason.SHUTDOWN, EXIT_REQUESTED: StopReason.REQUESTED}


cdef class Stop:
    """Where and why a run ended.

    Attributes
    ----------
    reason : StopReason
    eip : int
        Offset of the next instruction in CS.
    vector, error : int or None
        Of the fault that began a shutdown.
    """

    cdef readonly object reason
    cdef readonly u32 eip
    cdef readonly object vector
    cdef readonly object error

    def __repr__(self):
        fault = f", vector {self.vector}, error {self.error:#x}" if self.vector is not None else ""
        return f"<Stop {self.reason.name} at {self.eip:#x}{fault}>"


cdef class Core:
    """Owns the CPU structure and the guest's memory; what lends either out keeps this alive, and no cycle arises."""

    cdef CPU* cpu
    cdef char* reservation
    cdef bint running           # without the GIL, in some thread
    cdef bint active            # inside run(), perhaps in a callback of it

    def __cinit__(self):
        self.cpu = <CPU*>calloc(1, sizeof(CPU))
        if self.cpu == NULL:
            raise MemoryError("no memory for the CPU structure")
        self.reservation = <char*>pvfast_reserve(<size_t>LINE_MAP_BYTES + GUEST_SPACE)
        if self.reservation == NULL:
            raise MemoryError("4 GiB of address space could not be reserved for the guest; raise `ulimit -v`")
        if not pvfast_commit(self.reservation, LINE_MAP_BYTES):
            raise MemoryError("no memory for the code map")
        self.cpu.arena = <char*>pvfast_reserve(UOP_ARENA_BYTES)
        if self.cpu.arena == NULL or not pvfast_commit(self.cpu.arena, UOP_ARENA_BYTES):
            raise MemoryError("no memory for decoded code")
        self.cpu.ram = self.reservation + LINE_MAP_BYTES
        self.cpu.line_bias = <u64>self.reservation - (<u64>self.cpu.ram >> LINE_SHIFT)
        self.cpu.deadline = NEVER
        self.cpu.budget_end = NEVER
        reset(self.cpu)

    def __dealloc__(self):
        if self.cpu != NULL:
            if self.cpu.arena != NULL:
                pvfast_release(self.cpu.arena, UOP_ARENA_BYTES)
            free(self.cpu)
        if self.reservation != NULL:
            pvfast_release(self.reservation, <size_t>LINE_MAP_BYTES + GUEST_SPACE)

    cdef check_idle(self):
        if self.running:
            raise MachineBusy("the machine is running in another thread; wait for run() to return")


cdef i64 whole(value) except? -1:
    """An integer from Python: an address or a size, to be checked against what it is for."""
    try:
        return value if isinstance(value, int) else index(value)
    except (OverflowError, TypeError):
        raise AddressError(f"{value!r} is not an integer of 64 bits") from None


cdef u32 word(value) except? 0xFFFFFFFF:
    """A 32-bit value from Python."""
    cdef i64 wide = whole(value)
    if wide < 0 or wide > <i64>0xFFFFFFFFu:
        raise AddressError(f"{value!r} is not an integer from 0 to 0xffffffff")
    return <u32>wide


cdef table(value):
    """Base and limit of a descriptor table."""
    base, limit = value
    if word(limit) > 0xFFFF:
        raise ArgumentError(f"the limit {limit:#x} of a descriptor table has at most 16 bits")
    return word(base), limit


cdef class _Exporter:
    """Lends guest RAM to numpy, read-only for good: writing goes through Machine.write, which sees code change."""

    cdef Core core
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.core.cpu.ram, self.size, 1, flags)


cdef class SegmentView:
    """A segment register: selector and the hidden base, limit and attributes."""

    cdef Core core
    cdef u32 number

    def __cinit__(self, Core core not None, u32 number):
        if number > GS:
            raise ArgumentError(f"segment register {number} is not 0-5")
        self.core = core
        self.number = number

    @property
    def selector(self):
        self.core.check_idle()
        return self.core.cpu.seg[self.number].selector

    @property
    def base(self):
        """Linear address of offset 0."""
        self.core.check_idle()
        return self.core.cpu.seg[self.number].base

    @base.setter
    def base(self, value):
        self.core.check_idle()
        self.core.cpu.seg[self.number].base = word(value)
        segments_set(self.core.cpu)

    @property
    def limit(self):
        """The last valid offset."""
        self.core.check_idle()
        return self.core.cpu.seg[self.number].limit

    @limit.setter
    def limit(self, value):
        self.core.check_idle()
        self.core.cpu.seg[self.number].limit = word(value)
        segments_set(self.core.cpu)

    @property
    def attributes(self):
        """Bits 40-55 of the descriptor without the limit (SDM 3:3.4.5)."""
        self.core.check_idle()
        return self.core.cpu.seg[self.number].attributes

    def set(self, selector, base, limit, attributes):
        """Load visible and hidden parts without looking at a descriptor table."""
        self.core.check_idle()
        cdef Segment* s = &self.core.cpu.seg[self.number]
        cdef u32 new_base = word(base)
        cdef u32 new_limit = word(limit)
        s.selector = selector
        s.base = new_base
        s.limit = new_limit
        s.attributes = attributes
        if self.number == CS:
            self.core.cpu.cpl = 0 if real_mode(self.core.cpu) else 3 if v86_mode(self.core.cpu) else selector & 3
        segments_set(self.core.cpu)

    def __repr__(self):
        return f"<{SEGMENT_NAMES[self.number]} {self.selector:#x} base {self.base:#x} limit {self.limit:#x}>"


cdef class VectorRegisters:
    """XMM0-XMM7, or MM0-MM7, as integers: `machine.cpu.xmm`, `machine.cpu.mm`.

    Writing an MM register does what an MMX instruction does to the x87 registers that it is part of.

    >>> import pvfast
    >>> machine = pvfast.Machine()
    >>> machine.cpu.xmm[1] = 0x3F800000_40000000_40400000_40800000       # 4.0, 3.0, 2.0, 1.0 from the low end
    >>> hex(machine.cpu.xmm[1])
    '0x3f800000400000004040000040800000'
    >>> machine.cpu.mm[0], len(machine.cpu.mm)
    (0, 8)
    """

    cdef Core core
    cdef bint wide

    def __cinit__(self, Core core not None, bint wide):
        self.core = core
        self.wide = wide

    def __len__(self):
        return 8

    def __getitem__(self, i):
        cdef Vector* vector = self.vector(i)
        return <object>vector.q[0] if not self.wide else vector.q[0] | <object>vector.q[1] << 64

    def __setitem__(self, i, value):
        cdef Vector* vector = self.vector(i)
        cdef int bits = 128 if self.wide else 64
        value = index(value)
        if value < 0 or value.bit_length() > bits:
            raise ArgumentError(f"{value:#x} is not an integer of {bits} bits without a sign")
        if self.wide:
            vector.q[0], vector.q[1] = value & 0xFFFFFFFFFFFFFFFF, value >> 64
        else:
            enter_mmx(self.core.cpu)
            set_mm(self.core.cpu, i, value)

    cdef Vector* vector(self, i) except NULL:
        self.core.check_idle()
        cdef i64 number = whole(i)
        if not 0 <= number < 8:
            raise IndexError(f"there are registers 0 to 7, not {number}")
        return &self.core.cpu.xmm[number] if self.wide else <Vector*>&self.core.cpu.fpu[number]


cdef class Registers:
    """The register file of a machine: `machine.cpu`. General registers, eip, eflags, crN, segments."""

    cdef Core core
    cdef readonly SegmentView es, cs, ss, ds, fs, gs
    cdef readonly VectorRegisters xmm, mm
    cdef readonly FloatingPoint fpu

    def __cinit__(self, Core core not None):
        self.core = core
        self.es, self.cs, self.ss, self.ds, self.fs, self.gs = (
            SegmentView(core, number) for number in range(6))
        self.xmm, self.mm = VectorRegisters(core, True), VectorRegisters(core, False)
        self.fpu = FloatingPoint(core)

    def __getitem__(self, name):
        return getattr(self, name)

    def registers(self):
        """All of them as a dict, for comparing and printing."""
        self.core.check_idle()
        values = {name: self.core.cpu.gpr[i].d for i, name in enumerate(REGISTER_NAMES)}
        for name in ("eip", "eflags", "cr0", "cr2", "cr3", "cr4", "cpl"):
            values[name] = getattr(self, name)
        for name in SEGMENT_NAMES:
            values[name] = getattr(self, name).selector
        return values

    @property
    def eip(self):
        self.core.check_idle()
        return self.core.cpu.eip

    @eip.setter
    def eip(self, value):
        self.core.check_idle()
        self.core.cpu.eip = word(value)
        self.core.cpu.halted = False
        self.core.cpu.debug_traps = 0

    @property
    def eflags(self):
        """EFLAGS. Setting VM enters V86 mode: the hidden parts of the segment registers become those of their
        selectors. Clearing it leaves them."""
        self.core.check_idle()
        return get_eflags(self.core.cpu) | (RF if resuming(self.core.cpu) else 0)

    @eflags.setter
    def eflags(self, value):
        self.core.check_idle()
        cdef CPU* cpu = self.core.cpu
        cdef u32 selectors[6]
        cdef u32 seg
        if word(value) & VM and real_mode(cpu):
            raise ArgumentError(f"eflags={value:#x}: virtual-8086 mode (VM, bit 17) needs protected mode, CR0.PE")
        set_eflags(cpu, word(value), EFLAGS_WRITABLE)
        cpu.resume_unit = NEVER
        if v86_mode(cpu) and not cpu.mode & MODE_8086:
            for seg in range(6):
                selectors[seg] = cpu.seg[seg].selector
            load_v86_segments(cpu, selectors)
        update_mode(cpu)

    @property
    def cpl(self):
        """Current privilege level, 0-3."""
        self.core.check_idle()
        return self.core.cpu.cpl

    @property
    def halted(self):
        self.core.check_idle()
        return bool(self.core.cpu.halted)

    # One property per register: Cython has no way to make them in a loop.
    @property
    def eax(self):
        self.core.check_idle()
        return self.core.cpu.gpr[EAX].d

    @eax.setter
    def eax(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[EAX].q = word(value)

    @property
    def ecx(self):
        self.core.check_idle()
        return self.core.cpu.gpr[ECX].d

    @ecx.setter
    def ecx(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[ECX].q = word(value)

    @property
    def edx(self):
        self.core.check_idle()
        return self.core.cpu.gpr[EDX].d

    @edx.setter
    def edx(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[EDX].q = word(value)

    @property
    def ebx(self):
        self.core.check_idle()
        return self.core.cpu.gpr[EBX].d

    @ebx.setter
    def ebx(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[EBX].q = word(value)

    @property
    def esp(self):
        self.core.check_idle()
        return self.core.cpu.gpr[ESP].d

    @esp.setter
    def esp(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[ESP].q = word(value)

    @property
    def ebp(self):
        self.core.check_idle()
        return self.core.cpu.gpr[EBP].d

    @ebp.setter
    def ebp(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[EBP].q = word(value)

    @property
    def esi(self):
        self.core.check_idle()
        return self.core.cpu.gpr[ESI].d

    @esi.setter
    def esi(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[ESI].q = word(value)

    @property
    def edi(self):
        self.core.check_idle()
        return self.core.cpu.gpr[EDI].d

    @edi.setter
    def edi(self, value):
        self.core.check_idle()
        self.core.cpu.gpr[EDI].q = word(value)

    cdef set_mapping(self, u32 cr0, u32 cr3, u32 cr4):
        """Set the registers that say how linear addresses are translated."""
        cdef CPU* cpu = self.core.cpu
        if cr0 & CR0_PG and cr4 & CR4_PAE and not load_pdptes(cpu, cr3):
            raise ArgumentError(f"a PDPTE at {cr3 & 0xFFFFFFE0:#x} has reserved bits set")
        cpu.cr0, cpu.cr3, cpu.cr4 = cr0, cr3, cr4
        update_reserved_bits(cpu)
        flush_tlb(cpu)

    @property
    def cr0(self):
        """CR0. Clearing PE goes to real mode, as MOV to CR0 does: the segments keep their bases and limits."""
        self.core.check_idle()
        return self.core.cpu.cr0

    @cr0.setter
    def cr0(self, value):
        self.core.check_idle()
        cdef CPU* cpu = self.core.cpu
        cdef bint was_protected = cpu.cr0 & CR0_PE
        if not word(value) & CR0_PE and (word(value) & CR0_PG or v86_mode(cpu)):
            raise ArgumentError(f"cr0={value:#x}: paging and virtual-8086 mode need PE (bit 0)")
        self.set_mapping(word(value) | CR0_ET, cpu.cr3, cpu.cr4)
        if was_protected and not cpu.cr0 & CR0_PE:
            leave_protected_mode(cpu)
        segments_set(self.core.cpu)

    @property
    def cr2(self):
        self.core.check_idle()
        return self.core.cpu.cr2

    @cr2.setter
    def cr2(self, value):
        self.core.check_idle()
        self.core.cpu.cr2 = word(value)

    @property
    def cr3(self):
        self.core.check_idle()
        return self.core.cpu.cr3

    @cr3.setter
    def cr3(self, value):
        self.core.check_idle()
        self.set_mapping(self.core.cpu.cr0, word(value), self.core.cpu.cr4)

    @property
    def cr4(self):
        self.core.check_idle()
        return self.core.cpu.cr4

    @cr4.setter
    def cr4(self, value):
        self.core.check_idle()
        self.set_mapping(self.core.cpu.cr0, self.core.cpu.cr3, word(value))

    @property
    def mxcsr(self):
        """Control and status of SSE floating point (SDM 1:10.2.3).

        >>> import pvfast
        >>> hex(pvfast.Machine().cpu.mxcsr)
        '0x1f80'
        """
        self.core.check_idle()
        return self.core.cpu.mxcsr

    @mxcsr.setter
    def mxcsr(self, value):
        self.core.check_idle()
        if word(value) & ~<u32>MXCSR_DEFINED:
            raise ArgumentError(f"mxcsr={value:#x}: bits 16-31 are reserved")
        self.core.cpu.mxcsr = word(value)

    @property
    def fxsave(self):
        """x87, MMX and SSE state as the 512 bytes that FXSAVE stores (SDM 2, FXSAVE)."""
        cdef FxsaveImage image
        self.core.check_idle()
        fxsave_out(self.core.cpu, &image)
        return (<const char*>&image)[:FXSAVE_END].ljust(FXSAVE_BYTES, b"\0")

    @fxsave.setter
    def fxsave(self, value):
        cdef bytes image = bytes(value)
        self.core.check_idle()
        if len(image) != FXSAVE_BYTES:
            raise ArgumentError(f"an FXSAVE image has {FXSAVE_BYTES} bytes, not {len(image)}")
        if (<FxsaveImage*><const char*>image).mxcsr & ~<u32>MXCSR_DEFINED:
            raise ArgumentError("MXCSR in the FXSAVE image has reserved bits set")
        fxsave_in(self.core.cpu, <FxsaveImage*><const char*>image, True)

    @property
    def gdtr(self):
        """(linear base, limit)"""
        self.core.check_idle()
        return self.core.cpu.gdt_base, self.core.cpu.gdt_limit

    @gdtr.setter
    def gdtr(self, value):
        self.core.check_idle()
        self.core.cpu.gdt_base, self.core.cpu.gdt_limit = table(value)

    @property
    def idtr(self):
        """(linear base, limit)"""
        self.core.check_idle()
        return self.core.cpu.idt_base, self.core.cpu.idt_limit

    @idtr.setter
    def idtr(self, value):
        self.core.check_idle()
        self.core.cpu.idt_base, self.core.cpu.idt_limit = table(value)


cdef class Counters:
    """What has happened since power-on: integers, exact at every stop, equal on every run and machine."""

    cdef Core core

    def __cinit__(self, Core core not None):
        self.core = core

    @property
    def instructions(self):
        """Instructions retired; a REP retires once."""
        self.core.check_idle()
        return self.core.cpu.instructions

    @property
    def cycles(self):
        """Modelled processor cycles."""
        self.core.check_idle()
        return self.core.cpu.cycles

    @property
    def iterations(self):
        """Iterations of REP instructions."""
        self.core.check_idle()
        return self.core.cpu.iterations

    @property
    def exits(self):
        """Device accesses and intercepted interrupts that Python served."""
        self.core.check_idle()
        return self.core.cpu.exits

    @property
    def faults(self):
        self.core.check_idle()
        return self.core.cpu.faults

    @property
    def interrupts(self):
        self.core.check_idle()
        return self.core.cpu.interrupts

    def as_dict(self):
        return {name: getattr(self, name)
                for name in ("instructions", "cycles", "iterations", "exits", "faults", "interrupts")}
