"""The embedding API as its users meet it: memory, stops, bad input, threads, Ctrl-C, snapshots."""
from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import threading
import time

import numpy as np
import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.errors import AddressError, MachineBusy, MemoryMapError, PvfastError, SnapshotError

FOREVER = bytes.fromhex("ebfe")     # jmp .


def machine_with(source: str, address: int = 0x1000, ram: str = "1M") -> tuple[pvfast.Machine, dict[str, int]]:
    """A machine about to run the source; its labels."""
    assembly = assemble(source, address)
    machine = pvfast.Machine(ram=ram)
    machine.write(address, assembly.code)
    machine.cpu.eip = address
    machine.cpu.esp = 0x8000
    return machine, assembly.labels


class TestMemory:
    def test_ram_is_a_view_that_cannot_be_made_writable(self):
        machine = pvfast.Machine(ram="64K")
        view = machine.ram
        machine.write(0x100, b"abc")
        assert view[0x100:0x103].tobytes() == b"abc"
        assert view.shape == (65536,)
        assert view.dtype == np.uint8
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True

    def test_the_view_keeps_the_memory_alive(self):
        machine = pvfast.Machine(ram="64K")
        machine.write(0, b"\x2a")
        view = machine.ram
        del machine
        gc.collect()
        assert view[0] == 42

    def test_a_machine_goes_without_the_garbage_collector(self):
        gc.disable()
        try:
            before = len(os.listdir("/proc/self/map_files")) if os.path.isdir("/proc/self/map_files") else None
            for _ in range(50):
                pvfast.Machine(ram="64K")
            if before is not None:
                assert len(os.listdir("/proc/self/map_files")) < before + 20
        finally:
            gc.enable()

    @pytest.mark.parametrize(("address", "size"), [(-1, 1), (0x10000, 1), (0xFFFF, 2), (1 << 32, 1), (0, -1),
                                                   ((1 << 64) - 1, 2), ("0", 1), (0.5, 1), (None, 4)])
    def test_absurd_ranges_are_refused(self, address, size):
        machine = pvfast.Machine(ram="64K")
        with pytest.raises(AddressError):
            machine.read(address, size)

    def test_a_refused_write_stores_nothing(self):
        machine = pvfast.Machine(ram="64K")
        with pytest.raises(AddressError):
            machine.write(0xFFFE, b"abcd")
        assert machine.read(0xFFFE, 2) == b"\0\0"

    @pytest.mark.parametrize("ram", [0, -4096, 100, 4097, "1X", "", "16 M B", 1 << 33, 1 << 70, 1.5, None])
    def test_absurd_sizes_are_refused(self, ram):
        with pytest.raises(PvfastError):
            pvfast.Machine(ram=ram)

    def test_regions_may_not_overlap(self):
        machine = pvfast.Machine(ram="64K")
        machine.map_ram(0x80000000, "64K")
        with pytest.raises(MemoryMapError, match="overlaps"):
            machine.map_rom(0x8000F000, bytes(0x2000))
        with pytest.raises(MemoryMapError, match="overlaps"):
            machine.map_ram(0x8000F000, 0x1000)
        machine.write(0x80000000, b"x")
        assert machine.read(0x80000000, 1) == b"x"

    def test_rom_ignores_the_guest(self):
        machine, labels = machine_with("movb $1, 0x20000\nmovb 0x20000, %al\ndone: nop", ram="64K")
        machine.map_rom(0x20000, b"\x55")
        machine.run(until=labels["done"])
        assert machine.cpu.eax == 0x55

    def test_rom_and_devices_replace_ram_where_they_lie_in_it(self):
        class Device:
            def read(self, offset, size):
                return 0x11111111 * (offset + 1)

        machine, labels = machine_with("""
            movl 0x20000, %eax
            movl $5, 0x20000
            movl $5, 0x1fffe            /* half RAM, half ROM */
            movl 0x30ffe, %ecx          /* half device, half RAM */
            movl 0x30004, %edx
            movl $7, 0x40000
            done: nop""", ram="1M")
        machine.map_rom(0x20000, b"\x55\x66\x77\x88")
        machine.map_mmio(0x30000, 0x1000, Device())
        state = machine.snapshot()
        for _ in range(2):
            machine.run(until=labels["done"])
            assert machine.cpu.eax == 0x88776655
            assert machine.read(0x20000, 4) == b"\x55\x66\x77\x88"
            assert machine.read(0x1FFFE, 2) == b"\x05\0"
            assert machine.cpu.edx == 0x55555555
            assert machine.cpu.ecx >> 16 == 0
            assert machine.read(0x40000, 1) == b"\x07"
            machine.restore(state)

    def test_memory_beside_a_device_is_changed_once(self):
        """The instruction runs again for each byte of the device, and must find the memory as it was."""
        class Device:
            def __init__(self):
                self.content = bytearray(8)

            def read(self, offset, size):
                return self.content[offset]

            def write(self, offset, size, value):
                self.content[offset] = value

        machine, labels = machine_with("addl $0xff01ff01, 0x1fffe\nmovl $9, %eax\nxchgl %eax, 0x1fffd\ndone: nop")
        device = Device()
        machine.map_mmio(0x20000, 0x1000, device)
        machine.write(0x1FFFC, b"\0\0\x01\x02")
        machine.run(until=labels["done"])
        assert (machine.read(0x1FFFC, 4) + device.content[:4]).hex() == "0009000000ff0000"
        assert machine.cpu.eax == 0x02010200

    def test_a_device_between_bytes_of_an_access(self):
        class Device:
            def read(self, offset, size):
                return 0xAB

        machine, labels = machine_with("movl 0xa0000ffd, %eax\ndone: nop")
        machine.map_mmio(0xA0000FFF, 1, Device())
        machine.run(until=labels["done"])
        assert machine.cpu.eax == 0xFFABFFFF

    @pytest.mark.parametrize("call", [
        lambda m: m.inject_interrupt(256), lambda m: m.inject_interrupt("1"), lambda m: m.intercept_port(1 << 16, None),
        lambda m: m.intercept_port(5, 5), lambda m: m.intercept_interrupt(0x80, 5), lambda m: m.attach(None),
        lambda m: m.map_mmio(0xA0000000, 4096, object()), lambda m: m.map_mmio(1 << 64, 4096, None),
        lambda m: m.map_ram(0x80000000, -1), lambda m: m.map_rom(-4096, b"x"), lambda m: m.run(max_instructions=-1),
        lambda m: m.run(max_instructions=1 << 64), lambda m: m.run(until=-1), lambda m: m.run(until="x"),
        lambda m: setattr(m.cpu, "gdtr", (0, 1 << 16)), lambda m: setattr(m.cpu, "cr0", 0x80000000),
        lambda m: setattr(m.cpu, "eflags", 1 << 32), lambda m: pvfast.Machine(hypervisor="xen"),
        lambda m: pvfast.Machine(processor="pentium5"), lambda m: m.write_linear(-1, b"x"),
        lambda m: m.read_linear(0, 1 << 40)])
    def test_absurd_arguments_get_typed_errors(self, call):
        with pytest.raises(PvfastError):
            call(pvfast.Machine(ram="64K"))

    def test_empty_space_floats_high(self):
        machine, labels = machine_with("movl 0x900000, %eax\nmovl $5, 0x900000\ndone: nop")
        assert machine.run(until=labels["done"]).reason is pvfast.StopReason.UNTIL
        assert machine.cpu.eax == 0xFFFFFFFF

    @pytest.mark.parametrize("value", [-1, 1 << 32, 1.5, "1", None])
    def test_registers_take_32_bits(self, value):
        machine = pvfast.Machine(ram="64K")
        with pytest.raises(AddressError):
            machine.cpu.eax = value
        with pytest.raises(AddressError):
            machine.cpu.eip = value


class TestStops:
    def test_a_loop_runs_to_its_budget(self):
        machine = pvfast.Machine(ram="64K")
        machine.write(0x1000, FOREVER)
        machine.cpu.eip = 0x1000
        stop = machine.run(max_instructions=12345)
        assert stop.reason is pvfast.StopReason.BUDGET
        assert machine.counters.instructions == 12345
        assert machine.run(max_instructions=0).reason is pvfast.StopReason.BUDGET

    def test_a_jump_into_nowhere_is_a_shutdown_that_names_the_fault(self):
        machine, _ = machine_with("jmp 0x70000000")
        stop = machine.run()
        assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, 6)
        assert machine.run().reason is pvfast.StopReason.SHUTDOWN

    def test_a_guest_that_only_faults_uses_up_its_budget(self):
        machine, _ = machine_with("ud2")
        gate = (0x1000 | 0x08 << 16) | ((0x8E00 | 0) << 32)        # interrupt gate 08:1000, where the UD2 is
        machine.write(0x2000 + 6 * 8, gate.to_bytes(8, "little"))
        machine.install_flat_gdt(0x3000)
        machine.cpu.idtr = (0x2000, 0x7FF)
        machine.cpu.esp = 0x800                                    # grows away from the tables, and wraps
        stop = machine.run(max_instructions=5000)
        assert stop.reason is pvfast.StopReason.BUDGET
        assert machine.counters.faults == 5000
        assert machine.counters.instructions == 0

    def test_hlt_without_a_waker(self):
        machine, _ = machine_with("hlt")
        assert machine.run().reason is pvfast.StopReason.HALT

    def test_until_where_it_stands(self):
        machine, _ = machine_with("nop")
        assert machine.run(until=0x1000).reason is pvfast.StopReason.UNTIL
        assert machine.counters.instructions == 0

    def test_until_that_moves_cuts_blocks_that_have_run(self):
        machine, _ = machine_with("incl %eax\nincl %eax\nincl %eax\nincl %eax\nend: jmp end")
        machine.run(until=0x1004)
        for address, eax in ((0x1002, 2), (0x1001, 1), (0x1003, 3), (0x1004, 4)):
            machine.cpu.eip, machine.cpu.eax = 0x1000, 0
            machine.run(until=address)
            assert machine.cpu.eax == eax

    def test_a_callback_can_stop_the_run(self):
        machine, _ = machine_with("again: int $0x80\njmp again")
        machine.intercept_interrupt(0x80, lambda m: m.stop())
        assert machine.run().reason is pvfast.StopReason.REQUESTED
        assert machine.cpu.eip == 0x1002

    def test_an_error_in_a_callback_comes_out_of_run_and_the_machine_goes_on(self):
        machine, labels = machine_with("int $0x80\nincl %eax\ndone: nop")

        def fail(machine):
            raise KeyError("mine")

        machine.intercept_interrupt(0x80, fail)
        with pytest.raises(KeyError, match="mine"):
            machine.run()
        machine.run(until=labels["done"])
        assert machine.cpu.eax == 1

    def test_run_in_a_callback_is_refused(self):
        machine, _ = machine_with("int $0x80")
        machine.intercept_interrupt(0x80, lambda m: m.run())
        with pytest.raises(MachineBusy):
            machine.run()


class TestThreads:
    def test_a_second_thread_is_told_that_the_machine_is_busy(self):
        machine = pvfast.Machine(ram="64K")
        machine.write(0x1000, FOREVER)
        machine.cpu.eip = 0x1000
        stops = []
        thread = threading.Thread(target=lambda: stops.append(machine.run()))
        thread.start()
        time.sleep(0.05)
        try:
            for touch in (lambda: machine.read(0, 1), lambda: machine.write(0, b"x"), machine.snapshot, machine.run,
                          lambda: setattr(machine.cpu, "eax", 1), lambda: machine.inject_interrupt(32),
                          lambda: machine.cpu.eax, machine.cpu.registers, machine.counters.as_dict):
                with pytest.raises(MachineBusy):
                    touch()
        finally:
            machine.stop()
            thread.join(timeout=10)
        assert stops[0].reason is pvfast.StopReason.REQUESTED

    def test_ctrl_c_leaves_a_machine_that_can_go_on(self):
        machine = pvfast.Machine(ram="64K")
        machine.write(0x1000, bytes.fromhex("40ebfd"))     # inc %eax; jmp .-1
        machine.cpu.eip = 0x1000
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            machine.run()
        timer.join()
        before = machine.counters.instructions
        assert before > 0
        machine.run(max_instructions=10)
        assert machine.counters.instructions == before + 10


class TestSnapshots:
    def test_a_run_repeats_exactly(self):
        machine, labels = machine_with("""
            again: rdtsc
                   addl %eax, %esi
                   pushl %esi
                   decl %ecx
                   jnz again
            done:  nop""")
        machine.cpu.ecx = 500
        machine.run(max_instructions=777)
        state = machine.snapshot()
        results = []
        for _ in range(2):
            machine.run(until=labels["done"])
            results.append((machine.cpu.registers(), machine.counters.as_dict(), machine.read(0x4000, 0x4000)))
            machine.restore(state)
        assert results[0] == results[1]

    def test_restore_brings_old_code_back(self):
        machine, labels = machine_with("movl $1, %eax\ndone: nop")
        machine.run(until=labels["done"])
        machine.cpu.eip = 0x1000
        state = machine.snapshot()
        machine.write(0x1001, b"\x02")
        machine.run(until=labels["done"])
        assert machine.cpu.eax == 2
        machine.restore(state)
        machine.run(until=labels["done"])
        assert machine.cpu.eax == 1

    def test_into_another_machine_of_the_same_shape(self):
        machine, labels = machine_with("incl %eax\ndone: nop")
        other = pvfast.Machine(ram="1M")
        other.restore(machine.snapshot())
        other.run(until=labels["done"])
        assert other.cpu.eax == 1

    def test_restore_keeps_intercepts_and_is_refused_in_a_callback(self):
        machine, _ = machine_with("int $0x80")
        state = machine.snapshot()
        calls = []

        def callback(machine):
            calls.append(1)
            with pytest.raises(MachineBusy):
                machine.restore(state)
            machine.stop()

        machine.intercept_interrupt(0x80, callback)
        machine.restore(state)
        machine.run(max_instructions=10)
        assert calls == [1]

    def test_what_is_no_snapshot(self):
        machine = pvfast.Machine(ram="64K")
        for wrong in (None, b"", 5):
            with pytest.raises(TypeError):
                machine.restore(wrong)
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(machine.snapshot())

    def test_another_memory_map_is_refused(self):
        state = pvfast.Machine(ram="1M").snapshot()
        with pytest.raises(SnapshotError):
            pvfast.Machine(ram="2M").restore(state)


def test_errors_are_one_family():
    for error in (AddressError, MachineBusy, MemoryMapError, SnapshotError):
        assert issubclass(error, PvfastError)


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_neither_crash_nor_hang(seed):
    """Hostile code from a random state: it stops within its budget, with counters that add up."""
    rng = random.Random(seed)
    machine = pvfast.Machine(ram="64K")
    machine.write(0, rng.randbytes(65536))
    if seed % 2:
        machine.install_flat_gdt(0x8000)
        machine.cpu.idtr = (rng.randrange(0x10000), rng.randrange(0x10000))
    for name in ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"):
        setattr(machine.cpu, name, rng.choice((rng.randrange(0x10000), rng.getrandbits(32))))
    for _ in range(50):
        machine.cpu.eip = rng.randrange(0x10000)
        before = machine.counters.instructions
        stop = machine.run(max_instructions=2000)
        assert machine.counters.instructions - before <= 2000
        if stop.reason is pvfast.StopReason.SHUTDOWN:
            break
