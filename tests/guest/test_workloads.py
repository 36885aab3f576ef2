"""The workloads: that they do what they are named after, and that every iteration costs the same."""

import pytest

from pvfast.experiments import FORMS, GuestRun, settings
from pvfast.experiments.runs import read_word
from pvfast.guest import GuestImage
from pvfast.guest.benchmarks import WORKLOADS

#: What the last process leaves as its exit status: its last call's result, or how many handlers did not run.
STATUS = {"null": 1, "read": 1, "write": 1, "pipe-1p": 4, "pipe": 1, "context-switch-2p": 4, "context-switch-8p": 4}
#: Those whose last result is a process's number.
NUMBERS = ("fork-exit", "fork-exec")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hypervisor", ["native", "xen", "lhype"])
def test_iterations_cost_the_same(image: GuestImage, hypervisor: str, form: str) -> None:
    run = GuestRun(settings(image, hypervisor)[0], form)
    for row in WORKLOADS:
        hundred = run.counts(row.name, 100)
        status = read_word(run.machine, image, "exit_status")
        assert row.name in NUMBERS or status == STATUS.get(row.name, 0), row.name
        one = (run.counts(row.name, 200) - hundred).per(100, row.name)
        assert run.counts(row.name, 101) - hundred == one
        assert run.counts(row.name, 100) == hundred
        assert read_word(run.machine, image, "fault_record", 8) == 0, row.name
