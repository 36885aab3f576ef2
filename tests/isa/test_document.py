"""The documented table of instructions: what is committed is what the rows give."""
from __future__ import annotations

import json
from pathlib import Path

from pvfast.isa.document import SECTIONS, document, family, row_name
from pvfast.isa.forms import FORMS

DOCS = Path(__file__).parents[2] / "docs"


def recorded() -> dict[str, int]:
    return json.loads((DOCS / "differential.json").read_text(encoding="utf-8"))["rows"]


def test_the_committed_table_is_up_to_date() -> None:
    assert (DOCS / "instructions.md").read_text(encoding="utf-8") == document(recorded()), "run `make instructions`"


def test_every_row_has_a_line_in_a_section_with_a_title() -> None:
    lines = document({}).splitlines()
    assert [form for form in FORMS if family(form) not in SECTIONS] == []
    assert sum(line.startswith("| `") for line in lines) == len(FORMS)


def test_rows_have_names_of_their_own() -> None:
    assert len({row_name(form) for form in FORMS}) == len(FORMS)


def test_cases_stand_behind_their_row() -> None:
    line = next(line for line in document({"01 /r ADD r/m32, r32": 17}).splitlines() if "ADD r/m32, r32" in line)
    assert line == "| `01 /r` | ADD r/m32, r32 | rw r |  | oszapc |  | LOCK | alu | 17 |"
