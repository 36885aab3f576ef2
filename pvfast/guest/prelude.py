"""What the guest's sources take from the rest of pvfast: facts go in, assembler symbols and macros come out.

The offsets of ``paravirt_ops`` are those of ``paravirt/operations.py``, the patch sites those of
``paravirt/shapes.py``, hypervisors' numbers those of ``paravirt/hypervisors/*_interface.py``: nothing is written
down twice. Next: ``build.py``, which assembles this text before the ``.S`` files.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import ModuleType

from pvfast.assembly.nops import FAMILIES, NOP_MAX
from pvfast.paravirt import probing, sites
from pvfast.paravirt.hypervisors import kvm_interface, lhype_interface, vmi_interface, xen_interface
from pvfast.paravirt.hypervisors.vmi import PARA_FILL, PARA_WRAP
from pvfast.paravirt.hypervisors.xen_forms import DIRECT_FORMS, IRQ_DISABLE_FORMS, direct_text
from pvfast.paravirt.operations import ONE_STRUCTURE, Convention, Era
from pvfast.paravirt.patcher import MAX_PATCH_LEN
from pvfast.paravirt.shapes import SiteShape, call_shape, shapes

#: Where the kernel's linear addresses begin; physical address 0 is there.
PAGE_OFFSET = 0xC0000000
#: Physical address of the image's first byte, as for any kernel of this time.
LOAD_PHYSICAL = 0x100000
#: Linear addresses of the built-in user programs: their instructions, which they share, and their data.
USER_TEXT = 0x08048000
USER_DATA = 0x0804C000

#: Values of the data members of ``paravirt_ops`` on bare hardware.
_DATA_MEMBERS = {"kernel_rpl": "0", "shared_kernel_pmd": "1", "paravirt_enabled": "0", "name": "bare_hardware"}

#: Symbols of the patch types that are offsets: ``PARAVIRT_PATCH(x)`` in the kernel.
_PATCH = "PARAVIRT_PATCH_"
_CLOBBERS = "PARAVIRT_CLOBBERS_"

#: Where there is no site for both, the flags wait on the stack: the second site may destroy EAX.
_IRQ_SAVE = """.macro __raw_local_irq_save
__raw_local_save_flags
push %eax
raw_local_irq_disable
pop %eax
.endm
"""

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
    found = {"PAGE_OFFSET": PAGE_OFFSET, "USER_TEXT": USER_TEXT, "USER_DATA": USER_DATA, **era.symbols()}
    found |= {f"ARGUMENTS_{name}": row.argument_words for row in era.operations for name in (row.name, row.label)}
    if era.convention is not Convention.CONSTANT_TYPES:
        for row in era.operations:
            shape = call_shape(era, row.name)
            if shape.type is not None and shape.clobbers is not None:
                for each in (row.name, row.label):
                    found |= {f"{_PATCH}{each}": shape.type, f"{_CLOBBERS}{each}": shape.clobbers}
    found |= {name: value for name, value in vars(sites).items() if name.startswith("CLBR_")}
    found["CLBR_ANY"] = era.any_clobber
    found[f"DISCOVERY_{probing.discovery(era).name}"] = 1
    found |= {"BP_VERSION": probing.BP_VERSION, "BP_HARDWARE_SUBARCH": probing.BP_HARDWARE_SUBARCH,
              "BOOT_PROTOCOL_2_07": probing.BOOT_PROTOCOL_2_07}
    found |= {f"X86_SUBARCH_{kind.name}": int(kind) for kind in probing.Subarch}
    found |= {
        name: value for name, value in vars(xen_interface).items() if name.isupper() and type(value) is int
    }
    found |= {f"SITE_TYPE_{name}": number for number in range(256) if (name := era.site_operation(number))}
    found |= {"ASM_NOP_MAX": NOP_MAX, "MAX_PATCH_LEN": MAX_PATCH_LEN}
    for prefix, members, lower in _XEN_ENUMERATIONS:
        found |= {prefix + (member.name.lower() if lower else member.name): int(member) for member in members}
    return found | _constants(lhype_interface) | _constants(kvm_interface) | _constants(vmi_interface)


def _constants(interface: ModuleType) -> dict[str, int]:
    """A hypervisor's numbers by the names that its host has for them too (setup.py, write_numbers)."""
    found: dict[str, int] = {}
    for name, value in vars(interface).items():
        if name.isupper() and type(value) is int:
            found[name] = value
        elif isinstance(value, type) and issubclass(value, IntEnum) and hasattr(value, "prefix"):
            found |= {value.prefix() + member.name: int(member) for member in value}
    return found


def macros(era: Era) -> str:
    """Write the macros: ``paravirt_call``, one per shape of patch site, one per form of Xen's operations,
    lhype's signature, rows of VMI's operations and of NOPs.

    Parameters
    ----------
    era : Era
        How its calls and sites are made.

    Returns
    -------
    str
        Assembler text; a site's record goes to ``.parainstructions`` as the kernel's own macros do it.

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> ".macro raw_local_irq_disable" in macros(era("2.6.20"))
    True
    """
    sites = "".join(_site_macro(shape) for shape in shapes(era).values())
    if era.convention is not Convention.CONSTANT_TYPES:
        sites += _IRQ_SAVE
    forms = {f"xen_irq_disable_form_{name}": text for name, text in IRQ_DISABLE_FORMS.items()}
    forms |= {f"xen_{name}_direct_form": direct_text(text) for name, text in DIRECT_FORMS.items()}
    bodies = "".join(f".macro {name}\n{text}\n.endm\n" for name, text in forms.items())
    signature = f'.macro lguest_signature\n.ascii "{lhype_interface.LGUEST_SIGNATURE.decode()}"\n.endm\n'
    return _paravirt_call(era) + sites + bodies + signature + _vmi_rows() + _nop_rows()


def operations_table(era: Era) -> str:
    """Write ``struct paravirt_ops paravirt_ops``: every pointer is the native function.

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> operations_table(era("2.6.20")).splitlines()[2:7]
    ['paravirt_ops:', '.long 0', '.long 0', '.long bare_hardware', '.long native_patch']
    """
    lines = [".data", ".balign 4", "paravirt_ops:"]
    for structure, members in era.structures.items():
        if structure != ONE_STRUCTURE:
            lines.append(f"{structure}:")
        lines += (
            f".long {_DATA_MEMBERS[member.name] if member.is_data else f'native_{member.label}'}" for member in members
        )
    return "\n".join(lines) + "\n"


def _paravirt_call(era: Era) -> str:
    """``paravirt_call operation``, the ordinary call: a site with a record, where the era makes one of it."""
    call = "call *paravirt_ops + PARAVIRT_\\operation"
    if era.convention is not Convention.CONSTANT_TYPES:
        site = _recorded(call, f"{_PATCH}\\operation", f"{_CLOBBERS}\\operation")
        call = f".ifdef {_PATCH}\\operation\n{site}.else\n{call}\n.endif"
    return f".macro paravirt_call operation\n{call}\n.endm\n"


def _vmi_rows() -> str:
    """Operations that VMI takes over, for the table in ``vmi.S``; those that the era does not have drop out there."""
    rows = [f"para_fill {name}, {call.name}\n" for name, call in PARA_FILL.items()]
    rows += [f"para_wrap {name}, {call.name}\n" for name, call in PARA_WRAP.items()]
    return f".macro vmi_paravirt_rows\n{''.join(rows)}.endm\n"


def _nop_rows() -> str:
    """The NOPs of each length that the kernel itself pads with, in rows of equal length."""
    rows = [f".byte {', '.join(map(str, row.ljust(NOP_MAX, bytes(1))))}\n" for row in FAMILIES["generic"][1:]]
    return f".macro intel_nop_rows\n{''.join(rows)}.endm\n"


def _site_macro(shape: SiteShape) -> str:
    pointers = {name: f"paravirt_ops + PARAVIRT_{name}" for name in shape.operations}
    code = (_saving_text(shape, pointers) if shape.saves else shape.text(pointers)).replace("; ", "\n")
    if shape.type is None:
        return f".macro {shape.name}\n{code}\n.endm\n"
    argument, clobbers = (" clobbers", "\\clobbers") if shape.clobbers is None else ("", str(shape.clobbers))
    return f".macro {shape.name}{argument}\n{_recorded(code, str(int(shape.type)), clobbers)}.endm\n"


def _saving_text(shape: SiteShape, pointers: Mapping[str, str]) -> str:
    """``PV_SAVE_REGS``: each push and its pop stand there unless the clobbers, or the callee, make it needless."""
    def guarded(clobbers: int, text: str) -> str:
        return f".if ((\\clobbers) & {clobbers}) == 0\n{text}\n.endif"

    lines = shape.text(pointers).split("; ")
    saved = [clobbers for clobbers, *_ in sites.PV_SAVE_REGS if not clobbers & sites.CLBR_ECX]
    pushes = [guarded(clobbers, line) for clobbers, line in zip(saved, lines, strict=False)]
    pops = [guarded(clobbers, line) for clobbers, line in zip(reversed(saved), lines[-len(saved):], strict=True)]
    return "\n".join([*pushes, lines[len(saved)], *pops])


def _recorded(code: str, patch_type: str, clobbers: str) -> str:
    """A patch site and its record."""
    record = f".long 771b\n.byte {patch_type}, 772b - 771b\n.word {clobbers}"
    return f'771:\n{code}\n772:\n.pushsection .parainstructions, "a"\n{record}\n.popsection\n'
