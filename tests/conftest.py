"""Fixtures of all tests: Ctrl-C, and the folder of real kernels, which stays outside the repository."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """A job in the background of a shell ignores Ctrl-C, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def kernels() -> Path:
    """The folder that PVFAST_KERNELS names; without it tests skip, or fail with PVFAST_REQUIRE_KERNELS=1."""
    folder = os.environ.get("PVFAST_KERNELS")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"no real kernels: PVFAST_KERNELS={folder or ''!r} names no folder"
    if os.environ.get("PVFAST_REQUIRE_KERNELS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
