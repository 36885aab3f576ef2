"""Baseline files: what is written is read back, equal figures are equal bytes, and broken files are refused."""

import json
import os
from pathlib import Path

import pytest

from pvfast.gate import BaselineError, Measurement, Site, read_baseline, write_baseline
from pvfast.gate.baseline import VERSION

POINTS = {"xen/irq_disable/cycles": 12, "native/irq_disable/cycles": 9, "big": 1 << 70, "negative": -3}
SITE = Site("site_irq_disable", "fa90", "9090", "cli; nop", "nop; nop")


def of(points: dict[str, int]) -> Measurement:
    return Measurement({"image": "test"}, points)


def test_reads_back_what_was_written_sorted(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    written = Measurement({"image": "test"}, POINTS, {"native/irq_disable": (SITE,)},
                          {"native/irq_disable/patched": ("cli", "nop")}, {"native/null/patched": {"schedule": 2}})
    write_baseline(path, written)
    assert read_baseline(path) == written
    assert list(read_baseline(path).points.items()) == sorted(POINTS.items())


def test_equal_figures_are_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_baseline(first, of(POINTS))
    write_baseline(second, of(dict(reversed(POINTS.items()))))
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, of({"a": 1}))

    def fail(source: str, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pvfast.gate.baseline.os.replace", fail)
    with pytest.raises(BaselineError, match="disk full"):
        write_baseline(path, of({"a": 2}))
    assert read_baseline(path).points == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_only_integers_are_figures(tmp_path: Path, value: object) -> None:
    with pytest.raises(BaselineError, match="integers"):
        write_baseline(tmp_path / "baseline.json", of({"host_ns": value}))      # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


GOOD = {"kind": "pvfast baseline", "version": VERSION, "points": {"a": 1}}


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    """What is refused below lacks nothing else."""
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(GOOD))
    assert read_baseline(path).points == GOOD["points"]


@pytest.mark.parametrize("text", [
    "", "[]", "{", "\x00", "[" * 100_000,
    json.dumps({**GOOD, "kind": "matrix"}), json.dumps({**GOOD, "version": VERSION - 1}),
    json.dumps({**GOOD, "points": [1]}), json.dumps({**GOOD, "points": {"a": 1.5}}),
    json.dumps({"kind": GOOD["kind"], "version": VERSION}), json.dumps({**GOOD, "points": {}}),
    json.dumps({**GOOD, "sites": {"a": [["x", "zz", "", "", ""]]}}), json.dumps({**GOOD, "sites": {"a": [["x"]]}}),
    json.dumps({**GOOD, "sites": {"a": [["x", "", "", 1, ""]]}}), json.dumps({**GOOD, "paths": {"a": [1]}}),
    json.dumps({**GOOD, "profiles": {"a": ["x"]}}), json.dumps({**GOOD, "profiles": {"a": {"x": 1.0}}}),
    json.dumps({**GOOD, "subject": [1]}), '{"kind": "pvfast baseline", "kind": "pvfast baseline"}',
])
def test_broken_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(BaselineError, match=r"baseline\.json"):
        read_baseline(path)


@pytest.mark.parametrize("name", ["a\n::error::b", "\ud800", "a\0", "\x1b[31m"])
def test_what_a_terminal_or_ci_would_obey_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "baseline.json"
    for content in ({"points": {name: 1}}, {"subject": {"image": name}}, {"sites": {"a": [[name, "", "", "", ""]]}},
                    {"paths": {"a": [name]}}, {"profiles": {"a": {name: 1}}}):
        path.write_text(json.dumps({**GOOD, **content}))
        with pytest.raises(BaselineError):
            read_baseline(path)
    with pytest.raises(BaselineError):
        write_baseline(path, of({name: 1}))


def test_only_regular_files_are_read_and_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(BaselineError, match="not a regular file"):
            read_baseline(path)
        with pytest.raises(BaselineError, match="not a regular file"):
            write_baseline(path, of(POINTS))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "target.json")
    write_baseline(tmp_path / "link.json", of(POINTS))
    assert (tmp_path / "link.json").is_symlink()
    assert read_baseline(tmp_path / "target.json") == of(dict(sorted(POINTS.items())))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="gate update"):
        read_baseline(tmp_path / "none.json")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be written"):
        write_baseline(tmp_path / "none" / "baseline.json", of(POINTS))
