"""Engines that run the programs: pvfast, Unicorn, icicle, and the processor itself.

Enters: a program and a count. Leaves: seconds, and the program's result, which has to be the same everywhere.
Speed is a slope over two counts, so that start-up cancels; seconds are those of the processor, so that what else the
machine does does not count. Next: peers.py (ratios for asv), report.py (the table).
"""

import resource
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from .program import BASE, DATA, END
from .programs import (
    ALL,
    CR0_PG,
    CR4_SSE,
    PAGE_DIRECTORY,
    image,
    label,
    loaded,
    page_tables,
)

try:
    import unicorn
    from unicorn import x86_const
except ImportError:
    unicorn = None
try:
    import icicle
except ImportError:
    icicle = None

SETTLED_SECONDS = 0.04                  # what the difference of a slope's two counts has to take


def pvfast_engine(name: str, count: int, mode: str = "flat") -> tuple[float, int]:
    """Run on pvfast; seconds and EAX."""
    machine, done = loaded(name, count, mode)
    start = time.process_time()
    machine.run(until=done)
    seconds = time.process_time() - start
    if machine.cpu.cs.base + machine.cpu.eip != done:
        raise RuntimeError(f"{name} stopped at {machine.cpu.eip:#x}")
    return seconds, machine.cpu.eax


def unicorn_engine(name: str, count: int, mode: str = "flat") -> tuple[float, int]:
    """Run on Unicorn, code and data in separate maps where the program allows it: that is faster for it."""
    program = ALL[name]
    if program.only_pvfast or program.per_cpu:
        raise NotImplementedError(program.only_pvfast or "a segment base needs a descriptor table there")
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    if program.patches_itself or program.gates:
        engine.mem_map(BASE, END - BASE)
    else:
        engine.mem_map(BASE, DATA - BASE)
        engine.mem_map(DATA, END - DATA, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
    engine.mem_write(BASE, image(name, count))
    engine.reg_write(x86_const.UC_X86_REG_CR4, CR4_SSE)
    if mode == "paged":
        engine.mem_map(PAGE_DIRECTORY, 0x2000)
        engine.mem_write(PAGE_DIRECTORY, page_tables())
        engine.reg_write(x86_const.UC_X86_REG_CR3, PAGE_DIRECTORY)
        engine.reg_write(x86_const.UC_X86_REG_CR0, engine.reg_read(x86_const.UC_X86_REG_CR0) | CR0_PG)
    start = time.process_time()
    engine.emu_start(label(name, "start"), label(name, "done"))
    return time.process_time() - start, engine.reg_read(x86_const.UC_X86_REG_EAX)


def icicle_engine(name: str, count: int) -> tuple[float, int]:
    """Run on icicle-emu."""
    if ALL[name].patches_itself or ALL[name].per_cpu or ALL[name].gates:
        raise NotImplementedError("code that has run cannot be written there; segments have no base")
    engine = icicle.Icicle("i686")
    engine.mem_map(BASE, END - BASE, icicle.MemoryProtection.ExecuteReadWrite)
    engine.mem_write(BASE, image(name, count))
    engine.pc = label(name, "start")
    start = time.process_time()
    engine.run_until(label(name, "done"))
    return time.process_time() - start, engine.reg_read("EAX") & 0xFFFFFFFF


def elf(name: str, count: int) -> bytes:
    """A static 32-bit Linux program of the same bytes at the same addresses: one segment behind two headers."""
    offset = 0x1000
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, label(name, "start"), 52, 0, 0,
                         52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, offset, BASE, BASE, END - BASE, END - BASE, 7, 0x1000)
    return (header + segment).ljust(offset, b"\0") + image(name, count)


def native_engine(name: str, count: int) -> tuple[float, int]:
    """Run as a process of the host; its result has 7 bits."""
    if ALL[name].ring0:
        raise NotImplementedError("needs ring 0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(elf(name, count))
        path.chmod(0o755)
        start = _children_seconds()
        status = subprocess.run([str(path)], check=False).returncode
        return _children_seconds() - start, status


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def engines() -> dict:
    """The engines that are here, by name."""
    found = {"pvfast": pvfast_engine}
    if unicorn is not None:
        found["unicorn"] = unicorn_engine
    if icicle is not None:
        found["icicle"] = icicle_engine
    try:
        if native_engine("fib", 1)[1] == pvfast_engine("fib", 1)[1] & 127:
            found["native"] = native_engine
    except OSError:                     # this host does not run 32-bit programs
        pass
    return found


def seconds_per_count(engine, name: str, count: int) -> float:
    """Seconds for one more of `count`: the slope from `count` to four times as many."""
    return (engine(name, 4 * count)[0] - engine(name, count)[0]) / (3 * count)


def settled_count(engine, name: str, seconds: float = SETTLED_SECONDS) -> int:
    """A count n such that 4 n takes `seconds` longer than n."""
    count = 4
    while 3 * count * seconds_per_count(engine, name, count) < seconds:
        count *= 4
    return count
