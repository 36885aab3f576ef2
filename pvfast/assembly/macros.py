r"""Text before statements: comments, ``.macro``, ``.rept``, ``.irp``, ``.if`` go in, plain lines come out.

The part of GNU as's preprocessor that hand-written kernel code uses. Arguments are substituted as text
(``\name``), ``\@`` counts expansions, defaults are ``name=value``. Conditions may use only constants that
are known by then. Next: ``source.py``, which reads the lines.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from pvfast.assembly.expressions import parse
from pvfast.assembly.statements import Line

NumberedLine = tuple[int, str]

_DEPTH_MAX = 100
_REPEAT_MAX = 1 << 16
_LINES_MAX = 1 << 18
_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|(?:#|//)[^\n]*', re.DOTALL)
_OPENERS = {".macro": ".endm", ".rept": ".endr", ".irp": ".endr", ".if": ".endif"}
_CLOSERS = frozenset(_OPENERS.values())


def strip_comments(text: str) -> str:
    r"""Remove ``#``, ``//`` and ``/* */`` comments; line numbers stay.

    Examples
    --------
    >>> strip_comments('cli # now' + chr(10) + '.ascii "#1" /* kept */')
    'cli \n.ascii "#1" '
    """
    return _COMMENT.sub(lambda match: match[0] if match[0][0] == '"' else "\n" * match[0].count("\n"), text)


def split_statements(text: str) -> list[str]:
    """Split a line at its semicolons, strings left whole; empty statements are dropped."""
    return [part for part in _split(text, ";", nested=False) if part.strip()]


def split_arguments(text: str) -> list[str]:
    """Split operands at commas outside parentheses and strings.

    Examples
    --------
    >>> split_arguments('$4, 8(%eax,%ecx,4)')
    ['$4', '8(%eax,%ecx,4)']
    """
    return [part.strip() for part in _split(text, ",", nested=True)] if text.strip() else []


def _split(text: str, separator: str, nested: bool) -> Iterator[str]:
    start = depth = 0
    quoted = False
    for position, character in enumerate(text):
        if character == '"' and (position == 0 or text[position - 1] != "\\"):
            quoted = not quoted
        elif quoted:
            continue
        elif nested and character in "()":
            depth += 1 if character == "(" else -1
        elif character == separator and not depth:
            yield text[start:position]
            start = position + 1
    yield text[start:]


class Expander:
    r"""Expands the repeated and conditional text of one assembly; macros stay known between files.

    Parameters
    ----------
    constant : callable
        From a name to the value of a constant; KeyError when it is not known yet.

    Examples
    --------
    >>> text = [".macro save a, b=%edx", "push \\a", "push \\b", ".endm", "save %ecx"]
    >>> [line for _, line in Expander({}.__getitem__).expand(enumerate(text, 1), "example.S")]
    ['push %ecx', 'push %edx']
    """

    def __init__(self, constant: Callable[[str], int]) -> None:
        self._constant = constant
        self._macros: dict[str, tuple[list[tuple[str, str | None]], list[str]]] = {}
        self._count = 0
        self._lines = 0

    def expand(self, lines: Iterable[NumberedLine], file: str, depth: int = 0) -> Iterator[NumberedLine]:
        """Yield plain lines; a line that a macro made carries the number of the line that called it."""
        source = iter(lines)
        for number, text in source:
            for statement in split_statements(text) if ";" in text else [text]:
                yield from self._one(number, statement, source, file, depth)

    def _one(
        self, number: int, text: str, source: Iterator[NumberedLine], file: str, depth: int
    ) -> Iterator[NumberedLine]:
        word, _, rest = text.strip().replace("\t", " ").partition(" ")
        rest = rest.strip()
        line = Line(file, number, text.strip())
        if depth > _DEPTH_MAX:
            raise line.error("macros are nested too deeply: one of them probably calls itself")
        opener = ".if" if word in (".ifdef", ".ifndef") else word
        if opener in _OPENERS:
            body = _body(source, opener, line)
            try:
                result = self._block(line, word, rest, body)
                self._spend(len(result))
            except ValueError as reason:
                raise line.error(str(reason)) from None
            yield from self.expand(result, file, depth + 1)
        elif word in self._macros:
            try:
                content = self._call(word, rest)
                self._spend(len(content))
            except ValueError as reason:
                raise line.error(str(reason)) from None
            yield from self.expand(((number, made) for made in content), file, depth + 1)
        elif word in _CLOSERS or word in (".else", ".exitm"):
            raise line.error(f"{word} without its opening directive")
        elif ":" in word and rest.split(" ")[0] in self._macros:
            yield number, word
            yield from self._one(number, rest, source, file, depth)
        else:
            yield number, text

    def _spend(self, lines: int) -> None:
        self._lines += lines
        if self._lines > _LINES_MAX:
            raise ValueError(f"macros and repetitions make more than {_LINES_MAX} lines")

    def _block(self, line: Line, word: str, rest: str, body: list[NumberedLine]) -> list[NumberedLine]:
        if word in (".macro", ".irp") and not rest:
            raise ValueError(f"{word}: a name is missing")
        if word == ".macro":
            name, *parameters = re.split(r"[\s,]+", rest)
            pairs = [parameter.partition("=") for parameter in parameters if parameter]
            self._macros[name] = ([(key, value if equals else None) for key, equals, value in pairs],
                                  [text for _, text in body])
            return []
        if word == ".rept":
            count = parse(rest).value(self._value)
            if not 0 <= count <= _REPEAT_MAX:
                raise ValueError(f"{count} repetitions are outside 0..{_REPEAT_MAX}")
            return body * count
        if word == ".irp":
            name, *values = [argument for argument in re.split(r"[\s,]+", rest) if argument]
            return [(number, _substitute(text, {name: value})) for value in values for number, text in body]
        return _branch(body, self._condition(word, rest))

    def _condition(self, word: str, rest: str) -> bool:
        if word == ".if":
            return bool(parse(rest).value(self._value))
        try:
            self._constant(rest)
        except KeyError:
            return word == ".ifndef"
        return word == ".ifdef"

    def _value(self, name: str) -> int:
        try:
            return self._constant(name)
        except KeyError:
            raise ValueError(f"{name} has to be known here") from None

    def _call(self, name: str, rest: str) -> list[str]:
        parameters, body = self._macros[name]
        given = split_arguments(rest)
        named = dict(parameters)
        positional = iter(parameters)
        for argument in given:
            key, equals, value = argument.partition("=")
            if equals and key.strip() in named:
                named[key.strip()] = value.strip()
                continue
            try:
                named[next(positional)[0]] = argument
            except StopIteration:
                raise ValueError(f"{name} takes {len(parameters)} arguments, not {len(given)}") from None
        self._count += 1
        values = {key: value or "" for key, value in named.items()}
        return [_substitute(text, values).replace("\\@", str(self._count)) for text in body]


def _body(source: Iterator[NumberedLine], opener: str, line: Line) -> list[NumberedLine]:
    body: list[NumberedLine] = []
    pending = [_OPENERS[opener]]
    for number, text in source:
        word = text.split()[0] if text.split() else ""
        if word in (".ifdef", ".ifndef"):
            word = ".if"
        if word == pending[-1]:
            pending.pop()
            if not pending:
                return body
        elif word in _OPENERS:
            pending.append(_OPENERS[word])
        body.append((number, text))
    raise line.error(f"{pending[-1]} is missing")


def _branch(body: list[NumberedLine], condition: bool) -> list[NumberedLine]:
    depth = 0
    for index, (_, text) in enumerate(body):
        word = text.split()[0] if text.split() else ""
        depth += word in (".if", ".ifdef", ".ifndef")
        depth -= word == ".endif"
        if word == ".else" and not depth:
            return body[:index] if condition else body[index + 1:]
    return body if condition else []


def _substitute(text: str, values: dict[str, str]) -> str:
    replaced = re.sub(r"\\([A-Za-z_]\w*)", lambda match: values.get(match[1], match[0]), text)
    return replaced.replace("\\()", "")
