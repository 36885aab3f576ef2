"""Patch sites run where they are, against the same operations measured in loops of their own."""

import pytest

from pvfast.experiments import HYPERVISORS, run_matrix
from pvfast.experiments.guest_sites import guest_sites

OPERATIONS = ("irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save", "asm_irq_disable", "asm_irq_enable")


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
def test_one_execution_costs_what_the_loop_without_the_loop_does(hypervisor: str) -> None:
    sites = {site.code.label: site for site in guest_sites(hypervisor)}
    matrix = run_matrix([hypervisor], OPERATIONS)
    for name in OPERATIONS:
        row, site = matrix.row(hypervisor, name), sites[f"site_{name}"]
        assert (site.unpatched, site.patched) == (row.indirect, row.patched), name
        assert (site.code.before, site.code.after) == (row.sites[0].before, row.sites[0].after)


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
def test_only_sites_that_leave_the_kernel_have_no_cost(hypervisor: str) -> None:
    without = {site.operation for site in guest_sites(hypervisor) if None in (site.unpatched, site.patched)}
    assert without == {"iret", "irq_enable_sysexit"}
