"""What is run: the guest image goes in; the settings to measure it in, and its image in each form, come out.

A *form* of the patch sites is ``indirect`` (as compiled), ``direct`` (the same pushes and pops around a direct
call) or ``patched`` (what the hypervisor's patch function makes of them). A *setting* is a hypervisor, and for
Xen also which of the three bodies ``irq_disable`` has. Next: ``runs.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pvfast.errors import GuestError
from pvfast.guest import Benchmark, GuestImage
from pvfast.machine import Machine
from pvfast.paravirt.hypervisors import PatchContext, hypervisor
from pvfast.paravirt.hypervisors.vmi import Vmi
from pvfast.paravirt.hypervisors.xen import Xen
from pvfast.paravirt.hypervisors.xen_forms import VCPU_INFO_SYMBOL
from pvfast.paravirt.patcher import apply_direct_calls

#: The forms of the patch sites, in the order of the columns.
FORMS = ("indirect", "direct", "patched")


@dataclass(frozen=True, slots=True)
class Counts:
    """Exact figures of a run, or of one operation.

    Attributes
    ----------
    instructions : int
        Retired; a REP retires once.
    cycles : int
        Modelled by the processor model, not the host's.

    Examples
    --------
    >>> Counts(1600, 3500) - Counts(300, 300)
    Counts(instructions=1300, cycles=3200)
    """

    instructions: int
    cycles: int

    @classmethod
    def of(cls, machine: Machine) -> "Counts":
        """What a machine's counters hold now."""
        counters = machine.counters
        return cls(counters.instructions, counters.cycles)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.instructions - other.instructions, self.cycles - other.cycles)

    def per(self, iterations: int, what: str, mean_cycles: bool = False) -> "Counts":
        """Divide; every iteration must have cost the same.

        Parameters
        ----------
        iterations : int
        what : str
            For the error.
        mean_cycles : bool, optional
            Whether cycles may differ, as they do while a branch predictor learns: then their mean is rounded.

        Raises
        ------
        GuestError
            The figures are no multiple of `iterations`: something other than the loop ran.

        Examples
        --------
        >>> Counts(1300, 3200).per(100, "irq_save")
        Counts(instructions=13, cycles=32)
        """
        if self.instructions % iterations or (self.cycles % iterations and not mean_cycles):
            raise GuestError(f"{what}: {self.instructions} instructions and {self.cycles} cycles are not "
                             f"{iterations} equal iterations: a fault or an interrupt came between; look at the "
                             "machine's counters")
        return Counts(self.instructions // iterations, round(self.cycles / iterations))

    def as_dict(self) -> dict[str, int]:
        """Plain types, for JSON."""
        return {"instructions": self.instructions, "cycles": self.cycles}


def overhead_percent(more: Counts | None, less: Counts | None, figure: str = "cycles") -> float | None:
    """How much more one costs than the other.

    Parameters
    ----------
    more, less : Counts or None
    figure : {"cycles", "instructions"}

    Returns
    -------
    float or None
        Rounded to a tenth; None when there is nothing to compare.

    Examples
    --------
    >>> overhead_percent(Counts(7, 17), Counts(4, 11))
    54.5
    """
    if more is None or less is None or not getattr(less, figure):
        return None
    return round(100 * (getattr(more, figure) - getattr(less, figure)) / getattr(less, figure), 1)


@dataclass(frozen=True, slots=True)
class Setting:
    """A hypervisor to measure under, and what its guest kernel holds there.

    Attributes
    ----------
    hypervisor : str
        Its name.
    image : GuestImage
        As compiled, for one processor.
    variant : str
        Which body ``irq_disable`` has; empty where the kernel decides.
    title : str
        Of the variant, for people.
    pointers : mapping of str to int
        Pointers of ``paravirt_ops`` to set once the kernel has booted: operation to linear address.
    context : PatchContext
        What the patch function is told.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> native, = settings(build(), "native")
    >>> native.formed("patched").read("site_irq_disable", 10).hex(" ")
    'fa 90 8d b4 26 00 00 00 00 90'
    """

    hypervisor: str
    image: GuestImage
    variant: str = ""
    title: str = ""
    pointers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    context: PatchContext = field(default_factory=PatchContext)

    def formed(self, form: str) -> GuestImage:
        """The image with its sites in one of `FORMS`."""
        if form == "indirect":
            return self.image
        if form == "direct":
            goals = {self.image.pointers[name]: target for name, target in self.context.targets.items()}
            image = self.image
            return image.with_patches(
                apply_direct_calls(image.code, image.linear, image.sites, goals, image.nop_family))
        if form == "patched":
            return self.image.patched(hypervisor(self.hypervisor).patcher(self.context))
        raise ValueError(f"form {form!r}: choose one of {', '.join(FORMS)}")

    def benchmarks(self) -> tuple[Benchmark, ...]:
        """What to run here: all loops that have a site and all workloads, or only the variant's operation."""
        found = (each for each in self.image.benchmarks.values() if each.sites or each.is_workload)
        return tuple(each for each in found if not self.variant or each.name == _VARIED)


_VARIED = "irq_disable"
_EXITS = ("iret", "irq_enable_sysexit")


@dataclass(frozen=True, slots=True)
class _Body:
    """One way to ``irq_disable`` under Xen: its label, and whether vcpu_info lies in the per-CPU area."""

    name: str
    title: str
    label: str
    placed: bool
    inlined: bool


#: The talk's three pages, from the slowest to the one that patching makes possible.
_XEN_BODIES = (
    _Body("smp_processor_id", "shared_info[smp_processor_id()]", "xen_irq_disable_shared", False, False),
    _Body("per_cpu", "per-CPU pointer", "xen_irq_disable_percpu", True, False),
    _Body("inline", "vcpu_info in the per-CPU area", "xen_irq_disable_direct", True, True),
)


def settings(image: GuestImage, name: str) -> tuple[Setting, ...]:
    """The settings of one hypervisor: its own, then for Xen one for each body of ``irq_disable``.

    Parameters
    ----------
    image : GuestImage
        From `pvfast.guest.build`.
    name : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.

    Returns
    -------
    tuple of Setting

    Raises
    ------
    ImageError
        The guest kernel has no support for that hypervisor.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> [setting.variant for setting in settings(build(), "xen")]
    ['', 'smp_processor_id', 'per_cpu', 'inline']
    """
    image = image.with_smp_locks(smp=False)     # the machine has one processor, and so boot takes the locks out
    if name == Vmi.name:
        image = _with_exits(image)
    plain = Setting(name, image, context=image.patch_context(name))
    if name != Xen.name:
        return (plain,)
    return (plain, *(_with_body(plain, body) for body in _XEN_BODIES))


def _with_exits(image: GuestImage) -> GuestImage:
    """A kernel that leaves the sites of the flags alone while it boots under VMI; those of iret and sysexit, whose
    pointers lead nowhere, it cannot."""
    patch = Vmi().patcher(image.patch_context(Vmi.name))

    def patch_exits(site_type: int, clobbers: int, insns: bytes, address: int) -> bytes | None:
        leaves = image.era.site_operation(site_type) in _EXITS
        return patch(site_type, clobbers, insns, address) if leaves else None

    return image.patched(patch_exits).with_word("vmi_patch_exits_only", 1)


def _with_body(plain: Setting, body: _Body) -> Setting:
    image = plain.image if body.placed else plain.image.with_word("have_vcpu_info_placement", 0)
    target = {_VARIED: image.labels[body.label]}
    hidden = () if body.inlined else (VCPU_INFO_SYMBOL,)
    symbols = {name: offset for name, offset in plain.context.symbols.items() if name not in hidden}
    targets = {**plain.context.targets, **target}
    return replace(plain, image=image, variant=body.name, title=body.title, pointers=MappingProxyType(target),
                   context=PatchContext(MappingProxyType(targets), MappingProxyType(symbols)))
