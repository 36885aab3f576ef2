"""QEMU's own x87 programs: PVFAST_QEMU_I386 names the folder tests/tcg/i386 of its source.

Each checks itself and returns 0; they are built without a C library. FISTTP, which came with SSE3, is rewritten. Left
out: fprem, whose results a C library prints; test-i386, which needs Linux's signals and VM86; and what is about
extensions that came after the Pentium 4's first.
"""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import pvfast

PROGRAMS = ("f2xm1", "fbstp", "fisttp", "fldcst", "fp-exceptions", "fpatan", "fscale", "fxam", "fxtract", "fyl2x",
            "fyl2xp1", "pseudo-denormal", "snan-convert")
ADDRESS, STACK = 0x100000, 0x80000
OSFXSR = 0x200
HEADERS = {
    "stdio.h": "static inline int printf(const char *format, ...) { (void)format; return 0; }\n",
    "string.h": "static int memcmp(const void *a, const void *b, unsigned n) { const unsigned char *p = a, *q = b;\n"
                "while (n && *p == *q) n--, p++, q++; return n ? *p - *q : 0; }\n"
                "void *memset(void *a, int value, unsigned n)\n"
                "{ volatile char *p = a; while (n--) *p++ = value; return a; }\n",
    "start.S": ".globl _start\n_start: fninit; call main; hlt\n.section .note.GNU-stack\n",
}
TRUNCATE = ("fnstcw -8(%%esp); fnstcw -6(%%esp); orw $0xc00, -6(%%esp); fldcw -6(%%esp); fistp", "; fldcw -8(%%esp)")
FLAGS = ("-m32", "-nostdlib", "-ffreestanding", "-static", "-O1", "-w", "-fno-pic", "-no-pie", "-fno-stack-protector",
         "-fcf-protection=none", "-msse2", "-I.", f"-Wl,-Ttext={ADDRESS:#x},-e,_start,--build-id=none")


def without_fisttp(source: str) -> str:
    """FISTP with rounding toward zero: the same result and exceptions (SDM 2 FISTTP)."""
    before, *parts = source.split('"fisttp')
    for part in parts:
        size, operand = part.split(" ", 1)
        end = operand.index('"')
        before += f'"{TRUNCATE[0]}{size} {operand[:end]}{TRUNCATE[1]}{operand[end:]}'
    return before


@pytest.mark.parametrize("name", PROGRAMS)
def test_qemu(name: str, tmp_path: Path) -> None:
    if not (folder := os.environ.get("PVFAST_QEMU_I386")):
        pytest.skip("PVFAST_QEMU_I386 does not name QEMU's tests/tcg/i386")
    for header, content in HEADERS.items():
        (tmp_path / header).write_text(content)
    (tmp_path / "test.c").write_text(without_fisttp((Path(folder) / f"test-i386-{name}.c").read_text()))
    try:
        subprocess.run(["gcc", *FLAGS, "-o", "program", "start.S", "test.c"], cwd=tmp_path, check=True)
        subprocess.run(["objcopy", "-O", "binary", "program", "image"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc")
    machine = pvfast.Machine(ram="4M")
    machine.write(ADDRESS, (tmp_path / "image").read_bytes())
    machine.cpu.esp, machine.cpu.eip, machine.cpu.cr4 = STACK, ADDRESS, OSFXSR
    stop = machine.run(max_instructions=10_000_000)
    assert (stop.reason, machine.cpu.eax) == (pvfast.StopReason.HALT, 0), stop
