"""Records, forms and shapes: bytes there and back, and every way a table can be wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvfast.assembly import FAMILIES, assemble, disassemble
from pvfast.errors import PatchError, PvfastError
from pvfast.paravirt.operations import ERAS, Convention, era
from pvfast.paravirt.shapes import SHAPES, SiteState, call_shape, classify, identify, shapes
from pvfast.paravirt.sites import (
    CLBR_ANY,
    CLBR_EAX,
    FORMS,
    PatchSite,
    PatchType,
    check_sites,
    pack_records,
    unpack_records,
)

TABLE = 0xC0400000
#: The eras whose macros are recorded.
I386 = [name for name in ERAS if "irq_disable" in era(name)]
POINTERS = era("2.6.20").pointers(TABLE)
LENGTHS = {
    "__raw_local_save_flags": 10, "raw_local_irq_restore": 10, "raw_local_irq_disable": 10,
    "raw_local_irq_enable": 10, "__raw_local_irq_save": 18, "INTERRUPT_RETURN": 7, "DISABLE_INTERRUPTS": 10,
    "ENABLE_INTERRUPTS": 11, "ENABLE_INTERRUPTS_SYSEXIT": 7, "GET_CR0_INTO_EAX": 6,
}


#: What changes with 2.6.22: no fused site, and the assembly sites save EAX too.
LENGTHS_2_6_22 = {name: length for name, length in LENGTHS.items() if name != "__raw_local_irq_save"} | {
    "DISABLE_INTERRUPTS": 13, "ENABLE_INTERRUPTS": 13, "GET_CR0_INTO_EAX": 10}

#: And with 2.6.30: a bare call where only the result may be destroyed.
LENGTHS_2_6_31 = {name: 6 if length == 10 else length for name, length in LENGTHS_2_6_22.items()} | {
    "GET_CR0_INTO_EAX": 11}
BY_CONVENTION = {Convention.CONSTANT_TYPES: LENGTHS, Convention.OFFSET_TYPES: LENGTHS_2_6_22,
                 Convention.CALLEE_SAVE: LENGTHS_2_6_31}


@pytest.mark.parametrize("linux", [era(name) for name in I386], ids=I386)
def test_shape_bytes_are_what_their_text_assembles_to(linux):
    pointers = linux.pointers(TABLE)
    for shape in shapes(linux).values():
        code = shape.code(pointers)
        assert len(code) == shape.length
        assert assemble(shape.text(pointers)).code == code
        clobbers = 0 if shape.clobbers is None and shape.type is not None else shape.clobbers
        same = identify(code, pointers, linux)
        assert shape.name in [other.name for other in same if other.clobbers in (None, clobbers)]
        found = classify(code)
        assert (found.form, found.state) == (shape.form, SiteState.INDIRECT)
        assert found.addresses == tuple(pointers[operation] for operation in shape.operations)


@pytest.mark.parametrize("linux", [era(name) for name in I386], ids=I386)
def test_shapes_by_era(linux):
    constant = linux.convention is Convention.CONSTANT_TYPES
    assert {shape.name: shape.length for shape in shapes(linux).values()} == BY_CONVENTION[linux.convention]
    types = {shape.type for shape in shapes(linux).values()} - {None}
    if constant:
        assert types == linux.patch_types
    else:
        assert types < linux.patch_types
    names = {name: shape.operations[0] for name, shape in shapes(linux).items() if len(shape.operations) == 1}
    assert {name: linux.site_operation(shapes(linux)[name].type) for name in names if name != "GET_CR0_INTO_EAX"} == {
        name: operation for name, operation in names.items() if name != "GET_CR0_INTO_EAX"}


@pytest.mark.parametrize(("clobbers", "code"), [
    (0b0000, "50 57 52 2e ff 15 cc 00 40 c0 5a 5f 58"), (0b0001, "57 52 2e ff 15 cc 00 40 c0 5a 5f"),
    (0b0110, "50 57 2e ff 15 cc 00 40 c0 5f 58"), (0b1111, "2e ff 15 cc 00 40 c0"),
])
def test_assembly_sites_push_what_they_must_keep_from_2_6_30_on(clobbers, code):
    """ECX is never pushed: it is the callee's to keep."""
    linux = era("2.6.31")
    offset = linux["irq_enable"].offset
    code = code.replace("cc", f"{offset:02x}", 1)
    macro = shapes(linux)["ENABLE_INTERRUPTS"]
    shape = macro.with_clobbers(clobbers)
    assert shape.code(linux.pointers(TABLE)).hex(" ") == code
    assert macro.site(0x100, clobbers).length == shape.length == len(bytes.fromhex(code))
    assert shape in identify(bytes.fromhex(code), linux.pointers(TABLE), linux)
    direct = shape.direct(0x100, {"irq_enable": 0x200})
    assert classify(direct, 0x100).addresses == (0x200,)


def test_macros_that_are_not_recorded():
    for linux in (era("5.2"), era("6.1", bits=64), era("2.6.31", bits=64)):
        with pytest.raises(PvfastError, match="not recorded"):
            shapes(linux)


def test_calls_of_x86_64():
    pointers = {"irq_disable": 0xFFFFFFFF82000068}
    shape = call_shape(era("5.2", bits=64), "irq_disable")
    assert (shape.code(pointers).hex(" "), shape.clobbers) == ("ff 14 25 68 00 00 82", 1)
    shape = call_shape(era("6.1", bits=64), "irq_disable")
    assert shape.code(pointers, 0xFFFFFFFF82000000).hex(" ") == "ff 15 62 00 00 00"
    assert shape.code(pointers, 0xFFFFFFFF82000100).hex(" ") == "ff 15 62 ff ff ff"
    assert call_shape(era("6.1", bits=64), "write_cr3").clobbers == 0x1FF


def test_callee_save_calls_allow_the_result():
    assert call_shape(era("2.6.31"), "pte_val").clobbers == 0b101
    assert call_shape(era("2.6.31"), "read_cr3").clobbers == 0b1111


def test_every_call_is_a_site_from_2_6_22_on():
    assert call_shape(era("2.6.21"), "irq_disable").type is None
    shape = call_shape(era("2.6.22"), "write_cr3")
    assert shape.code(era("2.6.22").pointers(TABLE)).hex(" ") == "ff 15 5c 00 40 c0"
    assert shape.site(0x100) == PatchSite(0x100, 23, 6, CLBR_ANY)
    assert call_shape(era("2.6.22"), "banner").type is None


def test_golden_shapes():
    golden = {
        "raw_local_irq_disable": "51 52 ff 15 68 00 40 c0 5a 59",
        "__raw_local_irq_save": "51 52 ff 15 60 00 40 c0 50 ff 15 68 00 40 c0 58 5a 59",
        "ENABLE_INTERRUPTS": "51 52 2e ff 15 6c 00 40 c0 5a 59",
        "INTERRUPT_RETURN": "2e ff 25 f8 00 40 c0",
    }
    for name, code in golden.items():
        assert SHAPES[name].code(POINTERS).hex(" ") == code
    linux = era("2.6.22")
    assert shapes(linux)["ENABLE_INTERRUPTS"].code(linux.pointers(TABLE)).hex(" ") == (
        "50 51 52 2e ff 15 78 00 40 c0 5a 59 58")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SHAPES)
def test_direct_form_keeps_length_and_can_be_read_back(name, family):
    shape = SHAPES[name]
    targets = {operation: 0xC0101000 + 16 * index for index, operation in enumerate(shape.operations)}
    code = shape.direct(0xC0100000, targets, family)
    assert len(code) == shape.length
    found = classify(code, 0xC0100000)
    assert (found.form, found.state) == (shape.form, SiteState.DIRECT)
    assert found.addresses == tuple(targets.values())
    goals = [line.text.split()[1] for line in disassemble(code, 0xC0100000) if line.bytes[0] in (0xE8, 0xE9)]
    assert goals == [hex(target) for target in targets.values()]


def test_direct_form_wraps_round_the_address_space():
    form = SHAPES["raw_local_irq_disable"].form
    code = form.direct(0x10, [0xFFFFFFF0])
    assert form.targets(code, 0x10) == (0xFFFFFFF0,)


def test_classify_refuses_other_bytes():
    assert classify(b"") is None
    assert classify(bytes(10)) is None
    assert classify(bytes.fromhex("5152ff15680040c05a58")) is None
    assert classify(bytes.fromhex("5152e819000000cc5a59")) is None


def test_pointer_count_is_checked():
    with pytest.raises(PatchError, match="goes through 2 pointers, not 1"):
        SHAPES["__raw_local_irq_save"].form.indirect([1])


def test_shape_makes_its_record():
    assert SHAPES["__raw_local_save_flags"].site(0x100) == PatchSite(0x100, 3, 10, 0)
    assert SHAPES["DISABLE_INTERRUPTS"].site(0x100, CLBR_ANY).clobbers == CLBR_ANY
    with pytest.raises(PatchError, match="say its clobbers"):
        SHAPES["DISABLE_INTERRUPTS"].site(0x100)
    with pytest.raises(PatchError, match="always 1"):
        SHAPES["raw_local_irq_disable"].site(0x100, CLBR_ANY)
    with pytest.raises(PatchError, match="never patched"):
        SHAPES["GET_CR0_INTO_EAX"].site(0x100)


@given(lengths=st.lists(st.integers(1, 255), max_size=20), start=st.integers(0, 1 << 31))
@settings(derandomize=True, max_examples=100)
def test_records_there_and_back(lengths, start):
    sites, address = [], start
    for index, length in enumerate(lengths):
        sites.append(PatchSite(address, index % len(PatchType), length, index % 8))
        address += length
    assert unpack_records(pack_records(sites), start, address) == sites


@pytest.mark.parametrize(("table", "reason"), [
    ("000010c0000a01", "cut short"),
    ("000010c000000100", "1 to 255 bytes"),
    ("000010c0630a0100", "unknown type"),
    ("000010c0000a0001", "unknown clobbers"),
    ("000010d0000a0100", "outside the code"),
    ("fcff10c0000a0100", "outside the code"),
    ("fcff0fc0000a0100", "outside the code"),
    ("000010c0000a0100 050010c0000a0100", "overlaps"),
    ("000010c0000a0100 000010c0000a0100", "overlaps"),
])
def test_broken_tables_are_refused(table, reason):
    with pytest.raises(PatchError, match=reason):
        unpack_records(bytes.fromhex(table), 0xC0100000, 0xC0110000)


@given(table=st.binary(max_size=64))
@settings(derandomize=True, max_examples=300)
def test_any_bytes_give_sites_or_a_typed_error(table):
    try:
        sites = unpack_records(table)
    except PatchError:
        return
    assert pack_records(sites) == table


def test_pack_refuses_what_does_not_fit():
    with pytest.raises(PatchError, match="does not fit its record"):
        pack_records([PatchSite(0, 256, 1, 0)])
    with pytest.raises(PatchError, match="outside the code"):
        pack_records([PatchSite(-1, 0, 1, CLBR_EAX)])
    with pytest.raises(PatchError, match="1 to 255"):
        check_sites([PatchSite(0, 0, 256, 0)])


def test_forms_can_be_told_apart():
    assert len({form.indirect([0] * form.calls) for form in FORMS}) == len(FORMS)
    assert len({form.direct(0, [0] * form.calls) for form in FORMS}) == len(FORMS)
