"""The processor that the tests run on, as a runner of cases: ring 3, 32-bit code, in a process of its own.

Enters: a Case. Leaves: `Outcome`, with the vector, error code and CR2 of the fault. Next: runner.c, the other process.

`unavailable()` says why the host cannot run cases: another architecture, no `gcc -m32`, no LDT.
"""
from __future__ import annotations

import atexit
import functools
import mmap
import os
import platform
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..builder import FXSAVE_BYTES, WINDOW
from ..cases import Case
from ..outcome import Outcome
from ..tables import LDT, SELECTORS

BASE, ARENA_BYTES = 0x10000000, 0xC10000
"""Of the cases' address 0, and how much from there is mapped: windows and code."""
CODE_BYTES, CASES, SEGMENTS = 0x400, 64, 16
SIGVTALRM = 26

# `struct job` and `struct state` of runner.c.
_JOB = struct.Struct("<4I")                         # base, arena_bytes, cases, segments
USER_DESC_BYTES = 16
_STATE = struct.Struct(f"<8I2I6I4I2I8x{FXSAVE_BYTES}s")     # ... up to the code
STATES = _JOB.size + SEGMENTS * USER_DESC_BYTES
CODE, STATE_WINDOW = _STATE.size, _STATE.size + CODE_BYTES
STATE_BYTES = STATE_WINDOW + len(WINDOW)


@functools.cache
def build() -> Path:
    """The runner, compiled; RuntimeError says what is missing."""
    if platform.machine() not in ("x86_64", "i686") or platform.system() != "Linux":
        raise RuntimeError(f"{platform.system()} on {platform.machine()} does not run 32-bit x86 code")
    folder = Path(tempfile.mkdtemp(prefix="pvfast-host-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = ["gcc", "-m32", "-nostdlib", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding",
               "-fno-stack-protector", "-fno-pic", "-no-pie", "-mgeneral-regs-only", "-Wl,--build-id=none",
               "-Wl,-z,noexecstack", "-o", str(folder / "runner"), str(Path(__file__).with_name("runner.c"))]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("there is no gcc") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"gcc -m32 -nostdlib fails: {error.stderr.strip()}") from None
    return folder / "runner"


@functools.cache
def unavailable() -> str | None:
    """Why this host cannot run cases, or None: one case has to give what the manual says."""
    try:
        runner = HostRunner(bytes(0x10000))
        program = b"\x8e\xd8\x40"       # MOV DS, EAX with a selector behind the LDT's end: #GP(selector), SDM 2 MOV
        case = Case(0, 0x400000, program, (0xFFFF, 2, 3, 4, 0x8000, 6, 7, 8), 2, (), 0, 0, 0, (), program)
        (outcome,) = runner.run_many([case])
    except RuntimeError as error:
        return str(error)
    if (outcome.vector, outcome.error, outcome.registers) != (13, 0xFFFC, list(case.registers)):
        return f"the host does not execute as a processor does: {outcome.vector}, {outcome.error}"
    return None


class HostRunner:
    """Cases in batches, on the host's processor."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.start()

    def start(self) -> None:
        program = build()
        size = STATES + CASES * STATE_BYTES
        descriptor = os.memfd_create("pvfast-host")
        os.ftruncate(descriptor, size)
        self.memory = memoryview(mmap.mmap(descriptor, size))
        _JOB.pack_into(self.memory, 0, BASE, ARENA_BYTES, 0, len(LDT))
        for entry, segment in enumerate(LDT):
            at = _JOB.size + entry * USER_DESC_BYTES
            self.memory[at:at + USER_DESC_BYTES] = segment.user_desc(entry, BASE)
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen([program], stdin=descriptor, stdout=theirs)
        os.close(descriptor)
        theirs.close()

    def close(self) -> None:
        self.socket.close()     # the end of its batches
        self.process.wait()

    def run_many(self, cases: Sequence[Case]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(cases), CASES):
            outcomes += self.run_batch(cases[start:start + CASES])
        return outcomes

    def run_batch(self, cases: Sequence[Case]) -> list[Outcome]:
        for number, case in enumerate(cases):
            self.put(case, STATES + number * STATE_BYTES)
        struct.pack_into("<I", self.memory, 8, len(cases))
        try:
            self.socket.send(b"!")
            answer = self.socket.recv(1)
        except OSError:
            answer = b""
        if not answer:
            raise RuntimeError(f"the host runner ended with status {self.process.wait()} (runner.c says where)")
        return [self.get(case, STATES + number * STATE_BYTES) for number, case in enumerate(cases)]

    def put(self, case: Case, at: int) -> None:
        _STATE.pack_into(self.memory, at, *case.registers, case.address, case.eflags, *SELECTORS, 0, 0, 0, 0,
                         case.address, len(case.code), case.fxsave)
        self.memory[at + CODE:at + CODE + len(case.code)] = case.code
        self.memory[at + STATE_WINDOW:at + STATE_BYTES] = case.window(self.content)

    def get(self, case: Case, at: int) -> Outcome:
        values = _STATE.unpack_from(self.memory, at)
        eip, eflags, (signal, vector, error, cr2) = values[8], values[9], values[16:20]
        if signal == SIGVTALRM:
            vector = "hang"
        elif vector == 3 and eip == case.end + 1:       # the INT3 behind the case
            vector, eip = None, case.end
        window = bytes(self.memory[at + STATE_WINDOW:at + STATE_BYTES])
        return Outcome(list(values[:8]), eip, eflags, window, vector, values[22], values[10:16],
                       error if isinstance(vector, int) else None, cr2 - BASE & 0xFFFFFFFF if vector == 14 else None)
