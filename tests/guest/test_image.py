"""The guest image as data: layout, table, patch records, notes, patching, and what it refuses."""

import dataclasses

import pytest

from pvfast.assembly import disassemble
from pvfast.errors import ImageError, PvfastError
from pvfast.guest import GuestImage, build, source_texts
from pvfast.guest.benchmarks import ROWS, WORKLOADS
from pvfast.guest.notes import parse_notes
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.operations import era
from pvfast.paravirt.probing import RING_TEST, RING_TEST_BRANCH
from pvfast.paravirt.shapes import SHAPES, classify, identify
from pvfast.paravirt.sites import RECORD, PatchType, pack_records

PAGES = ("cpu_gdt_table", "boot_pda", "hypercall_page", "xen_shared_info_page", "user_text_page",
         "user_data_page", "empty_zero_page", "swapper_pg_dir", "pg0", "user_pg_table")


def word(image: GuestImage, address: str | int) -> int:
    return int.from_bytes(image.read(address, 4), "little")


def test_is_built_once_and_cannot_change(image: GuestImage) -> None:
    assert build() is image
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.code = b""  # type: ignore[misc]
    with pytest.raises(TypeError):
        image.benchmarks["empty"] = None  # type: ignore[index]


def test_starts_with_the_ring_test(image: GuestImage) -> None:
    assert image.entry == image.physical == 0x100000
    first = image.read("startup_32", 9)
    assert first == RING_TEST + RING_TEST_BRANCH


def test_every_pointer_of_the_table_is_its_native_function(image: GuestImage) -> None:
    native = image.implementations()
    assert set(image.pointers) == {row.name for row in era("2.6.20").operations}
    assert len(image.pointers) == 60
    for name, pointer in image.pointers.items():
        assert word(image, pointer) == native[name] == image.labels[f"native_{name}"]


def test_data_members_say_bare_hardware(image: GuestImage) -> None:
    table = image.labels["paravirt_ops"]
    assert (word(image, table), word(image, table + 4)) == (0, 0)
    name = word(image, table + image.era["name"].offset)
    assert image.read(name, 14) == b"bare hardware\0"


def test_records_are_in_the_image_in_order(image: GuestImage) -> None:
    start, stop = (image.labels[f"__{bound}_parainstructions"] for bound in ("start", "stop"))
    assert stop - start == RECORD.size * len(image.sites)
    assert image.read(start, stop - start) == pack_records(image.sites)
    assert list(image.sites) == sorted(image.sites)


def test_every_site_is_a_shape_of_its_type(image: GuestImage) -> None:
    for site in image.sites:
        code = image.read(site.address, site.length)
        shapes = [shape for shape in identify(code, image.pointers) if shape.type == site.type]
        assert shapes, f"{site}: {code.hex(' ')}"
        assert any(shape.clobbers in (None, site.clobbers) for shape in shapes)
    assert {site.type for site in image.sites} == set(PatchType)


def test_cr0_is_read_through_a_site_without_a_record(image: GuestImage) -> None:
    code = SHAPES["GET_CR0_INTO_EAX"].code(image.pointers)
    place = image.linear + image.code.index(code, image.labels["device_not_available"] - image.linear)
    assert place < image.labels["device_not_available"] + 64
    assert all(site.address != place for site in image.sites)


def test_benchmarks_name_their_sites_and_baselines(image: GuestImage) -> None:
    assert list(image.benchmarks) == [row.name for row in (*ROWS, *WORKLOADS)]
    for row in WORKLOADS:
        assert image.benchmarks[row.name].address == image.labels[row.label]
        assert not row.baseline or row.baseline in image.benchmarks
        assert not row.sites
    for row in ROWS:
        benchmark = image.benchmarks[row.name]
        assert benchmark.address == image.labels[benchmark.label]
        assert bool(benchmark.sites) == bool(benchmark.baseline)
        assert not benchmark.baseline or not image.benchmarks[benchmark.baseline].sites


def test_every_patch_type_has_a_benchmark(image: GuestImage) -> None:
    types = {image.site(label).type for benchmark in image.benchmarks.values() for label in benchmark.sites}
    assert types == set(PatchType)


def test_only_the_table_reaches_sensitive_instructions(image: GuestImage) -> None:
    text = image.sections[".text"]
    native = range(image.labels["native_save_fl"], image.labels["xen_probe"])
    sensitive = {"cli", "sti", "popfl", "iretl", "hlt", "lgdtl", "lidtl", "ltrw", "wrmsr", "rdmsr", "sysexit"}
    head = range(image.labels["startup_32"], image.labels["startup_paravirt"])
    xens_iret = range(image.labels["xen_iret_restore_end"], image.labels["xen_iret_end_crit"])
    lhype_iret = range(image.labels["lhype_iret"], image.labels["lguest_noirq_end"])
    for instruction in disassemble(image.read(text.address, len(text.code)), text.address):
        if instruction.text.split()[0] in sensitive:
            assert any(instruction.address in place for place in (native, head, xens_iret, lhype_iret)), instruction


def test_pages_are_pages(image: GuestImage) -> None:
    assert all(image.labels[name] % 4096 == 0 for name in PAGES)
    assert image.labels["init_thread_union"] % 8192 == 0
    assert image.physical + len(image.code) < 2 << 20


def test_the_user_program_is_in_its_page(image: GuestImage) -> None:
    section = image.sections[".user.text"]
    assert image.read("user_text_page", len(section.code)) == section.code
    assert image.labels["user_null_syscall_int80"] == section.address == 0x08048000


def test_notes_lead_to_xens_entry(image: GuestImage) -> None:
    assert image.notes.entry == image.labels["startup_xen"]
    assert image.notes.hypercall_page == image.labels["hypercall_page"]
    assert (image.notes.virt_base, image.notes.pae_mode) == (0xC0000000, "no")


def test_broken_notes_are_refused(image: GuestImage) -> None:
    section = image.sections[".note.Xen"].code
    assert parse_notes(section) == image.notes
    refused = 0
    for size in range(len(section)):
        try:
            assert parse_notes(section[:size]) == image.notes       # only the loader's name may be missing
        except ImageError:
            refused += 1
    assert refused > len(section) * 3 // 4
    with pytest.raises(ImageError, match="owner"):
        parse_notes(section.replace(b"Xen\0", b"Zen\0"))


def test_vcpu_info_lies_in_one_piece_in_the_percpu_page(image: GuestImage) -> None:
    offset = image.symbols["xen_vcpu_info"]
    assert offset % 64 == 0
    assert offset + 64 <= 4096
    assert image.labels["boot_pda"] + offset == image.labels["per_cpu__xen_vcpu_info"]


def test_what_xen_does_not_replace_is_native(image: GuestImage) -> None:
    xen, native = image.implementations("xen"), image.implementations()
    assert xen["irq_disable"] == image.labels["xen_irq_disable_direct"]
    assert xen["write_cr3"] == image.labels["xen_write_cr3"]
    assert xen["read_tsc"] == native["read_tsc"]
    replaced = {}
    for table in ("xen_paravirt_ops", "xen_direct_ops"):
        places = range(image.labels[table], image.labels[f"{table}_end"], 8)
        replaced |= {word(image, place): word(image, place + 4) for place in places}
    assert replaced == {
        image.era[name].offset: address for name, address in xen.items() if address != native[name]
    }


def test_patching_is_idempotent_and_touches_sites_only(image: GuestImage) -> None:
    patch = hypervisor("native").patcher()
    once = image.patched(patch)
    assert once.patched(patch).code == once.code
    inside = {address for site in image.sites for address in range(site.address, site.end)}
    differing = {image.linear + at for at, (old, new) in enumerate(zip(image.code, once.code, strict=True))
                 if old != new}
    assert differing <= inside


def test_xen_inlines_every_irq_disable(image: GuestImage) -> None:
    patched = image.patched(hypervisor("xen").patcher(image.patch_context("xen")))
    offset = image.symbols["xen_vcpu_info"] + 1
    inline = b"\x65\xc6\x05" + offset.to_bytes(4, "little") + b"\x01"
    for site in image.sites:
        if site.type == PatchType.IRQ_DISABLE:
            assert patched.read(site.address, 8) == inline


def test_xen_inlines_nothing_when_vcpu_info_stays_in_shared_info(image: GuestImage) -> None:
    shared = image.with_word("have_vcpu_info_placement", 0)
    context = shared.patch_context("xen")
    assert context.targets["irq_disable"] == image.labels["xen_irq_disable_shared"]
    patched = shared.patched(hypervisor("xen").patcher(context))
    assert b"\x65\xc6\x05" not in patched.read("site_irq_disable", 10)
    assert patched.read("site_irq_disable", 10) == image.read("site_irq_disable", 10)


def test_direct_sites_go_to_the_implementations(image: GuestImage) -> None:
    made = image.direct("xen")
    site = made.site("site_irq_disable")
    found = classify(made.read(site.address, site.length), site.address)
    assert found is not None
    assert found.addresses == (image.labels["xen_irq_disable_direct"],)


def test_other_words_make_another_image(image: GuestImage) -> None:
    made = image.with_word("have_vcpu_info_placement", 0)
    assert word(made, "have_vcpu_info_placement") == 0
    assert word(image, "have_vcpu_info_placement") == 1


@pytest.mark.parametrize("attempt", [
    lambda image: image.read("no_such_label", 4),
    lambda image: image.read(0, 4),
    lambda image: image.read(image.end - 2, 4),
    lambda image: image.read("startup_32", -1),
    lambda image: image.site("startup_32"),
    lambda image: image.with_patches(b""),
    lambda image: image.implementations("none"),
    lambda image: build("2.4.0"),
])
def test_wrong_requests_are_typed_errors(image: GuestImage, attempt) -> None:
    with pytest.raises(PvfastError):
        attempt(image)


def test_sources_are_short_and_say_what_they_are() -> None:
    for name, text in source_texts():
        if name.endswith(".S"):
            lines = text.splitlines()
            assert len(lines) <= 300, name
            assert lines[0] == "/*"
            assert 3 <= lines.index(" */") - 1 <= 9, name
