"""Baseline files: what is written is read back, equal figures are equal bytes, and broken files are refused."""

import json
from pathlib import Path

import pytest

from pvfast.gate import BaselineError, read_baseline, write_baseline
from pvfast.gate.__main__ import main

POINTS = {"xen/irq_disable/cycles": 12, "native/irq_disable/cycles": 9, "big": 1 << 70, "negative": -3}


def test_reads_back_what_was_written_sorted(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, POINTS)
    assert list(read_baseline(path).items()) == sorted(POINTS.items())


def test_equal_figures_are_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_baseline(first, POINTS)
    write_baseline(second, dict(reversed(POINTS.items())))
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, {"a": 1})

    def fail(source: str, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pvfast.gate.baseline.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_baseline(path, {"a": 2})
    assert read_baseline(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_only_integers_are_figures(tmp_path: Path, value: object) -> None:
    with pytest.raises(BaselineError, match="integers"):
        write_baseline(tmp_path / "baseline.json", {"host_ns": value})      # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


GOOD = {"kind": "pvfast baseline", "version": 1, "points": {"a": 1}}


@pytest.mark.parametrize("text", [
    "", "[]", "{", "\x00", "[" * 100_000,
    json.dumps({**GOOD, "kind": "matrix"}), json.dumps({**GOOD, "version": 2}),
    json.dumps({**GOOD, "points": [1]}), json.dumps({**GOOD, "points": {"a": 1.5}}),
    json.dumps({"kind": GOOD["kind"], "version": 1}), '{"kind": "pvfast baseline", "kind": "pvfast baseline"}',
])
def test_broken_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(BaselineError, match=r"baseline\.json"):
        read_baseline(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="write a baseline first"):
        read_baseline(tmp_path / "none.json")


def test_the_command_tells_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = str(tmp_path / "before.json"), str(tmp_path / "after.json")
    write_baseline(before, {"a": 1})
    write_baseline(after, {"a": 2})
    assert main([before, before]) == 0
    assert main([before, after]) == 1
    assert "a: 1 -> 2 (+100.0 %)" in capsys.readouterr().out
    assert main([before, str(tmp_path / "none.json")]) == 2
    assert main([before]) == 2
