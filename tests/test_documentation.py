"""The figures in the documentation are those that are measured."""
import re
from pathlib import Path

import pytest

from benchmarks import document


@pytest.fixture(scope="module")
def outdated() -> list[Path]:
    return document.outdated()


def test_measured_tables_are_up_to_date(outdated: list[Path]) -> None:
    assert not outdated, "run `make tables`"


def test_every_hypervisor_has_a_page() -> None:
    pages = {path.stem for path in (document.DOCS / "hypervisors").glob("*.md")}
    assert pages == set(document.HYPERVISORS)


def test_nobody_is_sent_to_the_index_for_pvfast() -> None:
    """PyPI's package of that name is another project's."""
    pages = [document.DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "action.yml")]
    pages += [page for folder in ("docs", "examples") for page in (document.DOCS.parent / folder).rglob("*.*")]
    told = [f"{page.name}: {line}" for page in pages if page.suffix in (".md", ".py", ".yml", ".toml", ".json")
            for line in page.read_text(encoding="utf-8").splitlines()
            if re.search(r'''install (--\S+ )*["']?pvfast(\[|["'`]|$| [^@])|\["pvfast"\]|"pvfast": \[""\]''', line)]
    assert not told
