"""Symbols: a kernel image enters, the names and addresses of its own kallsyms table leave.

Kernels carry their function names in a packed table, for oopses; ``vmlinux-to-elf`` finds and unpacks it. Next:
``pvfast/paravirt/linux``, which knows what the names mean.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from pvfast.images.kernel import KernelImage

#: Of sections; the parts of the table are aligned to words.
_ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class Symbols:
    """A kernel's symbols, both ways.

    Attributes
    ----------
    addresses : mapping of str to int
        Linear address by name; the first one where several functions have one name.
    names : mapping of int to tuple of str
        Every name of a linear address, in table order.

    Examples
    --------
    >>> Symbols.of([("native_clts", 0xC0100000), ("alias", 0xC0100000)]).names[0xC0100000]
    ('native_clts', 'alias')
    """

    addresses: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, pairs: list[tuple[str, int]]) -> "Symbols":
        """From (name, linear address) pairs."""
        addresses: dict[str, int] = {}
        names: dict[int, tuple[str, ...]] = {}
        for name, address in pairs:
            addresses.setdefault(name, address)
            names[address] = (*names.get(address, ()), name)
        return cls(MappingProxyType(addresses), MappingProxyType(names))

    def __bool__(self) -> bool:
        return bool(self.addresses)


@lru_cache(maxsize=4)
def read_kallsyms(image: KernelImage) -> Symbols:
    """Read the symbols that a kernel has in itself.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    Symbols
        Empty when the kernel was built without CONFIG_KALLSYMS, or its table cannot be read.
    """
    from vmlinux_to_elf.core.kallsyms import KallsymsFinder  # slow to load, and seldom needed

    class Finder(KallsymsFinder):   # type: ignore[misc]
        """The search, told what the ELF header says rather than guessing it from all code."""

        def guess_architecture(self) -> None:
            self.is_big_endian = False

    with _quiet():
        try:
            found = Finder(_tables(image), image.bits).symbols
            return Symbols.of([(str(symbol.name), int(symbol.virtual_address)) for symbol in found])
        except Exception:  # a search by heuristics: whatever it stumbles over, there are no names
            return Symbols()


def _tables(image: KernelImage) -> bytes:
    """The part of the image that holds the table, behind the banner, which tells the search its format."""
    section = image.section(".rodata")
    if section is None or section.offset is None or image.banner is None:
        return image.data
    banner = image.banner.encode("latin-1") + b"\0"
    before = banner.ljust(-(-len(banner) // _ALIGNMENT) * _ALIGNMENT, b"\0")
    return before + image.data[section.offset:section.offset + section.size]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The finder reports every guess it makes on standard output and the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
