"""The matrix under Xen: the three bodies of irq_disable, what stays a call, what does not exist there."""

import pytest

from pvfast.experiments import FORMS, Counts, GuestRun, Matrix, run_matrix, settings
from pvfast.guest import build
from pvfast.paravirt.hypervisors import BUILT_IN

#: Instructions of the body that the call reaches, its ret included (IRQ_DISABLE_FORMS in xen_forms.py); the site adds
#: push, push, call, pop, pop.
BODIES = {"smp_processor_id": 9, "per_cpu": 7, "inline": 2}
SITE = 5


@pytest.fixture(scope="module")
def xen() -> Matrix:
    return run_matrix(["xen"])


def test_two_runs_are_equal(xen: Matrix) -> None:
    assert run_matrix(["xen"]) == xen


@pytest.mark.parametrize("body", BODIES)
def test_the_three_bodies_of_irq_disable(xen: Matrix, body: str) -> None:
    row = xen.row("xen", "irq_disable", body)
    assert row.indirect is not None
    assert row.patched is not None
    assert row.indirect.instructions == SITE + BODIES[body]
    site, = row.sites
    if body == "inline":
        assert site.after_text.startswith("movb $1, %gs:0x")
        assert (row.patched.instructions, row.note) == (2, "")          # and a NOP of two bytes
    else:
        assert row.patched == row.indirect
        assert site.kept
        assert row.note.startswith("stays an indirect call")


def test_iret_becomes_a_jump_and_says_that_it_gains_nothing(xen: Matrix) -> None:
    row = xen.row("xen", "iret")
    assert row.patched == row.direct
    assert row.note.startswith("gains nothing over the direct form: patched, it becomes a jmp")
    assert [other.benchmark for other in xen.measured if other.note == row.note] == ["iret"]


def test_the_kernel_itself_uses_the_per_cpu_area_and_inlines(xen: Matrix) -> None:
    row = xen.row("xen", "irq_disable")
    assert row.indirect == xen.row("xen", "irq_disable", "inline").indirect
    assert row.patched == xen.row("xen", "irq_disable", "inline").patched


def test_there_is_no_sysenter_under_xen(xen: Matrix) -> None:
    for name in ("null_syscall_sysenter", "irq_enable_sysexit"):
        row = xen.row("xen", name)
        assert row.indirect is row.direct is row.patched is None
        assert "no SEP" in row.note
        assert "int $0x80" in row.note
    assert xen.row("xen", "null_syscall_int80").patched is not None


def test_what_cannot_be_patched_costs_the_same(xen: Matrix) -> None:
    for row in xen.measured:
        if row.sites and all(site.kept for site in row.sites):
            assert row.patched == row.indirect, row.benchmark
        assert row.overhead_percent() is not None


@pytest.mark.parametrize("form", FORMS)
def test_stepping_gives_the_same_counts(form: str) -> None:
    xen, *_ = settings(build(), "xen")
    whole, stepped = GuestRun(xen, form), GuestRun(xen, form)
    machine, done = stepped.machine, stepped.image.labels["bench_done"]
    for name, loop in stepped.image.benchmarks.items():
        before = Counts(machine.counters.instructions, machine.counters.cycles)
        machine.cpu.eip, machine.cpu.ecx = loop.address, 3
        while machine.cpu.eip != done:
            machine.step()
        after = Counts(machine.counters.instructions, machine.counters.cycles)
        assert after - before == whole.counts(name, 3), name


def test_every_built_in_hypervisor_is_measured_by_default() -> None:
    assert {row.hypervisor for row in run_matrix(benchmarks=["iret"]).rows} == set(BUILT_IN)
