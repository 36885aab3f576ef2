"""The page in a real Chromium: what is on it, what clicks and typing do, both themes, a phone, and no requests."""

import json
from collections.abc import Iterator

import pytest

from pvfast.experiments.sensitivity import Sensitivity
from pvfast.report import plots
from pvfast.report.contents import Contents
from pvfast.report.html import render_page
from pvfast.report.provenance import this_run
from tests.report.chromium import NAMES, Page, find_chromium

SITES = "#sites table"
HIDDEN = "[...document.querySelectorAll('#sites tbody tr')].filter(row => row.hidden).length"


@pytest.fixture(scope="module")
def page(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed")
    folder = tmp_path_factory.mktemp("chromium")
    path = folder / "report.html"
    path.write_text(render_page(contents, this_run()), encoding="utf-8")
    found = Page(program, folder / "profile")
    try:
        found.show(1280, 900)
        found.open(path)
        yield found
    finally:
        found.close()


def column(page: Page, number: int) -> list[str]:
    return page.evaluate(f"[...document.querySelectorAll('{SITES} tbody tr')].map("
                         f"row => row.cells[{number}].textContent)")


def test_shows_what_was_measured(page: Page, contents: Contents) -> None:
    assert page.evaluate("document.title").startswith("pvfast ")
    assert page.evaluate(f"document.querySelector('{SITES}').tBodies[0].rows.length") == len(contents.sites)
    drawings = page.evaluate("[...document.querySelectorAll('#operations svg')].map("
                             "svg => svg.getBoundingClientRect().height)")
    assert drawings and all(height > 40 for height in drawings)


OVERLAPPING = """[...document.querySelectorAll("#axes svg")].flatMap(svg => {
    const words = [...svg.querySelectorAll("text")];
    const boxes = words.map(element => element.getBoundingClientRect());
    return words.flatMap((element, i) => words.filter((_, j) => j > i && boxes[i].left < boxes[j].right &&
        boxes[j].left < boxes[i].right && Math.abs(boxes[i].top - boxes[j].top) < 3)
        .map(other => `${element.textContent} | ${other.textContent}`));
})"""


def test_the_words_on_an_axis_are_clear_of_each_other(page: Page) -> None:
    found = [Sensitivity("null", 1.0, 0.5, 2.0, ())]
    panels = [plots.interval_panel("k8", found, (first, last)) for first in (-2, -1, 0) for last in range(1, 7)]
    text = f"<div id=axes>{''.join(panel.svg() for panel in panels)}</div>"
    page.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(text)})")
    assert page.evaluate("document.querySelectorAll('#axes text').length") > 4 * len(panels)
    assert page.evaluate(OVERLAPPING) == []
    page.evaluate("document.getElementById('axes').remove()")


def test_asks_for_nothing_and_complains_of_nothing(page: Page) -> None:
    asked = [event["params"]["request"]["url"] for event in page.events
             if event.get("method") == "Network.requestWillBeSent"]
    assert [url.rpartition("/")[2] for url in asked] == ["report.html"]
    assert not [event for event in page.events if event.get("method") in (
        "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")]


def test_a_click_on_a_header_sorts_by_it_and_another_the_other_way(page: Page) -> None:
    lengths = column(page, 3)
    header = f"{SITES} th[data-column='3']"
    page.click(f"{header} button")
    assert column(page, 3) == sorted(lengths, key=int) != lengths
    assert page.evaluate(f'document.querySelector("{header}").getAttribute("aria-sort")') == "ascending"
    page.click(f"{header} button")
    assert column(page, 3) == sorted(lengths, key=int, reverse=True)
    page.click(f"{SITES} th[data-column='1'] button")
    assert column(page, 1) == sorted(column(page, 1))
    assert page.evaluate(f"document.querySelectorAll('{SITES} [aria-sort]').length") == 1


def test_figures_that_are_missing_come_last_either_way(page: Page) -> None:
    for _ in range(2):
        page.click(f"{SITES} th[data-column='7'] button")
        cycles = column(page, 7)
        assert cycles[-1] == "\N{EN DASH}" and cycles[0].isdigit()


def test_typing_filters_the_rows_and_says_how_many_are_left(page: Page, contents: Contents) -> None:
    page.click("#sites input")
    page.send("Input.insertText", text="XEN save_fl_irq")
    left = sum(site.hypervisor == "xen" and site.operation == "save_fl_irq_disable" for site in contents.sites)
    assert 0 < left < len(contents.sites)
    assert page.evaluate(HIDDEN) == len(contents.sites) - left
    assert page.evaluate("document.querySelector('#sites output').textContent") == (
        f"{left} of {len(contents.sites)} rows")
    page.evaluate("document.querySelector('#sites input').select()")
    page.send("Input.insertText", text=" ")
    assert page.evaluate(HIDDEN) == 0


def test_light_and_dark(page: Page) -> None:
    seen = {}
    for theme in ("light", "dark"):
        page.show(1280, 900, theme)
        seen[theme] = page.evaluate("""[document.body, document.querySelector("svg text:not(.faint)")].map(element => {
            const style = getComputedStyle(element);
            return element === document.body ? [style.backgroundColor, style.color] : style.fill;
        })""")
    (light, light_text), (dark, dark_text) = seen["light"], seen["dark"]
    assert brightness(light[0]) > 200 > 60 > brightness(light[1])
    assert brightness(dark[0]) < 60 < 200 < brightness(dark[1])
    assert brightness(light_text) < 60 and brightness(dark_text) > 200


def brightness(colour: str) -> float:
    """Of ``rgb(1, 2, 3)``."""
    return sum(map(float, colour[4:-1].split(","))) / 3


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_only_tables_scroll_sideways(page: Page, width: int) -> None:
    page.show(width, 844)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate("""[...document.querySelectorAll("body *")].filter(element =>
        !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 1).length""")
    assert wide == 0
    assert page.evaluate("getComputedStyle(document.querySelector('#sites .scroll')).overflowX") == "auto"
