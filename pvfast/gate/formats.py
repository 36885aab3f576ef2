"""The verdict for people and for CI: text, JSON, Markdown, JUnit XML, one annotation. Pure functions of a `Report`.

Enters: a comparison and its explanations. Leaves: text. Next: ``pvfast/cli.py``, which puts it where it belongs.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from pvfast.gate.check import Change, Verdict
from pvfast.gate.explain import Explanation, SiteChange, totals
from pvfast.gate.host_time import CONFIDENCE, THRESHOLD, TimeReport
from pvfast.gate.judge import Report

_SHOWN_IN_MARKDOWN = 50
"""Rows of the Markdown table; a summary page is for a look, the JSON has all."""
_DEPENDS = "What the figures depend on has changed:"


def to_text(report: Report, *, explained: bool) -> str:
    """For a terminal.

    Parameters
    ----------
    report : Report
    explained : bool
        Whether sites and instructions of each changed row follow the figures.
    """
    lines = report.comparison.lines()
    if lines and report.subject_changes:
        lines += ["", _DEPENDS, *(f"  {line}" for line in report.subject_changes)]
    if explained:
        for explanation in report.explanations:
            lines += ["", *_explained(explanation)]
        if sums := totals(report.explanations):
            lines += ["", "In total, every row once in each form: "
                      + ", ".join(f"{value:+d} {unit}" for unit, value in sums.items())]
    return "\n".join([*lines, *([""] if lines else []), report.summary, report.verdict.sentence])


def _explained(explanation: Explanation) -> list[str]:
    lines = [explanation.row, f"  {explanation.cause}"]
    lines += [f"  per execution: {change}" for change in explanation.changes]
    for site in explanation.sites:
        lines += [f"  {line}" for line in _site_lines(site)]
    for form, path in explanation.paths:
        lines += [f"  executed, {form}:", *(f"    {line}" for line in path)]
    for form, labels in explanation.profiles:
        lines += [f"  instructions of an iteration by label, {form}:", *(f"    {line}" for line in _labels(labels))]
    return lines


def _labels(labels: Iterable[tuple[str, int, int]]) -> list[str]:
    return [f"{label}: {before} -> {after} ({after - before:+d})" for label, before, after in labels]


def _site_lines(site: SiteChange) -> list[str]:
    lines = [f"site {site.label}"]
    for when, found in (("baseline", site.before), ("now", site.after)) if not site.same else (("same", site.after),):
        if found is None:
            lines.append(f"  {when}: no such site")
            continue
        lines.append(f"  {when}, compiled: {found.before}  {found.before_text}")
        lines.append(f"  {when}, patched:  {found.after}  {found.after_text}")
    return lines


def to_json(report: Report) -> str:
    """For machines: everything."""
    comparison = report.comparison
    return json.dumps({
        "kind": "gate", "schema": 1, "verdict": report.verdict.name.lower(), "exit_code": int(report.verdict),
        "baseline": report.baseline, "subject": dict(report.after.subject), "compared": comparison.compared,
        "changed": [_change(change) for change in comparison.changed],
        "tolerated": [_change(change) for change in comparison.tolerated],
        "added": dict(comparison.added), "removed": dict(comparison.removed), "reasons": dict(comparison.reasons),
        "skipped": list(comparison.skipped), "incomparable": list(comparison.incomparable),
        "recoded": list(comparison.recoded), "subject_changes": report.subject_changes,
        "explanations": [_explanation(found) for found in report.explanations],
        "totals": totals(report.explanations),
    }, indent=2)


def _change(change: Change) -> dict[str, Any]:
    return {"name": change.name, "before": change.before, "after": change.after,
            "difference": change.after - change.before, "percent": change.percent}


def _explanation(found: Explanation) -> dict[str, Any]:
    return {
        "row": found.row, "cause": found.cause, "changes": [_change(change) for change in found.changes],
        "sites": [{"label": site.label, "same": site.same, "baseline": site.before and asdict(site.before),
                   "now": site.after and asdict(site.after)} for site in found.sites],
        "paths": {form: list(lines) for form, lines in found.paths},
        "profiles": {form: {label: {"baseline": before, "now": after} for label, before, after in labels}
                     for form, labels in found.profiles},
    }


def to_markdown(report: Report) -> str:
    """For a CI job's summary page."""
    lines = [f"## pvfast gate: {report.verdict.name.lower()}", "", report.summary, ""]
    comparison = report.comparison
    changed = [*sorted(comparison.regressions, key=_severity), *sorted(comparison.improvements, key=_severity)]
    if changed:
        lines += ["| point | baseline | now | change |", "|---|--:|--:|--:|"]
        for change in changed[:_SHOWN_IN_MARKDOWN]:
            percent = "from nothing" if change.percent is None else f"{change.percent:+.1f} %"
            lines.append(f"| `{change.name}` | {change.before} | {change.after} | {percent} |")
        if len(changed) > _SHOWN_IN_MARKDOWN:
            lines.append(f"| ... and {len(changed) - _SHOWN_IN_MARKDOWN} more | | | |")
        lines.append("")
    others = comparison.lines()[len(comparison.changed):]
    lines += [f"* {_inert(line)}" for line in others[:_SHOWN_IN_MARKDOWN]]
    if len(others) > _SHOWN_IN_MARKDOWN:
        lines.append(f"* ... and {len(others) - _SHOWN_IN_MARKDOWN} more")
    if report.subject_changes:
        lines += ["", _DEPENDS, "", *(f"* {_inert(line)}" for line in report.subject_changes)]
    lines.append("")
    for explanation in report.explanations[:_SHOWN_IN_MARKDOWN]:
        title = f"<code>{_inert(explanation.row)}</code>: {_inert(explanation.cause)}"
        lines += [f"<details><summary>{title}</summary>", "", "```diff"]
        for site in explanation.sites:
            lines += [f"  {line}" for line in _site_lines(site)]
        for form, path in explanation.paths:
            lines += [f"@@ executed, {form} @@", *path]
        for form, labels in explanation.profiles:
            lines += [f"@@ instructions of an iteration by label, {form} @@", *_labels(labels)]
        lines += ["```", "", "</details>", ""]
    if len(report.explanations) > _SHOWN_IN_MARKDOWN:
        lines += [f"... and {len(report.explanations) - _SHOWN_IN_MARKDOWN} more rows, see `pvfast gate explain`", ""]
    lines += [report.verdict.sentence, ""]
    return "\n".join(lines)


def _inert(text: str) -> str:
    """Markdown takes HTML for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def to_junit(report: Report) -> str:
    """JUnit XML: one test case per point, and one per row whose code is another."""
    comparison = report.comparison
    failed = {change.name: str(change) for change in comparison.changed}
    failed |= dict.fromkeys(comparison.added, "added") | dict.fromkeys(comparison.incomparable, "other costs")
    failed |= {name: comparison.reasons.get(name, "removed") for name in comparison.removed}
    failed |= {f"{row}/code": "the same figures from other code" for row in comparison.recoded}
    suite = ElementTree.Element("testsuite", name="pvfast gate")
    for name in sorted({*report.before.points, *report.after.points, *failed}):
        row, _, unit = name.rpartition("/")
        case = ElementTree.SubElement(suite, "testcase", classname=row.replace("/", "."), name=unit)
        if name in failed:
            ElementTree.SubElement(case, "failure", message=failed[name]).text = report.verdict.sentence
        elif name not in report.after.points:
            ElementTree.SubElement(case, "skipped", message="not asked for")
    suite.attrib |= {"tests": str(len(suite)), "failures": str(len(suite.findall("*/failure"))),
                     "skipped": str(len(suite.findall("*/skipped"))), "errors": "0"}
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_annotation(report: Report) -> str:
    """One line in the workflow-command syntax of GitHub Actions, for all that is wrong; empty when nothing is.

    Examples
    --------
    >>> from pvfast.gate.check import compare
    >>> from pvfast.gate.measurement import Measurement
    >>> empty = Measurement({}, {})
    >>> print(to_annotation(Report("b.json", empty, empty, compare({"a/cycles": 9}, {"a/cycles": 12}), ())))
    ::error file=b.json,title=pvfast gate: regression::1 difference: a/cycles: 9 -> 12 (+33.3 %25)
    """
    verdict = report.verdict
    if verdict is Verdict.PASS:
        return ""
    worst = ([str(change) for change in sorted(report.comparison.regressions, key=_severity)]
             or report.comparison.lines())
    number = len(worst)
    message = f"{number} difference{'s' * (number > 1)}: {worst[0]}" + f" and {number - 1} more" * (number > 1)
    level = "error" if verdict is Verdict.REGRESSION else "warning"
    return (f"::{level} file={_escape(report.baseline, ':,')},title=pvfast gate: {verdict.name.lower()}::"
            f"{_escape(message)}")


def _severity(change: Change) -> tuple[float, str]:
    return (-(change.percent if change.percent is not None else float("inf")), change.name)


def _escape(text: str, more: Iterable[str] = "") -> str:
    """Workflow commands end at a line's end, and their properties at a comma."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def times_to_text(report: TimeReport) -> str:
    """A comparison of host times, for people."""
    lines = [f"{name}: {origin.place}: {origin.package}, build {origin.hash}"
             for name, origin in (("base", report.base), ("head", report.head))]
    if report.same_build:
        lines.append("base and head are the same build: what differs is no change of the core")
    lines.append(f"host time: head over base; median and {CONFIDENCE:.0%} interval")
    lines += [f"  {row.name}: {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f}), {row.pairs} pairs"
              for row in report.rows]
    lines += [f"  slower, and again in a second run: {row.name}: {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f})"
              for row in report.confirmed]
    if not report.confirmed:
        lines.append(f"pass: no loop is more than {THRESHOLD:.0%} slower, twice")
    return "\n".join(lines)


def times_to_json(report: TimeReport) -> str:
    """The same, for machines."""
    return json.dumps(report.as_dict(), indent=2)
