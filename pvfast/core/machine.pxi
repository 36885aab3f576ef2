# The Python face of the core: Engine, its registers, running, and the exits that Python serves.
#
# Enters: calls from Python. Leaves: Stop objects, values, typed errors. Next: pvfast/machine.py.
# Nothing here runs while the guest does: run() gives the GIL away and takes it back at an exit.

from cpython.exc cimport PyErr_CheckSignals

from pvfast.errors import ArgumentError, MemoryMapError, PvfastError, SnapshotError

fill_tables()
forms[UNDEFINED_FORM].condition = 255


cdef class Snapshot:
    """A machine's state at one moment: memory, CPU, counters, TLB, devices."""

    cdef bytes cpu
    cdef bytes predictor
    cdef object processor
    cdef dict memory
    cdef u64 ram_address
    cdef object device_states

    def __init__(self):
        raise TypeError("take one with Machine.snapshot()")

    def __reduce__(self):
        raise TypeError("a snapshot belongs to this process: it cannot be pickled")


cdef class Engine:
    """Processor, memory map and exits. Use pvfast.Machine, which adds processor models and devices."""

    cdef Core core
    cdef CPU* cpu
    cdef readonly Registers cpu_registers
    cdef readonly Counters counters
    cdef dict interrupt_callbacks
    cdef dict port_devices
    cdef list mmio_devices
    cdef list devices
    cdef bint stop_requested
    cdef object hypervisor_object

    def __cinit__(self, *args, **kwargs):
        self.core = Core()
        self.cpu = self.core.cpu
        self.interrupt_callbacks = {}
        self.port_devices = {}
        self.mmio_devices = []
        self.devices = []
        self.cpu_registers = Registers(self.core)
        self.counters = Counters(self.core)

    cdef check_idle(self):
        self.core.check_idle()

    # --- Memory ---------------------------------------------------------------------------------------------------

    def _map(self, address, length, u32 kind):
        """Add a region. RAM and ROM are whole pages. ROM and MMIO may lie inside RAM, and replace it there."""
        cdef i64 start = whole(address)
        cdef i64 size = whole(length)
        cdef CPU* cpu = self.cpu
        cdef Region* other
        cdef u32 i
        cdef i64 end
        self.check_idle()
        if start < 0 or size <= 0 or start > <i64>GUEST_SPACE or size > <i64>GUEST_SPACE - start:
            raise MemoryMapError(f"a region of {size:#x} bytes at physical {start:#x} is not within 4 GiB")
        end = start + size
        if kind != REGION_MMIO and (start | size) & 0xFFF:
            raise MemoryMapError(f"region of {size:#x} bytes at physical {start:#x}: use multiples of 4096")
        if cpu.region_count + 2 > MAX_REGIONS:
            raise MemoryMapError(f"more than {MAX_REGIONS} regions")
        for i in range(cpu.region_count):
            other = &cpu.regions[i]
            if start >= <i64>other.end or end <= <i64>other.start:
                continue
            if kind == REGION_RAM or other.kind != REGION_RAM or start < <i64>other.start or end > <i64>other.end:
                raise MemoryMapError(f"physical {start:#x}-{end:#x} overlaps the region at "
                                     f"{other.start:#x}-{other.end:#x}")
        if kind != REGION_MMIO and not pvfast_commit(cpu.ram + start, size):
            raise MemoryError(f"the host has no {size:#x} bytes for guest memory")
        carve_out(cpu, start, end)
        cpu.regions[cpu.region_count].start = start
        cpu.regions[cpu.region_count].end = end
        cpu.regions[cpu.region_count].kind = kind
        cpu.region_count += 1
        if kind == REGION_RAM and start == 0:
            cpu.flat_end = <u32>(min_u64(size, GUEST_SPACE - 1) - MAX_STORE_BYTES + 1)
        elif kind == REGION_MMIO and start < <i64>cpu.flat_end:
            cpu.flat_end = <u32>(start - MAX_STORE_BYTES + 1) if start >= MAX_STORE_BYTES else 0
        elif kind == REGION_ROM:
            protect_lines(cpu, start, end)
        flush_tlb(cpu)
        flush_blocks(cpu)

    def _export(self, u64 size):
        exporter = _Exporter()
        (<_Exporter>exporter).core = self.core
        (<_Exporter>exporter).size = size
        return exporter

    cdef char* memory_at(self, i64 address, i64 size) except NULL:
        """Host memory of a physical range that Python may touch: inside one RAM or ROM region."""
        cdef Region* region = find_region(self.cpu, <u64>address)
        if region == NULL or region.kind == REGION_MMIO or size < 0 or size > <i64>(region.end - <u64>address):
            raise AddressError(f"physical {address:#x} + {size:#x} is not inside one RAM or ROM region")
        return self.cpu.ram + address

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
        cdef i64 start = whole(address)
        cdef const unsigned char[::1] view
        cdef const char* source
        cdef i64 size
        self.check_idle()
        if type(data) is bytes:     # the common case, without the cost of a view
            source = <const char*><bytes>data
            size = len(<bytes>data)
        else:
            view = memoryview(data).cast("B")
            size = view.shape[0]
            source = <const char*>&view[0] if size else NULL
        if size == 0:
            return
        memcpy(self.memory_at(start, size), source, size)
        code_written(self.cpu, <u32>start, <u32>size)

    def read(self, address, size):
        """Bytes at a physical address."""
        cdef i64 start = whole(address)
        cdef i64 count = whole(size)
        self.check_idle()
        return (<const char*>self.memory_at(start, count))[:count]

    cdef u64 physical_of(self, u32 linear) except? 0xFFFFFFFFFFFFFFFF:
        cdef Walk w
        if not self.cpu.cr0 & CR0_PG:
            return linear
        if not find_page(self.cpu, linear, &w):
            raise AddressError(f"linear {linear:#x} is not mapped by the page tables at {self.cpu.cr3:#x}")
        return w.page | (linear & 0xFFF)

    def read_linear(self, address, size):
        """Bytes at a linear address, through the current page tables; sets no accessed bits."""
        cdef i64 start = whole(address)
        cdef i64 count = whole(size)
        result = bytearray()
        self.check_idle()
        check_linear(start, count)
        while len(result) < count:
            step = min(count - len(result), PAGE_SIZE - ((start + len(result)) & 0xFFF))
            result += self.read(self.physical_of(<u32>(start + len(result))), step)
        return bytes(result)

    def write_linear(self, address, data):
        """Store bytes at a linear address, through the current page tables, whatever their rights."""
        cdef i64 start = whole(address)
        self.check_idle()
        data = bytes(memoryview(data).cast("B"))
        check_linear(start, len(data))
        pieces = []
        done = 0
        while done < len(data):
            step = min(len(data) - done, PAGE_SIZE - ((start + done) & 0xFFF))
            physical = self.physical_of(<u32>(start + done))
            self.memory_at(physical, step)      # refuses before anything is stored
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
        cdef u32 reason, address
        cdef Stop stop
        if self.core.active:
            raise MachineBusy("the machine is running already; a callback can return and let run() go on")
        if until is None:
            cpu.until_set = False
        else:
            address = word(until)
            if not cpu.until_set or cpu.until != address:
                cpu.until = address
                stale_linear(cpu, cpu.until)
            cpu.until_set = True
        if max_instructions is None:
            cpu.budget_end = NEVER
        else:
            if whole(max_instructions) < 0:
                raise ArgumentError(f"max_instructions={max_instructions}: a budget is not negative")
            cpu.budget_end = cpu.units + <u64>whole(max_instructions)
        self.stop_requested = False
        if cpu.shutdown:
            reason = EXIT_SHUTDOWN
        else:
            self.core.active = True
            try:
                reason = self.run_and_serve()
            finally:
                self.core.active = False
        stop = Stop.__new__(Stop)
        stop.reason = STOP_REASONS[reason]
        stop.eip = cpu.eip
        if reason == EXIT_SHUTDOWN:
            cpu.shutdown = True
            stop.vector = cpu.shutdown_vector
            stop.error = cpu.shutdown_error
        return stop

    cdef u32 run_and_serve(self) except? 0:
        """Run, serve exits, go on, until an exit that ends the run."""
        cdef CPU* cpu = self.cpu
        cdef u32 reason
        while True:
            cpu.exit = EXIT_NONE
            self.core.running = True
            with nogil:
                run_cpu(cpu)
            self.core.running = False
            reason = cpu.exit
            if reason <= EXIT_REQUESTED:
                return reason
            self.serve(reason)
            if cpu.shutdown:
                return EXIT_SHUTDOWN
            if self.stop_requested:
                return EXIT_REQUESTED

    def step(self):
        """Run one instruction, or one iteration of a REP."""
        return self.run(max_instructions=1)

    def stop(self):
        """Ask a running machine to stop; from a callback or another thread. It stops within some 30 ms."""
        self.stop_requested = True

    cdef serve(self, u32 reason):
        """What an exit asks Python for."""
        if reason == EXIT_POLL:
            PyErr_CheckSignals()
            self.fire_devices()
            return
        self.cpu.exits += 1
        if reason == EXIT_INTERRUPT:
            self.interrupt_callbacks[self.cpu.exit_vector](self)
        elif reason == EXIT_IO:
            self.serve_io()
        elif reason == EXIT_HYPERVISOR:
            offer_to_python(self, self.cpu, self.hypervisor_object)
        if self.devices:
            self.schedule()     # what was called may have programmed a timer

    cdef fire_devices(self):
        for device in self.devices:
            when = device.next_event()
            if when is not None and when <= self.cpu.cycles:
                device.fire(self)
        self.schedule()

    cdef schedule(self):
        """Have the run look up at the next device event."""
        cdef u64 deadline = NEVER
        for device in self.devices:
            when = device.next_event()
            if when is not None and when < deadline:
                deadline = when
        self.cpu.deadline = deadline

    cdef serve_io(self):
        cdef CPU* cpu = self.cpu
        cdef Io* done
        value = 0
        base = 0
        mask = 0xFFFFFFFF >> (32 - 8 * <int>cpu.io.size)
        if cpu.io.kind == IO_PORT_READ or cpu.io.kind == IO_PORT_WRITE:
            device = self.port_devices.get(cpu.io.address)
        else:
            device = None
            for start, end, candidate in self.mmio_devices:
                if start <= cpu.io.address < end:
                    device, base = candidate, start
        if cpu.io.kind == IO_PORT_READ or cpu.io.kind == IO_MMIO_READ:
            if hasattr(device, "read"):     # otherwise the bus floats
                value = device.read(cpu.io.address - base, cpu.io.size) & mask
            else:
                value = mask
        elif hasattr(device, "write"):
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
        check_range(vector, 255, "interrupt vector")
        self.cpu.irq_vector = vector
        self.cpu.irq = True

    def intercept_interrupt(self, vector, callback):
        """Call `callback(machine)` instead of the guest's handler when `int vector` has been executed.

        EIP is behind the instruction then. None removes the intercept.
        """
        self.check_idle()
        check_range(vector, 255, "interrupt vector")
        if callback is not None and not callable(callback):
            raise ArgumentError(f"{callback!r} cannot be called")
        if callback is None:
            self.interrupt_callbacks.pop(vector, None)
        else:
            self.interrupt_callbacks[vector] = callback
        self.cpu.intercepted[vector] = callback is not None

    def intercept_port(self, port, device):
        """Send IN and OUT of a port to `device.read(port, size)` and `device.write(port, size, value)`."""
        self.check_idle()
        check_range(port, 0xFFFF, "port")
        check_device(device)
        if device is None:
            self.port_devices.pop(port, None)
        else:
            self.port_devices[port] = device

    def attach(self, device):
        """Add a device with events in modelled time: `next_event()` gives cycles or None, `fire(machine)` acts."""
        self.check_idle()
        if not hasattr(device, "next_event") or not hasattr(device, "fire"):
            raise ArgumentError(f"{device!r} has no next_event() and fire(machine)")
        self.devices.append(device)
        self.fire_devices()

    # --- State ------------------------------------------------------------------------------------------------------

    def snapshot(self):
        """Everything that decides how the machine goes on: memory, CPU, counters, TLB, devices."""
        self.check_idle()
        cdef Snapshot state = Snapshot.__new__(Snapshot)
        cdef u32 i
        state.cpu = (<char*>self.cpu)[:<Py_ssize_t>(<char*>&self.cpu.jump_cache - <char*>self.cpu)]
        state.processor = self.processor
        state.predictor = (<char*>&self.cpu.predictor)[:sizeof(Predictor)]
        state.memory = {}
        for i in range(self.cpu.region_count):
            if self.cpu.regions[i].kind != REGION_MMIO and self.cpu.regions[i].end > self.cpu.regions[i].start:
                start, end = self.cpu.regions[i].start, self.cpu.regions[i].end
                state.memory[start] = self.read(start, end - start)
        state.ram_address = <u64>self.cpu.ram
        state.device_states = [device.save() for device in self.devices if hasattr(device, "save")]
        return state

    def restore(self, Snapshot state not None):
        """Go back to a snapshot of this machine, or of one with the same memory map and processor model.

        Intercepts stay as they are.

        Raises
        ------
        SnapshotError
            The snapshot is of another kind of machine.
        """
        self.check_idle()
        if self.core.active:
            raise MachineBusy("run() is under way; a callback can stop() the machine, then restore it")
        cdef u32 user, i
        cdef u32 generation = self.cpu.generation
        cdef CPU* cpu = self.cpu
        cdef CPU* saved = <CPU*><char*>state.cpu
        cdef char* ram = cpu.ram
        cdef u64 line_bias = cpu.line_bias
        cdef const char* content
        cdef u64 at, part, done
        cdef u8* marks = <u8*>cpu.ram - LINE_MAP_BYTES
        cdef u32 until = cpu.until
        cdef bint until_set = cpu.until_set
        cdef u8 intercepted[256]
        if saved.region_count != cpu.region_count or memcmp(saved.regions, cpu.regions, sizeof(cpu.regions)):
            raise SnapshotError("the snapshot was taken from a machine with another memory map")
        if state.processor != self.processor:
            raise SnapshotError("the snapshot was taken from a machine with another processor model")
        for device, device_state in zip([d for d in self.devices if hasattr(d, "restore")], state.device_states):
            device.restore(device_state)        # first: the hypervisor may refuse it
        for start, data in state.memory.items():
            content = <const char*><bytes>data
            done = 0
            while done < <u64>len(data):        # line by line; beside a device the first and the last may be parts
                at = <u64>start + done
                part = min_u64((1 << LINE_SHIFT) - (at & ((1 << LINE_SHIFT) - 1)), <u64>len(data) - done)
                if marks[at >> LINE_SHIFT] and memcmp(ram + at, content + done, part):
                    code_written(cpu, <u32>at, <u32>part)
                done += part
            memcpy(ram + <u64>start, content, len(data))
        hypervisor, hook = <u64>cpu.hypervisor, <u64>cpu.interrupt_hook
        memcpy(intercepted, cpu.intercepted, sizeof(intercepted))
        memcpy(cpu, saved, <char*>&cpu.jump_cache - <char*>cpu)
        memcpy(cpu.intercepted, intercepted, sizeof(intercepted))
        cpu.ram = ram
        cpu.line_bias = line_bias
        cpu.hypervisor = <void*><u64>hypervisor
        cpu.interrupt_hook = <InterruptHook><u64>hook
        memcpy(&cpu.predictor, <char*>state.predictor, sizeof(Predictor))
        cpu.generation = generation + 1     # links made since are for other mappings
        for user in range(2):
            for i in range(TLB_ENTRIES):
                cpu.tlb[user][i].addend += <u64>ram - state.ram_address
        if cpu.until_set and not (until_set and cpu.until == until):
            stale_linear(cpu, cpu.until)
        update_mode(cpu)
        self.fire_devices()

    # --- Set-up by pvfast.machine ------------------------------------------------------------------------------------

    def _set_costs(self, costs):
        """Modelled cycles by class, in the order of processor.costs.COST_CLASSES."""
        for number, cycles in enumerate(costs):
            self.cpu.cost[number] = cycles
        flush_blocks(self.cpu)

    def _set_prediction(self, prediction):
        """Whether and how branches are predicted: a `pvfast.processor.prediction.Prediction`, or None."""
        cdef Predictor* p = &self.cpu.predictor
        memset(p, 0, sizeof(Predictor))
        if prediction is not None:
            p.conditional_cycles, p.indirect_cycles, p.return_cycles = prediction.penalties
            p.return_depth = prediction.return_depth
            p.sets, p.ways = prediction.target_sets, prediction.target_ways
            memset(p.counters, 1, sizeof(p.counters))       # weakly not taken
            p.active = True
        flush_blocks(self.cpu)

    def _plug(self, HypervisorBase hypervisor not None):
        """Offer every event to a hypervisor from now on; it is one of the devices too."""
        self.check_idle()
        if self.hypervisor_object is not None:
            raise PvfastError(f"the machine runs under {self.hypervisor_object!r} already")
        self.hypervisor_object = hypervisor
        self.cpu.hypervisor = hypervisor.state
        self.cpu.interrupt_hook = hook_of(hypervisor)
        self.cpu.descriptors = hypervisor.descriptors
        self.cpu.descriptor_count = hypervisor.descriptor_count
        self.attach(hypervisor)

    def _set_cpuid(self, leaves, extended, hypervisor=()):
        """What CPUID answers: the basic leaves, those from 80000000 on, and those from 40000000 on."""
        for given, room in ((leaves, CPUID_LEAVES), (extended, CPUID_LEAVES), (hypervisor, CPUID_HYPERVISOR_LEAVES)):
            if len(given) > room:
                raise ArgumentError(f"{len(given)} leaves of CPUID, and there is room for {room}")
        for number, registers in enumerate(leaves):
            for i in range(4):
                self.cpu.cpuid[number][i] = registers[i]
        self.cpu.cpuid_leaves = len(leaves)
        for number, registers in enumerate(extended):
            for i in range(4):
                self.cpu.cpuid_extended[number][i] = registers[i]
        self.cpu.cpuid_extended_leaves = len(extended)
        for number, registers in enumerate(hypervisor):
            for i in range(4):
                self.cpu.cpuid_hypervisor[number][i] = registers[i]
        self.cpu.cpuid_hypervisor_leaves = len(hypervisor)

    def _set_features(self, features):
        """What the processor has (processor/cpuid.py). What CPUID answers may be less: a hypervisor's choice."""
        self.cpu.features = features
        update_reserved_bits(self.cpu)
        flush_blocks(self.cpu)

    def _reset_to_real_mode(self):
        """The state behind the RESET pin (SDM 3:9.1.1, table 9-1)."""
        self.check_idle()
        reset_to_real_mode(self.cpu)

    def _add_mmio(self, start, size, device):
        check_device(device)
        self._map(start, size, REGION_MMIO)
        self.mmio_devices.append((start, start + size, device))


cdef check_range(value, i64 highest, what):
    if not 0 <= whole(value) <= highest:
        raise ArgumentError(f"{what} {value} is not 0-{highest:#x}")


cdef check_device(device):
    if device is not None and not hasattr(device, "read") and not hasattr(device, "write"):
        raise ArgumentError(f"{device!r} has neither read(address, size) nor write(address, size, value)")


cdef void carve_out(CPU* cpu, u64 start, u64 end) noexcept nogil:
    """Take a range out of the RAM region that holds it, if one does."""
    cdef Region* outer = find_region(cpu, start)
    cdef u64 outer_end
    if outer == NULL:
        return
    outer_end = outer.end
    outer.end = start           # an empty region holds no address
    if end < outer_end:
        cpu.regions[cpu.region_count].start = end
        cpu.regions[cpu.region_count].end = outer_end
        cpu.regions[cpu.region_count].kind = REGION_RAM
        cpu.region_count += 1


cdef void protect_lines(CPU* cpu, u64 start, u64 end) noexcept nogil:
    """Mark lines for good, so that inline stores leave them to physical_write(), which knows ROM."""
    cdef u64 line = (start - MAX_STORE_BYTES + 1 if start >= MAX_STORE_BYTES else 0) >> LINE_SHIFT
    while line < end >> LINE_SHIFT:
        (<u8*>cpu.ram - LINE_MAP_BYTES)[line] = 255
        line += 1


cdef check_linear(i64 start, i64 count):
    if start < 0 or count < 0 or count > <i64>GUEST_SPACE or start > <i64>GUEST_SPACE - count:
        raise AddressError(f"linear {start:#x} + {count:#x} is not within 4 GiB")


REGIONS = {"ram": REGION_RAM, "rom": REGION_ROM}


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
    cpu.shadow_unit = cpu.stack_shadow_unit = cpu.resume_unit = NEVER
    cpu.pat = PAT_AT_RESET
    cpu.misc_enable = MISC_ENABLE_AT_RESET
    initialise_x87(cpu)
    cpu.mxcsr = MXCSR_AT_RESET
    flush_tlb(cpu)
    segments_set(cpu)


cdef void reset_to_real_mode(CPU* cpu) noexcept nogil:
    """On top of reset(): what differs on a processor that has only been reset."""
    cdef u32 i
    cpu.cr0 = CR0_CD | CR0_NW | CR0_ET
    for i in range(6):
        clear_segment(&cpu.seg[i], 0)
        load_paragraph(cpu, i, 0)
    cpu.seg[CS].selector = 0xF000
    cpu.seg[CS].base = 0xFFFF0000u
    cpu.eip = 0xFFF0
    cpu.gpr[EDX].q = cpu.cpuid[1][0]        # family, model, stepping
    cpu.gdt_limit = 0xFFFF
    cpu.idt_limit = 0xFFFF
    segments_set(cpu)


cdef enum:
    MXCSR_AT_RESET = 0x1F80             # SDM 1:10.2.3
    FLAT_CODE = 0x08            # selectors of a new machine, and of install_flat_gdt()
    FLAT_DATA = 0x10
