"""What the guest's sources take from the rest of pvfast: facts go in, assembler symbols and macros come out.

The offsets of ``paravirt_ops`` are those of ``paravirt/operations.py``, the patch sites those of
``paravirt/shapes.py``, Xen's numbers those of ``paravirt/hypervisors/xen_interface.py``: nothing is written
down twice. Next: ``build.py``, which assembles this text before the ``.S`` files.
"""

from collections.abc import Mapping
from enum import IntEnum

from pvfast.paravirt import sites
from pvfast.paravirt.hypervisors import xen_interface
from pvfast.paravirt.hypervisors.xen import IRQ_DISABLE_FORMS
from pvfast.paravirt.operations import Era
from pvfast.paravirt.shapes import SHAPES, SiteShape

#: Where the kernel's linear addresses begin; physical address 0 is there.
PAGE_OFFSET = 0xC0000000
#: Physical address of the image's first byte, as for any kernel of this time.
LOAD_PHYSICAL = 0x100000
#: Linear address of the user program.
USER_TEXT = 0x08048000

#: Values of the data members of ``paravirt_ops`` on bare hardware.
_DATA_MEMBERS = {"kernel_rpl": "0", "paravirt_enabled": "0", "name": "bare_hardware"}

_XEN_ENUMERATIONS: tuple[tuple[str, type[IntEnum], bool], ...] = (
    ("__HYPERVISOR_", xen_interface.Hypercall, True),
    ("SCHEDOP_", xen_interface.SchedOp, True),
    ("VCPUOP_", xen_interface.VcpuOp, True),
    ("MMUEXT_", xen_interface.MmuExt, False),
    ("XEN_ELFNOTE_", xen_interface.ElfNote, False),
)


def symbols(era: Era) -> Mapping[str, int]:
    """Collect every constant that the ``.S`` files may use and do not define.

    Parameters
    ----------
    era : Era
        The layout of ``paravirt_ops``.

    Returns
    -------
    mapping of str to int

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> known = symbols(era("2.6.20"))
    >>> known["PARAVIRT_irq_disable"], known["__HYPERVISOR_iret"], known["SCHEDOP_block"]
    (104, 23, 1)
    """
    found = {"PAGE_OFFSET": PAGE_OFFSET, "USER_TEXT": USER_TEXT, **era.symbols()}
    found |= {name: value for name, value in vars(sites).items() if name.startswith("CLBR_")}
    found |= {
        name: value for name, value in vars(xen_interface).items() if name.isupper() and type(value) is int
    }
    for prefix, members, lower in _XEN_ENUMERATIONS:
        found |= {prefix + (member.name.lower() if lower else member.name): int(member) for member in members}
    return found


def macros() -> str:
    """Write the macros: one per shape of patch site, and one per form of Xen's ``irq_disable``.

    Returns
    -------
    str
        Assembler text; a site's record goes to ``.parainstructions`` as the kernel's own macros do it.

    Examples
    --------
    >>> ".macro raw_local_irq_disable" in macros()
    True
    """
    shapes = "".join(_site_macro(shape) for shape in SHAPES.values())
    forms = "".join(
        f".macro xen_irq_disable_form_{name}\n{text}\n.endm\n" for name, text in IRQ_DISABLE_FORMS.items()
    )
    return shapes + forms


def operations_table(era: Era) -> str:
    """Write ``struct paravirt_ops paravirt_ops``: every pointer is the native function.

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> operations_table(era("2.6.20")).splitlines()[2:7]
    ['paravirt_ops:', '.long 0', '.long 0', '.long bare_hardware', '.long native_patch']
    """
    members = "".join(
        f".long {_DATA_MEMBERS[member.name] if member.is_data else f'native_{member.name}'}\n"
        for member in era.members
    )
    return f".data\n.balign 4\nparavirt_ops:\n{members}"


def _site_macro(shape: SiteShape) -> str:
    pointers = {name: f"paravirt_ops + PARAVIRT_{name}" for name in shape.operations}
    code = shape.text(pointers).replace("; ", "\n")
    if shape.type is None:
        return f".macro {shape.name}\n{code}\n.endm\n"
    argument, clobbers = (" clobbers", "\\clobbers") if shape.clobbers is None else ("", str(shape.clobbers))
    record = f".long 771b\n.byte {int(shape.type)}, 772b - 771b\n.word {clobbers}"
    return (f".macro {shape.name}{argument}\n771:\n{code}\n772:\n"
            f'.pushsection .parainstructions, "a"\n{record}\n.popsection\n.endm\n')
