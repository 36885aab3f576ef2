"""What the gate compares of a kernel image: the image goes in, points and code of every patch site come out.

Sites are named by operation, section and function, and numbered there; in their code symbols stand for addresses. So
two builds of a kernel can be compared, in which everything lies elsewhere. Next: baseline.py.
"""

import os
import re
from collections import Counter

from pvfast.assembly import disassemble, show_code
from pvfast.errors import ImageError
from pvfast.experiments import run_kernel
from pvfast.experiments.matrix import Progress
from pvfast.experiments.tracing import Labels
from pvfast.gate.measurement import FIGURES, Measurement, Site, subject_of
from pvfast.images import KernelImage, load_kernel
from pvfast.images.kallsyms import read_kallsyms
from pvfast.paravirt.linux import boot_patch

#: As capstone writes the NOP families: NOP and its long forms, XCHG, LEA and MOV of a register to itself.
_FILLER = re.compile(r"nop|xchgw %ax, %ax$|(?:lea|mov)[lq] (?:\((?:, )?)?(%\w+)\)?, \1$")
#: What a call or jump through memory goes through: in a patch site, the pointer of its operation.
_POINTER = re.compile(r"\*(?:%cs:)?-?0x[0-9a-f]+(?:\(%rip\))?")


def measure_kernel(
    image: KernelImage | str | os.PathLike[str], *, processor: str = "generic", progress: Progress | None = None
) -> Measurement:
    """Measure every patch site of a kernel image for the gate.

    Each site is a row of its own: ``lock.kick/.text/__pv_queued_spin_unlock_slowpath#1`` is the first one of that
    operation in that function. A 32-bit kernel has rows per operation as well, one site of which is run.

    Parameters
    ----------
    image : KernelImage or path
    processor : str, optional
        A model of `pvfast.processor`.
    progress : callable, optional
        Called with (done, total, what comes next).

    Returns
    -------
    Measurement

    Raises
    ------
    ImageError
        The image is damaged, or not one site of it can be decided.
    """
    kernel = image if isinstance(image, KernelImage) else load_kernel(image)
    names = _Names(kernel)
    points: dict[str, int] = {}
    sites: dict[str, tuple[Site, ...]] = {}
    skipped = {}
    counted: Counter[str] = Counter()
    for site in sorted(boot_patch(kernel).sites, key=lambda site: site.record.address):
        record = site.record
        operation = site.operation or f"type {record.type}"
        counted[operation] += 1
        name = names.row(operation, record.section, record.address)
        if site.after is None:
            skipped[name] = site.reason
            continue
        sites[name] = (names.site(name, operation, record.address, site.before, site.after),)
        points[f"{name}/instructions"] = working_instructions(site.after, kernel.bits)
    if not points:
        raise ImageError(f"not one of the {len(skipped)} patch sites can be decided: "
                         f"{next(iter(skipped.values()), 'the image has none')}")
    points |= {f"{operation}/sites": number for operation, number in counted.items()}
    if kernel.bits == 32:
        for row in run_kernel(kernel, processor=processor, progress=progress).rows:
            if row.unpatched is None or row.patched is None or row.after is None:
                skipped[row.operation] = row.reason
                continue
            run = names.site("the one that is run", row.operation, row.address, row.before, row.after)
            sites[row.operation] = (run,)
            for form, counts in (("unpatched", row.unpatched), ("patched", row.patched)):
                points |= {f"{row.operation}/{form}/{figure}": getattr(counts, figure) for figure in FIGURES}
    subject = subject_of(kernel.banner or "a kernel without a version banner", kernel.data, processor)
    return Measurement(subject, points, sites, skipped=skipped)


class _Names:
    """Names that another build of the kernel has too; without kallsyms, sites are numbered in their section."""

    def __init__(self, kernel: KernelImage) -> None:
        self._bits = kernel.bits
        symbols = read_kallsyms(kernel).names
        self._labels = Labels([(address, names[0]) for address, names in symbols.items() if names[0].isprintable()],
                              max(section.address + section.size for section in kernel.sections))
        self._numbers: Counter[str] = Counter()

    def row(self, operation: str, section: str, address: int) -> str:
        place = "/".join(filter(None, (operation, section, self._labels.enclosing(address))))
        self._numbers[place] += 1
        return f"{place}#{self._numbers[place]}"

    def site(self, label: str, operation: str, address: int, before: bytes, after: bytes) -> Site:
        texts = (self._labels.named(_POINTER.sub(f"*{operation}", show_code(code, address, self._bits)))
                 for code in (before, after))
        return Site(label, before.hex(), after.hex(), *texts)


def working_instructions(code: bytes, bits: int) -> int:
    """How many instructions of a patched site do something; what fills it up does not count.

    Examples
    --------
    >>> working_instructions(bytes.fromhex("fa908db42600000000"), 32)
    1
    """
    return sum(not is_filler(row.text) for row in disassemble(code, 0, bits))


def is_filler(text: str) -> bool:
    """Whether disassembled text is one of the NOPs that patchers use: of any family, also LEA and MOV to itself.

    Examples
    --------
    >>> [is_filler(text) for text in ("leal (, %eax), %eax", "nopw (%rax, %rax)", "movl %esi, %edi")]
    [True, True, False]
    """
    return _FILLER.match(text) is not None
