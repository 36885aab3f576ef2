"""The vocabulary between reading assembly and laying it out: one class per kind of statement.

``source.py`` produces these records from text, ``layout.py`` gives them addresses and bytes.
"""

from dataclasses import dataclass, field

from pvfast.assembly.expressions import Expression
from pvfast.errors import AssemblyError


@dataclass(frozen=True, slots=True)
class Line:
    """Where a statement stands: `file`, `number` (from 1) and its `text`."""

    file: str
    number: int
    text: str

    def error(self, reason: str) -> AssemblyError:
        """Make the typed error for this line; the caller raises it.

        Examples
        --------
        >>> str(Line("entry.S", 12, "movl $1").error("an operand is missing"))
        'entry.S:12: an operand is missing: `movl $1`'
        """
        error = AssemblyError(f"{self.file}:{self.number}: {reason}: `{self.text}`")
        error.file, error.line, error.text = self.file, self.number, self.text  # type: ignore[attr-defined]
        return error


@dataclass(frozen=True, slots=True)
class Operand:
    """One AT&T operand: `before` and `after` are kept as they are around the `expression`, if any."""

    before: str
    expression: Expression | None = None
    after: str = ""

    @property
    def is_target(self) -> bool:
        """Whether it is a bare expression, which a jump reads as its target."""
        return self.expression is not None and not self.before and not self.after


@dataclass(slots=True)
class Label:
    """A name for the address of what follows."""

    line: Line
    name: str


@dataclass(slots=True)
class Instruction:
    """A machine instruction, its prefixes taken off."""

    line: Line
    prefixes: tuple[str, ...]
    mnemonic: str
    operands: tuple[Operand, ...]


@dataclass(slots=True)
class Data:
    """Integers of `width` bytes (``.long``), or literal bytes when `width` is 1."""

    line: Line
    width: int
    values: tuple[Expression, ...]


@dataclass(slots=True)
class Space:
    """`count` units of `width` bytes, each holding `value` (``.space``, ``.fill``)."""

    line: Line
    count: Expression
    width: int
    value: Expression


@dataclass(slots=True)
class Align:
    """Padding up to a multiple of `boundary`; `fill` None means NOPs in code and zeros in data."""

    line: Line
    boundary: int
    fill: int | None


Statement = Label | Instruction | Data | Space | Align


@dataclass(slots=True)
class Section:
    """A section as it was read: its statements in order."""

    name: str
    statements: list[Statement] = field(default_factory=list)

    @property
    def is_code(self) -> bool:
        """Whether padding inside it should be executable."""
        return "text" in self.name.split(".") or "text" in self.name
