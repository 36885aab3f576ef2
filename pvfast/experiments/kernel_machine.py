"""A real 32-bit kernel in a machine, not booted: an image goes in, a machine with its segments mapped comes out.

Physical memory is what the image asks for; behind it come page tables, a stack and a scratch page. The tables map
all of that RAM at the kernel's own linear addresses (physical + PAGE_OFFSET), writable, in 4 KiB pages: the
direct map that Linux itself makes. Nothing else is mapped, so a null pointer faults; there is no IDT, so a fault
ends the run. %fs is flat: per-CPU variables are those of the image, as before setup_per_cpu_areas().
Next: ``kernel_states.py``, what an operation finds in there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pvfast.errors import ImageError
from pvfast.images import KernelImage
from pvfast.machine import Machine

PAGE_BYTES = 4096
STACK_BYTES = 2 * PAGE_BYTES        # THREAD_SIZE of i386
SCRATCH_BYTES = 2 * PAGE_BYTES

_PRESENT_WRITABLE = 0x3             # SDM 3:4.3, table 4-6
_CR0_WP, _CR0_PG = 1 << 16, 1 << 31
_ENTRIES = 1024
#: An image that wants to lie higher is damaged: kernels load low.
_MAX_PHYSICAL = 512 << 20


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """Where things are.

    Attributes
    ----------
    page_offset : int
        Linear minus physical address, of everything.
    page_directory : int
        Physical; CR3.
    stack_top : int
        Linear; ESP of an empty stack.
    scratch : int
        Linear address of the memory that an operation's arguments lie in.
    ram_bytes : int
        Of the machine.
    """

    page_offset: int
    page_directory: int
    stack_top: int
    scratch: int
    ram_bytes: int


def lay_out(image: KernelImage) -> KernelMemory:
    """Choose where everything goes.

    Raises
    ------
    ImageError
        The kernel is not for 32 bits, or its segments do not lie as a Linux kernel's do.
    """
    if image.bits != 32:
        raise ImageError(f"this is a {image.bits}-bit ELF file: pvfast runs the sites of 32-bit kernels; "
                         "`pvfast sites` and `pvfast patch` read both")
    offsets = {segment.linear - segment.physical for segment in image.segments if segment.memory_size}
    end = max(segment.physical + segment.memory_size for segment in image.segments)
    if len(offsets) != 1 or end > _MAX_PHYSICAL:
        raise ImageError(f"the segments end at physical {end:#x} and lie at {len(offsets)} distances from their "
                         "linear addresses: a Linux kernel has one, and ends below 512 MiB; is it damaged?")
    page_offset = offsets.pop()
    directory = -(-end // PAGE_BYTES) * PAGE_BYTES
    tables = directory + PAGE_BYTES
    behind = STACK_BYTES + SCRATCH_BYTES
    table_count = -(-(tables + behind) // (PAGE_BYTES * (_ENTRIES - 1))) + 1    # it maps itself too
    stack = tables + table_count * PAGE_BYTES
    ram = stack + behind
    if page_offset % PAGE_BYTES or page_offset < 0 or page_offset + ram > 1 << 32:
        raise ImageError(f"physical 0 would be at linear {page_offset:#x}: that is not the linear address of a "
                         "page that leaves room for the kernel; is this image damaged?")
    scratch = stack + STACK_BYTES
    return KernelMemory(page_offset, directory, scratch + page_offset, scratch + page_offset, ram)


def load(image: KernelImage, changes: Iterable[tuple[int, bytes]] = (), processor: str = "generic") \
        -> tuple[Machine, KernelMemory]:
    """Put a kernel into a new machine and turn paging on.

    Parameters
    ----------
    image : KernelImage
        From `pvfast.images.load_kernel`.
    changes : iterable of (int, bytes)
        Linear address and bytes that go there instead of the image's.
    processor : str, optional
        A model of `pvfast.processor`.

    Returns
    -------
    Machine
        At CPL 0 with interrupts disabled, its stack empty, EIP not set.
    KernelMemory

    Raises
    ------
    ImageError
        As `lay_out`.
    """
    memory = lay_out(image)
    machine = Machine(ram=memory.ram_bytes, processor=processor)
    for segment in image.segments:
        machine.write(segment.physical, image.data[segment.offset:segment.offset + segment.file_size])
    _write_tables(machine, memory)
    machine.cpu.cr3 = memory.page_directory
    machine.cpu.cr0 |= _CR0_PG | _CR0_WP
    machine.cpu.esp = memory.stack_top
    for linear, code in changes:
        machine.write_linear(linear, code)
    return machine, memory


def _write_tables(machine: Machine, memory: KernelMemory) -> None:
    """One entry per page of RAM; the directory's entries begin at PAGE_OFFSET's."""
    first = memory.page_offset // PAGE_BYTES % _ENTRIES
    pages = _entries(0, memory.ram_bytes)
    tables = memory.page_directory + PAGE_BYTES
    machine.write(tables + 4 * first, pages.tobytes())
    count = -(-(first + len(pages)) // _ENTRIES)
    entries = _entries(tables, tables + count * PAGE_BYTES)
    machine.write(memory.page_directory + 4 * (memory.page_offset // PAGE_BYTES // _ENTRIES), entries.tobytes())


def _entries(start: int, end: int) -> np.ndarray:
    return np.arange(start, end, PAGE_BYTES, dtype=np.uint32) | np.uint32(_PRESENT_WRITABLE)
