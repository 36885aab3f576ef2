"""The figures in the documentation are those that are measured."""
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
