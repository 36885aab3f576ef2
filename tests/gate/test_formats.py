"""What is told of a comparison: to people, to machines, to CI. Nothing is left out, and the worst comes first."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pvfast.gate import Measurement, Report, judge
from pvfast.gate.formats import to_annotation, to_json, to_junit, to_markdown, to_text

BEFORE = {"n/worse/patched/cycles": 10, "n/worst/patched/cycles": 10, "n/new/operations": 0,
          "n/better/patched/cycles": 10, "n/gone/sites": 1, "n/same/sites": 2, "x/other/sites": 2}
AFTER = {"n/worse/patched/cycles": 11, "n/worst/patched/cycles": 19, "n/new/operations": 3,
         "n/better/patched/cycles": 1, "n/come/sites": 1, "n/same/sites": 2}
CHANGED = ["n/new/operations", "n/worst/patched/cycles", "n/worse/patched/cycles", "n/better/patched/cycles"]
"""The worst first; what got better comes last, however much."""


def report(**options: object) -> Report:
    subject = {"image": "one", "costs_sha256": "c"}
    return judge("base:line,.json", Measurement(subject, BEFORE),
                 Measurement({**subject, "image": "two"}, AFTER, skipped={"n/gone": "no reason left"}),
                 **{"hypervisors": ["n"], **options})       # type: ignore[arg-type]


def test_text_has_every_difference() -> None:
    lines = to_text(report(), explained=False).splitlines()
    assert set(lines[:6]) == {
        "n/new/operations: 0 -> 3 (from nothing)", "n/worst/patched/cycles: 10 -> 19 (+90.0 %)",
        "n/worse/patched/cycles: 10 -> 11 (+10.0 %)", "n/better/patched/cycles: 10 -> 1 (-90.0 %)",
        "n/come/sites: added, 1", "n/gone/sites: removed, was 1: no reason left"}
    assert lines[7:9] == ["What the figures depend on has changed:", "  image: one -> two"]
    assert lines[10] == "points: 5 compared, 3 slower, 1 faster, 1 added, 1 removed, 1 not asked for"


def test_json_has_everything() -> None:
    found = json.loads(to_json(report(tolerance_percent=10)))
    assert [change["name"] for change in found["tolerated"]] == ["n/worse/patched/cycles"]
    assert {change["name"] for change in found["changed"]} == {*CHANGED} - {"n/worse/patched/cycles"}
    assert (found["added"], found["removed"]) == ({"n/come/sites": 1}, {"n/gone/sites": 1})
    assert (found["reasons"], found["skipped"]) == ({"n/gone/sites": "no reason left"}, ["x/other/sites"])
    assert found["subject_changes"] == ["image: one -> two"]
    assert (found["verdict"], found["exit_code"]) == ("regression", 1)
    assert {each["row"] for each in found["explanations"]} == {"n/worse", "n/worst", "n/new", "n/better"}


def test_markdown_has_the_worst_first() -> None:
    lines = to_markdown(report()).splitlines()
    rows = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert rows == CHANGED
    assert "* n/come/sites: added, 1" in lines and "* image: one -> two" in lines


def test_markdown_says_what_it_leaves_out() -> None:
    many = {f"n/{number}/patched/cycles": 1 for number in range(200)}
    found = judge("b", Measurement({}, many), Measurement({}, dict.fromkeys(many, 2)))
    text = to_markdown(found)
    assert "| ... and 150 more | | | |" in text and "... and 150 more rows" in text


def test_markdown_is_text_whatever_the_names_are() -> None:
    name = "<script>/</summary>/patched/cycles"
    text = to_markdown(judge("b", Measurement({}, {name: 1}), Measurement({}, {name: 2})))
    assert "<summary><code>&lt;script>/&lt;/summary></code>" in text


def test_junit_has_a_case_for_every_point() -> None:
    suite = ElementTree.fromstring(to_junit(report()))
    cases = {f"{case.attrib['classname']}.{case.attrib['name']}".replace(".", "/"): case for case in suite}
    assert cases.keys() == BEFORE.keys() | AFTER.keys()
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {*CHANGED, "n/come/sites", "n/gone/sites"}
    assert {name for name, case in cases.items() if case.find("skipped") is not None} == {"x/other/sites"}
    assert [suite.attrib[name] for name in ("tests", "failures", "skipped")] == ["8", "6", "1"]


def test_the_annotation_names_the_worst() -> None:
    assert to_annotation(report()) == (
        "::error file=base%3Aline%2C.json,title=pvfast gate: regression::3 differences: n/new/operations: 0 -> 3 "
        "(from nothing) and 2 more")


def test_a_stale_baseline_is_a_warning() -> None:
    found = judge("b", Measurement({}, {"a/cycles": 2}), Measurement({}, {"a/cycles": 1}))
    assert to_annotation(found).startswith("::warning file=b,title=pvfast gate: stale::1 difference: a/cycles: 2 -> 1")


@pytest.mark.parametrize(("asked", "skipped", "removed"), [
    ({"hypervisors": ["n"]}, 1, 1), ({"hypervisors": ["x"]}, 1, 1), ({"hypervisors": []}, 0, 2),
    ({"hypervisors": [], "operations": ["gone"]}, 1, 1), ({"hypervisors": [], "operations": ["other", "gone"]}, 0, 2),
    ({"hypervisors": ["n"], "operations": ["same"]}, 2, 0)])
def test_only_what_was_not_asked_for_is_excused(asked: dict[str, object], skipped: int, removed: int) -> None:
    comparison = report(**asked).comparison
    assert (len(comparison.skipped), len(comparison.removed)) == (skipped, removed)


def test_nothing_to_tell() -> None:
    same = Measurement({"image": "one"}, BEFORE)
    found = judge("b", same, replace(same))
    assert to_annotation(found) == ""
    assert to_text(found, explained=True).splitlines() == [
        "points: 7 compared", "pass: every figure compared is as the baseline has it"]
