"""Drawings: well-formed, to scale, and readable without colour or eyes."""

from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from pvfast.experiments.sensitivity import Sensitivity
from pvfast.report import plots
from pvfast.report.contents import Contents
from pvfast.report.history import BenchmarkHistory, Commit

SVG = "{http://www.w3.org/2000/svg}"


def test_the_file_of_a_matrix_has_a_column_per_hypervisor(contents: Contents, tmp_path: Path) -> None:
    path = tmp_path / "matrix.svg"
    plots.write_matrix_plot(path, contents.matrix)
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    assert len({panel.get("x") for panel in root.findall(f"{SVG}svg")}) == 2
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert "xen: one operation" in words and "pipe" in words
    overhead = contents.matrix.row("native", "pipe").overhead_percent()
    assert f"{overhead:+.1f} %" in words


def test_a_histogram_is_to_scale() -> None:
    panel = plots.operations_panel("read", (("irq_disable", "irq", 6), ("set_pte", "pte", 3)))
    bars = [element for element in ElementTree.fromstring(panel.svg()).iter("rect")]
    assert float(bars[0].get("width", "")) == 2 * float(bars[1].get("width", ""))
    assert [bar.get("class") for bar in bars] == ["one", "other"]
    assert panel.description == "irq: irq_disable 6; pte: set_pte 3"


def test_intervals_stay_on_their_scale() -> None:
    found = [Sensitivity("null", 0.0, -1.0, 5.0, ()), Sensitivity("pipe", 10.0, 10.0, 10.0, ())]
    svg = ElementTree.fromstring(plots.interval_panel("k8", found, plots.interval_decades(found)).svg())
    spans = [line for line in svg.iter("line") if line.get("class") == "span"]
    assert all(0 <= float(span.get(end, "")) <= 360 for span in spans for end in ("x1", "x2"))


def test_a_step_is_marked_by_its_shape_too() -> None:
    commits = [Commit(datetime(2026, 1, day), str(day)) for day in (1, 2, 3)]
    found = BenchmarkHistory("track", "cycles", "vm", (("", (17.0, 18.0, None)), ("other", (5.0, 5.0, 4.0))))
    paths = list(ElementTree.fromstring(plots.history_panel(found, commits).svg()).iter("path"))
    up, down = (path.get("d", "") for path in paths)
    assert _tip(up) < _base(up) and _tip(down) > _base(down)


def _tip(path: str) -> float:
    return float(path.split("L")[0].split()[1])


def _base(path: str) -> float:
    return float(path.split("L")[1].split("H")[0].split()[1])


def test_a_history_of_nothing_but_zeros_can_be_drawn() -> None:
    found = BenchmarkHistory("track", "cycles", "vm", (("", (0.0, 0.0)),))
    ElementTree.fromstring(plots.history_panel(found, [Commit(datetime.min, "a"), Commit(datetime.max, "b")]).svg())
