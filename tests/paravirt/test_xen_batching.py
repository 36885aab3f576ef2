"""Lazy modes under Xen: hypercalls wait for each other, in the order they were made."""

import pytest

from pvfast.guest import build
from pvfast.paravirt.hypervisors.xen_interface import Hypercall
from tests.paravirt.xen import PAGE_OFFSET, Domain

WITH_LAZY_MODES = ["2.6.21", "2.6.24"]
FREE_PAGE = 0x50
ENTRIES = 32
LAZY_NONE, LAZY_MMU, LAZY_CPU, LAZY_FLUSH = range(4)


@pytest.fixture(params=WITH_LAZY_MODES)
def domain(request: pytest.FixtureRequest) -> Domain:
    return Domain(build(request.param)).boot()


def enter(domain: Domain, mode: int = LAZY_MMU) -> None:
    if "set_lazy_mode" in domain.image.era:
        domain.call("xen_set_lazy_mode", mode)
    else:
        domain.call("xen_enter_lazy_mmu" if mode == LAZY_MMU else "xen_enter_lazy_cpu")


def leave(domain: Domain) -> None:
    if "set_lazy_mode" in domain.image.era:
        domain.call("xen_set_lazy_mode", LAZY_NONE)
    else:
        domain.call("xen_leave_lazy_mmu")


def table(domain: Domain) -> int:
    """A page table that Xen knows, unhooked from no directory: its linear address."""
    page = domain.image.labels["swapper_pg_dir"]
    domain.machine.write_linear(page, bytes(4096))
    domain.call("xen_set_page_rights", page, 0x61)
    assert domain.mmuext(0, domain.frame(page)) == 0
    return page


def counts(domain: Domain) -> dict[int, int]:
    return {number: domain.xen.hypercalls.get(number, 0) for number in (Hypercall.MULTICALL, Hypercall.MMU_UPDATE)}


def set_ptes(domain: Domain, page: int, count: int) -> int:
    """Modelled cycles."""
    before = domain.machine.counters.cycles
    for number in range(count):
        domain.call("xen_set_pte", page + 4 * number, domain.entry(FREE_PAGE + number, 0x63))
    return domain.machine.counters.cycles - before


def test_2_6_20_has_no_lazy_mode() -> None:
    image = build("2.6.20")
    assert "xen_mc_flush" not in image.labels
    assert not [name for name in image.pointers if "lazy" in name]


def test_updates_wait_for_the_end_of_the_mode(domain: Domain) -> None:
    page = table(domain)
    at_once = set_ptes(domain, page, ENTRIES)
    set_entries = domain.machine.read_linear(page, 4 * ENTRIES)
    domain.call("xen_set_pte", page + 4 * ENTRIES, 0)
    for number in range(ENTRIES):
        domain.call("xen_set_pte", page + 4 * number, 0)
    before = counts(domain)
    start = domain.machine.counters.cycles
    enter(domain)
    set_ptes(domain, page, ENTRIES)
    assert domain.machine.read_linear(page, 4 * ENTRIES) == bytes(4 * ENTRIES)
    assert counts(domain) == before
    leave(domain)
    batched = domain.machine.counters.cycles - start
    assert domain.machine.read_linear(page, 4 * ENTRIES) == set_entries
    after = counts(domain)
    assert after[Hypercall.MULTICALL] - before[Hypercall.MULTICALL] == 1
    assert after[Hypercall.MMU_UPDATE] - before[Hypercall.MMU_UPDATE] == ENTRIES
    assert batched < at_once
    domain.assert_uses_are_right()


def test_a_full_list_is_worked_off(domain: Domain) -> None:
    page = table(domain)
    before = counts(domain)
    enter(domain)
    set_ptes(domain, page, ENTRIES + 1)
    assert counts(domain)[Hypercall.MULTICALL] - before[Hypercall.MULTICALL] == 1
    assert domain.read(page + 4 * ENTRIES) == 0
    leave(domain)
    assert domain.read(page + 4 * ENTRIES) == domain.frames[FREE_PAGE + ENTRIES] << 12 | 0x63


def test_leaving_with_nothing_to_do_asks_nothing(domain: Domain) -> None:
    before = domain.xen.hypercalls
    enter(domain)
    leave(domain)
    assert domain.xen.hypercalls == before


def test_the_order_is_kept(domain: Domain) -> None:
    """A page becomes a page table in one batch: read-only, hooked, filled."""
    page = domain.image.labels["swapper_pg_dir"]
    domain.machine.write_linear(page, bytes(4096))
    slot = domain.word("init_mm_pgd") + 4 * 7
    enter(domain)
    domain.call("xen_set_page_rights", page, 0x61)
    domain.call("xen_set_pte", slot, domain.entry(page - PAGE_OFFSET >> 12, 0x67))
    domain.call("xen_set_pte", page, domain.entry(FREE_PAGE, 0x67))
    leave(domain)
    assert domain.xen.page(domain.frame(page)) == ("L1", 1, False)
    assert domain.machine.read_linear(7 << 22, 4) == domain.machine.read(domain.frames[FREE_PAGE] << 12, 4)
    domain.assert_uses_are_right()


def test_what_xen_refuses_in_a_batch_stops_the_kernel(domain: Domain) -> None:
    enter(domain)
    domain.call("xen_set_pte", domain.word("init_mm_pgd"), domain.entry(FREE_PAGE, 0x67))       # mapped writable
    with pytest.raises(AssertionError):
        leave(domain)
    assert domain.fault()["vector"] == 6                        # the ud2 of xen_bug


def test_flush_stays_in_the_mode() -> None:
    domain = Domain(build("2.6.21")).boot()
    page = table(domain)
    enter(domain)
    set_ptes(domain, page, 1)
    domain.call("xen_set_lazy_mode", LAZY_FLUSH)
    assert domain.read(page) == domain.frames[FREE_PAGE] << 12 | 0x63
    domain.call("xen_set_pte", page, 0)
    assert domain.read(page) == domain.frames[FREE_PAGE] << 12 | 0x63
    leave(domain)
    assert domain.read(page) == 0


@pytest.mark.parametrize("release", WITH_LAZY_MODES)
def test_a_switch_of_tasks_is_one_hypercall(release: str) -> None:
    """Stack, TLS and page directory of the next task, which are five in 2.6.20."""
    def hypercalls_of_a_switch(release: str) -> list[int]:
        domain = Domain(build(release)).boot()
        domain.machine.cpu.eip = domain.image.benchmarks["null_syscall_int80"].address
        domain.machine.cpu.ecx = 1
        domain.run_to("context_switch", 100_000)
        before = domain.xen.hypercalls
        domain.run_to("finish_task_switch", 100_000)
        after = domain.xen.hypercalls
        return [after.get(number, 0) - before.get(number, 0) for number in (
            Hypercall.STACK_SWITCH, Hypercall.UPDATE_DESCRIPTOR, Hypercall.MULTICALL)]

    assert hypercalls_of_a_switch("2.6.20") == [1, 3, 0]
    assert hypercalls_of_a_switch(release) == [1, 3, 1]
