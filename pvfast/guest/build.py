"""Assembling the guest kernel: the ``.S`` files and the prelude go in, a `GuestImage` comes out.

The sections follow each other from linear 0xC0100000 as a linker script would have them; the user program is
linked for its own page and copied into the image. Next: ``image.py``, the result; ``head.S``, the first
instructions.
"""

from functools import cache
from importlib.resources import files
from types import MappingProxyType

from pvfast.assembly import Assembler, Program
from pvfast.errors import ImageError, PvfastError
from pvfast.guest.benchmarks import located
from pvfast.guest.image import GuestImage
from pvfast.guest.notes import parse_notes
from pvfast.guest.prelude import LOAD_PHYSICAL, PAGE_OFFSET, USER_DATA, USER_TEXT, macros, operations_table, symbols
from pvfast.paravirt.hypervisors import hypervisor as find_hypervisor
from pvfast.paravirt.hypervisors.native import Native
from pvfast.paravirt.operations import ERAS, Convention
from pvfast.paravirt.operations import era as paravirt_era
from pvfast.paravirt.probing import PROBE_SECTION
from pvfast.paravirt.sites import unpack_records
from pvfast.paravirt.smp_alternatives import unpack_locks

#: By topic, in link order. That is the order of the probes too, so paravirt.S, with the last resort, is last.
SOURCES = (
    # Numbers, layouts and macros; no code
    "constants.S", "structures.S", "operations.S", "atomic.S",
    # Boot, and the ways into the kernel and out of it
    "head.S", "main.S", "paging_init.S", "traps.S", "entry.S", "syscalls.S", "syscall_table.S",
    # Tasks and memory
    "slab.S", "sched.S", "wait.S", "page_alloc.S", "mm.S", "page_table.S", "mmap.S", "fault.S",
    "fork.S", "exec.S", "exit.S",
    # Files and signals
    "usercopy.S", "files.S", "devices.S", "msr.S", "pipe.S", "signal.S", "signal_task.S", "signal_frame.S",
    # System calls that reach the processor
    "ptrace.S", "time.S", "tls.S", "ldt.S", "suspend.S",
    # What is measured: loops over patch sites, and user programs
    "bench.S", "user.S", "user_io.S", "user_signal.S", "user_pipe.S", "user_process.S", "user_programs.S",
    "user_everything.S",
    # Operations, by who takes them over: bare hardware, Xen, lhype, KVM, VMI (which patches from inside)
    "native_cpu.S", "native_memory.S", "native_irq.S", "native_lock.S",
    "xen_head.S", "xen_irq.S", "xen_iret.S", "xen_multicall.S", "xen_frames.S", "xen_memory.S", "xen_descriptors.S",
    "xen_events.S",
    "lhype_head.S", "lhype_irq.S", "lhype_memory.S",
    "kvm.S",
    "alternative.S", "vmi.S", "vmi_operations.S",
    # Data at known places, and the probe of last resort
    "percpu.S", "paravirt.S",
)

#: The releases whose operations it can be built with, under every hypervisor.
GUEST_ERAS = tuple(name for name in ERAS if paravirt_era(name).convention is not Convention.CALLEE_SAVE)
#: And for bare hardware: no hypervisor's operations keep to the callee-save convention.
NATIVE_ERAS = (*GUEST_ERAS, "2.6.31")

_TEXT = ".text"
_USER_TEXT, _USER_DATA = ".user.text", ".user.data"

#: Sections of the kernel in memory order, those that an era has; the first has an address, the others follow.
_KERNEL_SECTIONS = (
    _TEXT, ".fixup", ".rodata", "__ex_table", ".note.Xen", PROBE_SECTION, ".hypervisorinit", ".entry_reads",
    ".parainstructions", ".smp_locks", ".data", ".data.page", ".data.init_task",
)
_PER_CPU = "per_cpu__"


def source_texts(era: str = "2.6.20", hypervisor: str = Native.name) -> list[tuple[str, str]]:
    """Every text that is assembled, in link order.

    Parameters
    ----------
    era : str, optional
        One of `NATIVE_ERAS`.
    hypervisor : str, optional
        One whose operations the kernel has to hold; the built-in ones are always there.

    Returns
    -------
    list of (str, str)
        File name and contents; the first and the last are generated.

    Examples
    --------
    >>> [name for name, _ in source_texts()][:3]
    ['prelude', 'constants.S', 'structures.S']
    """
    here = files("pvfast.guest")
    texts = [(name, here.joinpath(name).read_text(encoding="utf-8")) for name in SOURCES]
    brought = find_hypervisor(hypervisor).guest_source
    if brought:
        texts.insert(-1, (hypervisor, brought))     # before the probe of last resort
    layout = paravirt_era(era)
    return [("prelude", macros(layout)), *texts, ("paravirt_ops", operations_table(layout))]


def build(era: str = "2.6.20", hypervisor: str = Native.name) -> GuestImage:
    """Assemble the guest kernel; the result is cached.

    Parameters
    ----------
    era : str, optional
        Which release's operations it has: one of `GUEST_ERAS`, or for bare hardware of `NATIVE_ERAS`.
    hypervisor : str, optional
        One whose operations it has to hold besides the built-in ones.

    Returns
    -------
    GuestImage

    Raises
    ------
    PvfastError
        The era is not known or not one of these, or a source is wrong.

    Examples
    --------
    >>> image = build()
    >>> hex(image.labels["paravirt_ops"]) == hex(image.pointers["irq_disable"] - 104)
    True
    >>> build(hypervisor="xen") is image
    True
    """
    known = NATIVE_ERAS if hypervisor == Native.name else GUEST_ERAS
    if era not in known:
        raise PvfastError(f"the guest kernel is not written for the operations of Linux {era} under {hypervisor}: "
                          f"choose {' or '.join(known)}")
    return _assembled(era, hypervisor if find_hypervisor(hypervisor).guest_source else Native.name)


@cache
def _assembled(era: str, hypervisor: str) -> GuestImage:
    layout = paravirt_era(era)
    assembler = Assembler(symbols(layout))
    for name, source in source_texts(era, hypervisor):
        assembler.add(source, name)
    linear = PAGE_OFFSET + LOAD_PHYSICAL
    program = assembler.link({
        _TEXT: linear, **dict.fromkeys(_KERNEL_SECTIONS[1:]), _USER_TEXT: USER_TEXT, _USER_DATA: USER_DATA,
    })
    text = program.sections[_TEXT]
    sites = unpack_records(program.sections[".parainstructions"].code, text.address, text.end, layout.patch_types,
                           layout.any_clobber)
    labels = program.labels
    percpu = labels["boot_pda"]
    return GuestImage(
        era=layout,
        code=_image(program, linear),
        physical=LOAD_PHYSICAL,
        linear=linear,
        labels=labels,
        sections=program.sections,
        sites=tuple(sites),
        smp_locks=unpack_locks(program.sections[".smp_locks"].code, text.address, text.end),
        benchmarks=located(labels),
        symbols=MappingProxyType({
            name.removeprefix(_PER_CPU): address - percpu
            for name, address in labels.items() if name.startswith(_PER_CPU)
        }),
        notes=parse_notes(program.sections[".note.Xen"].code),
    )


def _image(program: Program, linear: int) -> bytes:
    sections = [program.sections[name] for name in _KERNEL_SECTIONS if name in program.sections]
    code = bytearray(max(section.end for section in sections) - linear)
    for section in sections:
        code[section.address - linear:section.end - linear] = section.code
    for name, place, end in ((_USER_TEXT, "user_text_page", "user_data_page"),
                             (_USER_DATA, "user_data_page", "empty_zero_page")):
        section = program.sections[name]
        page, room = program.labels[place] - linear, program.labels[end] - program.labels[place]
        if len(section.code) > room:
            raise ImageError(f"{name} has {len(section.code)} bytes: its pages hold {room}")
        code[page:page + len(section.code)] = section.code
    return bytes(code)
