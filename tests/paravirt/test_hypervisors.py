"""The registry, the native table, Xen's three forms of irq_disable and what Xen leaves alone."""

import tomllib
from pathlib import Path

import pytest

from pvfast.assembly import assemble
from pvfast.errors import PvfastError
from pvfast.paravirt import hypervisors
from pvfast.paravirt.hypervisors import Hypervisor, PatchContext, hypervisor, hypervisor_names, xen_interface
from pvfast.paravirt.hypervisors.native import NATIVE_CODE
from pvfast.paravirt.operations import ERAS, FUSED, Convention, era
from pvfast.paravirt.sites import CLBR_ANY, CLBR_EAX, PatchType

SITE = 0xC0100000
#: The eras whose flags every i386 kernel manipulates through the table.
I386 = [name for name in ERAS if "irq_disable" in era(name)]
SYMBOLS = {"THREAD_SIZE": 8192, "TI_cpu": 16, "TI_preempt_count": 20, "HYPERVISOR_shared_info": 0xC0401000,
           "xen_vcpu": 0x10, "xen_vcpu_info": 0x20}


@pytest.mark.parametrize("name", NATIVE_CODE)
def test_native_code_is_what_its_text_assembles_to(name):
    text, code = NATIVE_CODE[name]
    assert assemble(text).code == code


@pytest.mark.parametrize("linux", [era(name) for name in I386], ids=I386)
def test_native_inlines_what_has_sites(linux):
    native, context = hypervisor("native"), PatchContext(era=linux)
    inlined = set()
    for kind in linux.patch_types:
        name = linux.site_operation(kind)
        if name in NATIVE_CODE:
            code = NATIVE_CODE[name][1]
            assert native.patch(kind, 0, bytes(len(code)), SITE, context) == code
            assert native.patch(kind, 0, bytes(len(code) - 1), SITE, context) is None
            inlined.add(name)
    only_later = {"read_cr2", "read_cr3", "write_cr3", "clts", "read_tsc"}
    constant = linux.convention is Convention.CONSTANT_TYPES
    assert inlined == set(NATIVE_CODE) - (only_later if constant else {FUSED})


def test_native_leaves_unknown_types():
    assert hypervisor("native").patch(99, 7, bytes(10), SITE, PatchContext()) is None


def test_xen_inlines_irq_disable_where_it_fits():
    xen, context = hypervisor("xen"), PatchContext(symbols=SYMBOLS)
    expected = bytes.fromhex("65c6052100000001")
    for length in (8, 10, 11):
        assert xen.patch(PatchType.IRQ_DISABLE, 0, bytes(length), SITE, context) == expected
    assert xen.patch(PatchType.IRQ_DISABLE, 0, bytes(7), SITE, context) is None
    assert xen.patch(PatchType.IRQ_DISABLE, 0, bytes(10), SITE, PatchContext()) is None


def test_xen_calls_only_where_clobbers_allow_and_jumps_to_iret():
    targets = {"irq_enable": SITE + 0x100, "iret": SITE + 0x200, "restore_fl": SITE, "save_fl": SITE}
    xen, context = hypervisor("xen"), PatchContext(targets, SYMBOLS)
    assert xen.patch(PatchType.IRQ_ENABLE, CLBR_ANY, bytes(11), SITE, context).hex() == "e8fb000000"
    assert xen.patch(PatchType.IRQ_ENABLE, CLBR_EAX, bytes(10), SITE, context) is None
    assert xen.patch(PatchType.INTERRUPT_RETURN, CLBR_ANY, bytes(7), SITE, context).hex() == "e9fb010000"
    assert xen.patch(PatchType.STI_SYSEXIT, CLBR_ANY, bytes(7), SITE, context) is None
    assert xen.patch(PatchType.SAVE_FLAGS_IRQ_DISABLE, CLBR_ANY, bytes(18), SITE, context) is None


def test_xen_runs_its_guest_in_ring_one():
    xen = hypervisor("xen")
    assert (xen.kernel_rpl, xen.paravirt_enabled, hypervisor("native").kernel_rpl) == (1, 1, 0)


def test_xen_layout():
    assert 1 << xen_interface.VCPU_INFO_SHIFT == xen_interface.VCPU_INFO_BYTES
    vcpus = xen_interface.MAX_VIRT_CPUS * xen_interface.VCPU_INFO_BYTES
    assert xen_interface.SHARED_VCPU_INFO + vcpus == xen_interface.SHARED_EVTCHN_PENDING
    bitmap = xen_interface.EVENT_CHANNELS // 8
    assert xen_interface.SHARED_EVTCHN_PENDING + bitmap == xen_interface.SHARED_EVTCHN_MASK
    assert xen_interface.SHARED_EVTCHN_MASK + bitmap == xen_interface.SHARED_WC_VERSION
    assert assemble("ud2a; .ascii \"xen\"").code == xen_interface.EMULATE_PREFIX
    text = "movl $24, %eax; int $0x82; ret"
    assert assemble(text).code == xen_interface.hypercall_entry(xen_interface.Hypercall.VCPU_OP)


class Toy(Hypervisor):
    name = "toy"


class Point:
    def __init__(self, name, loaded):
        self.name, self.value, self.loaded = name, f"package:{name}", loaded

    def load(self):
        return self.loaded


def test_registry_finds_other_packages(monkeypatch):
    points = [Point("toy", Toy), Point("broken", object), Point("twice", Toy), Point("twice", Toy)]
    monkeypatch.setattr(hypervisors, "entry_points", lambda group: points)
    assert hypervisor_names() == ("native", "xen", "lhype", "vmi", "kvm", "full", "broken", "toy", "twice")
    assert hypervisor("toy").patch(0, 0, b"", 0, PatchContext()) is None
    with pytest.raises(PvfastError, match="no subclass"):
        hypervisor("broken")
    with pytest.raises(PvfastError, match="2 packages bring"):
        hypervisor("twice")


def test_built_in_ones_are_announced_as_those_of_others_are():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    announced = project["entry-points"][hypervisors.ENTRY_POINT_GROUP]
    assert announced == {name: f"{kind.__module__}:{kind.__name__}" for name, kind in hypervisors.BUILT_IN.items()}


def test_unknown_hypervisor_names_the_known_ones():
    with pytest.raises(PvfastError, match="no hypervisor 'bochs': choose one of native, xen"):
        hypervisor("bochs")
