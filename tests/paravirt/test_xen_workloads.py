"""The kernel's processes under Xen: whatever they do to page tables, Xen agrees, and its counts stay right."""

import pytest

from pvfast.guest import build
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.xen_interface import Hypercall
from tests.paravirt.xen import Domain

INSTRUCTIONS = 3_000_000


@pytest.mark.parametrize("release", ["2.6.20", "2.6.21", "2.6.22", "2.6.23", "2.6.24"])
def test_every_benchmark_leaves_xens_counts_right(release: str) -> None:
    image = build(release)
    domain = Domain(image.patched(hypervisor("xen").patcher(image.patch_context("xen")))).boot()
    pages = [domain.xen.page(frame) for frame in domain.frames]
    for name in image.benchmarks:
        domain.bench(name, 3, INSTRUCTIONS)
        assert domain.fault()["count"] == 0, name
    domain.assert_uses_are_right()
    directories = sum(kind == "L2" for kind, _, _ in pages)
    now = [domain.xen.page(frame) for frame in domain.frames]
    assert all(pinned for kind, _, pinned in now if kind == "L2")
    assert directories == sum(kind == "L2" for kind, _, _ in now)           # from a cache, which keeps them


def test_unmapping_is_batched_where_there_are_lazy_modes() -> None:
    entries = {}
    for release in ("2.6.20", "2.6.24"):
        domain = Domain(build(release)).boot()
        before = domain.xen.hypercalls
        domain.bench("page-fault", 3, INSTRUCTIONS)
        after = domain.xen.hypercalls
        made = {number: after[number] - before.get(number, 0) for number in after}
        entries[release] = made[Hypercall.MMU_UPDATE], made.get(Hypercall.MULTICALL, 0)
    assert entries["2.6.20"][0] == entries["2.6.24"][0]
    assert entries["2.6.20"][1] == 0
    assert 0 < entries["2.6.24"][1] < entries["2.6.24"][0] / 4
