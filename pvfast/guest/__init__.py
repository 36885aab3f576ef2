"""The built-in guest kernel: a small real one, assembled when first used.

`build` makes the image. Read ``head.S``, ``main.S``, ``entry.S`` and ``bench.S`` first; each names the next. `SOURCES`
in ``build.py`` has all files by topic; ``benchmarks.py`` has what is measured in it.
"""

from pvfast.guest.benchmarks import Benchmark
from pvfast.guest.build import GUEST_ERAS, NATIVE_ERAS, SOURCES, build, source_texts
from pvfast.guest.image import GuestImage
from pvfast.guest.notes import XenNotes

__all__ = ["GUEST_ERAS", "NATIVE_ERAS", "SOURCES", "Benchmark", "GuestImage", "XenNotes", "build", "source_texts"]
