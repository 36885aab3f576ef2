"""The call-site macros of each era, one row each, and the way back from bytes to a row.

A shape is a form (the instructions, from ``sites.py``) with the operations it goes through, its patch type
and what its record says about clobbers. ``patcher.py`` uses `classify` to make a compiled site direct.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from types import MappingProxyType

from pvfast.errors import PatchError, PvfastError
from pvfast.paravirt.operations import FUSED_PARTS, Convention, Era
from pvfast.paravirt.operations import era as find_era
from pvfast.paravirt.sites import (
    CALL_6,
    CALL_10,
    CALL_18,
    CALL_ABSOLUTE_7,
    CALL_CS_11,
    CALL_CS_13,
    CALL_RELATIVE_6,
    CLBR_ANY,
    CLBR_EAX,
    CLBR_NONE,
    CLBR_RET_REG,
    FORMS,
    JMP_CS_7,
    PatchSite,
    PatchType,
    SiteForm,
    saving_form,
)


@dataclass(frozen=True, slots=True)
class SiteShape:
    """One macro or inline function that makes a site.

    Attributes
    ----------
    name : str
        As in the kernel's source.
    form : SiteForm
        Its instructions.
    operations : tuple of str
        The members of ``paravirt_ops`` it goes through, in order.
    type : int or None
        None: the site has no record and is never patched.
    clobbers : int or None
        None: the macro takes them as an argument.
    saves : bool
        Whether the form depends on the clobbers: it pushes what it must keep. `form` is the longest then.

    Examples
    --------
    >>> shape = SHAPES["raw_local_irq_disable"]
    >>> shape.length
    10
    >>> shape.code({"irq_disable": 0xC0400068}).hex()
    '5152ff15680040c05a59'
    >>> shape.text({"irq_disable": "paravirt_ops+104"})
    'push %ecx; push %edx; call *paravirt_ops+104; pop %edx; pop %ecx'
    """

    name: str
    form: SiteForm
    operations: tuple[str, ...]
    type: int | None
    clobbers: int | None
    saves: bool = False

    def with_clobbers(self, clobbers: int) -> "SiteShape":
        """What the macro makes of an argument."""
        return replace(self, clobbers=clobbers, form=saving_form(clobbers) if self.saves else self.form, saves=False)

    @property
    def length(self) -> int:
        """Bytes of the site."""
        return self.form.length

    def code(self, pointers: Mapping[str, int], address: int = 0) -> bytes:
        """Encode the site as compiled, for `address`; `pointers` maps operations to the addresses of their pointers."""
        return self.form.indirect([pointers[operation] for operation in self.operations], address)

    def direct(self, address: int, targets: Mapping[str, int], nop_family: str = "generic") -> bytes:
        """Encode the site at `address` with direct transfers to the operations' implementations."""
        return self.form.direct(address, [targets[operation] for operation in self.operations], nop_family)

    def text(self, pointers: Mapping[str, int | str]) -> str:
        """AT&T text of the site as compiled; a pointer may be a symbol."""
        return self.form.text([pointers[operation] for operation in self.operations])

    def site(self, address: int, clobbers: int | None = None) -> PatchSite:
        """Make the record of this shape at `address`.

        Raises
        ------
        PatchError
            The shape has no record, or its clobbers are missing or fixed to something else.
        """
        if self.type is None:
            raise PatchError(f"{self.name} at {address:#x} has no record: it is never patched")
        if self.clobbers is not None and clobbers not in (None, self.clobbers):
            raise PatchError(f"{self.name} at {address:#x}: its clobbers are always {self.clobbers}")
        chosen = self.clobbers if clobbers is None else clobbers
        if chosen is None:
            raise PatchError(f"{self.name} at {address:#x}: say its clobbers, they are the macro's argument")
        return PatchSite(address, self.type, self.with_clobbers(chosen).length, chosen)


def _constant_types() -> tuple[SiteShape, ...]:
    """2.6.20 and 2.6.21: the seven kinds of site that have records, and one that has none."""
    return (
        # C: the compiler knows only EAX and the flags as destroyed, so ECX and EDX are saved around the call.
        SiteShape("__raw_local_save_flags", CALL_10, ("save_fl",), PatchType.SAVE_FLAGS, CLBR_NONE),
        SiteShape("raw_local_irq_restore", CALL_10, ("restore_fl",), PatchType.RESTORE_FLAGS, CLBR_EAX),
        SiteShape("raw_local_irq_disable", CALL_10, ("irq_disable",), PatchType.IRQ_DISABLE, CLBR_EAX),
        SiteShape("raw_local_irq_enable", CALL_10, ("irq_enable",), PatchType.IRQ_ENABLE, CLBR_EAX),
        SiteShape("__raw_local_irq_save", CALL_18, FUSED_PARTS, PatchType.SAVE_FLAGS_IRQ_DISABLE,
                  CLBR_NONE),
        # entry.S; %cs: because the data segments may still be the user's.
        SiteShape("INTERRUPT_RETURN", JMP_CS_7, ("iret",), PatchType.INTERRUPT_RETURN, CLBR_ANY),
        SiteShape("DISABLE_INTERRUPTS", CALL_10, ("irq_disable",), PatchType.IRQ_DISABLE, None),
        SiteShape("ENABLE_INTERRUPTS", CALL_CS_11, ("irq_enable",), PatchType.IRQ_ENABLE, None),
        SiteShape("ENABLE_INTERRUPTS_SYSEXIT", JMP_CS_7, ("irq_enable_sysexit",), PatchType.STI_SYSEXIT, CLBR_ANY),
        SiteShape("GET_CR0_INTO_EAX", CALL_6, ("read_cr0",), None, None),
    )


def _offset_types(era: Era) -> tuple[SiteShape, ...]:
    """From 2.6.22: the result of save_fl counts as destroyed, and the assembly sites save EAX too.

    There is no fused site: ``__raw_local_irq_save`` is the sites of save_fl and irq_disable, one behind the other.
    """
    def shape(name: str, form: SiteForm, operation: str, clobbers: int | None) -> SiteShape:
        return SiteShape(name, form, (operation,), era[operation].patch_type, clobbers)

    return (
        shape("__raw_local_save_flags", CALL_10, "save_fl", CLBR_EAX),
        shape("raw_local_irq_restore", CALL_10, "restore_fl", CLBR_EAX),
        shape("raw_local_irq_disable", CALL_10, "irq_disable", CLBR_EAX),
        shape("raw_local_irq_enable", CALL_10, "irq_enable", CLBR_EAX),
        shape("INTERRUPT_RETURN", JMP_CS_7, "iret", CLBR_NONE),
        shape("DISABLE_INTERRUPTS", CALL_CS_13, "irq_disable", None),
        shape("ENABLE_INTERRUPTS", CALL_CS_13, "irq_enable", None),
        shape("ENABLE_INTERRUPTS_SYSEXIT", JMP_CS_7, "irq_enable_sysexit", CLBR_NONE),
        SiteShape("GET_CR0_INTO_EAX", CALL_10, ("read_cr0",), None, None),
    )


def _callee_save(era: Era) -> tuple[SiteShape, ...]:
    """2.6.30 and 2.6.31: only the result of an operation on the flags is destroyed, so its C site is a bare call."""
    def shape(name: str, form: SiteForm, operation: str, clobbers: int | None) -> SiteShape:
        return SiteShape(name, form, (operation,), era[operation].patch_type, clobbers, saves=clobbers is None)

    return (
        shape("__raw_local_save_flags", CALL_6, "save_fl", CLBR_EAX),
        shape("raw_local_irq_restore", CALL_6, "restore_fl", CLBR_EAX),
        shape("raw_local_irq_disable", CALL_6, "irq_disable", CLBR_EAX),
        shape("raw_local_irq_enable", CALL_6, "irq_enable", CLBR_EAX),
        shape("INTERRUPT_RETURN", JMP_CS_7, "iret", CLBR_NONE),
        shape("DISABLE_INTERRUPTS", saving_form(CLBR_NONE), "irq_disable", None),
        shape("ENABLE_INTERRUPTS", saving_form(CLBR_NONE), "irq_enable", None),
        shape("ENABLE_INTERRUPTS_SYSEXIT", JMP_CS_7, "irq_enable_sysexit", CLBR_NONE),
        SiteShape("GET_CR0_INTO_EAX", CALL_CS_11, ("read_cr0",), None, None),
    )


_MACROS = {
    Convention.CONSTANT_TYPES: lambda _: _constant_types(),
    Convention.OFFSET_TYPES: _offset_types,
    Convention.CALLEE_SAVE: _callee_save,
}


@cache
def shapes(era: Era) -> Mapping[str, SiteShape]:
    """The macros of an era by name.

    Parameters
    ----------
    era : Era
        An i386 kernel's, up to 2.6.31: what is recorded of others is `call_shape`.

    Returns
    -------
    mapping of str to SiteShape

    Raises
    ------
    PvfastError
        The era's macros are not recorded.

    Examples
    --------
    >>> shapes(find_era("2.6.20"))["ENABLE_INTERRUPTS"].length, shapes(find_era("2.6.22"))["ENABLE_INTERRUPTS"].length
    (11, 13)
    """
    if era.bits != 32 or "iret" not in era:
        raise PvfastError(f"the call-site macros of Linux {era.name} with {era.bits} bits are not recorded")
    return MappingProxyType({shape.name: shape for shape in _MACROS[era.convention](era)})


#: Whose x86-64 sites hold the address of the pointer; 5.13 made it relative.
_ABSOLUTE_64 = ("2.6.31", "5.2")


def call_shape(era: Era, operation: str) -> SiteShape:
    """The ordinary call of an operation, from C: ``PVOP_CALL`` from 2.6.22 on, where it has a record.

    Raises
    ------
    PvfastError
        The era has no such operation.

    Examples
    --------
    >>> call_shape(find_era("2.6.20"), "read_cr2").type is None, call_shape(find_era("2.6.22"), "read_cr2").type
    (True, 20)
    >>> [call_shape(find_era(name, bits=64), "irq_disable").length for name in ("2.6.31", "5.2", "6.1")]
    [7, 7, 6]
    """
    row = era[operation]
    if era.convention is Convention.CONSTANT_TYPES or row.patch_type is None:
        return SiteShape("PVOP_CALL", CALL_6, (operation,), None, None)
    if era.bits == 32:
        form, result = CALL_6, CLBR_RET_REG
    else:
        form, result = CALL_ABSOLUTE_7 if era.name in _ABSOLUTE_64 else CALL_RELATIVE_6, CLBR_EAX
    return SiteShape("PVOP_CALL", form, (operation,), row.patch_type, result if row.callee_save else era.any_clobber)


#: Shape name to shape, in 2.6.20.
SHAPES: Mapping[str, SiteShape] = shapes(find_era("2.6.20"))


class SiteState(Enum):
    """How a site reaches its operation now."""

    INDIRECT = "indirect"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Classification:
    """What `classify` found: the form, its state, and the pointers (INDIRECT) or targets (DIRECT)."""

    form: SiteForm
    state: SiteState
    addresses: tuple[int, ...]


def classify(code: bytes, address: int = 0) -> Classification | None:
    """Recognise the bytes of a site.

    Parameters
    ----------
    code : bytes
        The whole site.
    address : int, optional
        Its linear address; direct targets are relative to it.

    Returns
    -------
    Classification or None
        None when the site holds something else: inline code, or no site at all.

    Examples
    --------
    >>> found = classify(bytes.fromhex("5152e819000000905a59"), 0xC0100000)
    >>> found.state.value, [hex(target) for target in found.addresses]
    ('direct', ['0xc0100020'])
    >>> classify(bytes.fromhex("fa908db426000000009090")) is None
    True
    """
    for form in FORMS:
        if form.length == len(code):
            pointers = form.pointers(code)
            if pointers is not None:
                return Classification(form, SiteState.INDIRECT, pointers)
            targets = form.targets(code, address)
            if targets is not None:
                return Classification(form, SiteState.DIRECT, targets)
    return None


def identify(code: bytes, pointers: Mapping[str, int], era: Era | None = None) -> list[SiteShape]:
    """Find the shapes that compile to `code` when the pointers are at the given addresses.

    Parameters
    ----------
    code : bytes
        The whole site, as compiled.
    pointers : mapping of str to int
        Operation to the linear address of its pointer.
    era : Era, optional
        Whose shapes; default: those of 2.6.20.

    Returns
    -------
    list of SiteShape
        The C form and the assembly form of ``irq_disable`` have the same bytes, so there may be two.

    Examples
    --------
    >>> code = bytes.fromhex("5152ff15680040c05a59")
    >>> [shape.name for shape in identify(code, {"irq_disable": 0xC0400068})]
    ['raw_local_irq_disable', 'DISABLE_INTERRUPTS']
    """
    linux = era or find_era("2.6.20")
    known = [call_shape(linux, row.name) for row in linux.operations]
    for shape in shapes(linux).values():
        known += [shape.with_clobbers(each) for each in range(linux.any_clobber + 1)] if shape.saves else [shape]
    return [
        shape for shape in known
        if all(operation in pointers for operation in shape.operations) and shape.code(pointers) == code
    ]
