"""A baseline: a measurement in a versioned JSON file, sorted, so that equal figures are equal bytes.

Enters: a `Measurement`. Leaves: a file that is replaced whole or not at all, and the measurement read back from it.
Next: check.py, which compares two of them.
"""

import json
import os
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

from pvfast.errors import PvfastError
from pvfast.gate.measurement import UNITS, Measurement, Site

#: Of the file's layout; a file of another one is refused.
VERSION = 3
_KIND = "pvfast baseline"


class BaselineError(PvfastError, ValueError):
    """A baseline file cannot be read, or a figure has no place in one."""


def write_baseline(path: str | Path, measurement: Measurement) -> None:
    """Write a baseline, atomically: a reader sees the old file or the new one.

    Parameters
    ----------
    path : str or Path
        In a folder that exists.
    measurement : Measurement

    Raises
    ------
    BaselineError
        A figure is not an integer, or the file cannot be written.

    Examples
    --------
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "baseline.json")
    >>> write_baseline(path, Measurement({"image": "mine"}, {"native/irq_disable/patched/cycles": 9}))
    >>> read_baseline(path).points
    {'native/irq_disable/patched/cycles': 9}
    >>> folder.cleanup()
    """
    path = Path(os.path.realpath(path))     # of a link, what it points to
    if path.exists() and not path.is_file():
        raise BaselineError(f"{path}: not a regular file")
    _check(path, measurement)
    content = {
        "kind": _KIND, "version": VERSION, "units": dict(UNITS), "subject": dict(measurement.subject),
        "points": dict(measurement.points),
        "sites": {row: [astuple(site) for site in sites] for row, sites in measurement.sites.items()},
        "paths": {name: list(path) for name, path in measurement.paths.items()},
        "profiles": {name: dict(profile) for name, profile in measurement.profiles.items()},
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise BaselineError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())      # it is committed: as readable as any other file
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise BaselineError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def read_baseline(path: str | Path) -> Measurement:
    """Read a baseline.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Measurement
        Its points sorted by name.

    Raises
    ------
    BaselineError
        The file is missing, is no baseline, has another version, or holds something else than integers.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise BaselineError(f"{path}: not a regular file")
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise BaselineError(f"{path}: {error.strerror}; `pvfast gate update` writes a baseline") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: not a baseline: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise BaselineError(f"{path}: not a baseline: its kind is not {_KIND!r}")
    if content.get("version") != VERSION:
        raise BaselineError(f"{path}: version {content.get('version')!r}, and this pvfast reads {VERSION}: "
                            "`pvfast gate update` writes it anew")
    try:
        found = Measurement(
            {name: str(value) for name, value in content.get("subject", {}).items()},
            dict(sorted(content["points"].items())),
            {row: tuple(Site(*site) for site in sites) for row, sites in content.get("sites", {}).items()},
            {name: tuple(lines) for name, lines in content.get("paths", {}).items()},
            {name: dict(profile.items()) for name, profile in content.get("profiles", {}).items()},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise BaselineError(f"{path}: not a baseline: a part of it is missing or has another shape ({error}); "
                            "`pvfast gate update` writes it anew") from error
    if not found.points:
        raise BaselineError(f"{path}: not a baseline: it has no points")
    _check(path, found)
    return found


def _check(path: str | Path, found: Measurement) -> None:
    """All of it goes to a terminal, to XML and to a CI system that obeys lines."""
    for name, value in found.points.items():
        if not _is_text(name) or type(value) is not int:
            raise BaselineError(f"{path}: {name!r} is {value!r}: points are integers by name, equal on every run")
    if not all(map(_is_text, (*found.subject, *found.subject.values()))):
        raise BaselineError(f"{path}: what was measured is not told in one line of text")
    for row, sites in found.sites.items():
        for site in sites:
            try:
                bytes.fromhex(site.before), bytes.fromhex(site.after)
            except (TypeError, ValueError) as error:
                raise BaselineError(f"{path}: the sites of {row!r} are no hexadecimal bytes") from error
            if not all(map(_is_text, (row, site.label, site.before_text, site.after_text))):
                raise BaselineError(f"{path}: the sites of {row!r} are no lines of text")
    for name, lines in found.paths.items():
        if not all(map(_is_text, (name, *lines))):
            raise BaselineError(f"{path}: the path {name!r} is no list of lines")
    for name, profile in found.profiles.items():
        if not all(map(_is_text, (name, *profile))) or not all(type(count) is int for count in profile.values()):
            raise BaselineError(f"{path}: the profile {name!r} does not count instructions by label")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
