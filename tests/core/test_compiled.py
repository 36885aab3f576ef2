"""C that a compiler turned into SSE2 code gives the same bytes in the guest as on the host."""
from __future__ import annotations

import platform
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pvfast

SOURCE = Path(__file__).parent / "compiled" / "kernels.c"
PT_LOAD = 1
CODE, INPUT, OUTPUT, STACK = 0x100000, 0x200000, 0x210000, 0x300000
OSFXSR, OSXMMEXCPT = 0x200, 0x400
FLAGS = ["-m32", "-march=pentium4", "-msse2", "-mfpmath=sse", "-ffreestanding", "-nostdlib", "-static", "-fno-pic",
         "-no-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra", "-Werror",
         "-Wl,--build-id=none"]


def build(folder: Path, name: str, *options: str) -> Path:
    """The kernels for one side; skips the test where there is no 32-bit compiler."""
    target = folder / name
    try:
        subprocess.run(["gcc", *FLAGS, *options, "-o", str(target), str(SOURCE)], check=True, capture_output=True,
                       text=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc")
    except subprocess.CalledProcessError as error:
        if SOURCE.name in error.stderr:
            raise AssertionError(error.stderr) from None
        pytest.skip(f"gcc -m32 -msse2 fails: {error.stderr.strip()}")
    return target


def load(machine: pvfast.Machine, elf: bytes) -> int:
    """Store the segments of a 32-bit executable; returns its entry point."""
    entry, headers = struct.unpack_from("<II", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 42)
    for at in range(headers, headers + size * count, size):
        kind, offset, _, address, filled, in_memory = struct.unpack_from("<6I", elf, at)
        if kind == PT_LOAD:
            machine.write(address, elf[offset:offset + filled].ljust(in_memory, b"\0"))
    return entry


@pytest.mark.parametrize("optimisation", ["-O1", "-O2", "-O3", "-Ofast"])
def test_same_bytes_as_the_host(optimisation: str, tmp_path: Path) -> None:
    if platform.machine() not in ("x86_64", "i686") or platform.system() != "Linux":
        pytest.skip(f"{platform.system()} on {platform.machine()} does not run 32-bit x86 code")
    guest = build(tmp_path, "guest", optimisation, f"-Wl,-Ttext={CODE:#x}", "-Wl,-z,noseparate-code").read_bytes()
    native = build(tmp_path, "native", optimisation, "-DNATIVE")
    words = np.random.default_rng(3).integers(0, 1 << 32, 256, dtype=np.uint32).tobytes()
    expected = subprocess.run([native], input=words, capture_output=True, check=True).stdout
    assert len(expected) > 8000

    machine = pvfast.Machine(ram="4M")
    machine.cpu.eip = load(machine, guest)
    machine.write(INPUT, words)
    machine.cpu.cr4 |= OSFXSR | OSXMMEXCPT
    machine.cpu.esp = STACK
    stop = machine.run(max_instructions=10_000_000)
    assert stop.reason is pvfast.StopReason.HALT, stop
    actual = machine.read(OUTPUT, len(expected))
    assert actual == expected, next(i for i, (a, b) in enumerate(zip(actual, expected, strict=True)) if a != b)
    assert machine.counters.instructions > 50_000

