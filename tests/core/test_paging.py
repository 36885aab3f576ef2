"""Paging (SDM 3:4): tables, rights, error codes, accessed and dirty bits, large pages, PAE, NX, the TLB."""
from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import pytest

import pvfast
from pvfast.errors import ArgumentError
from pvfast.processor import Model, load_model

from .protected import BP, GP, KERNEL_STACK, PAGE_FAULT, UD, World

P, W, U, A, D, PS, G = 0x1, 0x2, 0x4, 0x20, 0x40, 0x80, 0x100
XD = 1 << 63
PAT_OF_PTE, PAT_OF_PDE = 0x80, 0x1000
PE_WP_PG, PE_PG = 0x80010001, 0x80000001
PSE, PAE, PGE = 0x10, 0x20, 0x80
F_P, F_W, F_U, F_RSVD, F_FETCH = 1, 2, 4, 8, 16
"""Of the page-fault error code (SDM 3:4.7)."""

DIRECTORY, LOW_TABLE = 0x40000, 0x41000         # 32-bit paging
POINTERS, LOW_DIRECTORY, HIGH_DIRECTORY = 0x42000, 0x43000, 0x46000     # PAE
TABLES = range(0x50000, 0x54000, 0x1000)        # of the addresses that a test maps
PAGES = range(0x400000, 0x1000000, 0x1000)
"""RAM that a test maps: each page begins with INT3 and its number."""
HIGH = 0xC0000000
"""Linear addresses from here on are the tests'; those below 2 MiB are mapped one to one, for everybody."""
TOUCHES = {"read": b"\x8b\x06\xcc", "write": b"\x89\x06\xcc", "fetch": b"\xff\xe6"}
"""mov (%esi), %eax; mov %eax, (%esi); jmp *%esi; all end in an INT3."""
RELOAD = "mov %cr3, %eax; mov %eax, %cr3; hlt"
TOUCH = 0x20000
"""Where they lie, 16 bytes each."""
WRITTEN = 0x5A5A5A5A


class Paged(World):
    """A world with tables of both kinds. Nothing above HIGH is mapped yet."""

    def __init__(self, cr4: int = 0, nx: bool = False, processor: str | Model = "generic") -> None:
        super().__init__("16M", processor)
        self.wide = bool(cr4 & PAE)
        self.vector(BP, 0x30000 + 16 * BP, 0xEE)
        if nx:
            assert self.ring0("mov $0xC0000080, %ecx; mov $0x800, %eax; xor %edx, %edx; wrmsr; hlt").vector is None
        for number, code in enumerate(TOUCHES.values()):
            self.machine.write(TOUCH + 16 * number, code)
        self.machine.write(PAGES.start, b"".join(struct.pack("<I4092x", page & ~0xFFF | 0xCC) for page in PAGES))
        self.machine.write(LOW_TABLE, struct.pack("<1024I", *(page * 0x1000 | P | W | U for page in range(1024))))
        self.put(DIRECTORY, LOW_TABLE | P | W | U, 4)
        self.put(POINTERS, LOW_DIRECTORY | P)
        self.put(POINTERS + 24, HIGH_DIRECTORY | P)
        self.put(LOW_DIRECTORY, P | W | U | PS)
        self.cpu.cr4 = cr4
        self.cpu.cr3 = POINTERS if self.wide else DIRECTORY
        self.cpu.cr0 = PE_WP_PG

    def put(self, address: int, entry: int, size: int = 8) -> None:
        self.machine.write(address, entry.to_bytes(size, "little"))

    def get(self, address: int) -> int:
        return int.from_bytes(self.machine.read(address, 8 if self.wide else 4), "little")

    def pde_at(self, linear: int) -> int:
        return HIGH_DIRECTORY + (linear >> 21 & 0x1FF) * 8 if self.wide else DIRECTORY + (linear >> 22) * 4

    def pte_at(self, linear: int, table: int = TABLES.start) -> int:
        return table + ((linear >> 12 & 0x1FF) * 8 if self.wide else (linear >> 12 & 0x3FF) * 4)

    def map(self, linear: int, pte: int, pde: int = TABLES.start | P | W | U) -> None:
        """Set both entries, and flush nothing."""
        size = 8 if self.wide else 4
        self.put(self.pde_at(linear), pde, size)
        if not pde & PS:
            self.put(self.pte_at(linear), pte, size)

    def touch(self, kind: str, linear: int, user: bool = False):
        """One access: #BP when it was made, whatever else it raised otherwise."""
        if user:
            self.enter_ring3()
        else:
            self.cpu.esp = KERNEL_STACK
        self.cpu.esi, self.cpu.eax = linear, WRITTEN
        return self.go(TOUCH + 16 * list(TOUCHES).index(kind))

    def fault(self, kind: str, linear: int, user: bool = False) -> int | None:
        """The error code of the #PF that an access raises, or None."""
        taken = self.touch(kind, linear, user)
        if taken.vector != PAGE_FAULT:
            assert taken.vector == BP, taken
            return None
        assert self.cpu.cr2 == linear
        assert taken.eip == (linear if kind == "fetch" else TOUCH + 16 * list(TOUCHES).index(kind))
        return taken.error

    def frame_of(self, linear: int) -> int:
        """The page that a read at `linear`, the start of a page, comes from."""
        assert self.fault("read", linear) is None
        return self.cpu.eax & ~0xFFF


@pytest.fixture(params=[0, PAE], ids=["32-bit", "PAE"])
def world(request):
    return Paged(request.param)


class TestRights:
    """SDM 3:4.6, 4.7."""

    def test_a_page_is_where_its_entry_says(self, world):
        world.map(HIGH, 0x400000 | P)
        world.map(HIGH + 0x1000, 0x7FF000 | P)
        assert world.frame_of(HIGH) == 0x400000
        assert world.frame_of(HIGH + 0x1000) == 0x7FF000

    def test_not_present(self, world):
        world.map(HIGH, 0x400000 | W | U)
        assert world.fault("read", HIGH) == 0
        assert world.fault("write", HIGH, user=True) == F_W | F_U
        world.map(HIGH, 0x400000 | P | W | U, TABLES.start | W | U)
        assert world.fault("write", HIGH) == F_W
        assert world.fault("fetch", HIGH, user=True) == F_U

    def test_both_entries_must_allow(self, world):
        for pde, pte in ((W, W | U), (W | U, W)):
            world.map(HIGH, 0x400000 | P | pte, TABLES.start | P | pde)
            world.cpu.cr3 = world.cpu.cr3
            assert world.fault("read", HIGH, user=True) == F_P | F_U
            assert world.fault("read", HIGH) is None
        for pde, pte in ((U, W | U), (W | U, U)):
            world.map(HIGH, 0x400000 | P | pte, TABLES.start | P | pde)
            world.cpu.cr3 = world.cpu.cr3
            assert world.fault("write", HIGH, user=True) == F_P | F_W | F_U
            assert world.fault("write", HIGH) == F_P | F_W

    def test_without_wp_the_supervisor_writes_anywhere(self, world):
        world.map(HIGH, 0x400000 | P | U)
        world.cpu.cr0 = PE_PG
        assert world.fault("write", HIGH) is None
        assert world.fault("write", HIGH, user=True) == F_P | F_W | F_U

    def test_a_fault_across_pages_stores_nothing(self, world):
        world.map(HIGH, 0x400000 | P | W)
        world.map(HIGH + 0x1000, 0x401000 | P)
        before = world.machine.read(0x400000, 0x1000)
        taken = world.touch("write", HIGH + 0xFFE)
        assert (taken.vector, taken.error, world.cpu.cr2) == (PAGE_FAULT, F_P | F_W, HIGH + 0x1000)
        assert world.machine.read(0x400000, 0x1000) == before


class TestAccessedAndDirty:
    """SDM 3:4.8."""

    def test_a_read_sets_accessed(self, world):
        world.map(HIGH, 0x400000 | P | W)
        world.touch("read", HIGH)
        assert world.get(world.pde_at(HIGH)) == TABLES.start | P | W | U | A
        assert world.get(world.pte_at(HIGH)) == 0x400000 | P | W | A

    def test_a_write_sets_dirty_though_a_read_came_first(self, world):
        world.map(HIGH, 0x400000 | P | W)
        world.touch("read", HIGH)
        world.touch("write", HIGH)
        assert world.get(world.pte_at(HIGH)) == 0x400000 | P | W | A | D
        assert not world.get(world.pde_at(HIGH)) & D

    def test_a_refused_access_sets_nothing(self, world):
        world.map(HIGH, 0x400000 | P)
        world.touch("write", HIGH)
        assert world.get(world.pte_at(HIGH)) == 0x400000 | P

    def test_a_large_page_has_both(self):
        for cr4 in (PSE, PAE):
            world = Paged(cr4)
            world.map(HIGH, 0, 0x800000 | P | W | PS)
            world.touch("read", HIGH)
            assert world.get(world.pde_at(HIGH)) == 0x800000 | P | W | PS | A
            world.touch("write", HIGH)
            assert world.get(world.pde_at(HIGH)) == 0x800000 | P | W | PS | A | D


class TestLargePages:
    """SDM 3:4.3, tables 4-4 and 4-5; PSE-36 puts bits 35:32 of the address into bits 16:13."""

    def test_4_mib(self):
        world = Paged(PSE)
        world.map(HIGH, 0, 0x800000 | P | PS)
        assert world.frame_of(HIGH + 0x3FF000) == 0xBFF000

    def test_2_mib(self):
        world = Paged(PAE)
        world.map(HIGH, 0, 0xA00000 | P | PS)
        assert world.frame_of(HIGH + 0x1FF000) == 0xBFF000

    def test_without_pse_the_bit_means_nothing(self):
        world = Paged(0)
        world.map(HIGH, 0x400000 | P)
        world.map(HIGH, 0x400000 | P, TABLES.start | P)
        world.put(world.pde_at(HIGH), TABLES.start | P | PS, 4)
        assert world.frame_of(HIGH) == 0x400000

    @pytest.mark.parametrize("bit", range(12, 22))
    def test_pse_36(self, bit):
        world = Paged(PSE)
        world.map(HIGH, 0, 0x800000 | P | PS | 1 << bit)
        if bit >= 17:
            assert world.fault("read", HIGH) == F_P | F_RSVD
        elif bit == 12:
            assert world.frame_of(HIGH) == 0x800000      # PAT: no memory has a type here
        else:
            assert world.fault("read", HIGH) is None
            assert world.cpu.eax == 0xFFFFFFFF           # there is no memory above 4 GiB

    @pytest.mark.parametrize("bit", range(12, 22))
    def test_before_pse_36_and_pat_all_those_bits_are_reserved(self, bit):
        world = Paged(PSE, processor="pentium")
        world.map(HIGH, 0, 0x800000 | P | PS | 1 << bit)
        assert world.fault("write", HIGH, user=True) == F_P | F_W | F_U | F_RSVD

    def test_before_pat_its_bit_of_a_pte_is_reserved(self):
        world = Paged(PSE, processor="pentium")
        world.map(HIGH, 0x400000 | P | PAT_OF_PTE)
        assert world.fault("read", HIGH) == F_P | F_RSVD


class TestPae:
    """SDM 3:4.4."""

    @pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 36, 51, 63])
    def test_reserved_bits_of_a_pdpte_refuse_the_load(self, bit):
        world = Paged(PAE)
        world.put(POINTERS + 0x20 + 8, HIGH_DIRECTORY | P | 1 << bit)
        taken = world.ring0(f"mov ${POINTERS + 0x20}, %eax; mov %eax, %cr3; hlt")
        assert (taken.vector, taken.error) == (GP, 0)
        assert world.cpu.cr3 == POINTERS

    @pytest.mark.parametrize("bit", [3, 4, 9, 10, 11])
    def test_other_bits_do_not(self, bit):
        world = Paged(PAE)
        world.put(POINTERS + 24, HIGH_DIRECTORY | P | 1 << bit)
        assert world.ring0(RELOAD).vector is None
        world.map(HIGH, 0x400000 | P)
        assert world.frame_of(HIGH) == 0x400000

    def test_pdptes_are_registers(self):
        world = Paged(PAE)
        world.map(HIGH, 0x400000 | P)
        world.put(POINTERS + 24, 0)
        world.ring0(f"invlpg {HIGH:#x}; hlt")
        assert world.frame_of(HIGH) == 0x400000
        world.ring0("mov %cr3, %eax; mov %eax, %cr3; hlt")
        assert world.fault("read", HIGH) == 0

    @pytest.mark.parametrize("change", ["mov %cr4, %eax; xor $0x80, %eax; mov %eax, %cr4",
                                        "mov %cr4, %eax; xor $0x10, %eax; mov %eax, %cr4",
                                        "mov %cr0, %eax; xor $0x40000000, %eax; mov %eax, %cr0"])
    def test_some_changes_of_cr0_and_cr4_load_them_too(self, change):
        world = Paged(PAE)
        world.put(POINTERS + 8, P | 2)
        taken = world.ring0(f"{change}; hlt")
        assert (taken.vector, taken.error) == (GP, 0)
        assert (world.cpu.cr0, world.cpu.cr4) == (PE_WP_PG | 0x10, PAE)
        world.put(POINTERS + 8, 0)
        world.put(POINTERS + 24, 0)
        world.ring0(f"{change}; hlt")
        assert world.fault("read", HIGH) == 0

    def test_turning_it_on_under_paging(self):
        world = Paged(0)
        world.map(HIGH, 0x400000 | P)
        world.put(HIGH_DIRECTORY, TABLES[1] | P)
        world.put(TABLES[1], 0x500000 | P)
        assert world.frame_of(HIGH) == 0x400000
        # CR3 has to name both tables at once: the PDPTEs lie in its page's unused entries
        world.machine.write(DIRECTORY + 0x20, world.machine.read(POINTERS, 32))
        world.ring0(f"mov ${DIRECTORY + 0x20}, %eax; mov %eax, %cr3; mov ${PAE}, %eax; mov %eax, %cr4; hlt")
        world.wide = True
        assert world.frame_of(HIGH) == 0x500000

    @pytest.mark.parametrize("entry", ["pde", "pte", "large"])
    @pytest.mark.parametrize("bit", [36, 50, 62, 63])
    def test_reserved_bits(self, entry, bit):
        world = Paged(PAE)
        pte, pde = 0x400000 | P, 0x800000 | P | PS if entry == "large" else TABLES.start | P
        world.map(HIGH, *(pte | 1 << bit, pde) if entry == "pte" else (pte, pde | 1 << bit))
        assert world.fault("write", HIGH) == F_P | F_W | F_RSVD

    def test_memory_ends_at_4_gib(self):
        world = Paged(PAE)
        world.map(HIGH, 0x400000 | P | W | 1 << 32)
        assert world.fault("read", HIGH) is None
        assert world.cpu.eax == 0xFFFFFFFF
        assert world.fault("write", HIGH) is None
        assert world.machine.read(0x400000, 1) == b"\xcc"
        assert world.touch("fetch", HIGH).vector == UD          # FF FF
        world.map(HIGH, 0x400000 | P, TABLES.start | P | 1 << 33)
        world.cpu.cr3 = POINTERS
        assert world.fault("read", HIGH) == 0                   # a table that is not there has no present entry

    def test_the_host_is_told_of_reserved_bits(self):
        world = Paged(PAE)
        world.put(POINTERS, LOW_DIRECTORY | P | W)
        with pytest.raises(ArgumentError, match="reserved"):
            world.cpu.cr3 = POINTERS


class TestNoExecute:
    """SDM 3:4.6.2: XD counts when IA32_EFER.NXE is set, and is reserved otherwise."""

    def test_a_fetch_faults(self):
        world = Paged(PAE, nx=True)
        world.map(HIGH, 0x400000 | P | W | XD)
        assert world.fault("fetch", HIGH) == F_P | F_FETCH
        assert world.fault("read", HIGH) is None
        assert world.fault("write", HIGH) is None
        world.map(HIGH, 0x400000 | P | W, TABLES.start | P | XD)
        world.cpu.cr3 = POINTERS
        assert world.fault("fetch", HIGH) == F_P | F_FETCH

    def test_the_error_code_tells_fetches_only_with_nx(self):
        world = Paged(PAE, nx=True)
        assert world.fault("fetch", HIGH) == F_FETCH
        world = Paged(PAE)
        assert world.fault("fetch", HIGH) == 0

    def test_without_pae_there_is_no_xd(self):
        world = Paged(0, nx=True)
        assert world.fault("fetch", HIGH) == 0

    def test_turning_it_off_makes_the_bit_reserved(self):
        world = Paged(PAE, nx=True)
        world.map(HIGH, 0x400000 | P | XD)
        assert world.fault("read", HIGH) is None
        world.ring0("mov $0xC0000080, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr; hlt")
        assert world.fault("read", HIGH) == F_P | F_RSVD

    def test_the_second_page_of_an_instruction(self):
        world = Paged(PAE, nx=True)
        world.map(HIGH, 0x400000 | P)
        world.map(HIGH + 0x1000, 0x401000 | P | XD)
        world.machine.write(0x400FFE, bytes.fromhex("90b8"))        # nop; mov $..., %eax
        taken = world.touch("fetch", HIGH + 0xFFF)
        assert (taken.vector, taken.error, taken.eip) == (PAGE_FAULT, F_P | F_FETCH, HIGH + 0xFFF)
        assert world.cpu.cr2 == HIGH + 0x1000


class TestTlb:
    """SDM 3:4.10: an entry serves until it is invalidated."""

    def test_a_changed_entry_is_seen_after_invlpg(self, world):
        world.map(HIGH, 0x400000 | P)
        assert world.frame_of(HIGH) == 0x400000
        world.map(HIGH, 0x500000 | P)
        assert world.frame_of(HIGH) == 0x400000
        world.ring0(f"invlpg {HIGH + 0x123:#x}; hlt")
        assert world.frame_of(HIGH) == 0x500000

    def test_and_after_a_load_of_cr3(self, world):
        world.map(HIGH, 0x400000 | P)
        world.frame_of(HIGH)
        world.map(HIGH, 0x500000 | P)
        world.ring0(RELOAD)
        assert world.frame_of(HIGH) == 0x500000

    def test_a_page_fault_drops_the_page(self, world):
        world.map(HIGH, 0x400000 | P)
        world.frame_of(HIGH)
        world.map(HIGH, 0x500000 | P)
        assert world.fault("write", HIGH) == F_P | F_W
        assert world.frame_of(HIGH) == 0x500000

    @pytest.mark.parametrize("instruction", ["movsl", "stosl"])
    @pytest.mark.parametrize("readable", [False, True])
    def test_a_rep_that_faults_is_charged_for_no_more_misses_than_one_iteration(self, instruction, readable):
        def misses(source: str) -> int:
            cycles = []
            for cost in (0, 1):
                world = Paged(processor=load_model("generic").with_costs(tlb_miss=cost))
                world.map(HIGH, 0x400000 | P if readable else 0)
                world.cpu.esi, world.cpu.edi, world.cpu.ecx = HIGH, HIGH + 0x1000, 1
                assert world.ring0(source).vector == PAGE_FAULT
                cycles.append(world.machine.counters.cycles)
            return cycles[1] - cycles[0]
        assert misses(f"rep {instruction}") == misses(instruction)

    @pytest.mark.parametrize("cr4", [PSE, PAE])
    def test_invlpg_drops_all_of_a_large_page(self, cr4):
        world = Paged(cr4)
        pieces = [HIGH + step * 0x1000 for step in (0, 1, 77, 0x1FF)]
        world.map(HIGH, 0, 0x800000 | P | PS)
        for linear in pieces:
            assert world.frame_of(linear) == 0x800000 + linear - HIGH
            assert world.touch("fetch", linear).vector == BP
        world.map(HIGH, 0, 0xC00000 | P | PS)
        world.ring0(f"invlpg {pieces[2]:#x}; hlt")
        for linear in pieces:
            assert world.frame_of(linear) == 0xC00000 + linear - HIGH

    def test_invlpg_drops_fetches_too(self, world):
        world.map(HIGH, 0x400000 | P)
        assert world.fault("fetch", HIGH) is None
        world.map(HIGH, 0x400000)
        assert world.fault("fetch", HIGH) is None
        world.ring0(f"invlpg {HIGH:#x}; hlt")
        assert world.fault("fetch", HIGH) == 0


@pytest.fixture(params=[PGE, PGE | PAE], ids=["32-bit", "PAE"])
def with_globals(request):
    return Paged(request.param)


class TestGlobalPages:
    """SDM 3:4.10.2.4: with CR4.PGE, a load of CR3 keeps what G marks."""

    def remap(self, world, flags=0):
        """Map a global page, use it, and map another frame behind the TLB's back."""
        world.map(HIGH, 0x400000 | P | G | flags)
        assert world.frame_of(HIGH) == 0x400000
        assert world.fault("fetch", HIGH) is None
        world.map(HIGH, 0x500000 | P | flags)

    def test_a_load_of_cr3_keeps_them(self, with_globals):
        self.remap(with_globals)
        with_globals.ring0(RELOAD)
        assert with_globals.frame_of(HIGH) == 0x400000

    def test_for_fetches_too(self, with_globals):
        self.remap(with_globals)
        with_globals.map(HIGH, 0)
        with_globals.ring0(RELOAD)
        assert with_globals.fault("fetch", HIGH) is None

    def test_invlpg_does_not(self, with_globals):
        self.remap(with_globals)
        with_globals.ring0(f"invlpg {HIGH:#x}; hlt")
        assert with_globals.frame_of(HIGH) == 0x500000

    @pytest.mark.parametrize("bits", [PGE, PSE])
    def test_nor_does_a_change_of_cr4(self, with_globals, bits):
        self.remap(with_globals)
        with_globals.ring0(f"mov %cr4, %eax; xor ${bits}, %eax; mov %eax, %cr4; xor ${bits}, %eax; mov %eax, %cr4; hlt")
        assert with_globals.frame_of(HIGH) == 0x500000

    def test_others_go(self, with_globals):
        with_globals.map(HIGH, 0x400000 | P)
        with_globals.frame_of(HIGH)
        with_globals.map(HIGH, 0x500000 | P)
        with_globals.ring0(RELOAD)
        assert with_globals.frame_of(HIGH) == 0x500000

    def test_without_pge_the_bit_means_nothing(self, world):
        self.remap(world)
        world.ring0(RELOAD)
        assert world.frame_of(HIGH) == 0x500000

    def test_large_pages_can_be_global(self):
        for cr4 in (PSE | PGE, PAE | PGE):
            world = Paged(cr4)
            world.map(HIGH, 0, 0x800000 | P | PS | G)
            assert world.frame_of(HIGH) == 0x800000
            world.map(HIGH, 0, 0xC00000 | P | PS | G)
            world.ring0(RELOAD)
            assert world.frame_of(HIGH) == 0x800000
            world.ring0(f"invlpg {HIGH + 0x5000:#x}; hlt")
            assert world.frame_of(HIGH) == 0xC00000


def test_a_snapshot_keeps_the_tlb(world):
    world.map(HIGH, 0x400000 | P)
    world.frame_of(HIGH)
    state = world.machine.snapshot()
    world.map(HIGH, 0x500000 | P)
    world.cpu.cr3 = world.cpu.cr3
    assert world.frame_of(HIGH) == 0x500000
    world.machine.restore(state)
    world.map(HIGH, 0x500000 | P)
    assert world.frame_of(HIGH) == 0x400000


# --- The walk, from the manual's text alone, against random tables ---------------------------------------------------

@dataclass(frozen=True)
class Paging:
    """What the walk depends on: CR4, IA32_EFER.NXE, and whether the processor has PAT and PSE-36."""

    cr4: int
    nx: bool = False
    processor: str = "generic"

    @property
    def old(self) -> bool:
        return self.processor == "pentium"


def walk(world: Paged, paging: Paging, linear: int, kind: str, user: bool) -> tuple[int | None, int, dict[int, int]]:
    """What an access at `linear` finds: (physical address or None, error code, entries as they are afterwards)."""
    cr4, cr0, nx = paging.cr4, world.cpu.cr0, paging.nx
    error = (F_W if kind == "write" else 0) | (F_U if user else 0)
    if kind == "fetch" and world.wide and nx:
        error |= F_FETCH
    seen: list[tuple[int, int]] = []

    def load(address: int) -> int:
        inside = address < 16 << 20
        return world.get(address) if inside else 0

    def reserved(entry: int, large: bool, last: bool) -> bool:
        bits = 0
        if world.wide:
            bits = 0x7FFFFFF << 36 | (0 if nx else XD) | (0x1FE000 if large else 0)
        elif cr4 & PSE and large:
            bits = 0x3FF000 if paging.old else 0x3E0000
        elif cr4 & PSE and last and paging.old:
            bits = PAT_OF_PTE
        return bool(entry & bits)

    if world.wide:
        pointer = int.from_bytes(world.machine.read(POINTERS + 8 * (linear >> 30), 8), "little")
        if not pointer & P:
            return None, error, {}
        address = (pointer & 0xFFFFFF000) + 8 * (linear >> 21 & 0x1FF)
    else:
        address = DIRECTORY + 4 * (linear >> 22)
    entry = load(address)
    large = bool(entry & PS and (world.wide or cr4 & PSE))
    seen.append((address, entry))
    if not entry & P:
        return None, error, {}
    if reserved(entry, large, large):
        return None, error | F_P | F_RSVD, {}
    if large:
        size = 0x200000 if world.wide else 0x400000
        frame = entry & 0xFFFFFFFFF & ~(size - 1) if world.wide else entry & 0xFFC00000 | (entry >> 13 & 0xF) << 32
    else:
        size = 0x1000
        table = entry & 0xFFFFFF000
        address = table + (8 * (linear >> 12 & 0x1FF) if world.wide else 4 * (linear >> 12 & 0x3FF))
        entry = load(address)
        seen.append((address, entry))
        if not entry & P:
            return None, error, {}
        if reserved(entry, large=False, last=True):
            return None, error | F_P | F_RSVD, {}
        frame = entry & 0xFFFFFF000
    writable = all(entry & W for _, entry in seen)
    for_user = all(entry & U for _, entry in seen)
    forbidden = nx and world.wide and any(entry & XD for _, entry in seen)
    if (user and not for_user) or (kind == "fetch" and forbidden) or (kind == "write" and not writable and (
            user or cr0 & 0x10000)):
        return None, error | F_P, {}
    after = {address: entry | A for address, entry in seen}
    if kind == "write":
        after[seen[-1][0]] |= D
    return frame + linear % size, 0, after


def random_entry(rng: random.Random, frame: int, wide: bool) -> int:
    """Mostly present and without reserved bits."""
    entry = frame | rng.choice((W | U, W | U, W, U, 0)) | (P if rng.random() < 0.95 else 0)
    entry |= rng.choice((0, A, A | D)) | rng.choice((0, 0x18, G, 0xE00))
    if wide and rng.random() < 0.2:
        entry |= XD
    if wide and rng.random() < 0.04:
        entry |= 1 << rng.randrange(32, 63)
    return entry


def random_tables(world: Paged, rng: random.Random, linear: int) -> None:
    wide = world.wide
    mapped = rng.choice(PAGES) if rng.random() < 0.95 else 0xFFFFF000
    table = rng.choice(TABLES) if rng.random() < 0.97 else 0xF0000000
    if rng.random() < 0.4:
        step = 0x200000 if wide else 0x400000
        large = mapped & -step | PS | (PAT_OF_PDE if rng.random() < 0.2 else 0)
        if rng.random() < 0.15:
            large |= 1 << rng.randrange(13, 21 if wide else 22)
        pde = random_entry(rng, large, wide)
        if not world.cpu.cr4 & PSE and not wide:
            pde = pde & 0xFFF | table
    else:
        pde = random_entry(rng, table, wide)
    pte = random_entry(rng, mapped | (PAT_OF_PTE if rng.random() < 0.2 else 0), wide)
    if wide:
        world.put(POINTERS + 24, HIGH_DIRECTORY | (P if rng.random() < 0.9 else 0))
    size = 8 if wide else 4
    world.put(world.pde_at(linear), pde, size)
    if table < 16 << 20:
        world.put(world.pte_at(linear, table), pte, size)


@pytest.mark.parametrize("paging", [
    Paging(0), Paging(PSE), Paging(PSE, processor="pentium"), Paging(PAE), Paging(PAE | PSE, True),
    Paging(PAE | PGE, True)], ids=str)
def test_random_tables(paging):
    """pvfast's walk against walk() above: outcome, error code, CR2, restart state, and every entry afterwards."""
    world = Paged(paging.cr4, paging.nx, paging.processor)
    rng = random.Random(str(paging))
    outcomes: dict[int | str, int] = {}
    for _ in range(4000):
        world.cpu.cr0 = rng.choice((PE_WP_PG, PE_PG))
        linear = HIGH + rng.randrange(0x40000000) & ~0xFFF
        random_tables(world, rng, linear)
        world.cpu.cr3 = world.cpu.cr3
        kind, user = rng.choice(tuple(TOUCHES)), rng.random() < 0.5
        physical, error, after = walk(world, paging, linear, kind, user)
        before = {address: world.get(address) for address in after}
        taken = world.touch(kind, linear, user)
        if physical is None:
            assert (taken.vector, taken.error, world.cpu.cr2) == (PAGE_FAULT, error, linear)
            assert (taken.eip == linear) if kind == "fetch" else (taken.eip == TOUCH + 16 * list(TOUCHES).index(kind))
            assert (world.cpu.esi, world.cpu.eax) == (linear, WRITTEN)
        elif physical >= 16 << 20:
            assert taken.vector == (UD if kind == "fetch" else BP)
            assert kind != "read" or world.cpu.eax == 0xFFFFFFFF
        else:
            assert taken.vector == BP
            if kind == "read":
                assert world.cpu.eax == physical | 0xCC
            elif kind == "write":
                assert world.machine.read(physical, 4) == WRITTEN.to_bytes(4, "little")
                world.machine.write(physical, struct.pack("<I", physical | 0xCC))
        assert {address: world.get(address) for address in after} == after, (hex(linear), before)
        outcome = "done" if physical is not None else error & (F_P | F_RSVD | F_FETCH)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["done"] > 500
    assert outcomes[0] > 50
    assert outcomes[F_P] > 100


INVLPG_AT, RELOAD_AT, TOGGLE_AT = 0x21000, 0x22000, 0x23000


@pytest.mark.parametrize("cr4", [PGE, PGE | PSE, PGE | PAE])
def test_random_invalidations(cr4):
    """A read sees an entry as it is, or as it has been since what invalidates it; never an older one."""
    world = Paged(cr4)
    rng = random.Random(cr4)
    size, large = (8, 0x200000) if world.wide else (4, 0x400000)
    world.load("invlpg (%esi); hlt", INVLPG_AT)
    world.load(RELOAD, RELOAD_AT)
    world.load("mov %cr4, %eax; xor $0x80, %eax; mov %eax, %cr4; xor $0x80, %eax; mov %eax, %cr4; hlt", TOGGLE_AT)
    now: dict[int, tuple[int, bool]] = {}           # a linear page: its frame, and whether it is global
    may: dict[int, set[tuple[int, bool]]] = {}      # and what the TLB may still have instead

    def remap(number: int) -> None:
        """Another frame for eight pages, through a large page now and then."""
        start, table, flag = HIGH + number * large, TABLES[number], rng.choice((0, G))
        pages = range(start, start + 0x8000, 0x1000)
        if cr4 & (PSE | PAE) and rng.random() < 0.3:
            frame = rng.choice(range(0x400000, 0x1000000, large))
            world.put(world.pde_at(start), frame | P | W | PS | flag, size)
            now.update((page, (frame + page - start, bool(flag))) for page in pages)
        else:
            world.put(world.pde_at(start), table | P | W, size)
            for page in pages:
                frame = rng.choice(PAGES)
                world.put(world.pte_at(page, table), frame | P | W | flag, size)
                now[page] = frame, bool(flag)
        for page in pages:
            may.setdefault(page, set()).add(now[page])

    for number in range(len(TABLES)):
        remap(number)
    old = 0
    for _ in range(4000):
        page = rng.choice(tuple(now))
        world.cpu.esi, world.cpu.esp = page, KERNEL_STACK
        action = rng.choices(("read", "remap", "invlpg", "reload", "toggle"), (70, 12, 8, 4, 1))[0]
        if action == "remap":
            remap(rng.randrange(len(TABLES)))
        elif action == "invlpg":
            world.go(INVLPG_AT)
            may[page] = {now[page]}
        elif action == "reload":
            world.go(RELOAD_AT)
            for other, entries in may.items():
                may[other] = {entry for entry in entries if entry[1]} | {now[other]}
        elif action == "toggle":
            world.go(TOGGLE_AT)
            may.update((other, {now[other]}) for other in may)
        else:
            frame = world.frame_of(page)
            assert frame in {entry[0] for entry in may[page]}
            old += frame != now[page][0]
    assert old > 50


def test_the_debuggers_eye_leaves_no_trace():
    machine = pvfast.Machine(ram="16M")
    machine.write(0x1000, struct.pack("<Q", 0x2000 | P))
    machine.write(0x2000, struct.pack("<Q", 0x600000 | P | PS))
    machine.cpu.cr4, machine.cpu.cr3 = PAE, 0x1000
    machine.cpu.cr0 = PE_PG
    machine.write_linear(0x1FF000, b"hello")
    assert machine.read(0x7FF000, 5) == b"hello"
    assert machine.read(0x2000, 8) == struct.pack("<Q", 0x600000 | P | PS)
