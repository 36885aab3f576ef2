"""Sites whose operation takes arguments: every one that the kernel comes to, under every hypervisor, and wrong ones."""

import pytest

from pvfast.assembly import assemble, nops
from pvfast.experiments.call_check import CallChecker, check_calls
from pvfast.guest import build
from pvfast.paravirt.hypervisors import hypervisor_names

ERA = "2.6.22"


@pytest.mark.parametrize("name", hypervisor_names())
def test_every_form_of_every_call_does_the_same(name: str) -> None:
    assert [str(violation) for violation in check_calls(name, ERA)] == []


@pytest.fixture(scope="module")
def checker() -> CallChecker:
    return CallChecker(build(ERA), "native")


def test_the_kernel_comes_to_most_sites(checker: CallChecker) -> None:
    era = checker.image.era
    names = {era.site_operation(site.type) for site in checker.reached}
    assert {"set_pte", "set_pmd", "write_gdt_entry", "write_idt_entry", "load_gdt", "load_esp0", "safe_halt"} <= names
    assert 2 * len(checker.reached) > len(checker.image.sites)


@pytest.mark.parametrize(("operation", "text", "what"), [
    ("set_pte", "", "leaves other memory"),
    ("set_pte", "notl %ebx; movl %edx, (%eax)", "destroys ebx"),
    ("set_pte", "movl %ecx, (%eax)", "leaves other memory"),
    ("safe_halt", "sti", "leads to UNTIL, not to HALT"),
])
def test_wrong_code_is_found(checker: CallChecker, operation: str, text: str, what: str) -> None:
    era = checker.image.era
    site = next(site for site in checker.reached if era.site_operation(site.type) == operation)
    code = assemble(text, site.address).code
    code += nops("generic", site.length - len(code))
    assert what in {row.what for row in checker.compare(site, {"wrong": code})}
    assert not checker.check(site)


def test_the_right_code_is_not_found(checker: CallChecker) -> None:
    site = next(site for site in checker.reached if checker.image.era.site_operation(site.type) == "set_pte")
    code = assemble("movl %edx, (%eax)").code
    assert not checker.compare(site, {"right": code + nops("generic", site.length - len(code))})
