"""What one iteration of a loop executes: a `GuestRun` goes in; its instructions or its paravirt operations come out.

The machine is stepped, so this is for a few iterations; how much they cost is the business of ``runs.py``. Next:
``matrix.py``.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pvfast.assembly import disassemble
from pvfast.errors import GuestError
from pvfast.experiments.runs import ITERATION_INSTRUCTIONS, GuestRun
from pvfast.experiments.workloads import FORMS, settings
from pvfast.guest import GuestImage, build
from pvfast.guest.prelude import PAGE_OFFSET, USER_TEXT
from pvfast.paravirt.operations import ARGUMENT_REGISTERS, FUSED, FUSED_PARTS, Operation
from pvfast.paravirt.sites import CALL, CALL_CS, JMP_CS

#: Iterations of a traced run: the last but one is whole, and what only the first ones do is over.
_ITERATIONS = 4
_LONGEST_INSTRUCTION = 15
#: In a profile: code that has no label, because it is not in the kernel's image.
OUTSIDE = "outside the kernel"
_ADDRESS = re.compile(r"0x[0-9a-f]{8}(?:[0-9a-f]{8})?\b")
#: ``call *m32``, and with %cs: before it the call and the jump of entry code.
_THROUGH_THE_TABLE = tuple(transfer.indirect for transfer in (CALL, CALL_CS, JMP_CS))


@dataclass(frozen=True, slots=True)
class TracedOperation:
    """One execution of a paravirt operation.

    Attributes
    ----------
    operation : Operation
        The member of ``paravirt_ops``.
    instruction : int
        Which instruction of the iteration its site begins with, from 0.
    place : str
        The site: label and offset.
    arguments : tuple of int
        The words that its caller put into EAX, EDX and ECX, as many as it takes; others are on the stack.
    """

    operation: Operation
    instruction: int
    place: str
    arguments: tuple[int, ...]


def path(run: GuestRun, name: str) -> tuple[str, ...]:
    """The instructions that one iteration executes, in order, with the image's labels for its addresses.

    Parameters
    ----------
    run : GuestRun
    name : str
        Of a `pvfast.guest.Benchmark`.

    Raises
    ------
    GuestError
        The loop did not come round.

    Examples
    --------
    >>> from pvfast.experiments import GuestRun, settings
    >>> from pvfast.guest import build
    >>> native, = settings(build(), "native")
    >>> path(GuestRun(native, "patched"), "irq_disable")
    ('movl %esi, %eax', 'site_irq_disable:', 'cli', 'nop', 'leal (%esi), %esi', 'nop', 'decl %ebx', 'jne ...')
    """
    run = run.anew()
    labels = Labels.of(run.image)
    lines: list[str] = []
    for place, at in enumerate(_iteration(run, name)):
        label = labels.at(at)
        if label and place:
            lines.append(f"{label}:")
        lines.append(labels.named(disassemble(_code(run, at), at)[0].text))
    return tuple(lines)


def profile(run: GuestRun, name: str) -> tuple[tuple[str, int], ...]:
    """Where one iteration spends its instructions, by the labels of the guest's source.

    Parameters
    ----------
    run : GuestRun
    name : str
        Of a `pvfast.guest.Benchmark`.

    Returns
    -------
    tuple of (str, int)
        Label, and how many instructions were executed from there up to the next one; the most first. `OUTSIDE` stands
        for code that is not the kernel's, such as an option ROM.

    Raises
    ------
    GuestError
        The loop did not come round.

    Examples
    --------
    >>> from pvfast.experiments import GuestRun, settings
    >>> from pvfast.guest import build
    >>> native, = settings(build(), "native")
    >>> profile(GuestRun(native, "indirect"), "irq_disable")
    (('site_irq_disable', 7), ('native_irq_disable', 2), ('bench_irq_disable', 1))
    """
    run = run.anew()
    labels = Labels.of(run.image)
    counted = Counter(labels.enclosing(_kernel_address(run, at)) or OUTSIDE for at in _iteration(run, name))
    return tuple(sorted(counted.items(), key=lambda row: (-row[1], row[0])))


def _code(run: GuestRun, at: int) -> bytes:
    """Bytes at an address; those of a program that is over are still in the kernel's image."""
    return run.machine.read_linear(_kernel_address(run, at), _LONGEST_INSTRUCTION)


def _kernel_address(run: GuestRun, at: int) -> int:
    """Where the kernel has what is at an address: the text of its programs is part of its image."""
    return at if at >= PAGE_OFFSET else at - USER_TEXT + run.image.labels["user_text_page"]


def trace_operations(run: GuestRun, name: str) -> tuple[TracedOperation, ...]:
    """The paravirt operations that one iteration executes, in order.

    Parameters
    ----------
    run : GuestRun
    name : str
        Of a `pvfast.guest.Benchmark`.

    Raises
    ------
    GuestError
        The loop did not come round.

    Examples
    --------
    >>> from pvfast.experiments import GuestRun, settings
    >>> from pvfast.guest import build
    >>> native, = settings(build(), "native")
    >>> [found.operation.name for found in trace_operations(GuestRun(native, "indirect"), "null_syscall_int80")]
    ['irq_disable', 'iret']
    """
    run = run.anew()
    sites, labels, cpu = OperationSites(run.image), Labels.of(run.image), run.machine.cpu
    passed: list[int] = []
    found: list[TracedOperation] = []
    for at in _walk(run, name):
        for operation in sites.at(at):
            words = tuple(getattr(cpu, register) for register in ARGUMENT_REGISTERS[:operation.argument_words])
            found.append(TracedOperation(operation, len(passed), labels.name(at), words))
        passed.append(at)
    first, end = _one_iteration(run, name, passed)
    return tuple(TracedOperation(each.operation, each.instruction - first, each.place, each.arguments)
                 for each in found if first <= each.instruction < end)


def trace_iteration(hypervisor: str, name: str, era: str = "2.6.20") -> tuple[TracedOperation, ...]:
    """`trace_operations` of the kernel as compiled, on a machine of its own.

    Parameters
    ----------
    hypervisor : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.
    name : str
        Of a `pvfast.guest.Benchmark`.
    era : str, optional
        The kernel release.

    Raises
    ------
    GuestError
        It cannot run there.

    Examples
    --------
    >>> [found.operation.name for found in trace_iteration("xen", "null")]
    ['irq_disable', 'iret']
    """
    image = build(era, hypervisor)
    run = GuestRun(settings(image, hypervisor)[0], FORMS[0])
    if missing := run.missing(image.benchmarks[name]):
        raise GuestError(f"{name} under {hypervisor}: {missing}")
    return trace_operations(run, name)


def _walk(run: GuestRun, name: str, iterations: int = _ITERATIONS) -> Iterator[int]:
    """Addresses of the instructions of a run, each before it executes."""
    machine, done = run.machine, run.image.labels["bench_done"]
    run.enter(name, iterations)
    cpu, counters = machine.cpu, machine.counters
    for _ in range(iterations * ITERATION_INSTRUCTIONS):
        at = cpu.eip
        if at == done:
            return
        retired = counters.instructions
        yield at
        machine.step()
        while counters.instructions == retired and cpu.eip == at:     # iterations of a REP
            machine.step()
    raise GuestError(f"{name}: the loop does not end")


def _iteration(run: GuestRun, name: str) -> list[int]:
    """Addresses of the instructions of one iteration."""
    passed = list(_walk(run, name))
    first, end = _one_iteration(run, name, passed)
    return passed[first:end]


def _one_iteration(run: GuestRun, name: str, passed: list[int]) -> tuple[int, int]:
    """Where the last but one iteration begins and ends: at an instruction that is executed once in each.

    What is executed as often by chance, before the loop, is not executed once less in a run of one iteration less.
    """
    times, fewer = Counter(passed), Counter(_walk(run.anew(), name, _ITERATIONS - 1))
    head = next((at for at in passed if times[at] == _ITERATIONS and fewer[at] == _ITERATIONS - 1), None)
    if head is None:
        raise GuestError(f"{name}: no instruction is executed once in each of {_ITERATIONS} iterations")
    starts = [place for place, at in enumerate(passed) if at == head]
    return starts[-2], starts[-1]


class OperationSites:
    """Which operations the code at an address performs: patch sites, and calls through the table without a record.

    Parameters
    ----------
    image : GuestImage
    """

    def __init__(self, image: GuestImage) -> None:
        self._image = image
        self._operations = {address: image.era[name] for name, address in image.pointers.items()}
        self._found: dict[int, tuple[Operation, ...]] = {}
        for site in image.sites:
            name = image.era.site_operation(site.type)
            names = FUSED_PARTS if name == FUSED else (name,) if name else ()
            self._found |= dict.fromkeys(range(site.address, site.end), ())
            self._found[site.address] = tuple(image.era[each] for each in names)

    def at(self, linear: int) -> tuple[Operation, ...]:
        """Those that begin at an address; none inside a site."""
        if linear not in self._found:
            self._found[linear] = self._called(linear)
        return self._found[linear]

    def _called(self, linear: int) -> tuple[Operation, ...]:
        image = self._image
        if image.linear <= linear <= image.end - _LONGEST_INSTRUCTION:
            code = image.read(linear, _LONGEST_INSTRUCTION)
            for opcode in _THROUGH_THE_TABLE:
                pointer = int.from_bytes(code[len(opcode):len(opcode) + 4], "little")
                if code.startswith(opcode) and pointer in self._operations:
                    return (self._operations[pointer],)
        return ()


class Labels:
    """Names for the addresses of an image: a listing that does not change when code elsewhere moves.

    Parameters
    ----------
    names : iterable of (int, str)
        Linear addresses and what is there.
    end : int
        Linear address behind the last byte that has a name.

    Examples
    --------
    >>> labels = Labels([(0xC0100000, "startup_32"), (0xC0100040, "main")], 0xC0100080)
    >>> labels.named("calll 0xc0100048"), labels.at(0xC0100040), labels.name(0xC0100080)
    ('calll main+0x8', 'main', '0xc0100080')
    """

    def __init__(self, names: Iterable[tuple[int, str]], end: int) -> None:
        inside = sorted((address, name) for address, name in names if address < end)
        self._end = end
        self._addresses = [address for address, _ in inside]
        self._names = [name for _, name in inside]

    @classmethod
    def of(cls, image: GuestImage) -> "Labels":
        """Of the built-in kernel: its labels, and the members of its ``paravirt_ops``."""
        pointers = {f"paravirt_ops.{name}": address for name, address in image.pointers.items()}
        return cls([(address, name) for name, address in {**image.labels, **pointers}.items()
                    if address >= image.linear], image.end)

    def at(self, linear: int) -> str:
        """The label at an address; empty when there is none."""
        label, offset = self._last(linear)
        return "" if offset else label

    def named(self, text: str) -> str:
        """Disassembled text, its addresses inside the image as label and offset."""
        return _ADDRESS.sub(lambda match: self.name(int(match[0], 16)), text)

    def name(self, linear: int) -> str:
        """Label and offset of an address; the address itself outside the image."""
        label, offset = self._last(linear)
        if not label:
            return f"{linear:#010x}"
        return label + (f"+{offset:#x}" if offset else "")

    def enclosing(self, linear: int) -> str:
        """The last label up to an address; empty outside the image."""
        return self._last(linear)[0]

    def _last(self, linear: int) -> tuple[str, int]:
        """The last label up to an address, and how far it is behind; no label outside the image."""
        place = bisect_right(self._addresses, linear) - 1
        return (self._names[place], linear - self._addresses[place]) if place >= 0 and linear < self._end else ("", 0)
