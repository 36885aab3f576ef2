"""core/host_sse.h in C and <fenv.h>, as on hosts that are no x86, against the host's own instructions."""
from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pvfast.core

SOURCE = Path(__file__).parent / "compiled" / "primitives.c"
INCLUDE = Path(pvfast.core.__file__).parent
CASES = 4000
SINGLES = np.array([
    0, 1 << 31, 0x3F800000, 0xBF800000, 0x3F000000, 0x3FC00000, 0xC0200000, 1, 0x80000001, 0x7FFFFF, 0x800000,
    0x80800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F800001, 0xFFBFFFFF,
    0x4F000000, 0xCF000000, 0x4EFFFFFF, 0xCF000001, 0x33800000, 0x1F800000, 0x20000000, 0x5F800001,
    0x3EAAAAAB], dtype=np.uint32)
DOUBLES = np.array([
    0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x3FE << 52, 1, 1 << 63 | 1, (1 << 52) - 1, 1 << 52, 0x8010000000000001,
    0x7FEFFFFFFFFFFFFF, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0xFFF8000000000001, 0x7FF0000000000001,
    0xFFF7FFFFFFFFFFFF, 0x41E << 52, 0xC1E << 52, 0x41DFFFFFFFE00000, 0xC1E00000001FFFFF, 0x47EFFFFFE0000000,
    0x47EFFFFFF0000000, 0x381 << 52, 0x380FFFFFFFFFFFFF, 0x36A << 52, 0x3690000000000001, 0x1FF << 52, 0x200 << 52,
    0x5FF << 52, 0x3FD5555555555555], dtype=np.uint64)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The host's instructions, and C."""
    if platform.machine() != "x86_64":
        pytest.skip(f"{platform.machine()} has no such instructions to compare with")
    folder = tmp_path_factory.mktemp("primitives")
    loaded = []
    for portable in (0, 1):
        target = folder / f"portable{portable}.so"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unused-function", f"-I{INCLUDE}",
                   f"-DPVFAST_PORTABLE_SSE={portable}", "-o", str(target), str(SOURCE), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no gcc")
        library = ctypes.CDLL(str(target))
        library.name_of.restype = ctypes.c_char_p
        loaded.append(library)
    return loaded[0], loaded[1]


def names(library: ctypes.CDLL) -> list[str]:
    found: list[str] = []
    while (name := library.name_of(len(found))) is not None:
        found.append(name.decode())
    return found


def operands(rng: np.random.Generator, doubles: bool) -> np.ndarray:
    """Half of the lanes are numbers where something happens."""
    known = DOUBLES if doubles else SINGLES
    lanes = rng.integers(0, 1 << (8 * known.itemsize), (CASES, 16 // known.itemsize), dtype=known.dtype)
    chosen = rng.random(lanes.shape) < 0.6
    lanes[chosen] = rng.choice(known, int(chosen.sum()))
    return np.ascontiguousarray(lanes).view(np.uint32)


def run(library: ctypes.CDLL, number: int, mxcsr: np.ndarray, a: np.ndarray,
        b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    result, flags = a.copy(), mxcsr.copy()
    library.run(number, CASES, *(array.ctypes.data_as(ctypes.c_void_p) for array in (flags, result, a, b)))
    return result, flags


def test_equal(libraries: tuple[ctypes.CDLL, ctypes.CDLL]) -> None:
    """Results and flags, in all rounding modes, with DAZ and FTZ; RCPPS and RSQRTPS within their 12 bits."""
    rng = np.random.default_rng(11)
    tried = names(libraries[0])
    assert len(tried) == len(set(tried)) > 80
    different = []
    for number, name in enumerate(tried):
        doubles = name.startswith(("cvtpd", "cvtsd", "cvttpd", "cvttsd", "comisd", "ucomisd")) or (
            name.endswith(("pd", "sd")) and not name.startswith("cvt"))
        a, b = operands(rng, doubles), operands(rng, doubles)
        rounding, daz, ftz = (rng.integers(0, values, CASES) << place for values, place in ((4, 13), (2, 6), (2, 15)))
        mxcsr = (0x1F80 | rounding | daz | ftz).astype(np.uint32)
        (first, flags), (second, others) = (run(library, number, mxcsr, a, b) for library in libraries)
        if name.startswith(("rcp", "rsqrt")):
            x, y = first.view(np.float32), second.view(np.float32)
            with np.errstate(all="ignore"):
                near = (np.abs(x - y) <= np.abs(y) * 1.5 * 2.0 ** -12) | (x == y) | (np.isnan(x) & (first == second))
            equal = near.all(axis=1) & (flags == others)
        else:
            lanes = 1 if "2si" in name or "comis" in name else 4
            equal = (first == second)[:, :lanes].all(axis=1) & (flags == others)
        if not equal.all():
            i = int(np.flatnonzero(~equal)[0])
            different.append(f"{name}: {int((~equal).sum())} of {CASES}, e.g. mxcsr {mxcsr[i]:x}, "
                             + ", ".join("_".join(f"{lane:08x}" for lane in v[i][::-1]) for v in (a, b, first, second))
                             + f", flags {flags[i]:x} {others[i]:x}")
    assert not different, "\n".join(different)
