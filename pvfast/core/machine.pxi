# The Python face of the core: Engine, its registers, running, and the exits that Python serves.
#
# Enters: calls from Python. Leaves: Stop objects, values, typed errors. Next: pvfast/machine.py.
# Nothing here runs while the guest does: run() gives the GIL away and takes it back at an exit.

import enum
import threading

from cpython.exc cimport PyErr_CheckSignals
from cpython.buffer cimport PyBuffer_FillInfo

from pvfast.errors import (AddressError, MachineBusy, MemoryMapError, PvfastError, SnapshotError)

fill_tables()
forms[UNDEFINED_FORM].condition = 255

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


cdef class _Exporter:
    """Lends guest RAM to numpy, read-only for good: writing goes through Machine.write, which sees code change."""

    cdef Engine engine
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.engine.cpu.ram, self.size, 1, flags)


cdef class SegmentView:
    """A segment register: selector and the hidden base, limit and attributes."""

    cdef Engine engine
    cdef u32 number

    @property
    def selector(self):
        return self.engine.cpu.seg[self.number].selector

    @property
    def base(self):
        """Linear address of offset 0."""
        return self.engine.cpu.seg[self.number].base

    @base.setter
    def base(self, value):
        self.engine.check_idle()
        self.engine.cpu.seg[self.number].base = <u32>(value & 0xFFFFFFFF)
        self.engine.changed()

    @property
    def limit(self):
        """The last valid offset."""
        return self.engine.cpu.seg[self.number].limit

    @limit.setter
    def limit(self, value):
        self.engine.check_idle()
        self.engine.cpu.seg[self.number].limit = value
        self.engine.changed()

    @property
    def attributes(self):
        """Bits 40-55 of the descriptor without the limit (SDM 3:3.4.5)."""
        return self.engine.cpu.seg[self.number].attributes

    def set(self, selector, base, limit, attributes):
        """Load visible and hidden parts without looking at a descriptor table."""
        self.engine.check_idle()
        cdef Segment* s = &self.engine.cpu.seg[self.number]
        s.selector = selector
        s.base = <u32>(base & 0xFFFFFFFF)
        s.limit = limit
        s.attributes = attributes
        if self.number == CS:
            self.engine.cpu.cpl = selector & 3
        self.engine.changed()

    def __repr__(self):
        return f"<{SEGMENT_NAMES[self.number]} {self.selector:#x} base {self.base:#x} limit {self.limit:#x}>"


cdef class Registers:
    """The register file of a machine: `machine.cpu`. General registers, eip, eflags, crN, segments."""

    cdef Engine engine
    cdef readonly SegmentView es, cs, ss, ds, fs, gs

    def __cinit__(self, Engine engine):
        self.engine = engine

    def __getitem__(self, name):
        return getattr(self, name)

    def registers(self):
        """All of them as a dict, for comparing and printing."""
        values = {name: self.engine.cpu.gpr[i].d for i, name in enumerate(REGISTER_NAMES)}
        for name in ("eip", "eflags", "cr0", "cr2", "cr3", "cr4", "cpl"):
            values[name] = getattr(self, name)
        for name in SEGMENT_NAMES:
            values[name] = getattr(self, name).selector
        return values

    @property
    def eip(self):
        return self.engine.cpu.eip

    @eip.setter
    def eip(self, value):
        self.engine.check_idle()
        self.engine.cpu.eip = value
        self.engine.cpu.halted = False

    @property
    def eflags(self):
        return get_eflags(self.engine.cpu)

    @eflags.setter
    def eflags(self, value):
        self.engine.check_idle()
        set_eflags(self.engine.cpu, value, 0x3F7FD5)

    @property
    def cpl(self):
        """Current privilege level, 0-3."""
        return self.engine.cpu.cpl

    @property
    def halted(self):
        return bool(self.engine.cpu.halted)


# --- one property per register; Cython has no way to make them in a loop --------------------------------------------
    @property
    def eax(self):
        return self.engine.cpu.gpr[EAX].d

    @eax.setter
    def eax(self, value):
        self.engine.set_register(EAX, value)

    @property
    def ecx(self):
        return self.engine.cpu.gpr[ECX].d

    @ecx.setter
    def ecx(self, value):
        self.engine.set_register(ECX, value)

    @property
    def edx(self):
        return self.engine.cpu.gpr[EDX].d

    @edx.setter
    def edx(self, value):
        self.engine.set_register(EDX, value)

    @property
    def ebx(self):
        return self.engine.cpu.gpr[EBX].d

    @ebx.setter
    def ebx(self, value):
        self.engine.set_register(EBX, value)

    @property
    def esp(self):
        return self.engine.cpu.gpr[ESP].d

    @esp.setter
    def esp(self, value):
        self.engine.set_register(ESP, value)

    @property
    def ebp(self):
        return self.engine.cpu.gpr[EBP].d

    @ebp.setter
    def ebp(self, value):
        self.engine.set_register(EBP, value)

    @property
    def esi(self):
        return self.engine.cpu.gpr[ESI].d

    @esi.setter
    def esi(self, value):
        self.engine.set_register(ESI, value)

    @property
    def edi(self):
        return self.engine.cpu.gpr[EDI].d

    @edi.setter
    def edi(self, value):
        self.engine.set_register(EDI, value)

    @property
    def cr0(self):
        return self.engine.cpu.cr0

    @cr0.setter
    def cr0(self, value):
        self.engine.check_idle()
        self.engine.cpu.cr0 = <u32>value | CR0_ET
        flush_tlb(self.engine.cpu)
        self.engine.changed()

    @property
    def cr2(self):
        return self.engine.cpu.cr2

    @cr2.setter
    def cr2(self, value):
        self.engine.check_idle()
        self.engine.cpu.cr2 = value

    @property
    def cr3(self):
        return self.engine.cpu.cr3

    @cr3.setter
    def cr3(self, value):
        self.engine.check_idle()
        self.engine.cpu.cr3 = value
        flush_tlb(self.engine.cpu)

    @property
    def cr4(self):
        return self.engine.cpu.cr4

    @cr4.setter
    def cr4(self, value):
        self.engine.check_idle()
        self.engine.cpu.cr4 = value
        flush_tlb(self.engine.cpu)

    @property
    def gdtr(self):
        """(linear base, limit)"""
        return self.engine.cpu.gdt_base, self.engine.cpu.gdt_limit

    @gdtr.setter
    def gdtr(self, value):
        self.engine.check_idle()
        self.engine.cpu.gdt_base, self.engine.cpu.gdt_limit = value

    @property
    def idtr(self):
        """(linear base, limit)"""
        return self.engine.cpu.idt_base, self.engine.cpu.idt_limit

    @idtr.setter
    def idtr(self, value):
        self.engine.check_idle()
        self.engine.cpu.idt_base, self.engine.cpu.idt_limit = value


cdef class Counters:
    """What has happened since power-on: integers, exact at every stop, equal on every run and machine."""

    cdef Engine engine

    def __cinit__(self, Engine engine):
        self.engine = engine

    @property
    def instructions(self):
        """Instructions retired; a REP retires once."""
        return self.engine.cpu.instructions

    @property
    def cycles(self):
        """Modelled processor cycles."""
        return self.engine.cpu.cycles

    @property
    def iterations(self):
        """Iterations of REP instructions."""
        return self.engine.cpu.iterations

    @property
    def exits(self):
        """Device accesses and intercepted interrupts that Python served."""
        return self.engine.cpu.exits

    @property
    def faults(self):
        return self.engine.cpu.faults

    @property
    def interrupts(self):
        return self.engine.cpu.interrupts

    def as_dict(self):
        return {name: getattr(self, name)
                for name in ("instructions", "cycles", "iterations", "exits", "faults", "interrupts")}


cdef class Snapshot:
    """A machine's state at one moment: memory, CPU, counters, TLB, devices."""

    cdef bytes cpu
    cdef dict memory
    cdef u64 ram_address
    cdef object device_states

    def __init__(self):
        raise TypeError("take one with Machine.snapshot()")


cdef class Engine:
    """Processor, memory map and exits. Use pvfast.Machine, which adds processor models and devices."""

    cdef CPU* cpu
    cdef char* reservation
    cdef bint running
    cdef readonly Registers registers_view
    cdef readonly Counters counters
    cdef dict interrupt_callbacks
    cdef dict port_devices
    cdef list mmio_devices
    cdef list devices
    cdef bint stop_requested
    cdef object hypervisor_object

    def __cinit__(self, *args, **kwargs):
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
        self.interrupt_callbacks = {}
        self.port_devices = {}
        self.mmio_devices = []
        self.devices = []
        self.registers_view = Registers(self)
        for number, name in enumerate(SEGMENT_NAMES):
            view = SegmentView()
            (<SegmentView>view).engine = self
            (<SegmentView>view).number = number
            if number == ES:
                self.registers_view.es = view
            elif number == CS:
                self.registers_view.cs = view
            elif number == SS:
                self.registers_view.ss = view
            elif number == DS:
                self.registers_view.ds = view
            elif number == FS:
                self.registers_view.fs = view
            else:
                self.registers_view.gs = view
        self.counters = Counters(self)
        reset(self.cpu)

    def __dealloc__(self):
        if self.cpu != NULL:
            if self.cpu.arena != NULL:
                pvfast_release(self.cpu.arena, UOP_ARENA_BYTES)
            free(self.cpu)
        if self.reservation != NULL:
            pvfast_release(self.reservation, <size_t>LINE_MAP_BYTES + GUEST_SPACE)

    @property
    def cpu_registers(self):
        return self.registers_view

    cdef check_idle(self):
        if self.running:
            raise MachineBusy("the machine is running in another thread; wait for run() to return")

    cdef changed(self):
        """Segments or control registers were set from outside."""
        update_mode(self.cpu)

    cdef set_register(self, u32 number, value):
        self.check_idle()
        self.cpu.gpr[number].q = <u32>value

    # --- Memory ---------------------------------------------------------------------------------------------------

    def _map(self, u64 start, u64 size, u32 kind):
        """Add a region. RAM and ROM are whole pages."""
        self.check_idle()
        cdef u32 i
        cdef u64 end = start + size
        if self.cpu.region_count == MAX_REGIONS:
            raise MemoryMapError(f"more than {MAX_REGIONS} regions")
        if size == 0 or end > GUEST_SPACE or end < start:
            raise MemoryMapError(f"region of {size:#x} bytes at physical {start:#x} is not within 4 GiB")
        if kind != REGION_MMIO and (start | size) & 0xFFF:
            raise MemoryMapError(f"region of {size:#x} bytes at physical {start:#x}: use multiples of 4096")
        for i in range(self.cpu.region_count):
            if start < self.cpu.regions[i].end and end > self.cpu.regions[i].start:
                raise MemoryMapError(f"physical {start:#x}-{end:#x} overlaps the region at "
                                     f"{self.cpu.regions[i].start:#x}-{self.cpu.regions[i].end:#x}")
        if kind != REGION_MMIO and not pvfast_commit(self.cpu.ram + start, size):
            raise MemoryError(f"the host has no {size:#x} bytes for guest memory")
        self.cpu.regions[self.cpu.region_count].start = start
        self.cpu.regions[self.cpu.region_count].end = end
        self.cpu.regions[self.cpu.region_count].kind = kind
        self.cpu.region_count += 1
        if kind == REGION_RAM and start == 0:
            self.cpu.flat_end = <u32>(min_u64(size, GUEST_SPACE - 1) - MAX_STORE_BYTES + 1)
        flush_tlb(self.cpu)
        flush_blocks(self.cpu)

    def _export(self, u64 size):
        exporter = _Exporter()
        (<_Exporter>exporter).engine = self
        (<_Exporter>exporter).size = size
        return exporter

    cdef check_range(self, address, size):
        """Guest memory accesses from Python stay inside one RAM or ROM region."""
        cdef Region* region
        if not isinstance(address, int) or not isinstance(size, int):
            raise AddressError(f"address and size are integers, not {address!r} and {size!r}")
        if address < 0 or size < 0 or address + size > GUEST_SPACE:
            raise AddressError(f"physical {address:#x} + {size:#x} is not within 4 GiB")
        region = find_region(self.cpu, address)
        if region == NULL or region.kind == REGION_MMIO or address + size > region.end:
            raise AddressError(f"physical {address:#x}-{address + size:#x} is not inside one RAM or ROM region")

    def write(self, address, data):
        """Store bytes at a physical address; ROM too. Decoded code that they hit is decoded again.

        Parameters
        ----------
        address : int
            Physical.
        data : bytes-like

        Raises
        ------
        AddressError
            When the range is not inside one region. Nothing is stored.
        """
        cdef const unsigned char[::1] view
        cdef Py_ssize_t size
        self.check_idle()
        view = data if isinstance(data, bytes) else memoryview(data).cast("B")
        size = view.shape[0]
        if size == 0:
            return
        self.check_range(address, size)
        memcpy(self.cpu.ram + <u64>address, &view[0], size)
        code_written(self.cpu, <u32>address, <u32>size)

    def read(self, address, size):
        """Bytes at a physical address."""
        self.check_idle()
        self.check_range(address, size)
        return (<const char*>(self.cpu.ram + <u64>address))[:size]

    cdef u64 physical_of(self, u32 linear, bint write) except? 0xFFFFFFFFFFFFFFFF:
        cdef u64 physical
        cdef u32 cr2 = self.cpu.cr2
        cdef u32 page
        cdef bint writable
        if not self.cpu.cr0 & CR0_PG:
            return linear
        if not look(self.cpu, linear, &page):
            self.cpu.cr2 = cr2
            raise AddressError(f"linear {linear:#x} is not mapped by the page tables at {self.cpu.cr3:#x}")
        physical = page | (linear & 0xFFF)
        return physical

    def read_linear(self, address, size):
        """Bytes at a linear address, through the current page tables; sets no accessed bits."""
        result = bytearray()
        self.check_idle()
        if address < 0 or size < 0 or address + size > GUEST_SPACE:
            raise AddressError(f"linear {address:#x} + {size:#x} is not within 4 GiB")
        while len(result) < size:
            step = min(size - len(result), PAGE_SIZE - ((address + len(result)) & 0xFFF))
            result += self.read(self.physical_of(address + len(result), False), step)
        return bytes(result)

    def write_linear(self, address, data):
        """Store bytes at a linear address, through the current page tables, whatever their rights."""
        self.check_idle()
        data = bytes(data)
        if address < 0 or address + len(data) > GUEST_SPACE:
            raise AddressError(f"linear {address:#x} + {len(data):#x} is not within 4 GiB")
        pieces = []
        done = 0
        while done < len(data):
            step = min(len(data) - done, PAGE_SIZE - ((address + done) & 0xFFF))
            physical = self.physical_of(address + done, True)
            self.check_range(physical, step)
            pieces.append((physical, data[done:done + step]))
            done += step
        for physical, piece in pieces:
            self.write(physical, piece)

    # --- Running ----------------------------------------------------------------------------------------------------

    def run(self, until=None, max_instructions=None):
        """Run until a reason to stop.

        Parameters
        ----------
        until : int, optional
            Linear address; stops before the instruction there, at once when it is the next one.
        max_instructions : int, optional
            Budget; iterations of REP count as instructions here.

        Returns
        -------
        Stop

        Raises
        ------
        MachineBusy
            When another thread runs the machine.
        KeyboardInterrupt
            On Ctrl-C, noticed within some 30 ms; the machine can go on.
        """
        cdef CPU* cpu = self.cpu
        cdef u32 reason
        cdef Stop stop
        if self.running:
            raise MachineBusy("the machine is running already")
        if until is None:
            cpu.until_set = False
        else:
            if not 0 <= until <= 0xFFFFFFFF:
                raise AddressError(f"until={until:#x} is not a linear address")
            if not cpu.until_set or cpu.until != <u32>until:
                cpu.until = until
                stale_linear(cpu, cpu.until)
            cpu.until_set = True
        if max_instructions is None:
            cpu.budget_end = NEVER
        else:
            if max_instructions < 0:
                raise ValueError("max_instructions is negative")
            cpu.budget_end = cpu.units + <u64>max_instructions
        self.stop_requested = False
        if cpu.shutdown:
            reason = EXIT_SHUTDOWN
        else:
            while True:
                cpu.exit = EXIT_NONE
                self.running = True
                with nogil:
                    run_cpu(cpu)
                self.running = False
                reason = cpu.exit
                if reason <= EXIT_REQUESTED:
                    break
                self.serve(reason)
                if self.stop_requested:
                    reason = EXIT_REQUESTED
                    break
        stop = Stop.__new__(Stop)
        stop.reason = STOP_REASONS[reason]
        stop.eip = cpu.eip
        if reason == EXIT_SHUTDOWN:
            cpu.shutdown = True
            stop.vector = cpu.shutdown_vector
            stop.error = cpu.shutdown_error
        return stop

    def step(self):
        """Run one instruction, or one iteration of a REP."""
        return self.run(max_instructions=1)

    def stop(self):
        """Ask a running machine to stop; from a callback or another thread. It stops within some 30 ms."""
        self.stop_requested = True

    cdef serve(self, u32 reason):
        """What an exit asks Python for."""
        if reason == EXIT_INTERRUPT:
            self.cpu.exits += 1
            self.interrupt_callbacks[self.cpu.exit_vector](self)
        elif reason == EXIT_IO:
            self.cpu.exits += 1
            self.serve_io()
        else:
            PyErr_CheckSignals()
            self.fire_devices()

    cdef fire_devices(self):
        cdef u64 deadline = NEVER
        for device in self.devices:
            when = device.next_event()
            if when is not None and when <= self.cpu.cycles:
                device.fire(self)
                when = device.next_event()
            if when is not None and when < deadline:
                deadline = when
        self.cpu.deadline = deadline

    cdef serve_io(self):
        cdef CPU* cpu = self.cpu
        cdef Io* done
        value = 0
        mask = 0xFFFFFFFF >> (32 - 8 * <int>cpu.io.size)
        if cpu.io.kind == IO_PORT_READ or cpu.io.kind == IO_PORT_WRITE:
            device = self.port_devices.get(cpu.io.address)
            base = 0
        else:
            device = None
            base = 0
            for start, end, candidate in self.mmio_devices:
                if start <= cpu.io.address < end:
                    device, base = candidate, start
        if cpu.io.kind == IO_PORT_READ or cpu.io.kind == IO_MMIO_READ:
            value = mask if device is None else device.read(cpu.io.address - base, cpu.io.size) & mask
        elif device is not None:
            device.write(cpu.io.address - base, cpu.io.size, cpu.io.value & mask)
        if cpu.replays == IO_REPLAYS:
            raise PvfastError(f"an instruction at {cpu.eip:#x} makes more than {IO_REPLAYS} device accesses")
        done = &cpu.replay[cpu.replays]
        done[0] = cpu.io
        done.value = value
        cpu.replays += 1

    def inject_interrupt(self, vector):
        """Raise an external interrupt; taken at the next boundary where IF allows it."""
        self.check_idle()
        if not 0 <= vector <= 255:
            raise ValueError(f"interrupt vector {vector} is not 0-255")
        self.cpu.irq_vector = vector
        self.cpu.irq = True

    def intercept_interrupt(self, vector, callback):
        """Call `callback(machine)` instead of the guest's handler when `int vector` has been executed.

        EIP is behind the instruction then. None removes the intercept.
        """
        self.check_idle()
        if not 0 <= vector <= 255:
            raise ValueError(f"interrupt vector {vector} is not 0-255")
        if callback is None:
            self.interrupt_callbacks.pop(vector, None)
        else:
            self.interrupt_callbacks[vector] = callback
        self.cpu.intercepted[vector] = callback is not None

    def intercept_port(self, port, device):
        """Send IN and OUT of a port to `device.read(port, size)` and `device.write(port, size, value)`."""
        self.check_idle()
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"port {port:#x} is not 0-0xffff")
        if device is None:
            self.port_devices.pop(port, None)
        else:
            self.port_devices[port] = device

    def attach(self, device):
        """Add a device with events in modelled time: `next_event()` gives cycles or None, `fire(machine)` acts."""
        self.check_idle()
        self.devices.append(device)
        self.fire_devices()

    # --- State ------------------------------------------------------------------------------------------------------

    def snapshot(self):
        """Everything that decides how the machine goes on: memory, CPU, counters, TLB, devices."""
        self.check_idle()
        cdef Snapshot state = Snapshot.__new__(Snapshot)
        cdef u32 i
        state.cpu = (<char*>self.cpu)[:<Py_ssize_t>(<char*>&self.cpu.jump_cache - <char*>self.cpu)]
        state.memory = {}
        for i in range(self.cpu.region_count):
            if self.cpu.regions[i].kind != REGION_MMIO:
                start, end = self.cpu.regions[i].start, self.cpu.regions[i].end
                state.memory[start] = self.read(start, end - start)
        state.ram_address = <u64>self.cpu.ram
        state.device_states = [device.save() for device in self.devices if hasattr(device, "save")]
        return state

    def restore(self, Snapshot state):
        """Go back to a snapshot of this machine, or of one with the same memory map."""
        self.check_idle()
        cdef u32 user, i
        cdef u32 generation = self.cpu.generation
        cdef CPU* cpu = self.cpu
        cdef CPU* saved = <CPU*><char*>state.cpu
        cdef char* ram = cpu.ram
        cdef u64 line_bias = cpu.line_bias
        cdef const char* content
        cdef u64 line, last
        cdef u8* marks = <u8*>cpu.ram - LINE_MAP_BYTES
        cdef u32 until = cpu.until
        if saved.region_count != cpu.region_count or memcmp(saved.regions, cpu.regions, sizeof(cpu.regions)):
            raise SnapshotError("the snapshot was taken from a machine with another memory map")
        for start, data in state.memory.items():
            content = <const char*><bytes>data
            line = <u64>start >> LINE_SHIFT
            last = (<u64>start + <u64>len(data)) >> LINE_SHIFT
            while line < last:
                if marks[line] and memcmp(ram + (line << LINE_SHIFT), content + ((line << LINE_SHIFT) - <u64>start),
                                          1 << LINE_SHIFT):
                    code_written(cpu, <u32>(line << LINE_SHIFT), 1 << LINE_SHIFT)
                line += 1
            memcpy(ram + <u64>start, content, len(data))
        hypervisor, hook = <u64>cpu.hypervisor, <u64>cpu.interrupt_hook
        memcpy(cpu, saved, <char*>&cpu.jump_cache - <char*>cpu)
        cpu.ram = ram
        cpu.line_bias = line_bias
        cpu.hypervisor = <void*><u64>hypervisor
        cpu.interrupt_hook = <InterruptHook><u64>hook
        cpu.generation = generation + 1     # links made since are for other mappings
        for user in range(2):
            for i in range(TLB_ENTRIES):
                cpu.tlb[user][i].addend += <u64>ram - state.ram_address
        if cpu.until_set and cpu.until != until:
            stale_linear(cpu, cpu.until)
        update_mode(cpu)
        for device, device_state in zip([d for d in self.devices if hasattr(d, "restore")], state.device_states):
            device.restore(device_state)
        self.fire_devices()

    # --- Set-up by pvfast.machine ------------------------------------------------------------------------------------

    def _set_costs(self, costs):
        """Modelled cycles by class, in the order of processor.costs.COST_CLASSES."""
        for number, cycles in enumerate(costs):
            self.cpu.cost[number] = cycles
        flush_blocks(self.cpu)

    def _set_cpuid(self, leaves):
        for number, registers in enumerate(leaves):
            for i in range(4):
                self.cpu.cpuid[number][i] = registers[i]
        self.cpu.cpuid_leaves = len(leaves)

    def _add_mmio(self, start, size, device):
        self._map(start, size, REGION_MMIO)
        self.mmio_devices.append((start, start + size, device))


REGIONS = {"ram": REGION_RAM, "rom": REGION_ROM}


cdef bint look(CPU* cpu, u32 linear, u32* page) noexcept nogil:
    """A page walk that leaves no trace: for the debugger's eye."""
    cdef u32 pde = table_read(cpu, (cpu.cr3 & 0xFFFFF000u) | ((linear >> 22) << 2))
    cdef u32 pte
    if not pde & PTE_P:
        return False
    if pde & PTE_PS and cpu.cr4 & CR4_PSE:
        page[0] = (pde & 0xFFC00000u) | (linear & 0x3FF000)
        return True
    pte = table_read(cpu, (pde & 0xFFFFF000u) | (((linear >> 12) & 0x3FF) << 2))
    page[0] = pte & 0xFFFFF000u
    return (pte & PTE_P) != 0


cdef void reset(CPU* cpu) noexcept nogil:
    """Flat 32-bit protected mode at CPL 0, the hidden parts of the segments loaded, no GDT in RAM."""
    cdef u32 i
    cpu.cr0 = CR0_PE | CR0_ET
    set_eflags(cpu, FLAG_1, 0xFFFFFFFFu)
    for i in range(6):
        flat_segment(&cpu.seg[i], FLAT_CODE if i == CS else FLAT_DATA,
                     (SEG_CODE | SEG_READABLE) if i == CS else SEG_WRITABLE, 0)
    cpu.ldtr.attributes = SEG_NULL
    cpu.tr.attributes = SEG_NULL
    cpu.dr[6] = 0xFFFF0FF0u     # SDM 3:10.1.1, table 10-1
    cpu.dr[7] = 0x400
    cpu.shadow_unit = NEVER
    flush_tlb(cpu)
    update_mode(cpu)


cdef enum:
    FLAT_CODE = 0x08            # selectors of a new machine, and of install_flat_gdt()
    FLAT_DATA = 0x10
