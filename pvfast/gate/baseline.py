"""A baseline: named integers in a versioned JSON file, sorted, so that equal figures are equal bytes.

Enters: a mapping of point names to integers. Leaves: a file that is replaced whole or not at all, and the mapping
read back from it. Next: check.py, which compares two of them.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pvfast.errors import PvfastError

#: Of the file's layout; a file of another one is refused.
VERSION = 1
_KIND = "pvfast baseline"


class BaselineError(PvfastError, ValueError):
    """A baseline file cannot be read, or a figure has no place in one."""


def write_baseline(path: str | Path, points: Mapping[str, int]) -> None:
    """Write a baseline, atomically: a reader sees the old file or the new one.

    Parameters
    ----------
    path : str or Path
        In a folder that exists.
    points : mapping of str to int
        Deterministic figures by name. Names are free; slashes group them.

    Raises
    ------
    BaselineError
        A figure is not an integer.

    Examples
    --------
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "baseline.json")
    >>> write_baseline(path, {"native/irq_disable/patched/cycles": 9})
    >>> read_baseline(path)
    {'native/irq_disable/patched/cycles': 9}
    >>> folder.cleanup()
    """
    path = Path(path)
    for name, value in points.items():
        _check_point(path, name, value)
    content = {"kind": _KIND, "version": VERSION, "points": dict(points)}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_baseline(path: str | Path) -> dict[str, int]:
    """Read a baseline.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict of str to int
        Sorted by name.

    Raises
    ------
    BaselineError
        The file is missing, is no baseline, has another version, or holds something else than integers.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise BaselineError(f"{path}: {error.strerror}; write a baseline first") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: not a baseline: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise BaselineError(f"{path}: not a baseline: its kind is not {_KIND!r}")
    if content.get("version") != VERSION:
        raise BaselineError(f"{path}: version {content.get('version')!r}, and this pvfast reads {VERSION}: "
                            "write it anew")
    points = content.get("points")
    if not isinstance(points, dict):
        raise BaselineError(f"{path}: not a baseline: it has no points")
    for name, value in points.items():
        _check_point(path, name, value)
    return dict(sorted(points.items()))


def _check_point(path: str | Path, name: Any, value: Any) -> None:
    if not isinstance(name, str) or type(value) is not int:
        raise BaselineError(f"{path}: {name!r} is {value!r}: points are integers by name, equal on every run")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found
