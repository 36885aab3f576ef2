"""Fixtures of all tests: the folder of real kernels, which stays outside the repository."""

import os
from pathlib import Path

import pytest


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
