"""The patcher: the worked example, the contract, clobbers, refusals, idempotence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvfast.assembly import FAMILIES, assemble
from pvfast.errors import PatchError
from pvfast.paravirt.clobbers import destroyed
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.interface import PatchContext
from pvfast.paravirt.operations import era
from pvfast.paravirt.patcher import (
    MAX_PATCH_LEN,
    apply_direct_calls,
    apply_paravirt,
    patch_call,
    patch_default,
    patch_ignore,
    patch_insns,
    patch_jmp,
    patch_nop,
    patch_site,
)
from pvfast.paravirt.shapes import SHAPES
from pvfast.paravirt.sites import CLBR_ANY, CLBR_EAX, CLBR_ECX, CLBR_NONE, PatchSite, PatchType

TEXT = 0xC0100000
POINTERS = era("2.6.20").pointers(0xC0400000)
NATIVE = hypervisor("native").patcher()
DISABLE = SHAPES["raw_local_irq_disable"]
PATCHABLE = [shape for shape in SHAPES.values() if shape.type is not None]


@pytest.mark.parametrize(("family", "expected"), [
    ("generic", "fa 90 8d b4 26 00 00 00 00 90"),
    ("k8", "fa 66 66 66 90 66 66 66 90 90"),
    ("k7", "fa 8d 04 05 00 00 00 00 90 90"),
    ("p6", "fa 0f 1f 84 00 00 00 00 00 90"),
])
def test_worked_example(family, expected):
    code = apply_paravirt(DISABLE.code(POINTERS), TEXT, [DISABLE.site(TEXT)], NATIVE, family)
    assert code.hex(" ") == expected


@pytest.mark.parametrize(("name", "expected"), [
    ("__raw_local_save_flags", "9c 58 90 8d b4 26 00 00 00 00"),
    ("raw_local_irq_restore", "50 9d 90 8d b4 26 00 00 00 00"),
    ("raw_local_irq_enable", "fb 90 8d b4 26 00 00 00 00 90"),
    ("__raw_local_irq_save", "9c 58 fa 90 8d b4 26 00 00 00 00 8d b4 26 00 00 00 00"),
    ("INTERRUPT_RETURN", "cf 8d b6 00 00 00 00"),
    ("ENABLE_INTERRUPTS_SYSEXIT", "fb 0f 35 8d 74 26 00"),
    ("ENABLE_INTERRUPTS", "fb 90 8d b4 26 00 00 00 00 89 f6"),
])
def test_native_patches_every_shape(name, expected):
    shape = SHAPES[name]
    site = shape.site(TEXT, None if shape.clobbers is not None else CLBR_NONE)
    assert patch_site(site, shape.code(POINTERS), NATIVE).hex(" ") == expected


def test_contract_of_the_returned_code():
    insns, site = DISABLE.code(POINTERS), DISABLE.site(TEXT)
    assert patch_site(site, insns, lambda *_: patch_ignore()) == insns
    assert patch_site(site, insns, lambda *_: patch_nop(), "p6").hex() == "0f1f840000000000" "6690"
    assert patch_site(site, insns, lambda *_: b"\x90" * 10) == b"\x90" * 10
    with pytest.raises(PatchError, match="takes 11 bytes"):
        patch_site(site, insns, lambda *_: b"\x90" * 11)
    with pytest.raises(PatchError, match="5 bytes were given"):
        patch_site(site, insns[:5], NATIVE)


def test_longest_site():
    insns = bytes(MAX_PATCH_LEN)
    site = PatchSite(TEXT, PatchType.IRQ_DISABLE, MAX_PATCH_LEN, CLBR_EAX)
    assert len(patch_site(site, insns, NATIVE)) == MAX_PATCH_LEN
    with pytest.raises(PatchError, match="longer than 254"):
        patch_site(PatchSite(TEXT, 0, 255, 0), bytes(255), NATIVE)


def test_debug_clobbers_inverts_what_may_die_as_far_as_there_is_room():
    site = PatchSite(TEXT, PatchType.IRQ_DISABLE, 10, CLBR_ANY)
    inverted = patch_site(site, bytes(10), NATIVE, debug_clobbers=True)
    assert inverted.hex(" ") == "fa f7 d0 f7 d1 f7 d2 8d 76 00"
    site = PatchSite(TEXT, PatchType.IRQ_DISABLE, 4, CLBR_ANY)
    assert patch_site(site, bytes(4), NATIVE, debug_clobbers=True).hex(" ") == "fa f7 d0 90"
    insns = DISABLE.code(POINTERS)
    assert patch_site(DISABLE.site(TEXT), insns, lambda *_: None, debug_clobbers=True) == insns


def test_helpers():
    assert patch_call(TEXT + 0x100, CLBR_EAX, TEXT, CLBR_ANY, 6).hex() == "e8fb000000"
    assert patch_call(TEXT, CLBR_EAX, TEXT, CLBR_EAX, 4) is None
    assert patch_call(TEXT, CLBR_ANY, TEXT, CLBR_EAX, 10) is None
    assert patch_jmp(TEXT, TEXT, 5).hex() == "e9fbffffff"
    assert patch_jmp(TEXT, TEXT, 4) is None
    assert patch_insns(b"\xfa", 1) == b"\xfa"
    assert patch_insns(b"\xfa", 0) is None


NOP, IDENTITY, BODY = TEXT + 0x100, TEXT + 0x110, TEXT + 0x120
SYMBOLS = {"paravirt_nop": NOP, "_paravirt_ident_32": IDENTITY}


@pytest.mark.parametrize(("operation", "target", "clobbers", "length", "expected"), [
    ("irq_enable", 0, CLBR_NONE, 10, "ud2"),
    ("irq_enable", 0, CLBR_NONE, 1, None),
    ("irq_enable", NOP, CLBR_NONE, 6, ""),
    ("save_fl", IDENTITY, CLBR_NONE, 6, ""),
    ("irq_enable", BODY, CLBR_ANY, 6, f"call {BODY}"),
    ("irq_enable", BODY, CLBR_ANY, 4, None),
    ("irq_enable", BODY, CLBR_EAX, 10, None),
    ("iret", BODY, CLBR_NONE, 7, f"jmp {BODY}"),
    ("irq_enable_sysexit", BODY, CLBR_NONE, 4, None),
    ("irq_enable_sysexit", 0, CLBR_NONE, 7, "ud2"),
])
def test_what_becomes_of_a_site_without_instructions_of_its_own(operation, target, clobbers, length, expected):
    context = PatchContext({operation: target}, SYMBOLS)
    code = patch_default(era("2.6.20")[operation].patch_type, clobbers, bytes(length), TEXT, context)
    assert code == (None if expected is None else assemble(expected, TEXT).code)


def test_default_patching_needs_one_known_operation():
    context = PatchContext({"save_fl": NOP, "irq_disable": NOP}, SYMBOLS)
    for site_type in (PatchType.SAVE_FLAGS_IRQ_DISABLE, PatchType.IRQ_ENABLE, 99):
        assert patch_default(site_type, CLBR_ANY, bytes(18), TEXT, context) is None


@pytest.mark.parametrize(("text", "names"), [
    ("cli", ""),
    ("pushf; pop %eax", "eax"),
    ("push %eax; popf", ""),
    ("push %ecx; movl $1, %ecx; pop %ecx", ""),
    ("push %ecx; push %edx; call 0; pop %edx; pop %ecx", "eax"),
    ("push %ecx; push %edx; call 0; pop %ecx; pop %edx", "eax ecx edx"),
    ("movb $1, %gs:0x20", ""),
    ("cpuid", "eax ecx edx ebx"),
    ("movb $0, %dh", "edx"),
    ("setz %ah; addb %ah, %ah", "eax"),
    ("rep stosl", "ecx edi"),
    ("xchg %esi, (%eax)", "esi"),
    ("iret", ""),
    ("subl $4, %esp", "esp"),
    ("rdtsc; push %eax; popf", "eax edx"),
])
def test_destroyed_registers(text, names):
    order = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    mask = sum(1 << order.index(name) for name in names.split())
    assert destroyed(assemble(text).code) == mask


@pytest.mark.parametrize(("text", "clobbers", "reason"), [
    ("movl $1, %ecx", CLBR_EAX, "destroys ecx"),
    ("movl $1, %eax", CLBR_NONE, "destroys eax"),
    ("movl $1, %ebx", CLBR_ANY, "destroys ebx"),
    ("call 0x1000", CLBR_EAX, "destroys ecx, edx"),
    ("call 0x1000", CLBR_EAX | CLBR_ECX, "destroys edx"),
    ("subl $4, %esp", CLBR_ANY, "destroys esp"),
    ("push %eax", CLBR_ANY, "1 words on the stack"),
    ("pop %eax", CLBR_ANY, "did not push"),
    (".byte 0xfa, 0xc7, 0x05", CLBR_ANY, "does not decode"),
    ("iret; cli", CLBR_ANY, "leaves at byte 1"),
    ("ret", CLBR_ANY, "destroys esp"),
])
def test_replacements_that_break_the_site_are_refused(text, clobbers, reason):
    site = PatchSite(TEXT, PatchType.IRQ_DISABLE, 10, clobbers)
    with pytest.raises(PatchError, match=reason):
        patch_site(site, DISABLE.code(POINTERS), lambda *_: assemble(text).code)


def test_result_register_may_be_written():
    site = SHAPES["__raw_local_save_flags"].site(TEXT)
    assert site.clobbers == CLBR_NONE
    assert patch_site(site, bytes(10), NATIVE)[:2].hex() == "9c58"


def test_all_or_nothing():
    text = DISABLE.code(POINTERS) * 2
    sites = [DISABLE.site(TEXT), DISABLE.site(TEXT + 10)]
    answers = iter([b"\xfa", b"\x90" * 11])
    with pytest.raises(PatchError):
        apply_paravirt(text, TEXT, sites, lambda *_: next(answers))
    with pytest.raises(PatchError, match="overlaps"):
        apply_paravirt(text, TEXT, [*sites, DISABLE.site(TEXT + 5)], NATIVE)
    with pytest.raises(PatchError, match="outside the code"):
        apply_paravirt(text, TEXT, [*sites, DISABLE.site(TEXT + 20)], NATIVE)


@st.composite
def kernels(draw):
    """Code with sites of every shape between other bytes."""
    text, sites = bytearray(), []
    for shape in draw(st.lists(st.sampled_from(PATCHABLE), max_size=12)):
        text += draw(st.binary(max_size=5))
        clobbers = None if shape.clobbers is not None else draw(st.integers(0, 7))
        sites.append(shape.site(TEXT + len(text), clobbers))
        text += shape.code(POINTERS)
    return bytes(text + draw(st.binary(max_size=5))), sites


CONTEXT = PatchContext(
    targets={name: TEXT + 0x1000 + 16 * index for index, name in enumerate(POINTERS)},
    symbols={"xen_vcpu_info": 0x20},
)


@given(kernel=kernels(), name=st.sampled_from(["native", "xen"]), family=st.sampled_from(sorted(FAMILIES)),
       debug=st.booleans())
@settings(derandomize=True, max_examples=200)
def test_patching_is_idempotent_and_touches_only_sites(kernel, name, family, debug):
    text, sites = kernel
    patch = hypervisor(name).patcher(CONTEXT)
    once = apply_paravirt(text, TEXT, sites, patch, family, debug)
    assert apply_paravirt(once, TEXT, sites, patch, family, debug) == once
    assert len(once) == len(text)
    inside = {place for site in sites for place in range(site.address - TEXT, site.end - TEXT)}
    assert all(once[place] == text[place] for place in range(len(text)) if place not in inside)


@given(kernel=kernels(), family=st.sampled_from(sorted(FAMILIES)))
@settings(derandomize=True, max_examples=100)
def test_direct_calls_are_idempotent_and_leave_inline_code(kernel, family):
    text, sites = kernel
    targets = {pointer: CONTEXT.targets[name] for name, pointer in POINTERS.items()}
    once = apply_direct_calls(text, TEXT, sites, targets, family)
    assert apply_direct_calls(once, TEXT, sites, targets, family) == once
    inline = apply_paravirt(text, TEXT, sites, NATIVE, family)
    assert apply_paravirt(once, TEXT, sites, NATIVE, family) == inline
    assert apply_direct_calls(inline, TEXT, sites, targets, family) == inline


def test_direct_call_needs_to_know_the_pointer():
    with pytest.raises(PatchError, match="nothing is known about the pointer at 0xc0400068"):
        apply_direct_calls(DISABLE.code(POINTERS), TEXT, [DISABLE.site(TEXT)], {})


@given(code=st.binary(min_size=1, max_size=12), clobbers=st.integers(0, 7))
@settings(derandomize=True, max_examples=500)
def test_whatever_is_accepted_fits_and_keeps_its_registers(code, clobbers):
    site = PatchSite(TEXT, PatchType.IRQ_DISABLE, 10, clobbers)
    try:
        patched = patch_site(site, bytes(10), lambda *_: code)
    except PatchError:
        return
    assert len(patched) == 10
    assert len(code) <= 10
    assert code == bytes(10) or not destroyed(code, TEXT) & ~clobbers
