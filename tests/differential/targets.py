"""What every generated handler needs to be chosen, read from the handlers' names.

Enters: names like `h3_add_flat_slot5_reg2_dead`. Leaves: `TARGETS`, to be tried one after the other. Next: runners.py.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS
from pvfast.isa.generate import handler_names

from .builder import SHAPES, row
from .instructions import COMPARED, Choice

NO_BASE, FIRST_INDEX, BASE_AND_INDEX, ANY_BASE, ANY_INDEX = 8, 9, 17, 18, 19
"""The generator's slots: 0-7 are bases alone, 9-16 indices alone."""
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")

ANY = Choice()
_FUSED = {"cmp_rm_reg": ("39 /r", "CMP r/m32, r32"), "cmp_imm": ("83 /7", "CMP r/m32, simm8"),
          "test": ("85 /r", "TEST r/m32, r32"), "test_imm": ("F7 /0", "TEST r/m32, imm32"),
          "sub_imm": ("83 /5", "SUB r/m32, simm8"), "add_imm": ("83 /0", "ADD r/m32, simm8"),
          "and_imm": ("83 /4", "AND r/m32, simm8"), "dec": ("FF /1", "DEC r/m32"), "inc": ("FF /0", "INC r/m32")}
_NAME = re.compile(r"h(?P<form>\d+)_.*?(?P<special>(?:_(?:segment|slot|reg|base)\d+)*)(?P<dead>_dead)?$")
_FUSED_NAME = re.compile(r"fused_(?P<what>[a-z_]+?)_(?P<code>\d+)_(?P<register>\d)$")
_MEMORY_NAME = re.compile(r"fused_cmp_memory8_flat_(?P<code>\d+)$")


@dataclass(frozen=True)
class Target:
    """One row with its choices; `dead`: its flags are not read; `jump`: condition of the branch behind it."""

    form: Form
    choice: Choice = ANY
    dead: bool = False
    jump: int | None = None


def shape_of(slot: int) -> dict[str, str | int | None]:
    if slot < NO_BASE:
        return {"shape": "base", "base": slot}
    if slot == NO_BASE:
        return {"shape": "absolute"}
    if slot < BASE_AND_INDEX:
        return {"shape": "index", "index": slot - FIRST_INDEX}
    return {"shape": {BASE_AND_INDEX: "base+index", ANY_BASE: "base", ANY_INDEX: "index"}[slot]}


def target_of(name: str) -> Target | None:
    """What one specialised handler needs; None for one that the general targets reach."""
    if match := _FUSED_NAME.match(name):
        register = int(match["register"])
        choice = Choice("register", reg=register if match["what"] == "test" else None, base=register)
        return Target(row(*_FUSED[match["what"]]), choice, jump=int(match["code"]))
    if match := _MEMORY_NAME.match(name):
        return Target(row("80 /7", "CMP r/m8, imm8"), Choice("absolute"), jump=int(match["code"]))
    match = _NAME.match(name)
    if not match or not match["special"]:
        return None
    numbers = {key: int(number) for key, number in re.findall(r"(segment|slot|reg|base)(\d+)", match["special"])}
    form = FORMS[int(match["form"]) - 1]
    fields: dict[str, str | int | None] = {"shape": "register", "reg": numbers.get("reg"), "base": numbers.get("base")}
    if not form.has_modrm:
        fields = {"reg": numbers.get("base")}       # +r
    if "slot" in numbers:
        fields |= shape_of(numbers["slot"])
    if "segment" in numbers:
        fields["segment"] = SEGMENTS[numbers["segment"]]
    elif "slot" in numbers:
        fields["segment"] = "default"
    return Target(form, Choice(**fields), bool(match["dead"]))      # type: ignore[arg-type]


def make_targets() -> tuple[Target, ...]:
    """Every row with every shape, its flags wanted and not; then what the specialised handlers need."""
    targets: dict[Target, None] = dict.fromkeys(Target(form) for form in COMPARED)
    for form in COMPARED:
        memory = any(o.startswith(("r/m", "m")) for o in form.operands) or form.takes_memory
        shapes: tuple[str | None, ...] = ("register", *SHAPES) if memory else (None,)
        for shape in shapes:
            for dead in (False, True) if form.writes or not form.feature else (False,):
                targets[Target(form, Choice(shape, segment="default"), dead)] = None
                if shape not in ("register", None):
                    targets[Target(form, Choice(shape, segment="gs"), dead)] = None
    for name in handler_names():
        target = target_of(name)
        if target is not None and target.form in COMPARED:
            targets[target] = None
    return tuple(targets)


TARGETS = make_targets()
