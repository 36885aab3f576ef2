"""Hypervisors by name: the built-in ones and those that other packages bring.

One file per hypervisor; ``interface.py`` says what it has to offer. A package adds one with an entry point in
the group ``pvfast.hypervisors``, named like the hypervisor and naming its class.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from pvfast.errors import PvfastError
from pvfast.paravirt.hypervisors.full import Full
from pvfast.paravirt.hypervisors.interface import Hypervisor, PatchContext
from pvfast.paravirt.hypervisors.kvm import Kvm
from pvfast.paravirt.hypervisors.lhype import Lhype
from pvfast.paravirt.hypervisors.native import Native
from pvfast.paravirt.hypervisors.vmi import Vmi
from pvfast.paravirt.hypervisors.xen import Xen

#: Where other packages announce theirs.
ENTRY_POINT_GROUP = "pvfast.hypervisors"

#: The classes of those that the built-in guest kernel knows, by name.
BUILT_IN: Mapping[str, type[Hypervisor]] = MappingProxyType({
    kind.name: kind for kind in (Native, Xen, Lhype, Vmi, Kvm, Full)
})


def hypervisor(name: str) -> Hypervisor:
    """Make the hypervisor of a name.

    Parameters
    ----------
    name : str
        One of `hypervisor_names`.

    Returns
    -------
    Hypervisor

    Raises
    ------
    PvfastError
        There is none of that name, or what the entry point names is none.

    Examples
    --------
    >>> hypervisor("native").banner
    'bare hardware'
    """
    kind = BUILT_IN.get(name)
    if kind is None:
        found = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
        if len(found) != 1:
            problem = f"{len(found)} packages bring a" if found else "no"
            raise PvfastError(f"{problem} hypervisor {name!r}: choose one of {', '.join(hypervisor_names())}")
        kind = found[0].load()
        if not (isinstance(kind, type) and issubclass(kind, Hypervisor)):
            raise PvfastError(f"the entry point {found[0].value} is no subclass of pvfast's Hypervisor")
    return kind()


def hypervisor_names() -> tuple[str, ...]:
    """Names of all hypervisors, the built-in ones first.

    Examples
    --------
    >>> hypervisor_names()[:2]
    ('native', 'xen')
    """
    brought = sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - set(BUILT_IN))
    return (*BUILT_IN, *brought)


__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "Hypervisor", "Native", "PatchContext", "hypervisor", "hypervisor_names"]
