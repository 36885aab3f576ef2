"""The page as text: what is on it, that it is whole by itself, that nothing breaks out of it, that it is repeatable."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import pytest

from pvfast.report.contents import Contents
from pvfast.report.history import BenchmarkHistory, Commit, History
from pvfast.report.html import render_page
from pvfast.report.provenance import this_run

HOSTILE = "<script>alert(1)</script>\"'&]]></style><img src=x onerror=alert(2)>"
VOID = frozenset(("meta", "link", "input", "br", "img", "hr"))


class Page(HTMLParser):
    """Elements in order, tables by caption, text; every tag closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.setdefault(self._open[-1] if self._open else "", []).append(data)
        if "caption" in self._open:
            self.tables[data] = self._rows
        elif "th" in self._open or "td" in self._open:
            self._rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(contents: Contents) -> str:
    return render_page(contents, this_run())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_matrix_has_every_row_and_form(page: Page, contents: Contents) -> None:
    rows = page.tables["One iteration of each workload"]
    assert rows[1] == ["hypervisor", "name", *2 * ["indirect", "direct", "patched"], "overhead", "operations",
                       "interrupt"]
    pipe = contents.matrix.row("native", "pipe")
    assert pipe.indirect and pipe.direct and pipe.patched
    expected = [str(getattr(counts, figure)) for figure in ("instructions", "cycles")
                for counts in (pipe.indirect, pipe.direct, pipe.patched)]
    found = next(row for row in rows if row[0] == "native" and row[1].startswith("pipe"))
    assert found[2:8] == expected
    assert found[8:] == [f"{pipe.overhead_percent():+.1f} %", str(pipe.executed), f"{pipe.interrupt_percent:.0f} %"]
    operations = page.tables["One operation, less the loop around it"]
    assert len(rows) - 2 + len(operations) - 2 == len(contents.matrix.rows)


def test_every_patch_site_is_there_with_bytes_and_cost(page: Page, contents: Contents) -> None:
    rows = page.tables[f"{len(contents.sites)} patch sites"][2:]
    assert len(rows) == len(contents.sites) > 100
    row = next(row for row in rows if row[:2] == ["native", "site_irq_disable"])
    assert row[2:4] == ["irq_disable", "10"]
    assert row[4:8] == ["7", "4", "17", "11"]
    assert row[8].startswith("51 52 ff 15") and "calll *paravirt_ops.irq_disable" in row[8]
    assert row[9].startswith("fa ") and "cli" in row[9]


def test_a_profile_adds_up_to_the_iteration(page: Page, contents: Contents) -> None:
    for (hypervisor, form), rows in contents.profiles["pipe"].items():
        counts = contents.matrix.row(hypervisor, "pipe").counts()[form]
        assert counts and sum(count for _, count in rows) == counts.instructions
    table = page.tables["pipe: instructions by label"]
    assert table[0] == ["", "native", "xen"]
    assert "pipe_read" in [row[0] for row in table]


def test_overheads_have_their_intervals(page: Page, contents: Contents) -> None:
    table = page.tables["Workloads: overhead in per cent, and its interval"]
    assert table[0] == ["name", "pentium4", "k8"]
    null = contents.sensitivities["k8"][0]
    assert table[1][2] == f"{null.percent} ({null.low}\N{EN DASH}{null.high})"


def test_regressions_of_asvs_history_are_marked(page: Page) -> None:
    rows = page.tables["Every step"][1:]
    assert {row[2] for row in rows} == {"dispatch.Counts.track_cycles"}
    assert [row[4:] for row in rows] == [
        ["native, irq_disable", "\N{BLACK UP-POINTING TRIANGLE} regression", "17", "18", "+5.88 %"],
        ["xen, irq_disable", "\N{BLACK DOWN-POINTING TRIANGLE} improvement", "15", "2", "-86.67 %"]]
    assert [attributes["class"] for attributes in page.all("path")] == ["bad", "good"]


def test_says_where_it_is_from(page: Page, contents: Contents) -> None:
    assert contents.matrix.processor == "generic"
    terms = "".join(page.words["dt"])
    for words in ("pvfast", "commit", "Python", "built-in kernel, Linux 2.6.20 (native, xen)", "k8", "machine", "date"):
        assert words in terms


def test_needs_nothing_from_outside(text: str, page: Page) -> None:
    assert not re.search(r"https?:|//\w|url\(|@import|\bimport\(|fetch\(", text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert len(text) < 3_000_000


def test_can_be_read_without_eyes(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(names) == len(set(names))
    for attributes in page.all("section"):
        assert attributes["aria-labelledby"] in names
    for attributes in page.all("a"):
        assert (attributes["href"] or "").removeprefix("#") in names
    drawings = page.all("svg")
    assert all(attributes["role"] == "img" for attributes in drawings)
    assert len(page.words["title"]) == len(drawings) + 1
    assert len(page.all("table")) == len(page.tables)
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.elements if tag in ("h1", "h2")][:2] == ["h1", "h2"]


def test_hostile_names_stay_text(contents: Contents, text: str) -> None:
    row = contents.matrix.rows[0]
    matrix = replace(contents.matrix, era=HOSTILE, processor=HOSTILE, rows=(
        *(replace(row, hypervisor=HOSTILE, variant=HOSTILE, note=HOSTILE) for row in contents.matrix.rows), row))
    site = contents.sites[0]
    code = replace(site.code, label=HOSTILE, before_text=HOSTILE, after_text=HOSTILE)
    bad = replace(
        contents, matrix=matrix, sensitivities={HOSTILE: contents.sensitivities["k8"]},
        profiles={HOSTILE: {(HOSTILE, "indirect"): ((HOSTILE, 1),)}},
        sites=(replace(site, hypervisor=HOSTILE, operation=HOSTILE, code=code),),
        history=History((Commit(datetime.min, HOSTILE), Commit(datetime.max, HOSTILE)),
                        (BenchmarkHistory(HOSTILE, HOSTILE, HOSTILE, ((HOSTILE, (1.0, 2.0)),)),)),
        versions=((HOSTILE, HOSTILE),))
    page = Page(render_page(bad, [(HOSTILE, HOSTILE)]))
    kinds = {tag for tag, _ in Page(text).elements}
    assert {tag for tag, _ in page.elements} <= kinds
    assert len(page.all("script")) == 1
    assert HOSTILE in page.words["dd"]


def test_a_name_that_is_no_text_can_be_written(contents: Contents) -> None:
    """JSON can say half of a surrogate pair, and UTF-8 cannot."""
    render_page(replace(contents, versions=(("\ud800", "\udfff"),)), ()).encode()


def test_nothing_measured_is_still_a_page(contents: Contents) -> None:
    nothing = replace(contents, matrix=replace(contents.matrix, rows=()), sensitivities={}, profiles={}, sites=(),
                      history=None)
    assert Page(render_page(nothing, ())).tables.keys() == {"0 patch sites"}


def test_two_runs_differ_in_one_block_only() -> None:
    first, second = (_without_this_run(text) for text in _two_runs())
    assert first == second


def _two_runs() -> Iterator[str]:
    """In processes with other seeds of hashes, at other times."""
    code = ("import sys; from pvfast.report.contents import gather; from pvfast.report.html import render_page\n"
            "page = render_page(gather(['native'], ['null', 'irq_disable'], ['k8']), [('date', sys.argv[1])])\n"
            "sys.stdout.buffer.write(page.encode())")
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", code, seed], capture_output=True, check=True,
                              env=os.environ | {"PYTHONHASHSEED": seed})
        yield done.stdout.decode()


def _without_this_run(text: str) -> str:
    head, begin, rest = text.partition('<dl id="this-run">')
    inside, end, tail = rest.partition("</dl>")
    assert begin and end and "<dt>date</dt>" in inside
    return head + tail
