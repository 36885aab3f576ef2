"""The clobber checker: every site under every hypervisor, and wrong replacements that it has to find."""

import pytest

from pvfast.assembly import assemble, nops
from pvfast.experiments.clobber_check import CHECKED, ClobberChecker, check_sites
from pvfast.guest import build
from pvfast.paravirt.clobbers import destroyed
from pvfast.paravirt.hypervisors import hypervisor_names


@pytest.mark.parametrize("name", hypervisor_names())
def test_every_form_of_every_site_does_the_same_and_keeps_its_registers(name: str) -> None:
    assert [str(violation) for violation in check_sites(name)] == []


def test_the_sites_of_2_6_31_which_save_nothing_around_the_call() -> None:
    assert [str(violation) for violation in check_sites("native", "2.6.31")] == []


def test_every_site_of_2_6_20_can_be_checked() -> None:
    image = build()
    assert {image.era.site_operation(site.type) for site in image.sites} == set(CHECKED)


@pytest.fixture(scope="module", params=["native", "xen"])
def checker(request: pytest.FixtureRequest) -> ClobberChecker:
    return ClobberChecker(build(), request.param)


def wrong(checker: ClobberChecker, label: str, text: str) -> set[str]:
    """What the checker finds when a site is replaced by something."""
    site = checker.image.site(label)
    symbols = {"jiffies": checker.image.labels["jiffies"], **checker.image.symbols}
    symbols |= {name: checker.image.labels[f"{checker.hypervisor}_{name}"] for name in ("irq_disable", "save_fl")}
    code = assemble(text, site.address, symbols).code
    return {row.what for row in checker.compare(site, {"wrong": code + nops("generic", site.length - len(code))})}


def disable(checker: ClobberChecker) -> str:
    return {"native": "cli", "xen": "movb $1, %gs:xen_vcpu_info + 1"}[checker.hypervisor]


def test_the_right_code_is_not_found(checker: ClobberChecker) -> None:
    assert not wrong(checker, "site_irq_disable", disable(checker))
    assert not wrong(checker, "site_irq_disable", "push %ecx; push %edx; call irq_disable; pop %edx; pop %ecx")


def test_a_destroyed_register_is_found(checker: ClobberChecker) -> None:
    assert wrong(checker, "site_irq_disable", f"{disable(checker)}; xorl %ecx, %ecx") == {"destroys ecx"}
    assert not wrong(checker, "site_irq_disable", f"{disable(checker)}; xorl %eax, %eax")         # CLBR_EAX
    assert wrong(checker, "site_sysenter_enable", "xorl %eax, %eax") >= {"destroys eax"}            # CLBR_NONE
    assert wrong(checker, "site_irq_disable", "push %edx; push %ecx; pop %edx; pop %ecx") >= {"destroys ecx, edx"}


def test_a_destroyed_stack_pointer_is_found(checker: ClobberChecker) -> None:
    assert "destroys esp" in wrong(checker, "site_irq_disable", "push %ecx")


def test_code_that_a_reading_misses_is_found_by_running_it(checker: ClobberChecker) -> None:
    """A pop that is jumped over where ECX is all ones: read in a straight line, ECX and the stack are kept."""
    text = "push %ecx; incl %ecx; jz 1f; pop %ecx; 1: nop"
    assert not destroyed(assemble(text).code)
    assert "destroys ecx, esp" in wrong(checker, "site_irq_disable", text)


def test_another_place_in_memory_is_found(checker: ClobberChecker) -> None:
    found = wrong(checker, "site_irq_disable", "incl jiffies")
    assert any("other memory" in what for what in found)


def test_an_event_that_is_forgotten_is_found() -> None:
    """Unmasking alone is right until an event is pending: then the callee would have asked for it."""
    checker = ClobberChecker(build(), "xen")
    site = checker.image.site("site_irq_enable")
    code = assemble("movb $0, %gs:xen_vcpu_info + 1", site.address, checker.image.symbols).code
    found = checker.compare(site, {"wrong": code + nops("generic", site.length - len(code))})
    assert {violation.state for violation in found} == {"an interrupt is pending"}


def test_an_operation_that_is_not_done_is_found(checker: ClobberChecker) -> None:
    for label in ("site_irq_disable", "site_irq_enable", "site_restore_fl"):
        assert wrong(checker, label, ""), label


def test_another_answer_is_found(checker: ClobberChecker) -> None:
    assert any(what.startswith("answers") for what in wrong(checker, "site_save_fl", "movl $0x202, %eax"))
    assert any(what.startswith("answers") for what in wrong(checker, "site_save_fl", "xorl %eax, %eax"))


def test_a_return_that_leads_elsewhere_is_found(checker: ClobberChecker) -> None:
    assert any(what.startswith("leads to") for what in wrong(checker, "site_iret", "ud2"))
    found = wrong(checker, "site_iret", "xorl %ecx, %ecx; jmp 1f; 1: nop")
    assert any(what.startswith("leads to") for what in found)


def test_a_return_with_another_register_is_found(checker: ClobberChecker) -> None:
    leave = {"native": "iret", "xen": f"jmp {checker.image.labels['xen_iret']}"}[checker.hypervisor]
    assert wrong(checker, "site_iret", f"xorl %ecx, %ecx; {leave}") == {"arrives with other ecx"}
    assert not wrong(checker, "site_iret", leave)


def test_a_checker_can_be_asked_again(checker: ClobberChecker) -> None:
    site = checker.image.site("site_irq_disable")
    assert checker.check(site) == []
    assert wrong(checker, "site_irq_disable", "ud2")
    assert checker.check(site) == []
