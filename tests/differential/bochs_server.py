"""Runs single steps in Bochs: a program of its own, since Bochs needs a process that it may crash.

Enters: cases on standard input, pickled. Leaves: outcomes on standard output. Next: test_bochs.py.

Every case runs in a fork, so that no cache of one is seen by the next, and a triple fault ends only that fork.
"""
from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import pickle
import signal
import sys
from typing import Any

import bochscpu
from bochscpu import _bochscpu as bochs

GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7", "efer", "sysenter_cs", "sysenter_esp",
           "sysenter_eip")
PAGE, SPACE = 0x1000, 0x200000


def main() -> None:
    memory = mmap.mmap(-1, SPACE)
    host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    session = bochscpu.Session()
    for address in range(0, SPACE, PAGE):
        bochs.memory.page_insert(address, host + address)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)       # Bochs prints what it does not like
    while True:
        try:
            case = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        memory[:] = case["ram"].ljust(SPACE, b"\xff")     # behind RAM the bus floats
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            signal.alarm(5)
            result = Step(session, case).run()
            if result:
                result["ram"] = memory[:len(case["ram"])]
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(result, pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            content = pipe.read()
        _, status = os.waitpid(child, 0)
        outcome = None
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            outcome = pickle.loads(content)
        pickle.dump(outcome or {"ended": f"status {status}"}, answers)
        answers.flush()


class Step:
    """One instruction, and the delivery of what it raises: until the next one is about to begin."""

    def __init__(self, session: Any, case: dict[str, Any]) -> None:
        self.session = session
        self.begun = 0
        self.way = case["way"]      # EIPs before instructions to be executed
        self.outcome: dict[str, Any] = {}
        session.missing_page_handler = self.missing
        state = bochs.State()
        for name in GENERAL:
            setattr(state, f"r{name[1:]}", case["registers"][name])
        state.rip, state.rflags = case["registers"]["eip"], case["registers"]["eflags"]
        for name in CONTROL:
            if name in case["registers"]:
                setattr(state, name, case["registers"][name])
        for name in SEGMENTS:
            segment = bochs.Segment()
            selector, base, limit, attributes = case["segments"][name]
            segment.selector, segment.base, segment.limit = selector, base, limit
            segment.attr, segment.present = attributes & 0xFFFF, bool(attributes & 0x80)
            setattr(state, name, segment)
        for name in ("gdtr", "idtr"):
            table = bochs.GlobalSegment()
            table.base, table.limit = case["tables"][name]
            setattr(state, name, table)
        session.cpu.set_state(state)

    def missing(self, address: int) -> None:
        """An address where no RAM is: this case is not compared."""
        self.outcome["ended"] = "no memory"
        bochs.memory.page_insert(address & -PAGE, bochs.memory.allocate_host_page())

    def run(self) -> dict[str, Any]:
        hook = bochs.Hook()
        hook.before_execution = self.before
        hook.hlt = lambda *_: self.finish("halt")
        self.session.run([hook])
        return self.outcome

    def before(self, *_: object) -> None:
        self.begun += 1
        if self.session.cpu.rip & 0xFFFFFFFF not in self.way[self.begun - 1:self.begun]:
            self.finish("step")

    def finish(self, how: str) -> None:
        cpu = self.session.cpu
        state = cpu.state
        self.outcome.setdefault("ended", how)
        for name in GENERAL:
            self.outcome[name] = getattr(cpu, f"r{name[1:]}") & 0xFFFFFFFF
        self.outcome["eip"], self.outcome["eflags"] = cpu.rip & 0xFFFFFFFF, state.rflags
        for name in CONTROL:
            self.outcome[name] = getattr(state, name)
        for name in SEGMENTS:
            segment = getattr(cpu, name)
            self.outcome[name] = segment.selector, segment.base, segment.limit, segment.attr
        self.session.stop()


if __name__ == "__main__":
    main()
