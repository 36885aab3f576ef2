"""Every operation of the table has a caller in the kernel, and nearly all of them are executed by its programs."""


import pytest

from pvfast.experiments.tracing import OperationSites
from pvfast.guest import GuestImage, build
from pvfast.guest.benchmarks import WORKLOADS
from pvfast.guest.build import GUEST_ERAS
from tests.guest.kernel import Kernel

#: Operations without a caller in this kernel, and why.
NOT_REACHABLE = {
    **dict.fromkeys(("apic_read", "apic_write", "apic_write_atomic"), "there is no local APIC"),
    **dict.fromkeys(("flush_tlb_others", "setup_secondary_clock", "startup_ipi_hook"), "there is one processor"),
    "map_pt_hook": "page tables are never in high memory",
    "release_pd": "page directories stay in their cache",
}
#: Those that have one, but are not executed natively by boot, the workloads and the program of everything else.
NOT_EXECUTED = {
    "const_udelay": "the serial port is ready at once",
    "halt": "it ends the kernel",
    "patch": "VMI's relocations are the only sites that the kernel patches itself",
}
_INSTRUCTIONS = 1_000_000


@pytest.mark.parametrize("era", GUEST_ERAS)
def test_every_operation_has_a_caller(era: str) -> None:
    image = build(era=era)
    sites, text = OperationSites(image), image.sections[".text"]
    called = {operation.name for at in range(text.address, text.end) for operation in sites.at(at)}
    assert set(image.pointers) - called == set(NOT_REACHABLE) & set(image.pointers)


def test_boot_and_programs_execute_the_rest(image: GuestImage) -> None:
    guest, sites = Kernel(image), OperationSites(image)
    cpu, labels = guest.machine.cpu, image.labels
    executed: set[str] = set()

    def step_to(end: str) -> None:
        for _ in range(_INSTRUCTIONS):
            if cpu.eip == labels[end]:
                return
            executed.update(operation.name for operation in sites.at(cpu.eip))
            guest.machine.step()
        raise AssertionError(f"{end} was not reached")

    step_to("boot_done")
    executed |= {operation.name for operation in sites.at(cpu.eip)}         # the idle loop itself
    for program in (*(row.label for row in WORKLOADS), "bench_null_syscall_sysenter", "bench_everything"):
        cpu.eip, cpu.ecx = labels[program], 1
        step_to("bench_done")
    assert set(image.pointers) - executed == set(NOT_REACHABLE) & set(image.pointers) | set(NOT_EXECUTED)


def test_everything_works_again_and_again(guest: Kernel) -> None:
    for turns in (1, 3):
        guest.machine.cpu.eip, guest.machine.cpu.ecx = guest.image.labels["bench_everything"], turns
        guest.machine.run(until=guest.image.labels["bench_done"], max_instructions=_INSTRUCTIONS)
        assert guest.machine.cpu.eip == guest.image.labels["bench_done"], guest.fault()
        assert guest.word("exit_status") == 0
