"""What the gate compares: the built-in guest goes in, exact points and the code behind them come out.

A *row* is an operation under a hypervisor, a *point* one integer of it: ``native/irq_disable/patched/cycles``. Beside
the points stand the patch sites of each row and the instructions that each form executes. Next: kernel_measurement.py,
the same of a kernel image; baseline.py.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pvfast.errors import GuestError
from pvfast.experiments import FORMS, GuestRun, run_matrix, settings
from pvfast.experiments.matrix import Progress
from pvfast.experiments.tracing import Labels, path, profile
from pvfast.guest import build
from pvfast.paravirt.hypervisors import hypervisor_names
from pvfast.processor import load_model

FIGURES = ("instructions", "cycles")
UNITS: Mapping[str, str] = MappingProxyType({
    "instructions": "retired per operation or iteration of a workload; of a site: that do something",
    "cycles": "modelled per operation or iteration, by the processor model",
    "sites": "patch sites of the operation",
    "operations": "paravirt operations executed per iteration of a workload",
})
"""Units by the last part of a point's name."""

#: Forms whose workloads have profiles; the direct one is the indirect one with other calls.
_PROFILED = ("indirect", "patched")


@dataclass(frozen=True, slots=True)
class Site:
    """A patch site as compiled (`before`) and patched (`after`): hexadecimal bytes, and AT&T text.

    In the text of the built-in guest, labels stand for addresses: it does not change when code elsewhere moves.

    Examples
    --------
    >>> Site("mine", "fa90", "9090", "cli; nop", "nop; nop").code
    (2, 'cli; nop', 'nop; nop')
    """

    label: str
    before: str
    after: str
    before_text: str
    after_text: str

    @property
    def code(self) -> tuple[int, str, str]:
        """What makes two sites the same, wherever they lie: length and texts."""
        return len(self.before) // 2, self.before_text, self.after_text


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything that a baseline holds.

    Attributes
    ----------
    subject : mapping of str to str
        What was measured and what the figures depend on: names, and SHA-256 of image and cost model.
    points : mapping of str to int
        Figures by name; the last part of a name is the unit's (`UNITS`).
    sites : mapping of str to tuple of Site
        By row.
    paths : mapping of str to tuple of str
        Of operations: the instructions that one iteration executes, by row and form.
    profiles : mapping of str to mapping of str to int
        Of workloads: how many instructions an iteration executes by the guest's labels; by row and form, indirect or
        patched.
    skipped : mapping of str to str
        Rows that could not be measured, or were not asked for, and why. Not in the file.
    """

    subject: Mapping[str, str]
    points: Mapping[str, int]
    sites: Mapping[str, tuple[Site, ...]] = field(default_factory=lambda: MappingProxyType({}))
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    profiles: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    skipped: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def row_of(point: str) -> str:
    """The row that a point belongs to.

    Examples
    --------
    >>> row_of("xen/irq_disable/inline/patched/cycles"), row_of("native/iret/sites")
    ('xen/irq_disable/inline', 'native/iret')
    """
    row, _, _ = point.rpartition("/")
    head, _, form = row.rpartition("/")
    return head if form in (*FORMS, "unpatched") else row


def measure_guest(
    hypervisors: Iterable[str] = (),
    operations: Iterable[str] = (),
    *,
    processor: str = "generic",
    progress: Progress | None = None,
) -> Measurement:
    """Measure the built-in guest kernel for the gate.

    Parameters
    ----------
    hypervisors : iterable of str, optional
        Names; every one that is installed, those of other packages too, unless given.
    operations : iterable of str, optional
        As `run_matrix` takes them; all unless given.
    processor : str, optional
        A model of `pvfast.processor`.
    progress : callable, optional
        Called with (done, total, what comes next).

    Returns
    -------
    Measurement

    Raises
    ------
    GuestError
        Nothing could be measured, or a guest did not do what it should.

    Examples
    --------
    >>> found = measure_guest(["native"], ["irq_disable"])
    >>> found.points["native/irq_disable/patched/instructions"]
    4
    >>> found.paths["native/irq_disable/patched"][2:4]
    ('cli', 'nop')
    """
    matrix = run_matrix(tuple(hypervisors) or hypervisor_names(), operations, processor=processor, progress=progress)
    points: dict[str, int] = {}
    sites: dict[str, tuple[Site, ...]] = {}
    paths: dict[str, tuple[str, ...]] = {}
    profiles: dict[str, dict[str, int]] = {}
    skipped = {}
    runs: dict[tuple[str, str, str], GuestRun] = {}
    every = {(setting.hypervisor, setting.variant): setting for name in sorted({row.hypervisor for row in matrix.rows})
             for setting in settings(build(hypervisor=name), name)}
    for row in matrix.rows:
        name = "/".join(part for part in row.key if part)
        if row not in matrix.measured:
            skipped[name] = row.note
            continue
        labels = Labels.of(every[row.hypervisor, row.variant].image)
        sites[name] = tuple(Site(site.label, site.before.hex(), site.after.hex(), labels.named(site.before_text),
                                 labels.named(site.after_text)) for site in row.sites)
        if row.is_workload:
            points[f"{name}/operations"] = row.executed
        else:
            points[f"{name}/sites"] = len(row.sites)
        for form, counts in row.counts().items():
            if counts is None:
                continue
            points |= {f"{name}/{form}/{figure}": getattr(counts, figure) for figure in FIGURES}
            key = (row.hypervisor, row.variant, form)
            if key not in runs:
                runs[key] = GuestRun(every[key[:2]], form, processor)
            if not row.is_workload:
                paths[f"{name}/{form}"] = path(runs[key], row.benchmark)
            elif form in _PROFILED:
                profiles[f"{name}/{form}"] = dict(profile(runs[key], row.benchmark))
    if not points:
        raise GuestError("the gate measured nothing: no operation that was asked for can run")
    subject = subject_of(f"built-in kernel, Linux {matrix.era}", build().code, processor)
    return Measurement(subject, points, sites, paths, profiles, skipped)


def subject_of(image: str, code: bytes, processor: str) -> dict[str, str]:
    """What figures depend on, for `Measurement.subject`."""
    return {"image": image, "image_sha256": hashlib.sha256(code).hexdigest(), "processor": processor,
            "costs_sha256": load_model(processor).costs_sha256}
