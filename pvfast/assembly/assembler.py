"""The assembler's entrance: AT&T text and addresses go in, bytes and label addresses come out.

`assemble` is for a few instructions at one address; `Assembler` takes several ``.S`` texts with sections and
links them to base addresses. 32-bit code only. The stages: ``macros.py``, ``source.py``, ``layout.py``,
``encoder.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from pvfast.assembly.layout import Layout
from pvfast.assembly.source import Source
from pvfast.errors import AssemblyError

_NO_SYMBOLS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Assembly:
    """What `assemble` made: `code` for the linear `address`, and the `labels` defined in it."""

    code: bytes
    labels: Mapping[str, int]
    address: int


@dataclass(frozen=True, slots=True)
class AssembledSection:
    """One section of a `Program`: its `name`, its linear `address` and its `code` (or data)."""

    name: str
    address: int
    code: bytes

    @property
    def end(self) -> int:
        """Linear address behind the last byte."""
        return self.address + len(self.code)


@dataclass(frozen=True, slots=True)
class Program:
    """What `Assembler.link` made: `sections` by name and the addresses of all `labels`."""

    sections: Mapping[str, AssembledSection]
    labels: Mapping[str, int]


class Assembler:
    """Assembles several ``.S`` texts into sections at given addresses.

    Labels, constants and macros are shared by all texts. For each section ``.name`` the labels
    ``__start_name`` and ``__stop_name`` bound it, as a linker script would.

    Parameters
    ----------
    symbols : mapping of str to int, optional
        Constants the texts may use, replaced on word boundaries; a constant takes the shortest encoding.

    Examples
    --------
    >>> assembler = Assembler({"IRQ_DISABLE": 0xC0400068})
    >>> assembler.add('''
    ... 1:  call *IRQ_DISABLE
    ...     .pushsection .parainstructions
    ...     .long 1b
    ...     .popsection
    ...     ret
    ... ''', "example.S")
    >>> program = assembler.link({".text": 0xC0100000, ".parainstructions": 0xC0200000})
    >>> program.sections[".text"].code.hex()
    'ff15680040c0c3'
    >>> program.sections[".parainstructions"].code.hex()
    '000010c0'
    >>> hex(program.labels["__stop_parainstructions"])
    '0xc0200004'
    """

    def __init__(self, symbols: Mapping[str, int] = _NO_SYMBOLS) -> None:
        self._source = Source(symbols)

    def add(self, source: str, file: str = "<source>") -> None:
        """Read one text.

        Parameters
        ----------
        source : str
            AT&T assembly as GNU as reads it.
        file : str, optional
            The name used in errors.

        Raises
        ------
        AssemblyError
            With ``file``, ``line`` and ``text``.
        """
        self._source.read(source, file)

    def link(self, layout: Mapping[str, int | None]) -> Program:
        """Give every section its address and make the bytes.

        Parameters
        ----------
        layout : mapping of str to (int or None)
            Linear base address per section, in memory order; None puts a section behind the one before it.

        Returns
        -------
        Program

        Raises
        ------
        AssemblyError
            A section has contents and no address, sections overlap, a symbol is undefined, an instruction is
            wrong.
        """
        used = {name: section for name, section in self._source.sections.items() if section.statements}
        missing = sorted(set(used) - set(layout))
        if missing:
            raise AssemblyError(f"no address for section {', '.join(missing)}: name it in the layout")
        present = {name: address for name, address in layout.items() if name in used}
        placed = Layout(self._source, present)
        sections = {
            name: AssembledSection(name, placed.bases[name], placed.section_code(name)) for name in present
        }
        _check_overlap(sections)
        labels = {name: address for name, address in placed.labels.items() if not name.startswith(".L")}
        return Program(MappingProxyType(sections), MappingProxyType(labels))


def assemble(source: str, address: int = 0, symbols: Mapping[str, int] = _NO_SYMBOLS) -> Assembly:
    """Assemble 32-bit AT&T text that has no sections of its own.

    Parameters
    ----------
    source : str
        Instructions and data; decimal numbers are decimal.
    address : int, optional
        Linear address of the first byte.
    symbols : mapping of str to int, optional
        Constants the text may use.

    Returns
    -------
    Assembly

    Raises
    ------
    AssemblyError
        Says file, line, reason and statement, and holds them as ``file``, ``line`` and ``text``.

    Examples
    --------
    >>> assemble("again: decl %ecx; jnz again; int $128", 0x1000).code.hex(" ")
    '49 75 fd cd 80'
    """
    assembler = Assembler(symbols)
    assembler.add(source)
    program = assembler.link({".text": address})
    text = program.sections.get(".text")
    return Assembly(text.code if text else b"", program.labels, address)


def _check_overlap(sections: Mapping[str, AssembledSection]) -> None:
    filled = [section for section in sections.values() if section.code]
    filled.sort(key=lambda section: section.address)
    for lower, upper in pairwise(filled):
        if lower.end > upper.address:
            raise AssemblyError(f"section {lower.name} ends at {lower.end:#x}, inside {upper.name} which "
                                f"starts at {upper.address:#x}: move one of them in the layout")
