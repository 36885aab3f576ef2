"""Addresses and bytes: sections of statements and base addresses go in, code and label addresses come out.

Every jump starts in its short form and grows when its target is too far, until nothing changes (as GNU as
does), so the result is deterministic. Operands that depend on a label always take four bytes: their sizes
never move. Next: ``assembler.py``, the public entrance; ``encoder.py`` makes the bytes of single
instructions.
"""

from dataclasses import dataclass

from pvfast.assembly.encoder import BRANCHES, FAR_TRANSFERS, encode, prefix_problem
from pvfast.assembly.expressions import Expression
from pvfast.assembly.nops import nops
from pvfast.assembly.source import PREFIXES, Source
from pvfast.assembly.statements import Align, Data, Instruction, Label, Line, Operand, Section, Space
from pvfast.errors import AssemblyError

_ADDRESS_BITS = 32
_ADDRESS_MASK = (1 << _ADDRESS_BITS) - 1

_SECTION_BYTES_MAX = 1 << 28

#: Stand-ins for label-dependent values: numbers that no operand is likely to hold, found again in the bytes.
_STAND_INS = (0x5A3C961E, 0x69C3A51D)


@dataclass(slots=True)
class _Fixed:
    """Bytes whose size is settled; each fixup is (offset, width, expression)."""

    line: Line
    code: bytes
    fixups: tuple[tuple[int, int, Expression], ...] = ()


@dataclass(slots=True)
class _Branch:
    """A relative jump or call: opcodes of both forms, and which is used now."""

    line: Line
    prefix: bytes
    short: bytes | None
    long: bytes | None
    target: Expression
    is_long: bool

    @property
    def size(self) -> int:
        opcode, width = (self.long, 4) if self.is_long else (self.short, 1)
        return len(self.prefix) + len(opcode or b"") + width


_Piece = _Fixed | _Branch | Align | Space | Label


class Layout:
    """Lays out what a `Source` holds.

    Parameters
    ----------
    source : Source
    addresses : dict of str to (int or None)
        Linear base address of each section; None continues behind the section before it.
    """

    def __init__(self, source: Source, addresses: dict[str, int | None]) -> None:
        self._source = source
        self._addresses = addresses
        self._bound_names = frozenset(bound for name in addresses for bound in _bounds(name))
        self._pieces = {name: self._encode(source.sections[name]) for name in addresses}
        self.labels: dict[str, int] = {}
        self.bases: dict[str, int] = {}
        self._boundary = {name: _boundary(self._pieces[name]) for name in addresses}
        while self._place():    # ends: jumps only grow, and a .space sees only what stands before it
            pass

    def section_code(self, name: str) -> bytes:
        """Return the finished bytes of a section."""
        code = bytearray()
        is_code = self._source.sections[name].is_code
        base = self.bases[name]
        for piece in self._pieces[name]:
            try:
                code += self._finish(piece, base + len(code), is_code)
            except ValueError as reason:
                raise piece.line.error(str(reason)) from None
            except KeyError as name_error:
                raise piece.line.error(f"undefined symbol {name_error.args[0]}") from None
        return bytes(code)

    def value(self, name: str) -> int:
        """Value of a label or a constant; KeyError when there is none."""
        address = self.labels.get(name)
        if address is not None:
            return address
        constant = self._source.constants.get(name)
        if constant is None:
            raise KeyError(name)
        try:
            return constant.value(self.value)
        except RecursionError:
            raise ValueError(f"{name} is defined by itself") from None

    # -- statements to pieces ----------------------------------------------------------------------

    def _encode(self, section: Section) -> list[_Piece]:
        pieces: list[_Piece] = []
        for statement in section.statements:
            if isinstance(statement, Instruction):
                try:
                    pieces.append(self._instruction(statement))
                except ValueError as reason:
                    raise statement.line.error(str(reason)) from None
            elif isinstance(statement, Data):
                width = statement.width
                fixups = tuple((index * width, width, value) for index, value in enumerate(statement.values))
                pieces.append(_Fixed(statement.line, bytes(width * len(fixups)), fixups))
            else:
                pieces.append(statement)
        return pieces

    def _instruction(self, statement: Instruction) -> _Fixed | _Branch:
        operands, mnemonic = statement.operands, statement.mnemonic
        texts: list[str] = []
        pending: list[tuple[int, Expression]] = []
        for operand in operands:
            texts.append(self._text(operand, pending))
        for name in statement.prefixes:
            problem = prefix_problem(name, mnemonic, tuple(texts))
            if problem:
                raise ValueError(problem)
        prefix = bytes(PREFIXES[name] for name in statement.prefixes)
        target = operands[0].expression if len(operands) == 1 and operands[0].is_target else None
        if mnemonic in BRANCHES and target is not None:
            short, long = BRANCHES[mnemonic]
            return _Branch(statement.line, prefix, short, long, target, is_long=short is None)
        if mnemonic in FAR_TRANSFERS and len(operands) == 2:
            return self._far(statement, prefix)
        try:
            code = prefix + encode(mnemonic, tuple(texts))
        except ValueError as reason:
            hint = "with a 32-bit operand for each label: " if pending else ""
            raise ValueError(f"{hint}{reason}") from None
        fixups = tuple(_find(code, stand_in, expression) for stand_in, expression in pending)
        return _Fixed(statement.line, code, fixups)

    def _text(self, operand: Operand, pending: list[tuple[int, Expression]]) -> str:
        expression = operand.expression
        if expression is None:
            return f"{operand.before}{operand.after}"
        try:
            value = expression.value(self._source.constant)
        except KeyError:
            for name in expression.symbols:
                known = (self._source.labels, self._source.constants, self._bound_names)
                if not any(name in names for names in known):
                    raise ValueError(f"undefined symbol {name}") from None
            if len(pending) == len(_STAND_INS):
                raise ValueError("more than two operands depend on labels") from None
            value = _STAND_INS[len(pending)]
            pending.append((value, expression))
        if not -(1 << (_ADDRESS_BITS - 1)) <= value <= _ADDRESS_MASK:
            raise ValueError(f"{value:#x} does not fit {_ADDRESS_BITS} bits")
        return f"{operand.before}{value:#x}{operand.after}"

    def _far(self, statement: Instruction, prefix: bytes) -> _Fixed:
        selector, offset = statement.operands
        if selector.before != "$" or offset.before != "$" or not selector.expression or not offset.expression:
            raise ValueError("a direct far transfer is written `ljmp $selector, $offset`")
        opcode = prefix + FAR_TRANSFERS[statement.mnemonic]
        fixups = ((len(opcode), 4, offset.expression), (len(opcode) + 4, 2, selector.expression))
        return _Fixed(statement.line, opcode + bytes(6), fixups)

    # -- pieces to addresses -----------------------------------------------------------------------

    def _place(self) -> bool:
        """Assign addresses; return whether a jump had to grow, or a label moved."""
        before = dict(self.labels)
        branches: list[tuple[_Branch, int]] = []
        position = 0
        for name, base in self._addresses.items():
            boundary = self._boundary[name]
            position = base if base is not None else -(-position // boundary) * boundary
            self.bases[name] = position
            for piece in self._pieces[name]:
                if isinstance(piece, Label):
                    self.labels[piece.name] = position
                elif isinstance(piece, _Fixed):
                    position += len(piece.code)
                elif isinstance(piece, _Branch):
                    branches.append((piece, position))
                    position += piece.size
                else:
                    position += self._padding(piece, position)
            self._bound(name, position)
            if not 0 <= self.bases[name] <= position <= _ADDRESS_MASK + 1:
                raise AssemblyError(f"section {name} would take {self.bases[name]:#x}..{position:#x}: "
                                    "it has to lie within 32-bit addresses")
            if position - self.bases[name] > _SECTION_BYTES_MAX:
                raise AssemblyError(f"section {name} would take {position - self.bases[name]} bytes: "
                                    f"the limit is {_SECTION_BYTES_MAX}")
        grown = False
        for branch, address in branches:
            grown |= self._grow(branch, address)
        return grown or before != self.labels

    def _bound(self, name: str, end: int) -> None:
        start, stop = _bounds(name)
        self.labels[start] = self.bases[name]
        self.labels[stop] = end

    def _grow(self, branch: _Branch, address: int) -> bool:
        if branch.is_long or branch.long is None:
            return False
        try:
            distance = branch.target.value(self.value) - (address + branch.size)
        except KeyError as name:
            raise branch.line.error(f"undefined symbol {name.args[0]}") from None
        except ValueError as reason:
            raise branch.line.error(str(reason)) from None
        branch.is_long = not -128 <= distance <= 127
        return branch.is_long

    def _padding(self, piece: Align | Space, address: int) -> int:
        if isinstance(piece, Align):
            return -address % piece.boundary
        try:
            count = piece.count.value(self._known_so_far)
        except ValueError as reason:
            raise piece.line.error(str(reason)) from None
        if not 0 <= count * piece.width <= _ADDRESS_MASK:
            raise piece.line.error(f"a space of {count} units is not possible")
        return count * piece.width

    def _known_so_far(self, name: str) -> int:
        try:
            return self.value(name)
        except KeyError:
            raise ValueError(f"{name} has to be known here") from None

    # -- addresses to bytes ------------------------------------------------------------------------

    def _finish(self, piece: _Piece, address: int, is_code: bool) -> bytes:
        if isinstance(piece, Label):
            return b""
        if isinstance(piece, _Fixed):
            return self._fix(piece)
        if isinstance(piece, _Branch):
            return self._branch(piece, address)
        if isinstance(piece, Space):
            return _integer(piece.value.value(self.value), piece.width) * piece.count.value(self.value)
        length = -address % piece.boundary
        if piece.fill is None:
            return nops("generic", length) if is_code else bytes(length)
        return _integer(piece.fill, 1) * length

    def _fix(self, piece: _Fixed) -> bytes:
        if not piece.fixups:
            return piece.code
        code = bytearray(piece.code)
        for offset, width, expression in piece.fixups:
            code[offset:offset + width] = _integer(expression.value(self.value), width)
        return bytes(code)

    def _branch(self, piece: _Branch, address: int) -> bytes:
        distance = piece.target.value(self.value) - (address + piece.size)
        if piece.is_long:
            wrapped = (distance & _ADDRESS_MASK).to_bytes(4, "little")
            return piece.prefix + (piece.long or b"") + wrapped
        if not -128 <= distance <= 127:
            raise ValueError(f"the target is {distance} bytes away and this jump only has a short form")
        return piece.prefix + (piece.short or b"") + distance.to_bytes(1, "little", signed=True)


def _bounds(section: str) -> tuple[str, str]:
    stem = "".join(character if character.isalnum() else "_" for character in section.lstrip("."))
    return f"__start_{stem}", f"__stop_{stem}"


def _boundary(pieces: list[_Piece]) -> int:
    return max((piece.boundary for piece in pieces if isinstance(piece, Align)), default=4)


def _find(code: bytes, stand_in: int, expression: Expression) -> tuple[int, int, Expression]:
    needle = stand_in.to_bytes(4, "little")
    offset = code.find(needle)
    if offset < 0 or code.find(needle, offset + 1) >= 0:
        raise ValueError(f"`{expression.text}` depends on a label and needs a 32-bit operand")
    return offset, 4, expression


def _integer(value: int, width: int) -> bytes:
    bits = 8 * width
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise ValueError(f"{value:#x} does not fit {bits} bits")
    return (value & ((1 << bits) - 1)).to_bytes(width, "little")

