"""One machine measured: booting, the protocol of the loops, what is refused."""

from collections.abc import Iterable

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.errors import GuestError, ImageError
from pvfast.experiments import FORMS, Counts, GuestRun, boot, measure_loop, overhead_percent, settings
from pvfast.experiments.tracing import path, trace_operations
from pvfast.guest import GuestImage, build
from pvfast.paravirt import hypervisors
from pvfast.paravirt.hypervisors.xen_forms import VCPU_INFO_SYMBOL


@pytest.fixture(scope="module")
def image() -> GuestImage:
    return build()


@pytest.fixture
def run(image: GuestImage) -> GuestRun:
    native, = settings(image, "native")
    return GuestRun(native, "indirect")


def test_boot_stops_at_boot_done(image: GuestImage) -> None:
    assert boot(image).cpu.eip == image.labels["boot_done"]


def test_a_kernel_that_does_not_boot_is_a_typed_error(image: GuestImage) -> None:
    code = bytearray(image.code)
    offset = image.entry - image.physical
    code[offset:offset + 2] = b"\x0f\x0b"                               # ud2
    with pytest.raises(GuestError, match=r"did not reach boot_done: SHUTDOWN at 0x00100000"):
        boot(image.with_patches(bytes(code)))


def test_a_fault_in_a_loop_is_reported_with_its_place(run: GuestRun) -> None:
    site = run.image.labels["site_irq_disable"]
    run.machine.write_linear(site, b"\x0f\x0b")
    with pytest.raises(GuestError, match=f"did not reach bench_done.* vector 0x6, .* eip {site:#x}"):
        run.counts("irq_disable", 1)


def test_a_loop_that_never_ends_is_stopped(run: GuestRun) -> None:
    run.machine.write_linear(run.image.labels["site_irq_disable"], b"\xeb\xfe")     # jmp .
    with pytest.raises(GuestError, match="BUDGET"):
        run.counts("irq_disable", 1)


def test_unequal_iterations_are_refused() -> None:
    with pytest.raises(GuestError, match=r"101 instructions .* not 100 equal iterations"):
        Counts(101, 200).per(100, "irq_disable")
    with pytest.raises(GuestError, match=r"101 instructions .* not 100 equal iterations"):
        Counts(101, 200).per(100, "irq_disable", mean_cycles=True)
    with pytest.raises(GuestError, match=r"201 cycles are not 100 equal iterations"):
        Counts(100, 201).per(100, "irq_disable")
    assert Counts(100, 260).per(100, "irq_disable", mean_cycles=True) == Counts(1, 3)


def test_unequal_iterations_of_a_loop_are_refused() -> None:
    """Of the same number of instructions, and under a model that does not predict, whose cycles are exact."""
    program = assemble("few: nop; jmp 1f; many: cli; jmp 1f; 1: decl %ecx; jnz 1b; done: nop", 0x1000)

    def measure(processor: str) -> Counts:
        machine = pvfast.Machine(ram="64K", processor=processor)
        machine.write(0x1000, program.code)

        def loop(iterations: int) -> None:
            machine.cpu.eip = program.labels["few" if iterations == 100 else "many"]
            machine.cpu.ecx = iterations
            machine.run(until=program.labels["done"])

        return measure_loop(machine, loop, "decl", 100)

    with pytest.raises(GuestError, match=r"decl: 200 instructions and 2\d\d cycles are not 100 equal iterations"):
        measure("generic")
    assert measure("pentium4") == Counts(2, 2)


@pytest.mark.parametrize("hypervisor", ["native", "xen"])
@pytest.mark.parametrize("processor", ["pentium4", "k8", "skylake-retpoline"])
def test_a_figure_does_not_depend_on_what_else_is_measured(hypervisor: str, processor: str) -> None:
    """All loops, in the order of the table and the other way round; two of them alone."""
    setting = settings(build(hypervisor=hypervisor), hypervisor)[0]

    def measure(names: Iterable[str]) -> dict[str, Counts]:
        run = GuestRun(setting, "patched", processor)
        return {name: run.measure(name) for name in names if not run.missing(run.image.benchmarks[name])}

    names = [loop.name for loop in setting.benchmarks()]
    every = measure(names)
    assert measure(reversed(names)) == every
    for name in ("pipe", "fork-exec"):
        assert measure([name]) == {name: every[name]}


def test_counts_are_the_same_again(run: GuestRun) -> None:
    first = run.counts("irq_save_restore", 50)
    assert run.counts("irq_save_restore", 50) == first


def test_a_form_that_does_not_exist(image: GuestImage) -> None:
    native, = settings(image, "native")
    with pytest.raises(ValueError, match=r"form 'inline': choose one of indirect, direct, patched"):
        native.formed("inline")


def test_a_hypervisor_that_the_guest_does_not_know(image: GuestImage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stranger(hypervisors.Hypervisor):
        name = "stranger"

    monkeypatch.setattr(hypervisors, "BUILT_IN", {kind.name: kind for kind in (hypervisors.Native, Stranger)})
    with pytest.raises(ImageError, match="without a probe for 'stranger'"):
        settings(image, "stranger")


def test_an_empty_comparison() -> None:
    assert overhead_percent(None, Counts(1, 1)) is None
    assert overhead_percent(Counts(1, 1), Counts(0, 0)) is None
    assert overhead_percent(Counts(7, 17), Counts(4, 11), "instructions") == 75.0


def test_xen_has_a_setting_for_each_body_of_irq_disable(image: GuestImage) -> None:
    plain, shared, per_cpu, inline = settings(image, "xen")
    assert [loop.name for loop in shared.benchmarks()] == ["irq_disable"]
    assert len(plain.benchmarks()) > 10
    site = image.site("site_irq_disable")
    code = {setting.variant: setting.formed("patched").read("site_irq_disable", site.length)
            for setting in (plain, shared, per_cpu, inline)}
    assert code[""] == code["inline"] != code["per_cpu"]
    assert code["smp_processor_id"] == code["per_cpu"] == image.read("site_irq_disable", site.length)
    assert not shared.image.vcpu_info_is_placed
    assert VCPU_INFO_SYMBOL not in per_cpu.context.symbols
    targets = {setting.variant: setting.context.targets["irq_disable"] for setting in (shared, per_cpu, inline)}
    assert targets == {"smp_processor_id": image.labels["xen_irq_disable_shared"],
                       "per_cpu": image.labels["xen_irq_disable_percpu"],
                       "inline": image.labels["xen_irq_disable_direct"]}


@pytest.mark.parametrize("form", FORMS)
def test_host_time_is_a_time(image: GuestImage, form: str) -> None:
    native, = settings(image, "native")
    run = GuestRun(native, form)
    assert isinstance(run.host_ns("null_syscall_int80", 100), float)
    assert isinstance(run.machine, pvfast.Machine)


def test_what_is_traced_does_not_depend_on_what_was_traced_before() -> None:
    """Under VMI restore_fl takes another way where interrupts are masked, as a loop before may leave them."""
    setting = settings(build(hypervisor="vmi"), "vmi")[0]
    alone, after = (GuestRun(setting, "patched") for _ in range(2))
    path(after, "irq_disable")
    after.loop("irq_disable", 1)
    assert path(after, "irq_save_restore") == path(alone, "irq_save_restore")
    listed = [line for line in path(alone, "irq_save_restore") if not line.endswith(":")]
    assert len(listed) == alone.per_iteration("irq_save_restore").instructions
    assert trace_operations(after, "irq_save_restore") == trace_operations(alone, "irq_save_restore")
