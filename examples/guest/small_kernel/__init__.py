"""A guest of one's own: kernel.S goes in; its image, its patch sites and what its loops cost come out.

What it takes from pvfast: `Assembler`, which links the source; `unpack_records`, `apply_direct_calls` and
`apply_paravirt`, which do to its sites what a kernel's boot does; `Machine`; and `measure_loop`.
"""

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from pvfast import GuestError, Machine, StopReason
from pvfast.assembly import AssembledSection, Assembler
from pvfast.experiments import FORMS, Counts, measure_loop
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.patcher import apply_direct_calls, apply_paravirt
from pvfast.paravirt.sites import CLBR_EAX, CLBR_NONE, PatchSite, PatchType, unpack_records

__all__ = ["FORMS", "LOOPS", "Guest", "Image", "build", "per_iteration"]

#: The labels that can be measured.
LOOPS = ("critical_section", "lock_alone")
OPERATIONS = ("save_fl", "restore_fl", "irq_disable")
LINEAR, STACK, RAM = 0x100000, 0x90000, "2M"
#: More than an iteration takes.
ITERATION_INSTRUCTIONS = 1_000
_SYMBOLS = {"CLBR_NONE": CLBR_NONE, "CLBR_EAX": CLBR_EAX, **{kind.name: int(kind) for kind in PatchType}}


@dataclass(frozen=True)
class Image:
    """The linked kernel: its code, which patching changes, its data, and where things are."""

    text: AssembledSection
    data: AssembledSection
    labels: dict[str, int]
    sites: tuple[PatchSite, ...]

    def formed(self, form: str) -> "Image":
        """Its sites as compiled, as direct calls, or patched for bare hardware."""
        code = self.text.code
        if form == "direct":
            targets = {self.labels[name]: self.labels[f"native_{name}"] for name in OPERATIONS}
            code = apply_direct_calls(code, LINEAR, self.sites, targets)
        elif form == "patched":
            code = apply_paravirt(code, LINEAR, self.sites, hypervisor("native").patcher())
        return replace(self, text=replace(self.text, code=code))

    @property
    def site_bytes(self) -> int:
        """Bytes that the patcher may change."""
        return sum(site.length for site in self.sites)


@cache
def build() -> Image:
    """Assemble and link kernel.S."""
    assembler = Assembler(_SYMBOLS)
    assembler.add(files(__name__).joinpath("kernel.S").read_text(encoding="utf-8"), "kernel.S")
    program = assembler.link({".text": LINEAR, ".parainstructions": None, ".data": None})
    text = program.sections[".text"]
    sites = unpack_records(program.sections[".parainstructions"].code, text.address, text.end)
    return Image(text, program.sections[".data"], dict(program.labels), tuple(sites))


class Guest:
    """A machine with the kernel in it, its sites in one of `FORMS`."""

    def __init__(self, form: str, processor: str = "generic") -> None:
        self.image = build().formed(form)
        self.machine = Machine(ram=RAM, processor=processor)
        for section in (self.image.text, self.image.data):
            self.machine.write(section.address, section.code)

    def loop(self, name: str, iterations: int) -> None:
        """Run a loop from its label to ``done``."""
        cpu, labels = self.machine.cpu, self.image.labels
        cpu.eip, cpu.esp, cpu.ecx = labels[name], STACK, iterations
        stop = self.machine.run(until=labels["done"], max_instructions=iterations * ITERATION_INSTRUCTIONS)
        if stop.reason is not StopReason.UNTIL:
            raise GuestError(f"{name} did not come to its end: {stop}")


def per_iteration(name: str, form: str, processor: str = "generic") -> Counts:
    """Instructions and modelled cycles of one iteration of a loop: exact, and equal on every run."""
    guest = Guest(form, processor)
    return measure_loop(guest.machine, lambda iterations: guest.loop(name, iterations), name)
