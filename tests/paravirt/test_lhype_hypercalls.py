"""lhype's hypercalls: the ring, tables and their checks, shadow page tables; and guests that mean harm."""

import random
import struct

import pytest

import pvfast
from pvfast.guest import GuestImage, build
from pvfast.guest.prelude import USER_DATA
from pvfast.paravirt.hypervisors import lhype_interface as interface
from pvfast.paravirt.hypervisors.lhype_interface import Killed, Lhcall
from tests.guest.programs import run_program
from tests.paravirt.lhype import HCALL, IF, PAGE_OFFSET, Guest

PAGE = 4096
KERNEL_PTE = 0x063
USER_PTE = 0x067
DIRECTORIES, SHADOW_PAGES = 4, 64
PF = 14
ROUNDS = 400                    # of the hostile guests: a second


@pytest.fixture
def guest(image: GuestImage) -> Guest:
    guest = Guest(image).boot()
    guest.hypercall(Lhcall.FLUSH_ASYNC)                 # maps the scratch page
    return guest


def shadow(guest: Guest) -> dict[int, int]:
    """Linear page to entry, of the directory in use; checks that all four lead nowhere but to the guest's memory."""
    frames = guest.lhype.guest_memory // PAGE
    memory = guest.machine.ram
    current = {}
    for directory in range(frames, frames + DIRECTORIES):
        for upper, entry in enumerate(struct.unpack("<1024I", memory[directory * PAGE:(directory + 1) * PAGE])):
            if not entry & 1:
                continue
            table = entry >> 12
            assert frames + DIRECTORIES <= table < frames + SHADOW_PAGES, hex(entry)
            for lower, page in enumerate(struct.unpack("<1024I", memory[table * PAGE:(table + 1) * PAGE])):
                assert not page & 1 or page >> 12 < frames, hex(page)
                if page & 1 and directory == guest.machine.cpu.cr3 >> 12:
                    current[upper << 22 | lower << 12] = page
    return current


def page_table_entry(guest: Guest, linear: int) -> int:
    """Linear address of the kernel's own entry for one of its pages."""
    return guest.image.labels["pg0"] + (linear - PAGE_OFFSET >> 12) * 4


# --- The ring --------------------------------------------------------------------------------------------------------

def test_the_ring_is_worked_off_before_the_call_itself(guest: Guest) -> None:
    before = guest.lhype.hypercalls
    for slot in range(3):
        guest.async_hcall(slot, Lhcall.TS, 8)
    guest.hypercall(Lhcall.TS, 0)
    assert guest.lhype.hypercalls[Lhcall.TS] == before.get(Lhcall.TS, 0) + 4
    assert not guest.machine.cpu.cr0 & 8                # the call itself came last
    status = guest.machine.read(guest.physical("lguest_data") + interface.LGUEST_DATA_HCALL_STATUS, 64)
    assert status == bytes((interface.LHCALL_DONE,)) * 64


def test_the_ring_goes_on_where_it_stopped(guest: Guest) -> None:
    before = guest.lhype.hypercalls[Lhcall.TS]          # of the boot
    for slot in (*range(64), *range(5)):
        guest.async_hcall(slot, Lhcall.TS, 8)
        guest.hypercall(Lhcall.FLUSH_ASYNC)
    assert guest.lhype.hypercalls[Lhcall.TS] == before + 69
    guest.async_hcall(9, Lhcall.TS, 0)                  # not the next slot: it waits
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    assert guest.lhype.hypercalls[Lhcall.TS] == before + 69


def test_every_entry_into_the_host_works_it_off(guest: Guest) -> None:
    guest.async_hcall(0, Lhcall.TS, 8)
    guest.machine.inject_interrupt(0xEF)                # one of the host's own
    guest.execute(b"\x90", 2)
    assert guest.machine.cpu.cr0 & 8
    guest.async_hcall(1, Lhcall.TS, 0)
    guest.execute(b"\xe6\x80")                          # out %al, $0x80: a fault that the host deals with
    assert not guest.machine.cpu.cr0 & 8


@pytest.mark.parametrize("era", ["2.6.21", "2.6.24"])
def test_lazy_modes_fill_the_ring_and_flush_it(era: str) -> None:
    guest = Guest(build(era)).boot()
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    labels = guest.image.labels

    def call(label: str, **registers: int) -> None:
        for name, value in registers.items():
            setattr(guest.machine.cpu, name, value)
        code = b"\xbe" + labels[label].to_bytes(4, "little") + b"\xff\xd6\x90"      # mov $label, %esi; call *%esi
        guest.execute(code)
        stop = guest.machine.run(until=guest.scratch + 0x800 + 7, max_instructions=2000)
        assert stop.reason is pvfast.StopReason.UNTIL

    if era == "2.6.21":
        call("lhype_set_lazy_mode", eax=1)
    else:
        call("lhype_enter_lazy_mmu")
    before = guest.lhype.hypercalls
    switched = before[Lhcall.TS]                        # by the boot
    for _ in range(64):
        call("lhype_flush_tlb_single", eax=0x08048000)
    assert guest.lhype.hypercalls == before
    call("lhype_flush_tlb_single", eax=0x08048000)      # the ring is full
    assert guest.lhype.hypercalls[Lhcall.SET_PTE] == 65
    call("lhype_clts")
    if era == "2.6.21":
        call("lhype_set_lazy_mode", eax=3)              # flush, and stay in the mode
        call("lhype_clts")
        assert guest.lhype.hypercalls[Lhcall.TS] == switched + 1
        call("lhype_set_lazy_mode", eax=0)
    else:
        call("lhype_clts")
        call("lhype_leave_lazy_mmu")
    assert guest.lhype.hypercalls[Lhcall.TS] == switched + 2
    call("lhype_clts")
    assert guest.lhype.hypercalls[Lhcall.TS] == switched + 3
    assert guest.enabled


# --- Arguments that end the guest ------------------------------------------------------------------------------------

NOWHERE = 0xFFFFF000


@pytest.mark.parametrize(("number", "arguments", "reason"), [
    (11, (), Killed.BAD_HYPERCALL),
    (17, (), Killed.BAD_HYPERCALL),
    (0xFFFFFFFF, (), Killed.BAD_HYPERCALL),
    (Lhcall.LGUEST_INIT, (0x200000,), Killed.BAD_HYPERCALL),
    (Lhcall.CRASH, (NOWHERE + 0xFFF,), Killed.BAD_ADDRESS),
    (Lhcall.LOAD_GDT, (0x200000, 33), Killed.BAD_GDT),
    (Lhcall.LOAD_GDT, (NOWHERE, 32), Killed.BAD_ADDRESS),
    (Lhcall.LOAD_TLS, (0xFFFFFFF8,), Killed.BAD_ADDRESS),
    (Lhcall.NEW_PGTABLE, (0x1000000,), Killed.BAD_ADDRESS),
    (Lhcall.SET_PMD, (0, 1024), Killed.BAD_ADDRESS),
    (Lhcall.SET_STACK, (0x68, 0xC0200000, 1), Killed.BAD_STACK),
    (Lhcall.SET_STACK, (0x69, 0xC0200000, 3), Killed.BAD_STACK),
    (Lhcall.LOAD_IDT_ENTRY, (13, 0, 0x8500), Killed.BAD_IDT_TYPE),      # a task gate
    (Lhcall.SEND_DMA, (0, NOWHERE), Killed.BAD_ADDRESS),
    (Lhcall.SET_PTE, (0, 0xC0100000, 0xFFFFF063), Killed.BAD_PAGE_TABLE_ENTRY),
    (Lhcall.SET_PTE, (0, 0xC0100000, 0x001000E3), Killed.BAD_PAGE_TABLE_ENTRY),
])
def test_nonsense_ends_the_guest(guest: Guest, number: int, arguments: tuple[int, ...], reason: Killed) -> None:
    stop = guest.hypercall(number, *arguments)
    assert stop.reason is pvfast.StopReason.SHUTDOWN
    assert guest.lhype.killed is reason
    assert (stop.vector, stop.error) == (interface.LGUEST_TRAP_ENTRY, reason)


def test_nonsense_in_the_ring_ends_it_too(guest: Guest) -> None:
    guest.async_hcall(0, Lhcall.SET_STACK, 0x68, 0, 1)
    assert guest.hypercall(Lhcall.FLUSH_ASYNC).reason is pvfast.StopReason.SHUTDOWN
    assert guest.lhype.killed is Killed.BAD_STACK


def test_the_first_hypercall_is_lguest_init(image: GuestImage) -> None:
    for number, edx, reason in ((Lhcall.FLUSH_ASYNC, 0, Killed.BAD_HYPERCALL),
                                (Lhcall.LGUEST_INIT, 0x1000000 - PAGE, Killed.BAD_ADDRESS),
                                (Lhcall.LGUEST_INIT, 0x100002, Killed.BAD_ADDRESS)):
        guest = Guest(image)
        guest.hypercall(number, edx)
        assert guest.lhype.killed is reason


def test_crash_leaves_a_message(guest: Guest) -> None:
    guest.write(guest.scratch, b"Power down\0")
    assert guest.hypercall(Lhcall.CRASH, guest.scratch - PAGE_OFFSET).reason is pvfast.StopReason.SHUTDOWN
    assert (guest.lhype.killed, guest.lhype.crash_message) == (Killed.CRASH, b"Power down")


def test_a_trap_without_a_handler_ends_the_guest(guest: Guest) -> None:
    guest.hypercall(Lhcall.LOAD_IDT_ENTRY, 6, 0, 0)
    stop = guest.execute(b"\x0f\x0b")
    assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, 6)
    assert guest.lhype.killed is Killed.UNHANDLED_TRAP


def test_a_stack_that_is_not_mapped_ends_the_guest(guest: Guest) -> None:
    guest.machine.cpu.esp = 0x10000000
    stop = guest.execute(b"\x0f\x0b")
    assert (stop.reason, guest.lhype.killed) == (pvfast.StopReason.SHUTDOWN, Killed.UNHANDLED_TRAP)


def test_console_output_is_in_pieces_of_pages(guest: Guest) -> None:
    text = guest.scratch + 0x100 - PAGE_OFFSET
    guest.write(text + PAGE_OFFSET, b"abcdef")
    dma = struct.pack("<I16I16H", 0, text + 3, text, *[0] * 14, 3, 2, *[0] * 14)
    guest.write(guest.scratch, dma)
    guest.hypercall(Lhcall.SEND_DMA, interface.LGUEST_CONSOLE_DMA_KEY, guest.scratch - PAGE_OFFSET)
    assert guest.lhype.console.endswith(b"lguest\ndefab")
    assert guest.read(guest.scratch) == 5
    guest.write(guest.scratch, struct.pack("<I16I16H", 0, text, *[0] * 15, 0xFFFF, *[0] * 15))
    guest.hypercall(Lhcall.SEND_DMA, 0, guest.scratch - PAGE_OFFSET)
    assert guest.lhype.killed is Killed.BAD_ADDRESS


# --- Descriptors: no way to ring 0 -----------------------------------------------------------------------------------

def flat(kind: int) -> tuple[int, int]:
    """Words of a descriptor, base 0, 4 GiB."""
    return 0xFFFF, 0x00CF0000 | kind << 8


def load_gdt(guest: Guest, **entries: tuple[int, int]) -> None:
    table = guest.physical("cpu_gdt_table")
    for name, words in entries.items():
        guest.machine.write(table + 8 * int(name[1:]), struct.pack("<2I", *words))
    guest.hypercall(Lhcall.LOAD_GDT, table, 32)
    assert guest.lhype.killed is None


@pytest.mark.parametrize(("kind", "arrives"), [
    (0x9A, True),       # code of DPL 0 is of ring 1
    (0x9E, True),       # conforming too
    (0xBA, True),       # DPL 1
    (0x8C, False),      # a call gate
    (0x89, False),      # a TSS
    (0x85, False),      # a task gate
    (0x1A, False),      # not present
])
def test_no_segment_leads_to_ring_0(guest: Guest, kind: int, arrives: bool) -> None:
    load_gdt(guest, _20=flat(kind))
    target = guest.scratch + 0x900
    guest.write(target, b"\x90")
    guest.execute(b"\xea" + target.to_bytes(4, "little") + (20 * 8).to_bytes(2, "little"))      # ljmp
    assert guest.machine.cpu.cpl == 1
    assert (guest.machine.cpu.eip == target) == arrives


def test_thread_local_segments_are_checked_too(guest: Guest) -> None:
    tls = guest.store(*flat(0x92), *flat(0x8C), *flat(0xF2))
    guest.hypercall(Lhcall.LOAD_TLS, tls - PAGE_OFFSET)
    loaded = []
    for entry in (6, 7, 8):
        guest.machine.cpu.eax = entry * 8
        guest.execute(b"\x8e\xe0")                      # mov %eax, %fs
        loaded.append(guest.machine.cpu.eip == guest.scratch + 0x802)
    assert loaded == [True, False, True]


def test_gates_lead_to_ring_1_only(guest: Guest) -> None:
    target = guest.scratch + 0x900
    guest.hypercall(Lhcall.LOAD_IDT_ENTRY, 6, 0x0008 << 16 | target & 0xFFFF, target & 0xFFFF0000 | 0x8F00)
    guest.execute(b"\x0f\x0b")
    assert (guest.machine.cpu.eip, guest.machine.cpu.cs.selector, guest.machine.cpu.cpl) == (target, 0x61, 1)


@pytest.mark.parametrize("vector", [2, 8, 15, interface.LGUEST_TRAP_ENTRY, 0x41, 0xFF, 0xFFFFFFFF])
def test_some_gates_are_never_the_guests(guest: Guest, vector: int) -> None:
    before = guest.lhype.save()
    guest.hypercall(Lhcall.LOAD_IDT_ENTRY, vector, 0x00610000, 0xC010EF00)
    changed = [at for at, (a, b) in enumerate(zip(before, guest.lhype.save(), strict=True)) if a != b]
    assert len(changed) == 1                            # the count of the hypercall
    assert guest.lhype.killed is None


# --- Shadow page tables ----------------------------------------------------------------------------------------------

def test_user_pages_are_paged_in_when_touched(guest: Guest) -> None:
    user = 0x08048000
    assert user not in shadow(guest)
    guest.enter("null_syscall_int80", 5)
    guest.run_to("user_null_syscall_int80", 5000)
    guest.run_to("system_call", 5000)
    assert shadow(guest)[user] & 0xFFF == 0x025         # read-only, accessed
    before = guest.lhype.demand_pages
    guest.run_to("sys_exit", 1000)
    assert guest.lhype.demand_pages == before           # once is enough


def test_a_page_is_writable_once_it_is_dirty(guest: Guest) -> None:
    """The guest finds its own accessed and dirty bits as a processor would have set them."""
    entry = page_table_entry(guest, guest.scratch)
    frame = guest.scratch - PAGE_OFFSET
    guest.write(entry, (frame | 0x003).to_bytes(4, "little"))       # present, writable: neither A nor D
    guest.hypercall(Lhcall.SET_PTE, 0, guest.scratch, frame | 0x003)
    assert guest.scratch not in shadow(guest) or not shadow(guest)[guest.scratch] & 2
    guest.execute(b"\x90")
    assert guest.read(entry) & 0xFFF == 0x023
    assert not shadow(guest)[guest.scratch] & 2
    guest.machine.cpu.ebx = guest.scratch
    guest.execute(b"\x89\x03")                          # mov %eax, (%ebx)
    assert guest.read(entry) & 0xFFF == 0x063
    assert shadow(guest)[guest.scratch] & 2


def test_read_only_pages_stay_so_for_the_kernel(guest: Guest) -> None:
    frame = guest.scratch - PAGE_OFFSET
    guest.write(page_table_entry(guest, guest.scratch), (frame | 0x061).to_bytes(4, "little"))
    guest.hypercall(Lhcall.SET_PTE, 0, guest.scratch, frame | 0x061)
    guest.machine.cpu.ebx = guest.scratch
    guest.execute(b"\x89\x03")
    guest.run_to("panic", 1000)
    fault = guest.fault()
    assert (fault["vector"], fault["error_code"], fault["cr2"]) == (PF, 3, guest.scratch)


def test_a_changed_entry_counts_when_the_host_has_been_told(guest: Guest) -> None:
    other = guest.image.labels["user_text_page"]
    guest.machine.cpu.ebx = guest.scratch
    guest.store(0x11111111)
    guest.store(0x22222222, at=other)
    entry = page_table_entry(guest, guest.scratch)
    guest.write(entry, (other - PAGE_OFFSET | KERNEL_PTE).to_bytes(4, "little"))
    code = guest.image.labels["user_text_page"] + 0x800             # the scratch page is about to go away
    guest.write(code, b"\x8b\x03" + HCALL + b"\x8b\x03")            # mov (%ebx), %eax; int $0x1f; mov (%ebx), %eax
    cpu = guest.machine.cpu
    cpu.eip = code
    guest.machine.run(max_instructions=1)
    assert cpu.eax == 0x11111111
    cpu.eax, cpu.ebx, cpu.ecx, cpu.edx = Lhcall.SET_PTE, guest.scratch, other - PAGE_OFFSET | KERNEL_PTE, 0
    guest.machine.run(max_instructions=2)
    assert cpu.eax == 0x22222222


@pytest.mark.parametrize("flags", [KERNEL_PTE, USER_PTE])
def test_no_entry_reaches_the_hosts_pages(guest: Guest, flags: int) -> None:
    """By hand, without a hypercall: the entry is looked at when it is used."""
    for frame in (guest.lhype.guest_memory, guest.lhype.guest_memory + 63 * PAGE, 0xE0000000):
        state = guest.machine.snapshot()
        guest.write(page_table_entry(guest, 0xC0000000), (frame | flags).to_bytes(4, "little"))
        guest.hypercall(Lhcall.FLUSH_TLB, 1)
        guest.machine.cpu.ebx = 0xC0000000
        stop = guest.execute(b"\x8b\x03")
        assert (stop.reason, guest.lhype.killed) == (pvfast.StopReason.SHUTDOWN, Killed.BAD_PAGE_TABLE_ENTRY)
        shadow(guest)
        guest.machine.restore(state)


@pytest.mark.parametrize("entry", [0x1000067 - PAGE, 0xC00000E7, 0x0010016F])
def test_no_directory_entry_reaches_them_either(guest: Guest, entry: int) -> None:
    guest.store(entry, at=guest.image.labels["swapper_pg_dir"] + 4 * 5)
    guest.hypercall(Lhcall.SET_PMD, guest.physical("swapper_pg_dir"), 5)
    guest.machine.cpu.ebx = 5 << 22
    stop = guest.execute(b"\x8b\x03")
    assert (stop.reason, guest.lhype.killed) == (pvfast.StopReason.SHUTDOWN, Killed.BAD_PAGE_DIRECTORY_ENTRY)


def test_kernel_pages_are_the_kernels_in_every_directory(guest: Guest) -> None:
    """Also where a directory took the place of the launcher's."""
    for name in ("null", "signal-catch"):
        guest.bench(name, 2)
    for _ in range(DIRECTORIES):
        guest.enter("null", 1)
        guest.run_to("system_call", 50_000)
        kernel = {linear: entry for linear, entry in shadow(guest).items() if linear >= PAGE_OFFSET}
        assert len(kernel) > 100
        assert not any(entry & 4 for entry in kernel.values())
        guest.run_to("bench_done", 50_000)


def test_four_directories_are_kept_and_the_oldest_gives_way(guest: Guest) -> None:
    base = 8 << 20
    swapper = guest.machine.read(guest.physical("swapper_pg_dir"), PAGE)
    pages = [base + number * PAGE for number in range(6)]
    user = 0x08048000
    for page in pages:
        guest.machine.write(page, swapper)
    roots = {}
    for page in pages[:4]:
        guest.hypercall(Lhcall.NEW_PGTABLE, page)
        roots[page] = guest.machine.cpu.cr3
    assert len(set(roots.values())) == 4
    guest.hypercall(Lhcall.NEW_PGTABLE, pages[0])
    assert guest.machine.cpu.cr3 == roots[pages[0]]     # it was still there
    guest.hypercall(Lhcall.NEW_PGTABLE, pages[4])
    assert guest.machine.cpu.cr3 == roots[pages[1]]     # the one not used for longest
    assert user not in shadow(guest)
    guest.bench("null_syscall_int80", 2)


def test_processes_have_pages_of_their_own(guest: Guest) -> None:
    """Six generations, more than there are directories: each writes to the page it had from its parent."""
    status = run_program(guest, f"""
        movl $6, {USER_DATA}
        xorl %ebp, %ebp
    again:
        incl %ebp
        movl $2, %eax                           /* fork */
        int $0x80
        testl %eax, %eax
        jnz parent
        decl {USER_DATA}
        jnz again
        exit %ebp                               /* the last one: how many there were */
    parent:
        movl %eax, %ebx
        movl {USER_DATA}, %edi
        movl ${USER_DATA + 4}, %ecx
        xorl %edx, %edx
        movl $7, %eax                           /* waitpid */
        int $0x80
        cmpl %edi, {USER_DATA}                  /* no child has written to ours */
        jne wrong
        movl {USER_DATA + 4}, %eax
        shrl $8, %eax
        exit %eax
    wrong:
        exit $99
    """)
    assert status == 6
    assert guest.fault()["count"] == 0
    shadow(guest)


def test_tables_are_taken_back_when_there_is_none_left(guest: Guest) -> None:
    """A hundred page tables, in a shadow of sixty."""
    table = 8 << 20
    guest.machine.write(table, struct.pack("<1024I", *[guest.scratch - PAGE_OFFSET | KERNEL_PTE] * 1024))
    for number in range(100):
        guest.machine.write(guest.physical("swapper_pg_dir") + 4 * (64 + number), struct.pack("<I", table | USER_PTE))
    guest.store(0x600DF00D)
    for number in range(100):
        guest.machine.cpu.ebx = (64 + number) << 22
        guest.machine.cpu.eax = 0
        guest.execute(b"\x8b\x03", 1)
        while guest.machine.cpu.eip == guest.scratch + 0x800:
            guest.machine.run(max_instructions=1)
        assert guest.machine.cpu.eax == 0x600DF00D, number
    shadow(guest)
    guest.bench("null_syscall_int80", 2)
    assert guest.fault()["count"] == 0


def test_a_shadow_overwritten_from_outside_harms_nobody(guest: Guest) -> None:
    """Only a host program can do it; then the guest may end, but nothing else."""
    random.seed(3)
    memory = guest.lhype.guest_memory
    for _ in range(20):
        state = guest.machine.snapshot()
        guest.machine.write(memory, random.randbytes(DIRECTORIES * PAGE))
        for _ in range(8):
            guest.machine.cpu.cr3 = guest.machine.cpu.cr3
            guest.hypercall(random.choice((Lhcall.FLUSH_TLB, Lhcall.SET_PTE, Lhcall.SET_PMD)),
                            random.getrandbits(1), random.getrandbits(10), USER_PTE)
            guest.machine.run(max_instructions=50)
        guest.machine.restore(state)


# --- Guests that mean harm -------------------------------------------------------------------------------------------

def test_hostile_hypercalls(image: GuestImage) -> None:
    """Random numbers and arguments, in registers and in the ring: the host survives, and says why a guest does not."""
    source = random.Random(20061029)
    guest = Guest(image, "4M").boot()
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    start = guest.machine.snapshot()
    edges = (0, 1, 3, 8, 32, 64, 0x61, 0x69, 1023, 1024, 0x100000, guest.physical("lguest_data"),
             guest.physical("swapper_pg_dir"), guest.physical("pg0"), guest.lhype.guest_memory - 8,
             guest.lhype.guest_memory, 0x7FFFFFFF, 0x80000000, 0xC0000000, 0xC0100067, 0xFFFFFFFF)

    def word() -> int:
        return source.choice(edges) if source.random() < 0.8 else source.getrandbits(32)

    ends: set[Killed | None] = set()
    for _ in range(ROUNDS):
        number = source.choice(list(Lhcall)) if source.random() < 0.95 else source.getrandbits(32)
        if source.random() < 0.3:
            guest.async_hcall(source.randrange(64), source.choice(list(Lhcall)), word(), word(), word())
        if source.random() < 0.1:
            guest.store(word(), at=guest.image.labels["pg0"] + 4 * source.randrange(4096))
        if source.random() < 0.1:
            guest.machine.inject_interrupt(0x20 + source.randrange(40))
        stop = guest.hypercall(number, word(), word(), word())
        guest.machine.run(max_instructions=source.randrange(1, 40))
        assert guest.machine.cpu.cpl in (1, 3)
        ends.add(guest.lhype.killed)
        if guest.lhype.killed is not None or stop.reason is pvfast.StopReason.SHUTDOWN:
            shadow(guest)
            guest.machine.restore(start)
    assert {None, Killed.BAD_ADDRESS, Killed.BAD_STACK, Killed.CRASH} <= ends


def test_hostile_code(image: GuestImage) -> None:
    """Random bytes in ring 1, with hypercalls among them."""
    source = random.Random(25)
    guest = Guest(image, "4M").boot()
    guest.hypercall(Lhcall.FLUSH_ASYNC)
    start = guest.machine.snapshot()
    for _ in range(ROUNDS // 4):
        code = b"".join(source.choice((source.randbytes(6), HCALL, b"\xcd" + source.randbytes(1),
                                       b"\xb8" + source.randrange(17).to_bytes(4, "little") + HCALL))
                        for _ in range(30))
        guest.write(guest.scratch + 0x800, code)
        cpu = guest.machine.cpu
        cpu.eip = guest.scratch + 0x800
        for name in ("eax", "ecx", "edx", "ebx", "esi", "edi", "ebp"):
            setattr(cpu, name, source.getrandbits(32))
        guest.enabled = source.random() < 0.5
        guest.machine.run(max_instructions=200)
        assert cpu.cpl in (1, 3)
        assert cpu.eflags & IF
        shadow(guest)
        guest.machine.restore(start)
