"""Every patch site of the built-in kernel: a hypervisor goes in; bytes, instructions, cost before and after come out.

The matrix measures operations in loops of their own; this runs each site where it is, once in each form, with whatever
it calls. Next: ``pvfast/report/html.py`` shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pvfast.assembly import show_code
from pvfast.core.engine import StopReason
from pvfast.experiments.matrix import SiteCode
from pvfast.experiments.runs import GuestRun
from pvfast.experiments.tracing import Labels
from pvfast.experiments.workloads import Counts, settings
from pvfast.guest import build
from pvfast.paravirt.operations import FUSED
from pvfast.paravirt.sites import PatchSite
from pvfast.processor import Model

#: Whose sites come to their end whatever the registers hold. The others leave the kernel, or want arguments.
_RETURNING = ("save_fl", "restore_fl", "irq_disable", "irq_enable", FUSED)
_INSTRUCTIONS = 2_000       # more than such an operation takes
_FLAGS = 0x202              # what restore_fl is given: interrupts enabled


@dataclass(frozen=True, slots=True)
class GuestSite:
    """A patch site under a hypervisor.

    Attributes
    ----------
    hypervisor : str
    operation : str
        What its record says it does; ``save_fl_irq_disable`` is the two at once.
    code : SiteCode
        Label and offset, address, bytes; in the instructions, labels stand for addresses.
    unpatched, patched : Counts or None
        Of one execution, the called code included; None where one execution does not come back to the site.
    """

    hypervisor: str
    operation: str
    code: SiteCode
    unpatched: Counts | None
    patched: Counts | None


def guest_sites(hypervisor: str, processor: str | Model = "generic") -> tuple[GuestSite, ...]:
    """The patch sites of the built-in kernel, as compiled and as a hypervisor patches them.

    Parameters
    ----------
    hypervisor : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.
    processor : str or Model, optional
        As `pvfast.processor.load_model` takes it.

    Returns
    -------
    tuple of GuestSite
        By address.

    Raises
    ------
    GuestError
        The kernel did not boot.

    Examples
    --------
    >>> found, = (site for site in guest_sites("native") if site.code.label == "site_save_fl")
    >>> found.operation, found.code.after_text.split("; ")[:2], found.unpatched, found.patched
    ('save_fl', ['pushfl', 'popl %eax'], Counts(instructions=8, cycles=17), Counts(instructions=4, cycles=10))
    """
    setting = settings(build(hypervisor=hypervisor), hypervisor)[0]
    runs = [GuestRun(setting, form, processor) for form in ("indirect", "patched")]
    return tuple(sorted(_sites(hypervisor, runs), key=lambda site: site.code.address))


def _sites(hypervisor: str, runs: list[GuestRun]) -> Iterator[GuestSite]:
    image = runs[0].image
    labels = Labels.of(image)
    for site in image.sites:
        operation = image.era.site_operation(site.type) or ""
        before, after = (run.image.read(site.address, site.length) for run in runs)
        texts = (labels.named(show_code(code, site.address)) for code in (before, after))
        counts = (_cost(run, site) if operation in _RETURNING else None for run in runs)
        code = SiteCode(labels.name(site.address), site.address, before, after, *texts)
        yield GuestSite(hypervisor, operation, code, *counts)


def _cost(run: GuestRun, site: PatchSite) -> Counts | None:
    """What one execution takes, on the kernel's own stack; None when it does not come to the site's end."""
    cpu = run.machine.cpu
    cpu.eax, cpu.eip = _FLAGS, site.address
    stack, before = cpu.esp, Counts.of(run.machine)
    stop = run.machine.run(until=site.end, max_instructions=_INSTRUCTIONS)
    if stop.reason is not StopReason.UNTIL or cpu.esp != stack:
        return None
    return Counts.of(run.machine) - before
