"""The built-in kernel against the operations of every era: it boots, its sites are that era's and can be patched."""

import pytest

import pvfast
from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.native import NATIVE_CODE
from pvfast.paravirt.operations import Convention
from pvfast.paravirt.shapes import call_shape, identify, shapes
from pvfast.paravirt.sites import CLBR_ANY, pack_records
from tests.guest.native import BOOT_INSTRUCTIONS, Booted

#: Benchmark: instructions as compiled and patched inline, from 2.6.22 on; before, see test_boot.py.
FROM_2_6_22 = {
    "irq_disable": (7, 4), "irq_enable": (7, 4), "save_fl": (8, 4), "restore_fl": (8, 4),
    "irq_save": (8 + 7 + 2, 4 + 4 + 2),         # two sites, and the flags on the stack between them
    "asm_irq_disable": (9, 4), "asm_irq_enable": (9, 4), "iret": (2, 1),
}


@pytest.fixture(params=GUEST_ERAS)
def linux(request: pytest.FixtureRequest) -> GuestImage:
    return build(era=request.param)


def forms(image: GuestImage) -> dict[str, GuestImage]:
    patched = image.patched(hypervisor("native").patcher(image.patch_context()))
    return {"indirect": image, "direct": image.direct(), "patched": patched}


def test_boots_and_runs_its_loops_in_every_form(linux: GuestImage) -> None:
    counts: dict[str, dict[str, int]] = {}
    for form, image in forms(linux).items():
        guest = Booted(image)
        guest.run_to("boot_done", BOOT_INSTRUCTIONS)
        counts[form] = {name: guest.per_iteration(name) for name in linux.benchmarks}
        assert guest.fault()["count"] == 0
    if linux.era.convention is Convention.OFFSET_TYPES:
        measured = {name: (counts["indirect"][name], counts["patched"][name]) for name in FROM_2_6_22}
        assert measured == FROM_2_6_22
    assert counts["patched"]["null_syscall_int80"] < counts["indirect"]["null_syscall_int80"]


def test_every_site_is_a_shape_of_its_type(linux: GuestImage) -> None:
    for site in linux.sites:
        found = identify(linux.read(site.address, site.length), linux.pointers, linux.era)
        assert any(shape.type == site.type and shape.clobbers in (None, site.clobbers) for shape in found), site
    start, stop = (linux.labels[f"__{bound}_parainstructions"] for bound in ("start", "stop"))
    assert linux.read(start, stop - start) == pack_records(linux.sites)


def test_calls_are_sites_from_2_6_22_on(linux: GuestImage) -> None:
    called = {linux.era.site_operation(site.type) for site in linux.sites if site.length == 6}
    if linux.era.convention is Convention.CONSTANT_TYPES:
        assert not called
    else:
        assert {"set_pte", "write_gdt_entry", "cpuid", "safe_halt"} <= called
        assert not called & {row.name for row in linux.era.operations if row.plain}


def test_patching_natively(linux: GuestImage) -> None:
    """What has an instruction gets it; other calls become direct where the site allows that, hooks nothing at all."""
    patched = forms(linux)["patched"]
    for site in linux.sites:
        code, name = patched.read(site.address, site.length), linux.era.site_operation(site.type)
        assert name is not None
        if name in NATIVE_CODE:
            assert code.startswith(NATIVE_CODE[name][1])
        elif linux.implementations()[name] == linux.labels["paravirt_nop"]:
            assert code == bytes.fromhex("8db600000000")
        else:
            assert site.clobbers == CLBR_ANY
            assert code == call_shape(linux.era, name).direct(site.address, linux.implementations())


def test_every_pointer_of_the_table_is_its_native_function(linux: GuestImage) -> None:
    for name, pointer in linux.pointers.items():
        word = int.from_bytes(linux.read(pointer, 4), "little")
        assert word == linux.implementations()[name] == linux.labels[f"native_{name}"]
    for structure, members in linux.era.structures.items():
        assert linux.labels[structure] == linux.labels["paravirt_ops"] + members[0].offset


@pytest.mark.parametrize("era", ["2.6.21", "2.6.22"])
def test_the_clock_is_measured_where_there_is_a_timer(era: str) -> None:
    guest = Booted(build(era=era))
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert guest.word("cpu_khz") == 0           # an empty bus: the time is over at the first look
    timed = Booted(build(era=era))
    timed.machine.intercept_port(0x61, Timer(timed))
    timed.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert timed.word("cpu_khz") == pytest.approx(Timer.MILLISECOND, rel=0.01)


class Timer:
    """Port 61h of a machine of 200 MHz: the second channel of its timer has run down after a millisecond."""

    MILLISECOND = 200_000

    def __init__(self, guest: Booted) -> None:
        self.guest, self.end = guest, 0

    def read(self, port: int, size: int) -> int:
        return 0x20 if self.guest.machine.counters.cycles >= self.end else 0

    def write(self, port: int, size: int, value: int) -> None:
        assert (port, size, value & 3) == (0x61, 1, 1)      # the gate is open, the speaker off
        self.end = self.guest.machine.counters.cycles + self.MILLISECOND


def test_shapes_of_eras_differ(linux: GuestImage) -> None:
    assert shapes(linux.era)["DISABLE_INTERRUPTS"].length == linux.site("site_asm_irq_disable").length


def test_other_eras_are_refused() -> None:
    with pytest.raises(pvfast.PvfastError, match=r"not written for the operations of Linux 6\.1: choose 2\.6\.20"):
        build(era="6.1")
    with pytest.raises(pvfast.PvfastError, match=r"no paravirt operations are recorded for Linux 2\.4\.0"):
        build(era="2.4.0")
