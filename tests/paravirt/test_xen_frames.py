"""Machine frames and pseudo-physical ones: Xen's tables, and a kernel that translates."""

import struct
from types import SimpleNamespace

import pytest

import pvfast
from pvfast.assembly import disassemble
from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.xen_interface import HYPERVISOR_VIRT_START, START_INFO_SHARED_INFO, Errno, Hypercall
from tests.guest.kernel import Kernel
from tests.paravirt.xen import PAGE_OFFSET, Domain, others_frames

OTHERS_FRAMES = 16
NOT_A_PAGE = 0xFFFFFFFF
WRITABLE, READ_ONLY = 0x63, 0x61
CALL_REL32, CALL_BYTES = 0xE8, 5
RET = b"\xc3"
WITHOUT_PTE_VAL = ["2.6.20", "2.6.21"]


@pytest.fixture
def domain(image: GuestImage) -> Domain:
    return Domain(image)


def words(domain: Domain, linear: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", domain.machine.read_linear(linear, 4 * count))


# --- What the builder makes ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pages", [1024, 1025, 4096, 4097])
def test_no_page_has_the_number_of_its_frame(image: GuestImage, pages: int) -> None:
    frames = Domain(image, ram=f"{4 * pages}K").frames
    assert len(set(frames)) == len(frames)
    assert not [pfn for pfn, mfn in enumerate(frames) if pfn == mfn]
    assert not [pfn for pfn, mfn in enumerate(frames[1:]) if mfn == frames[pfn] + 1]


def test_the_machine_has_frames_of_another_domain(domain: Domain) -> None:
    others = others_frames(domain)
    assert len(others) == OTHERS_FRAMES
    for frame in others:
        with pytest.raises(pvfast.PvfastError, match="none of the domain's"):
            domain.xen.page(frame)


def test_the_two_tables_agree(domain: Domain) -> None:
    total = len(domain.machine.ram) >> 12
    machine_to_phys = words(domain, HYPERVISOR_VIRT_START, total)
    assert [machine_to_phys[mfn] for mfn in domain.frames] == list(range(len(domain.frames)))
    assert {machine_to_phys[mfn] for mfn in set(range(total)) - set(domain.frames)} == {NOT_A_PAGE}


def test_everything_is_mapped_through_the_frame_list(domain: Domain) -> None:
    directory = domain.machine.read(domain.machine.cpu.cr3, 4096)
    for pfn, mfn in enumerate(domain.frames):
        linear = PAGE_OFFSET + (pfn << 12)
        table = int.from_bytes(directory[linear >> 22 << 2:][:4], "little") & ~0xFFF
        entry = int.from_bytes(domain.machine.read(table + (linear >> 10 & 0xFFC), 4), "little")
        assert entry >> 12 == mfn


def test_the_image_is_where_the_frame_list_says(domain: Domain) -> None:
    image = domain.image
    assert domain.machine.read_linear(image.labels["system_call"], 16) == image.read("system_call", 16)
    assert domain.machine.read(domain.machine_address("system_call"), 16) == image.read("system_call", 16)
    assert domain.machine.read(image.to_physical(image.labels["system_call"]), 16) == bytes(16)


def test_an_image_need_not_begin_with_a_page(image: GuestImage) -> None:
    odd = SimpleNamespace(code=image.code[0x123:], physical=image.physical + 0x123, notes=image.notes)
    xen = hypervisor("xen")
    machine = pvfast.Machine(ram="16M", hypervisor=xen)
    xen.start(machine, odd)
    assert machine.read_linear(image.labels["system_call"], 16) == image.read("system_call", 16)


# --- What Xen makes of frames ----------------------------------------------------------------------------------------

def test_a_page_number_where_a_frame_is_wanted_maps_another_page(domain: Domain) -> None:
    """Or is refused, where the frame of that number is another domain's."""
    domain.boot()
    pfn = domain.scratch - PAGE_OFFSET >> 12
    other = domain.frames.index(pfn)
    domain.machine.write_linear(PAGE_OFFSET + (other << 12), b"other")
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, domain.scratch, pfn << 12 | WRITABLE, 0, 2) == 0
    assert domain.machine.read_linear(domain.scratch, 5) == b"other"
    others_number = others_frames(domain)[0]
    assert others_number < len(domain.frames)                       # a page that the domain has
    assert domain.hypercall(Hypercall.UPDATE_VA_MAPPING, domain.scratch, others_number << 12 | READ_ONLY, 0, 2) \
        == -Errno.INVAL
    assert domain.machine.read_linear(domain.scratch, 5) == b"other"


def test_shared_info_is_told_by_its_machine_address(domain: Domain) -> None:
    shared_info = domain.read(domain.machine.cpu.esi + START_INFO_SHARED_INFO)
    assert shared_info >> 12 not in domain.frames
    domain.boot()
    assert domain.machine.read(shared_info, 4096) == domain.machine.read_linear(
        domain.image.labels["xen_shared_info_page"], 4096)


@pytest.mark.parametrize("where", ["another domain", "Xen"])
def test_only_the_number_of_an_own_frame_is_changed(domain: Domain, where: str) -> None:
    domain.boot()
    frame = others_frames(domain)[-1] if where == "another domain" else (len(domain.machine.ram) >> 12) - 1
    assert domain.mmu_update(frame << 12 | 1, 5) == -Errno.INVAL
    assert domain.read(HYPERVISOR_VIRT_START + 4 * frame) == NOT_A_PAGE


# --- The kernel ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("release", GUEST_ERAS)
def test_the_kernel_translates_entries_that_are_present(release: str) -> None:
    domain = Domain(build(release)).boot()
    pfn = 0x123
    mfn = domain.frames[pfn]
    assert domain.call("xen_make_pte", pfn << 12 | WRITABLE) == mfn << 12 | WRITABLE
    assert domain.call("xen_pte_val", mfn << 12 | WRITABLE) == pfn << 12 | WRITABLE
    assert domain.call("xen_make_pte", 0x5000) == domain.call("xen_pte_val", 0x5000) == 0x5000
    assert domain.call("virt_to_machine", PAGE_OFFSET + (pfn << 12) + 5) == (mfn << 12) + 5


@pytest.mark.parametrize("release", GUEST_ERAS)
def test_the_kernel_believes_the_machine_to_physical_table(release: str) -> None:
    """MMU_MACHPHYS_UPDATE: the table is Xen's, but what it says of the domain's frames is the domain's."""
    domain = Domain(build(release)).boot()
    mfn = domain.frames[0x123]
    assert domain.mmu_update(mfn << 12 | 1, 0x777) == 0
    assert domain.call("xen_pte_val", mfn << 12 | 1) == 0x777 << 12 | 1


@pytest.mark.parametrize("release", GUEST_ERAS)
@pytest.mark.parametrize("label", ["phys_to_machine", "machine_to_phys"])
def test_a_kernel_that_does_not_translate_gets_nowhere(release: str, label: str) -> None:
    image = build(release)
    offset = image.labels[label] - image.linear
    broken = image.with_patches(image.code[:offset] + RET + image.code[offset + 1:])
    domain = Domain(broken)
    with pytest.raises(AssertionError):
        domain.boot().bench("fork-exit", 1)


@pytest.mark.parametrize("release", WITHOUT_PTE_VAL)
def test_where_entries_are_read_is_room_for_a_call(release: str) -> None:
    """Whole instructions of five bytes, which run natively as they are, and under Xen become calls."""
    image = build(release)
    booted, domain = Kernel(image).boot(), Domain(image).boot()
    for place, called in struct.iter_unpack("<II", image.sections[".entry_reads"].code):
        native = [instruction.text for instruction in disassemble(image.read(place, CALL_BYTES), place)]
        translated = [instruction.text for instruction in disassemble(image.read(called, 4 * CALL_BYTES), called)]
        end = translated.index("retl")
        assert f"calll 0x{image.labels['xen_entry_read']:x}" in translated[:end]
        assert [text for text in translated[:end] if not text.startswith("call")] == native
        assert booted.machine.read_linear(place, CALL_BYTES) == image.read(place, CALL_BYTES)
        call = domain.machine.read_linear(place, CALL_BYTES)
        assert call[0] == CALL_REL32
        assert place + CALL_BYTES + int.from_bytes(call[1:], "little", signed=True) == called


def test_releases_with_pte_val_have_no_such_places() -> None:
    for release in set(GUEST_ERAS) - set(WITHOUT_PTE_VAL):
        image = build(release)
        assert ".entry_reads" not in image.sections
        assert image.implementations("xen")["pte_val"] == image.labels["xen_pte_val"]
