"""Small things that embedders do often, on pvfast and on Unicorn: seconds for one of each.

Enters: how often. Leaves: seconds each. Start and stop three instructions; a software interrupt that the host
serves with a register read and a write; rewriting a 10-byte patch site and running it. Next: peers.py, report.py.
"""

import time

try:
    from pvfast.machine import Machine
except ImportError:
    Machine = None
try:
    import unicorn
    from unicorn import x86_const
except ImportError:
    unicorn = None

CODE = 0x1000
NOPS = b"\x90" * 3
CALLS = bytes.fromhex("cd80 49 75fb")                           # 1: int $0x80; decl %ecx; jnz 1b
INDIRECT = bytes.fromhex("5152 ff1500200000 5a59")              # push; push; call *0x2000; pop; pop
INLINE = bytes.fromhex("c6050030000001 0f1f00")                 # movb $1, 0x3000; nop
CALLEE, POINTER, STACK = 0x1800, 0x2000, 0x8000
MEMORY = 0x10000


def _machine(code: bytes) -> "Machine":
    machine = Machine(ram=MEMORY)
    machine.write(CODE, code)
    machine.write(CALLEE, b"\xc3")
    machine.write(POINTER, CALLEE.to_bytes(4, "little"))
    machine.cpu.esp = STACK
    return machine


def _unicorn(code: bytes) -> "unicorn.Uc":
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    engine.mem_map(0, MEMORY)
    engine.mem_write(CODE, code)
    engine.mem_write(CALLEE, b"\xc3")
    engine.mem_write(POINTER, CALLEE.to_bytes(4, "little"))
    engine.reg_write(x86_const.UC_X86_REG_ESP, STACK)
    return engine


def pvfast_start_stop(repeats: int) -> float:
    """Seconds to start a machine, run three NOPs and stop."""
    machine = _machine(NOPS)
    cpu, end = machine.cpu, CODE + len(NOPS)
    start = time.process_time()
    for _ in range(repeats):
        cpu.eip = CODE
        machine.run(until=end)
    return (time.process_time() - start) / repeats


def unicorn_start_stop(repeats: int) -> float:
    """The same on Unicorn."""
    engine, end = _unicorn(NOPS), CODE + len(NOPS)
    start = time.process_time()
    for _ in range(repeats):
        engine.emu_start(CODE, end)
    return (time.process_time() - start) / repeats


def pvfast_callback(repeats: int) -> float:
    """Seconds for a software interrupt to a Python callback that reads one register and writes one."""
    machine = _machine(CALLS)
    cpu = machine.cpu

    def serve(machine: "Machine") -> None:
        cpu.eax = cpu.ecx

    machine.intercept_interrupt(0x80, serve)
    cpu.eip, cpu.ecx = CODE, repeats
    start = time.process_time()
    machine.run(until=CODE + len(CALLS))
    return (time.process_time() - start) / repeats


def unicorn_callback(repeats: int) -> float:
    """The same on Unicorn."""
    engine = _unicorn(CALLS)

    def serve(engine: "unicorn.Uc", vector: int, data: object) -> None:
        engine.reg_write(x86_const.UC_X86_REG_EAX, engine.reg_read(x86_const.UC_X86_REG_ECX))

    engine.hook_add(unicorn.UC_HOOK_INTR, serve)
    engine.reg_write(x86_const.UC_X86_REG_ECX, repeats)
    start = time.process_time()
    engine.emu_start(CODE, CODE + len(CALLS))
    return (time.process_time() - start) / repeats


def pvfast_rewrite(repeats: int) -> float:
    """Seconds to write the other form of a 10-byte site and run it."""
    machine = _machine(INDIRECT)
    cpu, end = machine.cpu, CODE + len(INDIRECT)
    start = time.process_time()
    for number in range(repeats):
        machine.write(CODE, INLINE if number & 1 else INDIRECT)
        cpu.eip = CODE
        machine.run(until=end)
    return (time.process_time() - start) / repeats


def unicorn_rewrite(repeats: int) -> float:
    """The same on Unicorn, which has to be told to forget what it translated."""
    engine, end = _unicorn(INDIRECT), CODE + len(INDIRECT)
    start = time.process_time()
    for number in range(repeats):
        engine.mem_write(CODE, INLINE if number & 1 else INDIRECT)
        engine.ctl_remove_cache(CODE, end)
        engine.emu_start(CODE, end)
    return (time.process_time() - start) / repeats


LATENCIES = {
    "start_and_stop": (pvfast_start_stop, unicorn_start_stop, "start and stop, 3 NOPs"),
    "callback": (pvfast_callback, unicorn_callback, "callback, 1 register read and 1 write"),
    "rewrite_and_run": (pvfast_rewrite, unicorn_rewrite, "rewrite a 10-byte site and run it"),
}
