"""What ring 3 of the host's processor can tell about dispatch: nothing goes in, times and a model of it come out.

The call sites of the talk are run on the processor itself, a loop each, and timed by its time-stamp counter. That takes
an x86-64 Linux that gives out executable memory. Next: ``pvfast/processor/__init__.py``, which loads the model.
"""

import ctypes
import json
import mmap
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pvfast.errors import GuestError
from pvfast.processor import MODEL_FILE_HEAD, Model, load_model
from pvfast.processor.costs import Cost, cost_of

_ITERATIONS = 20_000
_REPEATS = 50
_PAGE_BYTES = 4096
_STUBS = 2048                   # where the functions that sites call begin, and how far they are apart
_STUB_BYTES = 32
_DATA = 3584
_ARCH_PRCTL, _ARCH_SET_GS = 158, 0x1001         # asm/unistd_64.h, asm/prctl.h
_SAVE, _RESTORE = b"\x51\x52", b"\x5a\x59"      # push %rcx; push %rdx; ...; pop %rdx; pop %rcx
_CALL_INDIRECT = b"\xff\x16"                    # call *(%rsi)
_RET = b"\xc3"
_NOP_6 = bytes.fromhex("660f1f440000")
_PUSHF, _POPF = b"\x9c\x58", b"\x50\x9d"        # pushf; pop %rax and push %rax; popf
_GS_STORE = bytes.fromhex("65c604250400000001")         # movb $1, %gs:4

#: count in RDI, the pointer's address in RSI; RAX becomes the flags, R8 the time at the start.
_ENTER = bytes.fromhex("0fae e8 0f31 48c1e220 4809d0 4989c0 9c58")
#: dec %rdi; jnz to the body; lfence; rdtsc; the difference in RAX.
_LEAVE = bytes.fromhex("0fae e8 0f31 48c1e220 4809d0 4c29c0 c3")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A patch site as a processor runs it.

    Attributes
    ----------
    name : str
    text : str
        The instructions; "f" is a function that consists of `callee` and a return.
    body : bytes
        What is repeated; None in place of a direct call.
    callee : bytes
        What the called function does.
    classes : mapping of str to int
        The cost classes of what runs, and how often each.
    """

    name: str
    text: str
    body: bytes | None
    callee: bytes = b""
    classes: Mapping[str, int] = field(default_factory=dict)


_INDIRECT = _SAVE + _CALL_INDIRECT + _RESTORE
_SITE = {"push": 2, "pop": 2, "ret": 1}
_SEQUENCES = (
    Sequence("indirect call", "push; push; call *f; pop; pop", _INDIRECT, b"", {**_SITE, "call_indirect": 1}),
    Sequence("direct call", "push; push; call f; pop; pop", None, b"", {**_SITE, "call": 1}),
    Sequence("nop", "a NOP of six bytes", _NOP_6, b"", {"nop": 1}),
    Sequence("push and pop", "push; pop", b"\x51\x59", b"", {"push": 1, "pop": 1}),
    Sequence("save_fl, indirect", "push; push; call *f; pop; pop; f: pushf; pop", _INDIRECT, _PUSHF,
             {"push": 2, "pop": 3, "ret": 1, "call_indirect": 1, "pushf": 1}),
    Sequence("save_fl, inline", "pushf; pop", _PUSHF, b"", {"pushf": 1, "pop": 1}),
    Sequence("restore_fl, indirect", "push; push; call *f; pop; pop; f: push; popf", _INDIRECT, _POPF,
             {"push": 3, "pop": 2, "ret": 1, "call_indirect": 1, "popf": 1}),
    Sequence("restore_fl, inline", "push; popf", _POPF, b"", {"push": 1, "popf": 1}),
    Sequence("Xen's irq_disable, indirect", "push; push; call *f; pop; pop; f: movb $1, %gs:4", _INDIRECT, _GS_STORE,
             {**_SITE, "call_indirect": 1, "mov": 1, "segment_base": 1}),
    Sequence("Xen's irq_disable, inline", "movb $1, %gs:4", _GS_STORE, b"", {"mov": 1, "segment_base": 1}),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The host's processor, measured.

    Attributes
    ----------
    processor : str
        Its name.
    measured : mapping of str to float
        Cycles of its time-stamp counter per turn of a loop around each sequence; ``empty`` is the loop alone.
    model : Model
        The generic model with what could be derived from them.
    """

    processor: str
    measured: Mapping[str, float]
    model: Model

    def rows(self) -> tuple[tuple[str, str, float, float, int], ...]:
        """Name and instructions of each sequence; measured cycles with its loop and beyond it; modelled cycles."""
        cycles, empty = self.model.cycles, self.measured[_EMPTY.name]
        return tuple((each.name, each.text, self.measured[each.name], max(0.0, self.measured[each.name] - empty),
                      sum(cycles[name].cycles * count for name, count in each.classes.items()))
                     for each in _SEQUENCES)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; `pvfast.processor.load_model` reads such a file."""
        base = load_model(_BASE)
        return {
            **MODEL_FILE_HEAD, "model": self.processor, "base": base.name,
            "cycles": {name: cost._asdict() for name, cost in self.model.cycles.items() if cost != base.cycles[name]},
            "measured": dict(self.measured),
        }


_BASE = "generic"
_RET_CYCLES = 1                 # never without its call


def calibrate() -> Calibration:
    """Measure the host.

    Returns
    -------
    Calibration
        Not equal on every run: these are times of the host.

    Raises
    ------
    GuestError
        The host is no x86-64 Linux, or gives out no executable memory.

    Examples
    --------
    >>> found = calibrate()                                     # doctest: +SKIP
    >>> found.measured["restore_fl, inline"] > found.measured["nop"]      # doctest: +SKIP
    True
    """
    if platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"):
        raise GuestError(f"this host is {platform.machine()} under {sys.platform}: only an x86-64 Linux can be "
                         "calibrated; choose one of `pvfast models`")
    try:
        memory = mmap.mmap(-1, _PAGE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        raise GuestError(f"this host gives out no memory that is writable and executable: {error.strerror}") from None
    memory.write(b"\xcc" * _PAGE_BYTES)
    view = ctypes.c_char.from_buffer(memory)
    base = ctypes.addressof(view)
    ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ARCH_SET_GS, ctypes.c_ulong(base + _DATA))     # no 64-bit program uses it
    functions = [_function(memory, base, number, each.body, each.callee)
                 for number, each in enumerate((_EMPTY, *_SEQUENCES))]
    best = [float("inf")] * len(functions)
    for _ in range(_REPEATS):           # the sequences take turns, so that what disturbs the host disturbs them alike
        for number, (function, pointer) in enumerate(functions):
            best[number] = min(best[number], function(_ITERATIONS, pointer) / _ITERATIONS)
    del functions, view
    measured = {each.name: round(taken, 2) for each, taken in zip((_EMPTY, *_SEQUENCES), best, strict=True)}
    return Calibration(_processor_name(), MappingProxyType(measured), _model(measured))


_EMPTY = Sequence("empty", "", b"")
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)


def _function(memory: mmap.mmap, base: int, number: int, body: bytes | None, callee: bytes) -> tuple[Any, int]:
    """Write a loop, its callee and the pointer to it; what to call, and the pointer's address."""
    stub = _STUBS + number * _STUB_BYTES
    pointer = _DATA + 64 + number * 8
    start = number * 128
    memory[stub:stub + len(callee) + 1] = callee + _RET
    memory[pointer:pointer + 8] = (base + stub).to_bytes(8, "little")
    code = _ENTER
    head = len(code)
    if body is None:
        call = start + head + len(_SAVE)
        body = _SAVE + b"\xe8" + (stub - (call + 5)).to_bytes(4, "little", signed=True) + _RESTORE
    code += body + b"\x48\xff\xcf"
    code += b"\x0f\x85" + (head - (len(code) + 6)).to_bytes(4, "little", signed=True) + _LEAVE
    memory[start:start + len(code)] = code
    return _FUNCTION(base + start), base + pointer


def _model(measured: Mapping[str, float]) -> Model:
    """Whole cycles, at least 1: what runs side by side here stands one behind the other in the model."""
    beyond = {name: taken - measured[_EMPTY.name] for name, taken in measured.items()}
    pair = beyond["push and pop"]
    around = 2 * pair + _RET_CYCLES     # of a site: its pushes and pops, and the return
    found = {
        "push": pair / 2, "pop": pair / 2, "nop": beyond["nop"],
        "call": beyond["direct call"] - around, "call_indirect": beyond["indirect call"] - around,
        "pushf": beyond["save_fl, inline"] - pair / 2, "popf": beyond["restore_fl, inline"] - pair / 2,
        "mov": beyond["Xen's irq_disable, inline"],
    }
    cycles = {name: _cost(value) for name, value in found.items()}
    cycles["ret"] = cost_of(_RET_CYCLES, "assumed: one taken branch a cycle")
    return load_model(_BASE).with_cycles(_processor_name(), cycles)


def _cost(value: float) -> Cost:
    if value <= 0:
        return cost_of(1, f"assumed: below what can be measured ({value:.2f}), at least 1")
    return cost_of(max(1, round(value)), f"measured on this host: {value:.2f}")


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "this host"


def write_model(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a model file that ``--processor`` takes."""
    text = json.dumps(calibration.as_dict(), indent=2) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
