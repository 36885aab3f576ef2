"""Constant expressions of AT&T assembly: text goes in, a function of the symbols' values comes out.

Numbers are read as GNU as reads them (decimal, 0x hexadecimal, 0b binary, leading-0 octal, 'c characters),
and the operators bind as in C. Local labels (``1f``) and the dot are renamed by ``source.py`` before they get
here. Next: ``source.py``, which finds the expressions, and ``layout.py``, which knows what the symbols are
worth.
"""

import operator
import re
from collections.abc import Callable
from functools import lru_cache

#: From a symbol's name to its value; raises KeyError for one it does not know.
Resolver = Callable[[str], int]
Evaluator = Callable[[Resolver], int]

SYMBOL = r"[A-Za-z_.][\w.$]*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)(?!\w)|(?P<character>'\\?.'?)|(?P<symbol>{SYMBOL})"
    r"|(?P<operator><<|>>|==|!=|<=|>=|&&|\|\||[-+*/%&|^~!<>()]))"
)

_SHIFT_MAX = 63


def _shift(count: int) -> int:
    if not 0 <= count <= _SHIFT_MAX:
        raise ValueError(f"a shift by {count} is outside 0..{_SHIFT_MAX}")
    return count


_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "||": (1, lambda a, b: int(bool(a) or bool(b))),
    "&&": (2, lambda a, b: int(bool(a) and bool(b))),
    "==": (3, lambda a, b: int(a == b)),
    "!=": (3, lambda a, b: int(a != b)),
    "<": (3, lambda a, b: int(a < b)),
    ">": (3, lambda a, b: int(a > b)),
    "<=": (3, lambda a, b: int(a <= b)),
    ">=": (3, lambda a, b: int(a >= b)),
    "|": (4, operator.or_),
    "^": (5, operator.xor),
    "&": (6, operator.and_),
    "<<": (7, lambda a, b: a << _shift(b)),
    ">>": (7, lambda a, b: a >> _shift(b)),
    "+": (8, operator.add),
    "-": (8, operator.sub),
    "*": (9, operator.mul),
    "/": (9, operator.floordiv),
    "%": (9, operator.mod),
}
_UNARY: dict[str, Callable[[int], int]] = {
    "-": operator.neg, "+": operator.pos, "~": operator.invert, "!": lambda a: int(not a),
}
_ESCAPES = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, "'": 39, '"': 34}


class Expression:
    """One parsed expression.

    Attributes
    ----------
    text : str
        What was parsed.
    symbols : frozenset of str
        The names it mentions; empty when it is a plain number.

    Examples
    --------
    >>> expression = parse("end - start + 0x10")
    >>> sorted(expression.symbols)
    ['end', 'start']
    >>> expression.value({"end": 24, "start": 20}.__getitem__)
    20
    """

    __slots__ = ("symbols", "text", "value")

    def __init__(self, text: str, symbols: frozenset[str], value: Evaluator) -> None:
        self.text = text
        self.symbols = symbols
        self.value = value


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.symbols: set[str] = set()
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text[position:]!r} in the expression {text!r}")
            self.tokens.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
            position = match.end()
        self.tokens.append(("end", ""))
        self.position = 0

    def take(self) -> tuple[str, str]:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def binary(self, lowest: int) -> Evaluator:
        left = self.unary()
        while True:
            kind, text = self.tokens[self.position]
            if kind != "operator" or text not in _BINARY or _BINARY[text][0] < lowest:
                return left
            self.position += 1
            precedence, function = _BINARY[text]
            left = _apply(function, left, self.binary(precedence + 1))

    def unary(self) -> Evaluator:
        kind, text = self.take()
        if kind == "number":
            number = _number(text)
            return lambda resolve: number
        if kind == "character":
            code = _character(text)
            return lambda resolve: code
        if kind == "symbol":
            self.symbols.add(text)
            return lambda resolve: resolve(text)
        if text == "(":
            inner = self.binary(1)
            if self.take()[1] != ")":
                raise ValueError("a closing parenthesis is missing")
            return inner
        if text in _UNARY:
            function, operand = _UNARY[text], self.unary()
            return lambda resolve: function(operand(resolve))
        raise ValueError("a number or a symbol is missing")


def _apply(function: Callable[[int, int], int], left: Evaluator, right: Evaluator) -> Evaluator:
    def value(resolve: Resolver) -> int:
        try:
            return function(left(resolve), right(resolve))
        except ZeroDivisionError:
            raise ValueError("division by zero in an expression") from None

    return value


def _number(text: str) -> int:
    octal = len(text) > 1 and text[0] == "0" and text[1].isdigit()
    return int(text, 8) if octal else int(text, 0)


def _character(text: str) -> int:
    body = text[1:-1] if len(text) > 2 and text.endswith("'") else text[1:]
    return _ESCAPES.get(body[1], ord(body[1])) if body.startswith("\\") and len(body) > 1 else ord(body)


@lru_cache(maxsize=65536)
def parse(text: str) -> Expression:
    """Parse an expression.

    Parameters
    ----------
    text : str
        For example ``"label + 4 * 2"``.

    Returns
    -------
    Expression

    Raises
    ------
    ValueError
        The text is no expression; the caller knows the line and says it.

    Examples
    --------
    >>> parse("(1 << 4) | 010").value({}.__getitem__)
    24
    """
    parser = _Parser(text)
    try:
        value = parser.binary(1)
    except RecursionError:
        raise ValueError("an expression is nested too deeply") from None
    kind, rest = parser.take()
    if kind != "end":
        raise ValueError(f"{rest!r} is left over in the expression {text!r}")
    return Expression(text, frozenset(parser.symbols), value)
