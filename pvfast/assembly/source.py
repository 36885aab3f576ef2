"""Reading AT&T assembly: the text of a ``.S`` file goes in, statements sorted into sections come out.

Everything that the encoder (keystone) does not do, or does wrong, is done here: comments, ``;``, macros,
``.rept``, conditionals, numeric labels, sections, data, alignment. Nothing here knows an address. Next:
``layout.py``, which gives the statements addresses; ``macros.py`` holds the expansion of repeated text.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from pvfast.assembly.expressions import SYMBOL, Expression, parse
from pvfast.assembly.macros import Expander, split_arguments, split_statements, strip_comments
from pvfast.assembly.statements import (
    Align,
    Data,
    Instruction,
    Label,
    Line,
    Operand,
    Section,
    Space,
    Statement,
)

PREFIXES = {
    "lock": 0xF0, "rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2,
    "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "es": 0x26, "fs": 0x64, "gs": 0x65,
}

#: Directives that matter to a linker or a debugger and change no byte here.
_IGNORED = frozenset((
    ".globl", ".global", ".local", ".weak", ".hidden", ".type", ".size", ".file", ".ident", ".code32",
    ".att_syntax", ".arch", ".loc", ".cfi_startproc", ".cfi_endproc",
))
_WIDTHS = {".byte": 1, ".word": 2, ".short": 2, ".value": 2, ".hword": 2, ".long": 4, ".int": 4, ".quad": 8}
_NEED_ARGUMENT = frozenset((".balign", ".align", ".p2align", ".space", ".skip", ".zero", ".fill"))
_LABEL = re.compile(rf"\s*({SYMBOL}|\d+):(?!:)\s*")
_ASSIGNMENT = re.compile(rf"({SYMBOL})\s*=(?!=)\s*(.+)")
_LOCAL = re.compile(r"(?<![\w.$'])(\d+)([bf])(?![\w.$])")
_DOT = re.compile(r"(?<![\w.$'\\])\.(?![\w.$])")
_MEMORY = re.compile(r"\(\s*(?:%|,\s*%)[^()]*\)$")
_BEFORE = re.compile(r"\*?\s*(?:%[c-gs]s\s*:)?\s*\$?")
_REGISTER = re.compile(r"\*?\s*%(?:st\(\d\)|\w+)$")
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


class Source:
    """What several ``.S`` texts amount to: sections of statements, and assembly-time constants.

    Parameters
    ----------
    symbols : mapping of str to int, optional
        Constants that the text may use; a constant takes the shortest encoding, a label always four bytes.

    Examples
    --------
    >>> source = Source({"IF": 0x200})
    >>> source.read("start: testl $IF, %eax", "example.S")
    >>> [type(statement).__name__ for statement in source.sections[".text"].statements]
    ['Label', 'Instruction']
    """

    def __init__(self, symbols: Mapping[str, int] | None = None) -> None:
        self.sections: dict[str, Section] = {}
        self.constants: dict[str, Expression] = {
            name: parse(str(value)) for name, value in (symbols or {}).items()
        }
        self.labels: dict[str, Line] = {}
        self._macros = Expander(self.constant)
        self._numeric: dict[int, int] = {}
        self._forward: dict[str, Line] = {}
        self._stack: list[Section] = []
        self._previous: Section | None = None
        self._section = self._enter(".text")
        self._prefixes: tuple[str, ...] = ()
        self._dots = 0

    def read(self, text: str, file: str = "<source>") -> None:
        """Read one ``.S`` text; sections, constants, macros and labels are shared by all texts read.

        Raises
        ------
        AssemblyError
            Names file, line and statement.
        """
        self._section = self._enter(".text")
        line = Line(file, 0, "")
        for number, content in self._macros.expand(enumerate(strip_comments(text).split("\n"), 1), file):
            for statement in split_statements(content):
                line = Line(file, number, statement.strip())
                try:
                    self._statement(line, statement.strip())
                except ValueError as reason:
                    raise line.error(str(reason)) from None
        if self._prefixes:
            raise line.error("a prefix stands without its instruction")
        if self._stack:
            raise line.error(".popsection is missing at the end of the file")
        for name, at in self._forward.items():
            if name not in self.labels:
                raise at.error(f"no numeric label {name.split('_')[1]}: follows")
        self._forward.clear()
        self._numeric.clear()

    def constant(self, name: str) -> int:
        """Value of a constant known without any address; KeyError when `name` is none."""
        try:
            return self.constants[name].value(self.constant)
        except RecursionError:
            raise ValueError(f"{name} is defined by itself") from None

    # -- statements --------------------------------------------------------------------------------

    def _statement(self, line: Line, text: str) -> None:
        while match := _LABEL.match(text):
            self._label(line, match[1])
            text = text[match.end():]
        if not text:
            return
        if match := _ASSIGNMENT.fullmatch(text):
            self._equate(line, match[1], match[2])
            return
        mnemonic, _, rest = text.replace("\t", " ").partition(" ")
        mnemonic, rest = mnemonic.lower(), rest.strip()
        if mnemonic in PREFIXES:
            self._prefixes = (*self._prefixes, mnemonic)
            self._statement(line, rest)
        elif mnemonic.startswith("."):
            self._directive(line, mnemonic, rest)
        else:
            operands = tuple(self._operand(line, operand) for operand in split_arguments(rest))
            self._emit(Instruction(line, self._prefixes, mnemonic, operands))
            self._prefixes = ()

    def _emit(self, statement: Statement) -> None:
        self._section.statements.append(statement)

    def _label(self, line: Line, name: str) -> None:
        if name.isdigit():
            self._numeric[int(name)] = self._numeric.get(int(name), 0) + 1
            name = _numeric_name(line.file, int(name), self._numeric[int(name)])
        if name in self.labels or name in self.constants:
            raise ValueError(f"{name} is defined twice")
        self.labels[name] = line
        self._emit(Label(line, name))

    def _operand(self, line: Line, text: str) -> Operand:
        if _REGISTER.fullmatch(text):
            return Operand(text.replace(" ", ""))
        match = _MEMORY.search(text)
        after = match[0] if match else ""
        head = text[:len(text) - len(after)]
        start = _BEFORE.match(head)
        before = start[0] if start else ""
        expression = head[len(before):].strip()
        return Operand(before, self._expression(line, expression) if expression else None, after)

    def _expression(self, line: Line, text: str) -> Expression:
        if "'" not in text:
            text = _LOCAL.sub(lambda match: self._numeric_reference(line, int(match[1]), match[2]), text)
            if _DOT.search(text):
                here = f".Lhere_{self._dots}"
                self._dots += 1
                self._label(line, here)
                text = _DOT.sub(here, text)
        return parse(text)

    def _numeric_reference(self, line: Line, number: int, direction: str) -> str:
        seen = self._numeric.get(number, 0)
        if direction == "b":
            if not seen:
                raise ValueError(f"no numeric label {number}: stands before")
            return _numeric_name(line.file, number, seen)
        name = _numeric_name(line.file, number, seen + 1)
        self._forward.setdefault(name, line)
        return name

    # -- directives --------------------------------------------------------------------------------

    def _directive(self, line: Line, name: str, rest: str) -> None:
        if name in _IGNORED:
            return
        arguments = split_arguments(rest)
        if name in _WIDTHS:
            for argument in arguments:
                value = self._expression(line, argument)
                self._emit(Data(line, _WIDTHS[name], (value,)))
        elif handler := _DIRECTIVES.get(name):
            if not arguments and name in _NEED_ARGUMENT:
                raise ValueError(f"{name} needs an argument")
            handler(self, line, arguments)
        else:
            raise ValueError(f"unknown directive {name}")

    def _equate(self, line: Line, name: str, text: str) -> None:
        if name in self.constants or name in self.labels:
            raise ValueError(f"{name} is defined twice")
        self.constants[name] = self._expression(line, text)

    def _enter(self, name: str) -> Section:
        self._previous = getattr(self, "_section", None)
        return self.sections.setdefault(name, Section(name))

    def _do_section(self, line: Line, arguments: list[str]) -> None:
        self._section = self._enter(_name(arguments))

    def _do_pushsection(self, line: Line, arguments: list[str]) -> None:
        self._stack.append(self._section)
        self._section = self._enter(_name(arguments))

    def _do_popsection(self, line: Line, arguments: list[str]) -> None:
        if not self._stack:
            raise ValueError(".popsection without .pushsection")
        self._section = self._stack.pop()

    def _do_previous(self, line: Line, arguments: list[str]) -> None:
        if self._previous is None:
            raise ValueError(".previous without an earlier section")
        self._section, self._previous = self._previous, self._section

    def _do_text(self, line: Line, arguments: list[str]) -> None:
        self._section = self._enter(line.text.split()[0])

    def _do_balign(self, line: Line, arguments: list[str]) -> None:
        self._align(line, parse(arguments[0]).value(self._known), arguments)

    def _do_p2align(self, line: Line, arguments: list[str]) -> None:
        self._align(line, 1 << parse(arguments[0]).value(self._known), arguments)

    def _align(self, line: Line, boundary: int, arguments: list[str]) -> None:
        if boundary < 1 or boundary & (boundary - 1):
            raise ValueError(f"the alignment {boundary} is no power of two")
        explicit = len(arguments) > 1 and arguments[1]
        fill = parse(arguments[1]).value(self._known) if explicit else None
        self._emit(Align(line, boundary, fill))

    def _do_ascii(self, line: Line, arguments: list[str], end: bytes = b"") -> None:
        content = b"".join(_string(argument) + end for argument in arguments)
        self._emit(Data(line, 1, tuple(parse(str(byte)) for byte in content)))

    def _do_asciz(self, line: Line, arguments: list[str]) -> None:
        self._do_ascii(line, arguments, b"\0")

    def _do_space(self, line: Line, arguments: list[str]) -> None:
        value = arguments[1] if len(arguments) > 1 else "0"
        self._emit(Space(line, self._expression(line, arguments[0]), 1, self._expression(line, value)))

    def _do_fill(self, line: Line, arguments: list[str]) -> None:
        _, size, value = (*arguments, "1", "0")[:3] if len(arguments) == 1 else (*arguments, "0")[:3]
        width = parse(size).value(self._known)
        if not 1 <= width <= 8:
            raise ValueError(f".fill of {width}-byte units: one to eight are possible")
        self._emit(Space(line, self._expression(line, arguments[0]), width, self._expression(line, value)))

    def _do_equ(self, line: Line, arguments: list[str]) -> None:
        if len(arguments) != 2:
            raise ValueError(".equ needs a name and a value")
        self._equate(line, *arguments)

    def _known(self, name: str) -> int:
        try:
            return self.constant(name)
        except KeyError:
            raise ValueError(f"{name} has to be known here") from None


_DIRECTIVES: dict[str, Callable[[Source, Line, list[str]], None]] = {
    ".section": Source._do_section,
    ".pushsection": Source._do_pushsection,
    ".popsection": Source._do_popsection,
    ".previous": Source._do_previous,
    ".text": Source._do_text,
    ".data": Source._do_text,
    ".bss": Source._do_text,
    ".balign": Source._do_balign,
    ".align": Source._do_balign,
    ".p2align": Source._do_p2align,
    ".ascii": Source._do_ascii,
    ".asciz": Source._do_asciz,
    ".string": Source._do_asciz,
    ".space": Source._do_space,
    ".skip": Source._do_space,
    ".zero": Source._do_space,
    ".fill": Source._do_fill,
    ".equ": Source._do_equ,
    ".set": Source._do_equ,
}


def _numeric_name(file: str, number: int, count: int) -> str:
    return f".L_{number}_{count}_{re.sub(r'[^0-9A-Za-z]', '_', file)}"


def _name(arguments: Iterable[str]) -> str:
    for name in arguments:
        return name.strip('"')
    raise ValueError("the name of the section is missing")


def _string(text: str) -> bytes:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError(f"{text} is no quoted string")
    return _ESCAPE.sub(_unescape, text[1:-1].encode())


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes((int(match[1], 8) & 0xFF,))
    return bytes((int(match[2], 16),)) if match[2] else _ESCAPED.get(match[3], match[3])
