"""Page types: what Xen refuses so that the processor never walks a page table that Xen has not checked."""

import random
import struct
from collections import Counter

import pytest

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors.xen_interface import START_INFO_PT_BASE, Errno, Hypercall, MmuExt
from tests.paravirt.xen import Domain, others_frames

WRITABLE, READ_ONLY, TABLE = 0x63, 0x61, 0x67
INVAL = -Errno.INVAL
RING1_DATA, RING0_DATA = 0x00CFB200, 0x00CF9200
PAGE_FAULT, GENERAL_PROTECTION = 14, 13


def fresh_page(domain: Domain, label: str = "swapper_pg_dir", rights: int = READ_ONLY) -> int:
    """A page of the kernel that is nothing special, zeroed, in the kernel's mapping as said; its frame."""
    page = domain.image.labels[label]
    domain.machine.write_linear(page, bytes(4096))
    assert domain.map_kernel_page(page, rights) == 0
    return domain.frame(page)


def directory_page(domain: Domain) -> int:
    """Linear address of the builder's page directory, before the kernel runs."""
    return domain.read(domain.machine.cpu.esi + START_INFO_PT_BASE)


def test_the_builder_makes_what_xen_demands(image: GuestImage) -> None:
    domain = Domain(image)
    directory = domain.machine.cpu.cr3 >> 12
    assert domain.xen.page(directory) == ("L2", 2, True)
    assert directory == domain.frame(directory_page(domain))
    assert domain.xen.page(domain.frame(directory_page(domain) + 4096)) == ("L1", 1, False)
    assert domain.xen.page(domain.frame("cpu_gdt_table")) == ("writable", 1, False)
    domain.boot()
    assert domain.xen.page(domain.frame("cpu_gdt_table")) == ("GDT", 1, False)
    assert domain.xen.page(domain.frame("user_pg_table")) == ("L1", 1, False)
    domain.assert_uses_are_right()


def test_the_guest_cannot_write_its_page_tables(domain: Domain) -> None:
    slot = domain.word("init_mm_pgd")
    domain.execute("c705" + slot.to_bytes(4, "little").hex() + "67000000")      # movl $0x67, slot
    domain.run_to("panic", 1000)
    assert (domain.fault()["vector"], domain.fault()["cr2"]) == (PAGE_FAULT, slot)


@pytest.mark.parametrize("label", ["user_pg_table", "cpu_gdt_table", "init_mm_pgd"])
def test_a_writable_mapping_of_a_table_is_refused(domain: Domain, label: str) -> None:
    table = domain.word(label) if label == "init_mm_pgd" else domain.image.labels[label]
    before = domain.machine.read_linear(domain.word("xen_lowmem_ptes"), 4 * 1024)
    assert domain.map_kernel_page(table, WRITABLE) == INVAL
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, domain.scratch, domain.frame(table) << 12 | WRITABLE, 0, 2) < 0
    assert domain.mmu_update(domain.frame("user_pg_table") << 12, domain.frame(table) << 12 | TABLE) == INVAL
    assert domain.map_kernel_page(table, READ_ONLY) == 0        # this is allowed
    assert domain.machine.read_linear(domain.word("xen_lowmem_ptes"), 4 * 1024) == before
    domain.assert_uses_are_right()


def test_a_page_that_is_mapped_writable_cannot_become_a_table(domain: Domain) -> None:
    frame = fresh_page(domain, rights=WRITABLE)
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, frame) == INVAL
    assert domain.mmuext(MmuExt.PIN_L2_TABLE, frame) == INVAL
    assert domain.mmuext(MmuExt.NEW_BASEPTR, frame) == INVAL
    assert domain.mmu_update(domain.machine.cpu.cr3, frame << 12 | TABLE) == INVAL
    assert domain.hypercall(Hypercall.SET_GDT, domain.store(frame), 32) == INVAL
    assert domain.mmuext(MmuExt.SET_LDT, domain.image.labels["swapper_pg_dir"], 1) == INVAL
    assert domain.xen.page(frame) == ("writable", 1, False)


@pytest.mark.parametrize("owner", ["Xen", "another domain", "nobody"])
@pytest.mark.parametrize("rights", [WRITABLE, READ_ONLY, TABLE])
def test_another_domains_frame_is_refused(domain: Domain, owner: str, rights: int) -> None:
    pages = len(domain.machine.ram) >> 12
    frame = {"Xen": pages - 1, "another domain": others_frames(domain)[0], "nobody": pages}[owner]
    table = domain.frame("user_pg_table") << 12
    assert domain.mmu_update(table, frame << 12 | rights) == INVAL
    assert domain.mmu_update(domain.machine.cpu.cr3, frame << 12 | rights) == INVAL
    assert domain.mmu_update(frame << 12, 0) == INVAL
    for command in (MmuExt.PIN_L1_TABLE, MmuExt.PIN_L2_TABLE, MmuExt.UNPIN_TABLE, MmuExt.NEW_BASEPTR):
        assert domain.mmuext(command, frame) == INVAL
    assert domain.hypercall(Hypercall.SET_GDT, domain.store(frame), 32) == INVAL
    assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, frame << 12, 0, 0, 0) == INVAL
    with pytest.raises(pvfast.PvfastError, match="none of the domain's"):
        domain.xen.page(frame)


def test_a_pinned_frame_cannot_be_used_for_anything_else(domain: Domain) -> None:
    frame = fresh_page(domain)
    page = domain.image.labels["swapper_pg_dir"]
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, frame) == 0
    assert domain.xen.page(frame) == ("L1", 1, True)
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, frame) == INVAL   # it is already
    assert domain.mmuext(MmuExt.PIN_L2_TABLE, frame) == INVAL
    assert domain.mmuext(MmuExt.NEW_BASEPTR, frame) == INVAL
    assert domain.hypercall(Hypercall.SET_GDT, domain.store(frame), 32) == INVAL
    assert domain.map_kernel_page(page, WRITABLE) == INVAL
    assert domain.mmuext(MmuExt.UNPIN_TABLE, frame) == 0
    assert domain.mmuext(MmuExt.UNPIN_TABLE, frame) == INVAL
    assert domain.map_kernel_page(page, WRITABLE) == 0          # and now it is an ordinary page again
    domain.assert_uses_are_right()


def test_a_table_that_maps_itself_writable_is_refused(domain: Domain) -> None:
    frame = fresh_page(domain)
    domain.store(0, frame << 12 | WRITABLE, at=domain.image.labels["swapper_pg_dir"])
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, frame) == INVAL
    assert domain.xen.page(frame) == ("none", 0, False)
    domain.assert_uses_are_right()


def test_a_bad_entry_takes_back_what_came_before_it(domain: Domain) -> None:
    frame = fresh_page(domain)
    user = domain.frame("user_text_page")
    domain.store(user << 12 | TABLE, user << 12 | TABLE, 0, 0xFFFFF000 | WRITABLE,
                 at=domain.image.labels["swapper_pg_dir"])
    before = domain.xen.page(user)
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, frame) == INVAL
    assert domain.xen.page(user) == before


@pytest.mark.parametrize("bit", [0x80, 0x100])                  # large or PAT; global
def test_entries_that_are_not_the_guests_to_make(domain: Domain, bit: int) -> None:
    frame = fresh_page(domain)
    table = domain.frame("user_pg_table") << 12
    assert domain.mmu_update(table, 0x5000 | WRITABLE | bit) == INVAL
    assert domain.mmu_update(domain.machine.cpu.cr3, frame << 12 | TABLE | bit) == INVAL


def test_xens_part_of_a_directory_is_xens(domain: Domain) -> None:
    frame = fresh_page(domain)
    directory = domain.machine.cpu.cr3
    assert domain.mmu_update(directory + 4 * 1008, 0) == INVAL
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, 0xFC000000, 0x5000 | WRITABLE, 0, 0) == INVAL
    domain.machine.write(frame << 12, domain.machine.read(directory, 4 * 1008) + b"\x67\x50\0\0" * 16)
    assert domain.mmuext(MmuExt.NEW_BASEPTR, frame) == 0        # what the guest has put there is overwritten
    assert domain.machine.read(frame << 12, 4096)[4 * 1008:] == domain.machine.read(directory, 4096)[4 * 1008:]
    domain.assert_uses_are_right()


def test_the_machine_to_physical_table_is_read_only_and_changed_by_xen(domain: Domain) -> None:
    assert domain.read(0xFC000000 + 4 * 0x123) == domain.frames.index(0x123)
    assert domain.mmu_update(0x123 << 12 | 1, 0x777) == 0
    assert domain.read(0xFC000000 + 4 * 0x123) == 0x777
    assert domain.mmu_update(len(domain.machine.ram) - 4096 | 1, 0) == INVAL
    domain.execute("c70500 0000fc 00000000".replace(" ", ""))   # movl $0, 0xfc000000
    domain.run_to("panic", 1000)
    assert (domain.fault()["vector"], domain.fault()["cr2"]) == (PAGE_FAULT, 0xFC000000)


def test_a_base_that_is_not_pinned_is_checked(domain: Domain) -> None:
    old = domain.machine.cpu.cr3 >> 12
    table = domain.frame(domain.word("init_mm_pgd") + 4096)
    uses = domain.xen.page(table)[1]
    frame = fresh_page(domain)
    domain.machine.write(frame << 12, domain.machine.read(old << 12, 4096))
    assert domain.mmuext(MmuExt.NEW_BASEPTR, frame) == 0
    assert domain.machine.cpu.cr3 == frame << 12
    assert domain.xen.page(frame) == ("L2", 1, False)
    assert domain.xen.page(old) == ("L2", 1, True)
    assert domain.xen.page(table) == ("L1", uses + 1, False)  # this directory too leads there
    domain.assert_uses_are_right()
    assert domain.mmuext(MmuExt.NEW_BASEPTR, old) == 0
    assert domain.xen.page(frame) == ("none", 0, False)
    assert domain.xen.page(table) == ("L1", uses, False)
    domain.assert_uses_are_right()


def test_a_page_table_lives_as_long_as_a_directory_leads_to_it(domain: Domain) -> None:
    table, other = fresh_page(domain), domain.frame("user_text_page")
    before = domain.xen.page(other)
    domain.store(other << 12 | TABLE, at=domain.image.labels["swapper_pg_dir"])
    slot = domain.machine.cpu.cr3 + 4 * 5
    assert domain.mmu_update(slot, table << 12 | TABLE) == 0
    assert domain.xen.page(table) == ("L1", 1, False)
    assert domain.xen.page(other) == ("writable", before[1] + 1, False)
    assert domain.mmu_update(table << 12, other << 12 | READ_ONLY) == 0
    assert domain.xen.page(other) == before
    assert domain.mmu_update(slot, 0) == 0
    assert domain.xen.page(table) == ("none", 0, False)
    domain.assert_uses_are_right()


def test_a_stale_translation_writes_to_no_page_table(domain: Domain) -> None:
    """The guest maps a page read-only and does not flush; before it becomes a page table, Xen does."""
    page = domain.image.labels["swapper_pg_dir"]
    store = "c705" + page.to_bytes(4, "little").hex() + "67000000"
    domain.execute(store)                                       # the translation is in the TLB now
    domain.machine.write_linear(page, bytes(4))
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, page, domain.frame(page) << 12 | READ_ONLY, 0, 0) == 0
    domain.execute(store)
    assert domain.read(page) == 0x67                            # still writable, as on any processor
    domain.machine.write_linear(page, bytes(4))
    assert domain.mmuext(MmuExt.PIN_L1_TABLE, domain.frame(page)) == 0
    domain.execute(store)
    assert domain.read(page) == 0
    domain.run_to("panic", 1000)
    assert domain.fault()["vector"] == PAGE_FAULT


# --- Descriptor tables -----------------------------------------------------------------------------------------------

def test_a_descriptor_above_the_guests_ring_is_refused(domain: Domain) -> None:
    gdt = domain.frame("cpu_gdt_table") << 12
    assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, gdt + 8, 0, 0xFFFF, RING0_DATA) == INVAL
    assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, gdt + 8, 0, 0xFFFF, RING1_DATA) == 0
    frame = fresh_page(domain)
    domain.store(0xFFFF, RING0_DATA, at=domain.image.labels["swapper_pg_dir"] + 8)
    assert domain.hypercall(Hypercall.SET_GDT, domain.store(frame), 32) == INVAL
    assert domain.mmuext(MmuExt.SET_LDT, domain.image.labels["swapper_pg_dir"], 32) == INVAL


def test_descriptors_are_not_written_into_page_tables(domain: Domain) -> None:
    for frame in (domain.frame("user_pg_table"), domain.machine.cpu.cr3 >> 12):
        assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, frame << 12, 0, 0x5067, 0) == INVAL


def test_an_ldt_is_loaded_checked_and_changed(domain: Domain) -> None:
    page = domain.image.labels["swapper_pg_dir"]
    frame = fresh_page(domain)
    domain.store(0xFFFF, RING1_DATA, at=page + 8)
    assert domain.mmuext(MmuExt.SET_LDT, page, 8193) == INVAL
    assert domain.mmuext(MmuExt.SET_LDT, page + 4, 8) == INVAL
    assert domain.mmuext(MmuExt.SET_LDT, 0x10000000, 8) == INVAL
    assert domain.mmuext(MmuExt.SET_LDT, page, 8) == 0
    assert domain.xen.page(frame) == ("LDT", 1, False)
    assert domain.map_kernel_page(page, WRITABLE) == INVAL
    domain.execute("66b80d00 8ee0", steps=2)                    # mov $0xd, %ax; mov %ax, %fs
    assert (domain.machine.cpu.fs.selector, domain.machine.cpu.fs.base) == (0xD, 0)
    assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, (frame << 12) + 8, 0, 0x12340000 | 0xFFFF, RING0_DATA) == INVAL
    assert domain.hypercall(Hypercall.UPDATE_DESCRIPTOR, (frame << 12) + 8, 0, 0x1234FFFF, RING1_DATA) == 0
    domain.execute("66b80d00 8ee0", steps=2)
    assert domain.machine.cpu.fs.base == 0x1234
    assert domain.mmuext(MmuExt.SET_LDT, 0, 0) == 0
    assert domain.map_kernel_page(page, WRITABLE) == 0
    domain.execute("66b80d00 8ee0", steps=2)                    # there is none now
    domain.run_to("panic", 1000)
    assert (domain.fault()["vector"], domain.fault()["error_code"]) == (GENERAL_PROTECTION, 0xC)


def test_the_ldt_stays_when_the_guest_maps_something_else_there(domain: Domain) -> None:
    page = domain.image.labels["swapper_pg_dir"]
    frame = fresh_page(domain)
    domain.store(0xFFFF, RING1_DATA, at=page + 8)
    assert domain.mmuext(MmuExt.SET_LDT, page, 8) == 0
    bad = domain.frame("user_text_page")
    domain.machine.write(bad << 12, bytes(8) + b"\xff\xff\0\0" + RING0_DATA.to_bytes(4, "little"))
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, page, bad << 12 | WRITABLE, 0, 2) == 0
    domain.execute("66b80d00 8ee0", steps=2)
    assert domain.machine.cpu.fs.attributes >> 5 & 3 == 1       # still the one that was checked
    assert domain.xen.page(frame) == ("LDT", 1, False)


def test_the_kernel_protects_its_ldt_while_xen_has_it(domain: Domain) -> None:
    first, second = (domain.image.labels[name] for name in ("swapper_pg_dir", "pg0"))
    for page in (first, second):
        domain.machine.write_linear(page, bytes(4096))
    domain.call("xen_set_ldt", first, 512)
    assert [domain.xen.page(domain.frame(page))[0] for page in (first, second)] == ["LDT", "writable"]
    domain.call("xen_write_ldt_entry", first, 1, 0x1234FFFF, 0x00CFF200)
    domain.execute("66b80f00 8ee0", steps=2)                    # mov $0xf, %ax; mov %ax, %fs
    assert domain.machine.cpu.fs.base == 0x1234
    domain.call("xen_set_ldt", second, 1)
    assert [domain.xen.page(domain.frame(page))[0] for page in (first, second)] == ["writable", "LDT"]
    domain.call("xen_write_ldt_entry", second, 0, 0, 0)
    domain.call("xen_set_ldt", 0, 0)
    assert [domain.xen.page(domain.frame(page))[0] for page in (first, second)] == ["writable", "writable"]
    domain.assert_uses_are_right()


@pytest.mark.parametrize(("selector", "good"), [
    (0x60, True), (0x63, True), (0xE019, True), (0xE018, True), (0x7, True), (0xE02B, False), (0xE008, False),
    (0xFFF8, False),
])
def test_a_trap_handler_is_in_a_segment_of_the_guests(domain: Domain, selector: int, good: bool) -> None:
    table = domain.store(3 | selector << 16, 0xC0100000, 0, 0)
    assert domain.hypercall(Hypercall.SET_TRAP_TABLE, table) == (0 if good else -Errno.PERM)


# --- Anything at all -------------------------------------------------------------------------------------------------

def test_hostile_hypercalls(image: GuestImage) -> None:
    """Random numbers and arguments, many of them nearly right. Xen lives, and what it believes stays true."""
    choice = random.Random(4)
    domain = Domain(image, ram="4M").boot()
    state = domain.machine.snapshot()
    answers: Counter[int] = Counter()
    labels = domain.image.labels
    pages = [labels[name] for name in ("swapper_pg_dir", "pg0", "user_pg_table", "user_text_page", "cpu_gdt_table",
                                       "boot_pda", "xen_shared_info_page")]
    pages += [domain.word("init_mm_pgd"), domain.word("init_mm_pgd") + 4096]

    def entry() -> int:
        rights = choice.choice((0, 1, 0x61, 0x61, 0x63, 0x63, 0x67, 0x67, 0xE7))
        return domain.frame(choice.choice(pages)) << 12 | rights

    def word() -> int:
        return choice.choice((
            choice.randrange(16), choice.getrandbits(32), choice.choice(pages), domain.frame(choice.choice(pages)),
            entry(), domain.scratch + choice.randrange(64), 0x7FF0, len(domain.machine.ram) - 4096, 0xE021,
        ))

    def call() -> tuple[int, list[int], list[int]]:
        """A number, its arguments, and words that they point at."""
        page = choice.choice(pages)
        match choice.randrange(5):
            case 0:
                slot = (domain.frame(page) << 12) + 4 * choice.randrange(1024)
                return Hypercall.MMU_UPDATE, [domain.scratch, 1, 0, 0x7FF0], [slot, 0, entry(), 0]
            case 1:
                return Hypercall.UPDATE_VA_MAPPING, [page, entry(), 0, choice.randrange(3)], []
            case 2:
                command = choice.choice((0, 0, 1, 4, 4, 5, 6, 13, 13))
                return (Hypercall.MMUEXT_OP, [domain.scratch, 1, 0, 0x7FF0],
                        [command, page if command == 13 else domain.frame(page), choice.choice((0, 16, 1024))])
            case 3:
                return Hypercall.SET_GDT, [domain.scratch, choice.choice((512, 1024))], [domain.frame(page), word()]
        return (choice.choice((*Hypercall, choice.getrandbits(32))), [word() for _ in range(5)],
                [word() for _ in range(16)])

    for _ in range(120):
        for _ in range(50):
            number, arguments, words = call()
            if domain.xen.page(domain.frame(domain.scratch))[0] == "writable":
                domain.machine.write(domain.machine_address(domain.scratch), struct.pack(f"<{len(words)}I", *words))
            answers[domain.hypercall(number, *arguments)] += 1
            if domain.stop.reason is pvfast.StopReason.SHUTDOWN or domain.machine.cpu.cpl != 1:
                break
        domain.assert_uses_are_right()
        domain.machine.restore(state)
    assert answers[0] > 300
    assert len(answers) > 8
