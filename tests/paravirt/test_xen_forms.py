"""Xen's direct forms: their lengths, their place in sites, and what they do when they run there."""

import pytest

from pvfast.assembly import assemble
from pvfast.errors import PatchError
from pvfast.guest import GuestImage, build
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.xen_forms import (
    DIRECT_FORMS,
    DS,
    FORMS_2_6_23,
    FS,
    GS,
    IRQ_DISABLE_FORMS,
    direct_form,
)
from pvfast.paravirt.hypervisors.xen_interface import Hypercall
from pvfast.paravirt.operations import era
from pvfast.paravirt.patcher import PatchContext, patch_site
from pvfast.paravirt.sites import CLBR_ANY, PatchSite, PatchType
from tests.paravirt.xen import Domain

SYMBOLS = {
    "THREAD_SIZE": 8192, "TI_cpu": 16, "TI_preempt_count": 20, "HYPERVISOR_shared_info": 0xC0300000,
    "xen_vcpu": 0x10, "xen_vcpu_info": 0x20,
}
CHECK_EVENTS = 0xC0200000
TYPES = {"irq_disable": PatchType.IRQ_DISABLE, "irq_enable": PatchType.IRQ_ENABLE, "save_fl": PatchType.SAVE_FLAGS,
         "restore_fl": PatchType.RESTORE_FLAGS}
IF = 0x200


def test_the_forms_of_irq_disable_get_shorter() -> None:
    sizes = {name: len(assemble(text, 0, SYMBOLS).code) for name, text in IRQ_DISABLE_FORMS.items()}
    assert list(sizes) == ["smp_processor_id", "per_cpu", "inline"]
    assert sizes["smp_processor_id"] > sizes["per_cpu"] > sizes["inline"] == 8


@pytest.mark.parametrize(("text", "per_cpu", "absolute"), [
    (DIRECT_FORMS["irq_disable"], 8, 7),
    (FORMS_2_6_23["irq_enable"], 17, 16),
    (DIRECT_FORMS["irq_enable"], 23, 21),
    (DIRECT_FORMS["save_fl"], 13, 12),
    (DIRECT_FORMS["restore_fl"], 27, 25),
    (FORMS_2_6_23["restore_fl"], 27, 25),
])
def test_lengths(text: str, per_cpu: int, absolute: int) -> None:
    for segment, length in ((GS, per_cpu), (FS, per_cpu), (DS, absolute)):
        form = direct_form(text, 0xC0300020, CHECK_EVENTS, segment)
        assert len(form.code) == length
        assert form.reloc == (length - 4 if "call" in text else 0)


def test_the_segment_is_the_only_difference() -> None:
    for text in DIRECT_FORMS.values():
        talk, mainline = (direct_form(text, 0x20, CHECK_EVENTS, segment).code for segment in (GS, FS))
        differing = {(old, new) for old, new in zip(talk, mainline, strict=True) if old != new}
        assert differing == {(0x65, 0x64)}


def test_a_vcpu_info_outside_the_segment_is_refused() -> None:
    with pytest.raises(PatchError, match="no offset in a 32-bit segment"):
        direct_form(DIRECT_FORMS["irq_disable"], 1 << 32)


@pytest.mark.parametrize("segment", [GS, FS, DS])
@pytest.mark.parametrize("operation", DIRECT_FORMS)
def test_a_form_is_inlined_where_it_fits_and_its_call_relocated(operation: str, segment: int) -> None:
    place = 0xC0100003
    symbols = {"xen_vcpu_info": 0x20, "check_events": CHECK_EVENTS, "percpu_segment": segment}
    length = len(direct_form(DIRECT_FORMS[operation], 0x20, CHECK_EVENTS, segment).code)
    xen = hypervisor("xen")
    code = xen.patch(TYPES[operation], CLBR_ANY, bytes(length), place, PatchContext(symbols=symbols))
    text = DIRECT_FORMS[operation].replace("PERCPU ", {GS: "%gs:", FS: "%fs:", DS: ""}[segment])
    assert code == assemble(text, place, symbols).code      # as if it had been assembled there
    assert xen.patch(TYPES[operation], CLBR_ANY, bytes(length - 1), place, PatchContext(symbols=symbols)) is None
    assert xen.patch(TYPES[operation], CLBR_ANY, bytes(length), place, PatchContext()) is None


def test_a_form_that_calls_needs_to_know_where() -> None:
    context = PatchContext(symbols={"xen_vcpu_info": 0x20})
    assert hypervisor("xen").patch(PatchType.IRQ_ENABLE, CLBR_ANY, bytes(40), 0xC0100000, context) is None
    assert hypervisor("xen").patch(PatchType.SAVE_FLAGS, CLBR_ANY, bytes(40), 0xC0100000, context) is not None


@pytest.mark.parametrize("release", ["2.6.20", "2.6.22", "2.6.24"])
def test_only_irq_disable_fits_the_kernels_own_sites(release: str) -> None:
    """As in every release that had these sites."""
    image = build(release)
    context = image.patch_context("xen")
    patched = image.patched(hypervisor("xen").patcher(context))
    inlined = {
        era(release).site_operation(site.type) for site in image.sites
        if patched.read(site.address, 1) == b"\x65"
    }
    assert inlined == {"irq_disable"}


def test_the_kernels_bodies_are_these_forms(image: GuestImage) -> None:
    context = image.patch_context("xen")
    for operation, text in DIRECT_FORMS.items():
        body = image.labels[f"xen_{operation}_direct"]
        assert context.targets[operation] == body
        form = direct_form(text, image.symbols["xen_vcpu_info"], image.labels["check_events"])
        assert image.read(body, len(form.code) + 1) == form.at(body) + b"\xc3"


# --- Running ---------------------------------------------------------------------------------------------------------

def run_site(domain: Domain, operation: str, eax: int = 0, segment: int = GS) -> int:
    """Patch a site that is large enough, in the scratch page, and run it; EAX. Other registers must be kept."""
    cpu, place = domain.machine.cpu, domain.scratch + 0x900
    context = domain.image.patch_context("xen")
    context = PatchContext(context.targets, {**context.symbols, "percpu_segment": segment}, context.era)
    if segment == FS:
        cpu.fs.set(cpu.gs.selector, cpu.gs.base, cpu.gs.limit, cpu.gs.attributes)
    site = PatchSite(place, TYPES[operation], 32, CLBR_ANY)
    code = patch_site(site, bytes(32), hypervisor("xen").patcher(context))
    assert code[0] == (0xF6 if operation == "restore_fl" else 0x60 | segment)
    domain.machine.write_linear(place, code + b"\xf4")
    cpu.eax, cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp = eax, 1, 2, 3, 4, 5, 6
    cpu.eip, esp = place, cpu.esp
    domain.machine.run(until=place + 32, max_instructions=2000)
    assert cpu.eip == place + 32
    assert (cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp, cpu.esp) == (1, 2, 3, 4, 5, 6, esp)
    return cpu.eax


@pytest.mark.parametrize("segment", [GS, FS])
def test_inlined_forms_do_what_they_are_for(domain: Domain, segment: int) -> None:
    assert run_site(domain, "save_fl", 0, segment) & IF
    assert run_site(domain, "irq_disable", 0x1234, segment) == 0x1234
    assert domain.masked
    assert not run_site(domain, "save_fl", 0xFFFF, segment) & IF
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 10)
    assert domain.word("jiffies") == 0
    assert run_site(domain, "restore_fl", 0x1246 & ~IF, segment) == 0x1046
    assert domain.masked
    assert run_site(domain, "irq_enable", 0x1234, segment) == 0x1234
    assert (domain.word("jiffies"), domain.masked, domain.pending) == (1, False, False)
    run_site(domain, "irq_disable", 0, segment)
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 10)
    assert run_site(domain, "restore_fl", 0x1246, segment) == 0x1246
    assert (domain.word("jiffies"), domain.masked, domain.pending) == (2, False, False)


# --- Bug 3: one andw on pending and mask loses an event ---------------------------------------------------------------

#: The three steps of which a processor makes an andw with a word in memory.
READ_AND_WRITE = """
    movw %gs:xen_vcpu_info, %cx
    andw $0x00ff, %cx
    movw %cx, %gs:xen_vcpu_info
"""


def lost_events(domain: Domain, text: str) -> int:
    """Run irq_enable once for each boundary between two instructions, with another processor's event there."""
    labels, place = domain.image.labels, domain.scratch + 0x900
    symbols = {"xen_vcpu_info": domain.image.symbols["xen_vcpu_info"], "check_events": labels["check_events"]}
    code = assemble(text.replace("PERCPU ", "%gs:"), place, symbols).code
    domain.machine.write_linear(place, code)
    state = domain.machine.snapshot()
    lost, boundary, over = 0, 0, False
    while not over:
        domain.machine.restore(state)
        domain.masked = True
        domain.machine.cpu.eip = place
        stop = domain.machine.run(until=place + len(code), max_instructions=boundary)
        over = stop.reason.name == "UNTIL"
        if not over:
            # What Xen does on another processor: the channel, its selector, then the virtual CPU, without a hypercall.
            shared = labels["xen_shared_info_page"]
            domain.store(domain.read(shared + 2048) | 1 << domain.word("xen_timer_port"), at=shared + 2048)
            domain.store(1, at=domain.vcpu_info + 4)
            domain.machine.write_linear(domain.vcpu_info, b"\1")
            domain.machine.run(until=place + len(code), max_instructions=1000)
            delivered = domain.word("jiffies") == 1
            waits = domain.machine.read_linear(domain.vcpu_info, 1) == b"\1"
            lost += not delivered and not waits
        boundary += 1
    return lost


def test_bug_3_one_andw_loses_an_event_between_its_read_and_its_write(domain: Domain) -> None:
    broken = FORMS_2_6_23["irq_enable"].replace("andw $0x00ff, PERCPU xen_vcpu_info", READ_AND_WRITE)
    assert lost_events(domain, broken) == 2                     # before the and, and before the write
    assert lost_events(domain, DIRECT_FORMS["irq_enable"]) == 0
    # As one instruction, on the one processor that there is here, nothing comes in between.
    assert lost_events(domain, FORMS_2_6_23["irq_enable"]) == 0


# --- Bug 4: restore_fl asks Xen whenever it need not ------------------------------------------------------------------

def install(domain: Domain, operation: str, text: str) -> None:
    """A body for an operation, where its pointer finds it."""
    place, labels = domain.scratch + 0xA00, domain.image.labels
    symbols = {"xen_vcpu_info": domain.image.symbols["xen_vcpu_info"], "check_events": labels["check_events"]}
    domain.machine.write_linear(place, assemble(text.replace("PERCPU ", "%gs:") + "ret\n", place, symbols).code)
    domain.machine.write_linear(domain.image.pointers[operation], place.to_bytes(4, "little"))


@pytest.mark.parametrize(("text", "hypercalls", "ticks"), [
    (FORMS_2_6_23["restore_fl"], 100, 0), (DIRECT_FORMS["restore_fl"], 0, 1)])
def test_bug_4_restore_fl_with_jz(domain: Domain, text: str, hypercalls: int, ticks: int) -> None:
    def asked() -> int:
        return domain.xen.hypercalls.get(Hypercall.XEN_VERSION, 0)

    install(domain, "restore_fl", text)
    before = asked()
    domain.bench("restore_fl", 100)
    assert asked() - before == hypercalls                       # nothing was pending
    domain.bench("irq_disable", 1)
    domain.machine.inject_interrupt(0x20)
    domain.bench("empty", 10)
    domain.bench("restore_fl", 1)
    assert domain.word("jiffies") == ticks                      # and when something is, the event waits
