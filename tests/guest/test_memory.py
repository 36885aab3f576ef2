"""The memory of processes: pages on demand, mappings, what may not be touched, and how much of it there is."""

import pytest

import pvfast
from pvfast.errors import PvfastError
from pvfast.guest import GuestImage
from pvfast.guest.prelude import USER_DATA
from tests.guest.kernel import BOOT_INSTRUCTIONS, Kernel
from tests.guest.programs import run_program, start_program
from tests.guest.test_processes import fork, resources, wait

MUNMAP, MMAP2 = 91, 192
ENOMEM, EINVAL = 12, 22
SIGSEGV = 11
READ, WRITE = 1, 2
SHARED, PRIVATE, FIXED, ANONYMOUS = 1, 2, 0x10, 0x20
STACK_BOTTOM = 0xC0000000 - 4 * 4096
SHARED_FILE_PAGES = 64
HERE = 0x50000000


def mmap(length: int, flags: int, prot: int = READ | WRITE, address: int = 0, page: int = 0) -> str:
    """The address is in EAX."""
    return f"movl ${page}, %ebp\ncall {MMAP2}, ${address}, ${length}, ${prot}, ${flags}\n"


def munmap(address: str, length: int) -> str:
    return f"call {MUNMAP}, {address}, ${length}\n"


@pytest.mark.parametrize("address", [USER_DATA + 0x1FFC, STACK_BOTTOM, 0xBFFFFFFC])
@pytest.mark.parametrize("first", ["cmpl $0, (%edi)", "addl $0, (%edi)"])
def test_pages_are_zero_until_they_are_written(guest: Kernel, address: int, first: str) -> None:
    text = f"""
        movl ${address}, %edi
        {first}
        jnz bad
        addl $5, (%edi)
        addl $5, (%edi)
        exit (%edi)
    bad: exit $-1
    """
    before = resources(guest)
    assert run_program(guest, text) == 10
    assert run_program(guest, text) == 10               # nothing is left of the first time
    assert resources(guest) == before


@pytest.mark.parametrize("access", [
    "movl 0, %eax",
    f"movl {STACK_BOTTOM - 4}, %eax",
    f"movl {USER_DATA + 0x2000}, %eax",
    f"movl $0, {USER_DATA - 4}",                        # text
    "movl 0xc0000000, %eax",
    "movl $0, 0xc0100000",
    mmap(4096, PRIVATE | ANONYMOUS, READ) + "movl (%eax), %ecx\nmovl $0, (%eax)",
    mmap(4096, PRIVATE | ANONYMOUS, 0) + "movl (%eax), %ecx",
    mmap(4096, SHARED, READ) + "movl (%eax), %ecx\nmovl $0, (%eax)",
    mmap(4096, PRIVATE | ANONYMOUS) + "movl $0, 4096(%eax)",
    mmap(4096, PRIVATE | ANONYMOUS) + "movl %eax, %edi\nmovl $0, (%edi)\n" + munmap("%edi", 4096) + "movl (%edi), %eax",
])
def test_what_is_not_the_programs_ends_it(guest: Kernel, access: str) -> None:
    before = resources(guest)
    assert run_program(guest, access) == SIGSEGV
    assert guest.fault()["count"] == 0
    assert resources(guest) == before


def test_shared_memory_is_seen_by_both(guest: Kernel) -> None:
    text = f"""
        {mmap(2 * 4096, SHARED)}
        movl %eax, %edi
        movl $1, 4096(%edi)
        {fork("addl $2, (%edi)" + chr(10) + "addl $2, 4096(%edi)" + chr(10) + "exit $0")}
        {wait()}
        movl 4096(%edi), %eax
        shll $8, %eax
        addl (%edi), %eax
        movl $0, (%edi)
        movl $0, 4096(%edi)
        exit %eax
    """
    before = resources(guest)
    assert run_program(guest, text) == 0x302
    assert resources(guest) == before


def test_private_memory_is_not(guest: Kernel) -> None:
    text = f"""
        {mmap(4096, PRIVATE | ANONYMOUS)}
        movl %eax, %edi
        movl $1, (%edi)
        {fork("addl $2, (%edi)" + chr(10) + "exit $0")}
        {wait()}
        exit (%edi)
    """
    assert run_program(guest, text) == 1


def test_the_file_keeps_what_was_written_and_is_found_by_page(guest: Kernel) -> None:
    last = SHARED_FILE_PAGES - 1
    text = f"""
        {mmap(4096, SHARED, page=last)}
        movl $77, (%eax)
        {mmap(2 * 4096, SHARED, page=last - 1)}
        movl 4096(%eax), %ebx
        movl $0, 4096(%eax)
        exit %ebx
    """
    assert run_program(guest, text) == 77


def test_mappings_take_the_first_gap_and_give_it_back(guest: Kernel) -> None:
    text = f"""
        {mmap(4096, PRIVATE | ANONYMOUS)}
        {mmap(2 * 4096, PRIVATE | ANONYMOUS)}
        movl %eax, %edi
        {mmap(4096, PRIVATE | ANONYMOUS)}
        {munmap("%edi", 2 * 4096)}
        check $0
        {mmap(3 * 4096, PRIVATE | ANONYMOUS)}
        subl %edi, %eax
        movl %eax, {USER_DATA}
        {mmap(2 * 4096, PRIVATE | ANONYMOUS)}
        subl %edi, %eax
        addl {USER_DATA}, %eax
        exit %eax
    """
    assert run_program(guest, text) == 3 * 4096         # behind the third, and where the second was


@pytest.mark.parametrize(("call", "answer"), [
    (mmap(4096, PRIVATE | ANONYMOUS | FIXED, address=HERE), HERE),
    (mmap(4096, PRIVATE | ANONYMOUS | FIXED, address=HERE + 1), -EINVAL),
    (mmap(4096, PRIVATE | ANONYMOUS | FIXED, address=USER_DATA), -EINVAL),
    (mmap(2 * 4096, PRIVATE | ANONYMOUS | FIXED, address=STACK_BOTTOM - 4096), -EINVAL),
    (mmap(4096, PRIVATE | ANONYMOUS | FIXED, address=0xC0000000), -ENOMEM),
    (mmap(0, PRIVATE | ANONYMOUS), -EINVAL),
    (mmap(0xC0000000, PRIVATE | ANONYMOUS), -ENOMEM),
    (mmap(4096, PRIVATE), -EINVAL),
    (mmap(4096, SHARED | ANONYMOUS), -EINVAL),
    (mmap(4096 * SHARED_FILE_PAGES + 1, SHARED), -EINVAL),
    (mmap(4096, SHARED, page=SHARED_FILE_PAGES), -EINVAL),
    (mmap(4096, SHARED, page=0xFFFFFFFF), -EINVAL),
    (munmap(f"${HERE}", 4096), 0),
    (munmap(f"${HERE + 1}", 4096), -EINVAL),
    (munmap(f"${HERE}", 0), -EINVAL),
    (munmap("$0xfffff000", 0x2000), -EINVAL),
    (munmap(f"${USER_DATA}", 4096), -EINVAL),           # half of it
    (munmap(f"${USER_DATA + 4096}", 4096), -EINVAL),
    (munmap(f"${USER_DATA}", 2 * 4096), 0),
    (munmap(f"${STACK_BOTTOM - 4096}", 5 * 4096), 0),
])
def test_requests_and_answers(guest: Kernel, call: str, answer: int) -> None:
    before = resources(guest)
    assert run_program(guest, f"{call}exit %eax") == answer
    assert resources(guest) == before


def test_too_many_areas_are_refused(guest: Kernel) -> None:
    text = f"""
    again:
        {mmap(4096, PRIVATE | ANONYMOUS)}
        cmpl $-4096, %eax
        jb again
        exit %eax
    """
    before = resources(guest)
    assert run_program(guest, text) == -ENOMEM
    assert resources(guest) == before


def test_mapping_and_touching_costs_the_same_each_time(guest: Kernel) -> None:
    text = f"""
        movl %ebx, {USER_DATA}
    again:
        {mmap(4 * 4096, SHARED)}
        movl %eax, %edi
        movl (%edi), %eax
        movl $0, 8192(%edi)
        {munmap("%edi", 4 * 4096)}
        decl {USER_DATA}
        jnz again
        exit $0
    """
    counts = []
    for iterations in (10, 20, 30, 10):
        start_program(guest, text, iterations)
        start = guest.machine.counters.instructions
        guest.run_to("bench_done", 1_000_000)
        counts.append(guest.machine.counters.instructions - start)
    assert counts[2] - counts[1] == counts[1] - counts[0]
    assert counts[3] == counts[0]


def test_a_page_fault_executes_the_operations_of_2_6_20(booted: Kernel) -> None:
    """Reading a page of a mapped file whose page table is there: seven, five of them interrupt operations."""
    start_program(booted, f"{mmap(8192, SHARED)}movl %eax, %edi\nmovl (%edi), %eax\nmovl 4096(%edi), %eax\nexit $0")
    booted.run_to("sys_mmap2", 100_000)
    operations_until_user(booted)
    booted.run_to("exception_14", 100_000)
    first = operations_until_user(booted)
    booted.run_to("exception_14", 100_000)
    assert operations_until_user(booted) == [
        "read_cr2", "irq_enable", "irq_disable", "irq_enable", "set_pte_at", "irq_disable", "iret",
    ]
    assert first == [                                   # the page table, from the page allocator
        "read_cr2", "irq_enable", "save_fl", "irq_disable", "restore_fl", "set_pte", "irq_disable", "irq_enable",
        "set_pte_at", "irq_disable", "iret",
    ]


def operations_until_user(guest: Kernel) -> list[str]:
    """What the kernel executes before it is back in user mode; of two with one function, the first in the table."""
    names: dict[int, str] = {}
    for name, address in guest.image.implementations().items():
        names.setdefault(address, name)
    found = []
    while guest.machine.cpu.cpl != 3:
        if guest.machine.cpu.eip in names:
            found.append(names[guest.machine.cpu.eip])
        guest.machine.step()
    return found


@pytest.mark.parametrize(("ram", "end"), [("2M", 2 << 20), ("5M", 5 << 20), ("16M", 16 << 20), ("64M", 16 << 20)])
def test_bare_hardware_is_asked_how_much_memory_there_is(image: GuestImage, ram: str, end: int) -> None:
    guest = Kernel(image)
    guest.machine = pvfast.Machine(ram=ram)
    image.load(guest.machine)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert guest.word("memory_end") == end
    start = -(-guest.word("memory_start") // 4096) * 4096
    assert guest.word("nr_free_pages") < (end - start) // 4096
    assert run_program(guest, f"movl $1, {USER_DATA}\nexit {USER_DATA}") == 1


def test_null_pointers_fault_in_processes_too(guest: Kernel) -> None:
    assert run_program(guest, "exit $0") == 0
    with pytest.raises(PvfastError):
        guest.machine.read_linear(0, 4)
