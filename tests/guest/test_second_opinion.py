"""GNU as and ld, where they are installed, have to make the same bytes of every guest source."""

import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvfast.guest import GuestImage, source_texts
from pvfast.guest.prelude import symbols

TOOLS = [tool for tool in ("as", "ld") if shutil.which(tool) is None]


def run(tool: str, *arguments: str, folder: Path) -> None:
    done = subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(bool(TOOLS), reason="GNU binutils are an optional second opinion")
def test_gnu_as_agrees(image: GuestImage, tmp_path: Path) -> None:
    constants = "".join(f".set {name}, {value}\n" for name, value in symbols(image.era).items())
    text = constants + "".join(f"\n.text\n{source}" for _, source in source_texts())
    (tmp_path / "guest.S").write_text(text)
    places = "".join(
        f"{name} {section.address:#x} : {{ {bound(image, 'start', name)} = .; *({name}) "
        f"{bound(image, 'stop', name)} = .; }}\n"
        for name, section in image.sections.items()
    )
    (tmp_path / "guest.ld").write_text(f"SECTIONS {{\n{places}/DISCARD/ : {{ *(*) }}\n}}\n")
    run("as", "--32", "-o", "guest.o", "guest.S", folder=tmp_path)
    run("ld", "-m", "elf_i386", "-e", "startup_32", "-T", "guest.ld", "-o", "guest.elf", "guest.o",
        folder=tmp_path)
    with (tmp_path / "guest.elf").open("rb") as file:
        linked = ELFFile(file)
        for name, section in image.sections.items():
            assert linked.get_section_by_name(name).data() == section.code, name


def bound(image: GuestImage, end: str, section: str) -> str:
    label = f"__{end}_{section.lstrip('.').replace('.', '_')}"
    assert label in image.labels
    return label
