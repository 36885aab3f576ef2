"""Where figures are from: nothing goes in but names; versions, hashes, and this run's time and machine come out.

Everything but the last two is equal on every run of the same code. Next: ``contents.py``.
"""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime

import pvfast
from pvfast.guest import build
from pvfast.processor import load_model


def versions(hypervisors: Iterable[str], processors: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What the figures depend on, by name.

    Parameters
    ----------
    hypervisors, processors : iterable of str

    Returns
    -------
    tuple of (str, str)
        pvfast, its commit in a git work tree, Python, the kernel images, the costs of the processor models.

    Examples
    --------
    >>> dict(versions(["native"], ["generic"]))["pvfast"] == pvfast.__version__
    True
    """
    images: dict[str, list[str]] = {}
    for name in hypervisors:
        images.setdefault(hashlib.sha256(build(hypervisor=name).code).hexdigest(), []).append(name)
    return (
        ("pvfast", pvfast.__version__),
        ("commit", commit() or "not in a git work tree"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        *((f"built-in kernel, Linux {build().era.name} ({', '.join(names)}), SHA-256", digest)
          for digest, names in images.items()),
        *((f"costs of processor model {name}, SHA-256", load_model(name).costs_sha256) for name in processors),
    )


def this_run() -> tuple[tuple[str, str], ...]:
    """What differs between two runs: the time, and the machine."""
    return (
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("machine", f"{platform.node()}, {platform.system()} {platform.release()}, {platform.machine()}"),
    )


def commit() -> str:
    """The commit that this pvfast is from, with ``-dirty`` when it was changed since; empty when git does not know."""
    folder = os.path.dirname(os.path.abspath(pvfast.__file__))
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")    # not another project's environment
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if tracked else ""


def _git(folder: str, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
