"""A small report, measured once for all tests here."""


import pytest

from pvfast.report.contents import Contents, gather
from pvfast.report.history import read_history
from tests.report.asv_results import write_results

HYPERVISORS = ("native", "xen")
BENCHMARKS = ("null", "pipe", "irq_disable", "iret")


@pytest.fixture(scope="session")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    results = write_results(tmp_path_factory.mktemp("asv"), [(17, 15), (17, 15), (18, 2)])
    return gather(HYPERVISORS, BENCHMARKS, ("pentium4", "k8"), read_history(results))
