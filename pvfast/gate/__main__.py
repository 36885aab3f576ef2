"""``python -m pvfast.gate BEFORE AFTER``: exit status 0 when two baseline files hold the same figures, else 1."""

import sys

from pvfast.gate.baseline import BaselineError, read_baseline
from pvfast.gate.check import compare


def main(arguments: list[str]) -> int:
    """Print what differs; the exit status says whether anything does (2: the files could not be compared)."""
    if len(arguments) != 2:
        print("usage: python -m pvfast.gate BEFORE AFTER", file=sys.stderr)
        return 2
    try:
        before, after = map(read_baseline, arguments)
    except BaselineError as error:
        print(error, file=sys.stderr)
        return 2
    comparison = compare(before, after)
    for line in comparison.lines():
        print(line)
    print(f"{len(before)} points before, {len(after)} after: {'the same' if comparison.same else 'different'}")
    return 0 if comparison.same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
