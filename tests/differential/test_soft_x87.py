"""The portable x87 arithmetic (core/soft_x87.h) against the host's: equal, or within the bound that it states."""
from __future__ import annotations

import ctypes
import platform
import random
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

import pvfast

from .x87 import content, real

CORE = Path(pvfast.__file__).parent / "core"
CASES = 400
BOUND = Fraction(1, 1 << 40)
FLAGS, C1, C2 = 0x3F, 0x200, 0x400
CODES = 0x4500
EXACT = [(function, what, mask) for function, numbers, mask in (
    ("arithmetic", range(6), FLAGS | C1), ("arithmetic_m32", range(6), FLAGS | C1),
    ("arithmetic_m64", range(6), FLAGS | C1), ("binary", (8,), FLAGS | C1), ("binary", (6, 7), FLAGS),
    ("unary", (12, 13), FLAGS | C1), ("compare", (0, 1), FLAGS | CODES), ("load", (0, 1), FLAGS),
    ("store", (0, 1, 3, 4, 5, 6), FLAGS | C1), ("push", (19,), FLAGS)) for what in numbers]
"""Function of x87_makers.c, operation, what counts of the status word."""
CLOSE = [("pop", 9), ("pop", 10), ("pop", 11), ("unary", 14), ("unary", 15), ("unary", 16), ("push", 17), ("push", 18)]
F2XM1, YL2XP1 = ("unary", 14), ("pop", 10)


@pytest.fixture(scope="module")
def makers(tmp_path_factory) -> list[ctypes.CDLL]:
    """The host's maker and the portable one."""
    if platform.machine() not in ("x86_64", "i686") or platform.system() != "Linux" or not shutil.which("gcc"):
        pytest.skip("there is no x87 to compare with, or no gcc")
    folder = tmp_path_factory.mktemp("x87")
    libraries = []
    for name, options in (("host", ()), ("soft", ("-DPVFAST_PORTABLE_X87",))):
        library = folder / f"{name}.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-fno-strict-aliasing", *options, f"-I{CORE}",
                        Path(__file__).with_name("x87_makers.c"), "-o", library, "-lm"], check=True)
        libraries.append(ctypes.CDLL(str(library)))
    return libraries


def call(library: ctypes.CDLL, function: str, what: int, a: bytes, b: bytes, control: int) -> tuple[bytes, bytes, int]:
    x = ctypes.create_string_buffer(a.ljust(16, b"\0"), 16)
    y = ctypes.create_string_buffer(b.ljust(16, b"\0"), 16)
    status = getattr(library, function)(what, x, y, control, 0)
    return x.raw[:10], y.raw[:10], status


def control_word(rng: random.Random) -> int:
    masks = FLAGS if rng.random() < 0.6 else rng.getrandbits(6)
    return 0x40 | masks | rng.choice((0x300, 0x300, 0x200, 0)) | rng.choice((0, 0x400, 0x800, 0xC00))


def second_operand(rng: random.Random, function: str, what: int) -> bytes:
    if function == "arithmetic_m32" or (function, what) == ("load", 0):
        return content(rng, "m32fp")
    if function == "arithmetic_m64" or (function, what) == ("load", 1):
        return content(rng, "m64fp")
    return real(rng)


@pytest.mark.parametrize(("function", "what", "mask"), EXACT)
def test_equal(makers, function, what, mask):
    rng = random.Random(f"{function} {what}")
    for _ in range(CASES):
        a, b, control = real(rng), second_operand(rng, function, what), control_word(rng)
        host, soft = (call(maker, function, what, a, b, control) for maker in makers)
        assert not (host[2] ^ soft[2]) & mask, (a.hex(), b.hex(), hex(control), host, soft)
        if not host[2] & ~control & FLAGS or function in ("arithmetic", "unary"):   # else the caller keeps the old ones
            assert host[:2] == soft[:2], (a.hex(), b.hex(), hex(control), host, soft)


def number(encoded: bytes) -> Fraction | None:
    significand, exponent = struct.unpack("<QH", encoded)
    if exponent & 0x7FFF == 0x7FFF:
        return None
    return (-1 if exponent >> 15 else 1) * significand * Fraction(2) ** ((exponent & 0x7FFF or 1) - 0x3FFF - 63)


@pytest.mark.parametrize(("function", "what"), CLOSE)
def test_close(makers, function, what):
    rng = random.Random(f"{function} {what}")
    for _ in range(CASES):
        a, b = real(rng), real(rng)
        argument = struct.unpack("<QH", b if function == "pop" else a)[1] & 0x7FFF
        if (function, what) in (F2XM1, YL2XP1) and 0x3FFD <= argument < 0x7FFF:
            continue                # undefined outside of -1 to 1, and of 1 - sqrt(1/2)
        host, soft = (call(maker, function, what, a, b, 0x37F) for maker in makers)
        if function == "push" and host[2] & C2:
            assert soft[2] & C2
            continue
        for expected, actual in zip(host[:2] if function == "push" else host[:1], soft[:2], strict=False):
            x, y = number(expected), number(actual)
            if x is None or y is None:
                assert expected == actual, (a.hex(), b.hex())
            else:
                assert abs(x - y) <= BOUND * max(abs(x), Fraction(1, 1 << 16382)), (a.hex(), b.hex(), host, soft)
