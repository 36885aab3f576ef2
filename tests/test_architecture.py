"""ARCHITECTURE.md's list of rooms is in order: a package imports only from those above it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `pvfast/(\w+)(?:/|\.py)` \|", ARCHITECTURE, re.MULTILINE)
IMPORTED = re.compile(r"^\s*(?:from|c?import)\s+pvfast(?:\.|\s+c?import\s+)(\w+)", re.MULTILINE)


def sources(room: str) -> list[Path]:
    place = ROOT / "pvfast" / room
    files = [path for path in place.rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".pxi"}]
    return [path for path in files if "generated" not in path.parts] or [place.with_suffix(".py")]


def test_every_room_is_listed() -> None:
    there = {path.stem for path in (ROOT / "pvfast").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert there - {"__init__", "__main__", "__pycache__", "errors"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_up_the_list(room: str) -> None:
    below = set(ROOMS[ROOMS.index(room) + 1:])
    for path in sources(room):
        named = below & set(IMPORTED.findall(path.read_text(encoding="utf-8")))
        assert not named, f"{path.relative_to(ROOT)} imports {', '.join(sorted(named))}"


def test_the_core_names_no_hypervisor() -> None:
    lines = [line.partition("#")[0] for path in sources("core") for line in path.read_text("utf-8").splitlines()]
    assert not re.search(r"\b(xen|lhype|lguest|vmi|kvm)", "\n".join(lines), re.IGNORECASE)
