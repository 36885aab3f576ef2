"""The built-in kernel against the operations of every era: it boots, its sites are that era's and can be patched."""

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.experiments.runs import boot, read_word, run_to
from pvfast.guest import GUEST_ERAS, NATIVE_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names
from pvfast.paravirt.hypervisors.native import NATIVE_CODE
from pvfast.paravirt.operations import Convention
from pvfast.paravirt.probing import (
    BOOT_PROTOCOL_2_07,
    BP_HARDWARE_SUBARCH,
    BP_VERSION,
    PROBE_SECTION,
    RING_TEST,
    Discovery,
    Subarch,
    discovery,
)
from pvfast.paravirt.shapes import call_shape, classify, identify, shapes
from pvfast.paravirt.sites import pack_records
from tests.guest.kernel import BENCH_INSTRUCTIONS, BOOT_INSTRUCTIONS, Kernel

#: Benchmark: instructions as compiled and patched inline, from 2.6.22 on; before, see test_boot.py. irq_save is two
#: sites, with the flags on the stack between them.
COUNTS = {
    Convention.OFFSET_TYPES: {
        "irq_disable": (7, 4), "irq_enable": (7, 4), "save_fl": (8, 4), "restore_fl": (8, 4),
        "irq_save": (8 + 7 + 2, 4 + 4 + 2), "asm_irq_disable": (9, 4), "asm_irq_enable": (9, 4), "iret": (2, 1),
    },
    Convention.CALLEE_SAVE: {                   # nothing is pushed where only the result may be destroyed
        "irq_disable": (3, 3), "irq_enable": (3, 3), "save_fl": (4, 3), "restore_fl": (4, 3),
        "irq_save": (4 + 3 + 2, 3 + 3 + 2), "asm_irq_disable": (3, 2), "asm_irq_enable": (3, 2), "iret": (2, 1),
    },
}

#: The word of fault_record that counts.
FAULTS = 8


@pytest.fixture(params=NATIVE_ERAS)
def linux(request: pytest.FixtureRequest) -> GuestImage:
    return build(era=request.param)


def forms(image: GuestImage) -> dict[str, GuestImage]:
    patched = image.patched(hypervisor("native").patcher(image.patch_context()))
    return {"indirect": image, "direct": image.direct(), "patched": patched}


def test_boots_and_runs_its_loops_in_every_form(linux: GuestImage) -> None:
    counts: dict[str, dict[str, int]] = {}
    for form, image in forms(linux).items():
        guest = Kernel(image)
        guest.run_to("boot_done", BOOT_INSTRUCTIONS)
        counts[form] = {name: guest.per_iteration(name) for name in linux.benchmarks}
        assert guest.fault()["count"] == 0
    expected = COUNTS.get(linux.era.convention, {})
    assert {name: (counts["indirect"][name], counts["patched"][name]) for name in expected} == expected
    assert counts["patched"]["null_syscall_int80"] < counts["indirect"]["null_syscall_int80"]


def test_every_site_is_a_shape_of_its_type(linux: GuestImage) -> None:
    for site in linux.sites:
        found = identify(linux.read(site.address, site.length), linux.pointers, linux.era)
        assert any(shape.type == site.type and shape.clobbers in (None, site.clobbers) for shape in found), site
    start, stop = (linux.labels[f"__{bound}_parainstructions"] for bound in ("start", "stop"))
    assert linux.read(start, stop - start) == pack_records(linux.sites)


def test_calls_are_sites_from_2_6_22_on(linux: GuestImage) -> None:
    flags = {"save_fl", "restore_fl", "irq_disable", "irq_enable"}
    called = {linux.era.site_operation(site.type) for site in linux.sites if site.length == 6} - flags
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
        elif linux.implementations()[name] in (linux.labels["paravirt_nop"], linux.labels["_paravirt_ident_32"]):
            assert code == bytes.fromhex("8db600000000")
        else:
            assert site.clobbers == linux.era.any_clobber
            assert code == call_shape(linux.era, name).direct(site.address, linux.implementations())


def test_every_pointer_of_the_table_is_its_native_function(linux: GuestImage) -> None:
    for name, pointer in linux.pointers.items():
        word = int.from_bytes(linux.read(pointer, 4), "little")
        assert word == linux.implementations()[name] == linux.labels[f"native_{linux.era[name].label}"]
    for structure, members in linux.era.structures.items():
        assert linux.labels[structure] == linux.labels["paravirt_ops"] + members[0].offset


@pytest.mark.parametrize("era", ["2.6.21", "2.6.22"])
def test_the_clock_is_measured_where_there_is_a_timer(era: str) -> None:
    guest = Kernel(build(era=era))
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert guest.word("cpu_khz") == 0           # an empty bus: the time is over at the first look
    timed = Kernel(build(era=era))
    timed.machine.intercept_port(0x61, Timer(timed))
    timed.run_to("boot_done", BOOT_INSTRUCTIONS)
    assert timed.word("cpu_khz") == pytest.approx(Timer.MILLISECOND, rel=0.01)


class Timer:
    """Port 61h of a machine of 200 MHz: the second channel of its timer has run down after a millisecond."""

    MILLISECOND = 200_000

    def __init__(self, guest: Kernel) -> None:
        self.guest, self.end = guest, 0

    def read(self, port: int, size: int) -> int:
        return 0x20 if self.guest.machine.counters.cycles >= self.end else 0

    def write(self, port: int, size: int, value: int) -> None:
        assert (port, size, value & 3) == (0x61, 1, 1)      # the gate is open, the speaker off
        self.end = self.guest.machine.counters.cycles + self.MILLISECOND


def test_entry_code_has_the_form_of_its_era(linux: GuestImage) -> None:
    for label, name in (("site_asm_irq_disable", "DISABLE_INTERRUPTS"), ("site_sysenter_enable", "ENABLE_INTERRUPTS")):
        site = linux.site(label)
        assert shapes(linux.era)[name].site(site.address, site.clobbers) == site


def test_other_eras_are_refused() -> None:
    with pytest.raises(pvfast.PvfastError, match=r"operations of Linux 6\.1 under native: choose 2\.6\.20"):
        build(era="6.1")
    with pytest.raises(pvfast.PvfastError, match=r"operations of Linux 2\.6\.31 under xen: choose 2\.6\.20"):
        build(era="2.6.31", hypervisor="xen")
    with pytest.raises(pvfast.PvfastError, match="no operations of 'xen' keep to the convention"):
        build(era="2.6.31").implementations("xen")
    with pytest.raises(pvfast.PvfastError, match=r"operations of Linux 2\.4\.0 under native: choose 2\.6\.20"):
        build(era="2.4.0")


@pytest.mark.parametrize("era", GUEST_ERAS)
@pytest.mark.parametrize("name", hypervisor_names())
def test_every_hypervisor_runs_every_era_in_every_form(era: str, name: str) -> None:
    image = build(era=era, hypervisor=name)
    patched = image.patched(hypervisor(name).patcher(image.patch_context(name)))
    for each in (image, image.direct(name), patched):
        machine = boot(each, name)
        for benchmark in image.benchmarks.values():
            machine.cpu.eip, machine.cpu.ecx = benchmark.address, 2
            run_to(machine, image, "bench_done", BENCH_INSTRUCTIONS)
            assert read_word(machine, image, "fault_record", FAULTS) == 0, benchmark.name


def test_ring_test_and_probes_end_with_2_6_21(linux: GuestImage) -> None:
    probes = discovery(linux.era) is Discovery.PROBES
    assert (linux.read("startup_32", len(RING_TEST)) == RING_TEST) == probes
    assert (PROBE_SECTION in linux.sections) == ("startup_paravirt" in linux.labels) == probes


BOOT_PARAMS = 0x90000


def with_boot_params(image: GuestImage, version: int, subarch: int) -> Kernel:
    """As a boot loader leaves it: ESI is the physical address of struct boot_params."""
    guest = Kernel(image)
    guest.machine.write(BOOT_PARAMS + BP_VERSION, version.to_bytes(2, "little"))
    guest.machine.write(BOOT_PARAMS + BP_HARDWARE_SUBARCH, subarch.to_bytes(4, "little"))
    guest.machine.cpu.esi = BOOT_PARAMS
    return guest


@pytest.mark.parametrize(("version", "subarch", "where"), [
    (BOOT_PROTOCOL_2_07, Subarch.PC, "boot_done"),
    (BOOT_PROTOCOL_2_07 - 1, Subarch.LGUEST, "boot_done"),      # such a boot loader wrote nothing there
    (BOOT_PROTOCOL_2_07, Subarch.LGUEST, "lguest_entry"),
    (BOOT_PROTOCOL_2_07 + 1, Subarch.LGUEST, "lguest_entry"),
    (BOOT_PROTOCOL_2_07, Subarch.XEN, "bad_subarch"),           # Xen enters at its own door
    (BOOT_PROTOCOL_2_07, 3, "bad_subarch"),
    (BOOT_PROTOCOL_2_07, 0xFFFFFFFF, "bad_subarch"),
])
def test_hardware_subarch(version: int, subarch: int, where: str) -> None:
    image = build(era="2.6.24")
    guest = with_boot_params(image, version, subarch)
    target = image.labels[where] if where == "boot_done" else image.to_physical(image.labels[where])
    stop = guest.machine.run(until=target, max_instructions=BOOT_INSTRUCTIONS)
    assert stop.reason is pvfast.StopReason.UNTIL
    if where == "bad_subarch":
        assert guest.machine.run(max_instructions=10).reason is pvfast.StopReason.SHUTDOWN     # ud2, and no IDT yet


def test_earlier_kernels_do_not_look_at_the_boot_parameters() -> None:
    with_boot_params(build(era="2.6.23"), BOOT_PROTOCOL_2_07, Subarch.XEN).run_to("boot_done", BOOT_INSTRUCTIONS)


@pytest.mark.parametrize("era", [name for name in GUEST_ERAS if name >= "2.6.22"])
def test_a_door_of_its_own_is_for_one_hypervisor(era: str) -> None:
    """startup_xen without Xen's start_info: the probe comes back, and there is nobody else to ask."""
    image = build(era=era)
    guest = Kernel(image)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    guest.machine.cpu.esi = image.labels["user_text_page"]
    guest.machine.cpu.eip = image.labels["startup_xen"]
    guest.run_to("xen_probe", 100)
    guest.run_to("panic", 1000)
    fault = guest.fault()
    assert fault["vector"] == 6
    assert image.labels["startup_xen"] < fault["eip"] < image.labels["xen_probe"]


#: irq_enable as a compiler makes it of a hypervisor's C: it takes EAX for itself, as regparm allows.
USES_EAX = assemble("sti; movl $0x7fff, %eax; ret").code


@pytest.mark.parametrize(("era", "getppid"), [("2.6.20", -38 % 2**32), ("2.6.21", -38 % 2**32), ("2.6.22", 1)])
@pytest.mark.parametrize("form", ["indirect", "direct"])
def test_bug_1_assembly_sites_did_not_save_eax(era: str, getppid: int, form: str) -> None:
    """sysenter enables interrupts with the number of the system call in EAX: ENABLE_INTERRUPTS(CLBR_NONE).

    Until 2.6.21 the site saves ECX and EDX only, so such a callee turns every system call into -ENOSYS. Natively, and
    once the site is patched inline, nobody sees it.
    """
    image = build(era=era)
    guest = Kernel(image)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    guest.bench("null_syscall_sysenter", 3)
    assert guest.word("exit_status") == 1
    site = image.site("site_sysenter_enable")
    callee = image.labels["xen_trap_info"]              # memory that nothing uses here
    guest.machine.write_linear(callee, USES_EAX)
    guest.machine.write_linear(image.pointers["irq_enable"], callee.to_bytes(4, "little"))
    if form == "direct":
        found = classify(image.read(site.address, site.length))
        assert found is not None
        guest.machine.write_linear(site.address, found.form.direct(site.address, [callee]))
    guest.bench("null_syscall_sysenter", 3)
    assert guest.word("exit_status") == getppid
    guest.machine.write_linear(site.address, forms(image)["patched"].read(site.address, site.length))
    guest.bench("null_syscall_sysenter", 3)
    assert guest.word("exit_status") == 1



def call(guest: Kernel, function: str, eax: int) -> int:
    """What a function of the kernel answers."""
    cpu = guest.machine.cpu
    guest.machine.write_linear(cpu.esp - 4, guest.image.labels["bench_done"].to_bytes(4, "little"))
    cpu.esp, cpu.eip, cpu.eax = cpu.esp - 4, guest.image.labels[function], eax
    guest.run_to("bench_done", 1000)
    return cpu.eax


def test_ticket_locks_of_2_6_31() -> None:
    guest = Kernel(build(era="2.6.31"))
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    lock = guest.image.labels["exit_status"]
    asked = ("native_spin_is_locked", "native_spin_is_contended", "native_spin_trylock")

    guest.machine.write_linear(lock, bytes(4))
    assert call(guest, "native_spin_is_locked", lock) == 0
    call(guest, "native_spin_lock", lock)
    assert [call(guest, name, lock) for name in asked] == [1, 0, 0]
    guest.machine.write_linear(lock + 1, b"\2")          # another one takes a ticket
    assert [call(guest, name, lock) for name in asked] == [1, 1, 0]
    call(guest, "native_spin_unlock", lock)
    call(guest, "native_spin_unlock", lock)
    assert guest.word("exit_status") == 0x0202
    assert call(guest, "native_spin_trylock", lock) == 1
    assert guest.word("exit_status") == 0x0302
