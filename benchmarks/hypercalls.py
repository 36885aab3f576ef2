"""Hypercalls: what the host needs to serve one, beyond the guest's own instructions.

Enters: a booted guest kernel. A loop that makes a cheap hypercall is put over one of its benchmarks, and the same loop
without the hypercall is subtracted; the same for an interrupt that Unicorn hands to a hook. Leaves: host time and exact
figures. Next: speed.py, the table of the documentation.
"""

import ctypes
import statistics
import time

from .guest import FORMS, find_run

try:
    from pvfast.assembly import assemble
    from pvfast.paravirt.hypervisors import kvm_interface, lhype_interface, vmi_interface, xen_interface
except ImportError:                     # an older commit: everything is n/a
    assemble = None
try:
    import unicorn
    from unicorn import x86_const
    from unicorn.unicorn_py3.unicorn import uclib
except ImportError:
    unicorn = None

HYPERCALLS = 20_000
HYPERVISORS = ("xen", "lhype", "vmi", "kvm")


def loops(hypervisor: str) -> tuple[str, str]:
    """The body of a loop that makes a hypercall, and the same without it; EBP counts.

    Each call is one that does next to nothing: CR0.TS cleared, WBINVD, a poll for interrupts.
    """
    if assemble is None:
        raise NotImplementedError("this commit has no hypervisors, or no assembler")
    if hypervisor == "xen":
        setup = f"movl ${xen_interface.Hypercall.FPU_TASKSWITCH:#x}, %eax; xorl %ebx, %ebx"
        call = f"int ${xen_interface.HYPERCALL_VECTOR:#x}"
    elif hypervisor == "lhype":
        setup = f"movl ${lhype_interface.Lhcall.TS:#x}, %eax; xorl %edx, %edx"
        call = f"int ${lhype_interface.LGUEST_TRAP_ENTRY:#x}"
    elif hypervisor == "kvm":
        setup = f"movl ${kvm_interface.KvmHc.VAPIC_POLL_IRQ:#x}, %eax"
        call = f".byte {', '.join(map(hex, kvm_interface.VMCALL))}"
    elif hypervisor == "vmi":           # the INT is in a slot of the ROM, and a RET behind it
        slot = (vmi_interface.LOWMEM_LINEAR + vmi_interface.ROM_PHYSICAL + vmi_interface.ROM_SLOTS
                + vmi_interface.VmiCall.WBINVD * vmi_interface.ROM_SLOT_BYTES)
        return f"call {slot:#x}", "call 9f"
    else:
        raise NotImplementedError(f"{hypervisor} has no hypercalls")
    return f"{setup}; {call}", setup


class Caller:
    """A booted guest in ring 0 or 1, and the two loops in it."""

    def __init__(self, hypervisor: str) -> None:
        try:
            bodies = loops(hypervisor)
        except NameError as error:
            raise NotImplementedError(f"this commit has no {hypervisor}") from error
        self.run = find_run(hypervisor, FORMS[0], "irq_disable")
        self.machine = self.run.machine
        self.entries = []
        address = self.run.image.labels["bench_empty"]
        for body in bodies:
            program = assemble(f"1: {body}; decl %ebp; jnz 1b; done: jmp done; 9: ret", address)
            self.machine.write_linear(address, program.code)
            self.entries.append((address, program.labels["done"]))
            address += len(program.code)

    def calls(self, count: int, empty: bool = False) -> None:
        """Run a loop."""
        start, end = self.entries[empty]
        self.machine.cpu.eip, self.machine.cpu.ebp = start, count
        self.machine.run(until=end)
        if self.machine.cpu.eip != end:
            raise RuntimeError(f"a hypercall went astray at {self.machine.cpu.eip:#x}")

    def seconds(self, count: int) -> float:
        """What `count` hypercalls took of the host's processor, beyond the loop without them."""
        taken = []
        for empty in (False, True):
            start = time.process_time()
            self.calls(count, empty)
            taken.append(time.process_time() - start)
        return taken[0] - taken[1]


UNICORN_CODE = 0x1000
#: int $0x80, or a NOP as long; decl %ecx; jnz to it.
UNICORN_LOOPS = bytes.fromhex("cd80 49 75fb"), bytes.fromhex("6690 49 75fb")


def unicorn_seconds(count: int, in_c: bool) -> float:
    """The same of `count` interrupts on Unicorn, served by an empty hook in Python, or by one in C: libc's abs()."""
    taken = []
    for code in UNICORN_LOOPS:
        engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        engine.mem_map(0, 0x10000)
        engine.mem_write(UNICORN_CODE, code)
        engine.reg_write(x86_const.UC_X86_REG_ECX, count)
        if in_c:
            function = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)
            everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)
            uclib.uc_hook_add(engine._uch, ctypes.byref(ctypes.c_size_t()), unicorn.UC_HOOK_INTR, function, None,
                              *everywhere)
        else:
            engine.hook_add(unicorn.UC_HOOK_INTR, lambda engine, vector, data: None)
        start = time.process_time()
        engine.emu_start(UNICORN_CODE, UNICORN_CODE + len(code))
        taken.append(time.process_time() - start)
    return taken[0] - taken[1]


class Hypercalls:
    """Host time of HYPERCALLS hypercalls and their loop; what the guest is charged for one."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        self.caller = Caller(hypervisor)
        self.caller.calls(HYPERCALLS)

    def time_hypercalls(self, hypervisor):
        self.caller.calls(HYPERCALLS)

    def track_beyond_loop(self, hypervisor):
        return min(self.caller.seconds(HYPERCALLS) for _ in range(20)) / HYPERCALLS * 1e9

    def track_cycles(self, hypervisor):
        return self._cycles(HYPERCALLS + 1) - self._cycles(HYPERCALLS)

    def _cycles(self, count):
        before = self.caller.machine.counters.cycles
        self.caller.calls(count)
        return self.caller.machine.counters.cycles - before

    time_hypercalls.pretty_name = f"Hypercall: host time of {HYPERCALLS:,}, with their loop"
    track_beyond_loop.pretty_name = "Hypercall: host time of one, beyond the guest's own instructions"
    track_beyond_loop.unit = "ns"
    track_cycles.pretty_name = "Hypercall: modelled cycles, with its loop"
    track_cycles.unit = "modelled cycles/hypercall and loop"


class Speed:
    """Unicorn's time for an interrupt with an empty hook in C over pvfast's for a hypercall, in interleaved pairs."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        if unicorn is None:
            raise NotImplementedError("needs Unicorn")
        self.caller = Caller(hypervisor)
        self.caller.calls(HYPERCALLS)

    def track_ratio(self, hypervisor):
        return statistics.median(
            unicorn_seconds(HYPERCALLS, in_c=True) / self.caller.seconds(HYPERCALLS) for _ in range(9))

    track_ratio.pretty_name = "Hypercall: times faster than an empty hook in C on Unicorn"
    track_ratio.unit = "Unicorn/pvfast"
