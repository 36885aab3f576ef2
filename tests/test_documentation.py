"""The figures in the documentation are those that are measured."""
import re
from pathlib import Path

import pytest

from benchmarks import document


@pytest.fixture(scope="module")
def outdated() -> dict[Path, str]:
    return document.outdated()


def test_measured_tables_are_up_to_date(outdated: dict[Path, str]) -> None:
    assert not list(outdated), "run `make tables`"


def test_all_but_the_host_times_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider ones widen the whole column."""
    text = document.README.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("irq_disable "))
    row, cycles = re.sub(r" +[0-9.]+ / [0-9.]+ / [0-9.]+$", "", line), "17 / 17 / 11"
    slower = text.replace(line, f"{row}   12345.6 / 12345.6 / -0.1").replace("  host ns", "       host ns").replace(
        "─\n", "─────\n")
    assert line != row and cycles in row and slower != text
    page = tmp_path / "README.md"
    monkeypatch.setattr(document, "pages", lambda: {page: text.partition(document.BEGIN)[2].partition(document.END)[0]})
    for written, wrong in ((text, []), (slower, []), (text.replace(row, row.replace(cycles, "17 / 17 / 12")), [page]),
                           (text.replace("site_irq_disable 0x", "site_irq_disable 0x0"), [page])):
        page.write_text(written, encoding="utf-8")
        assert list(document.outdated()) == wrong


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
