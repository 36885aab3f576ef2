"""The built-in guest under KVM: found by CPUID in ring 0, clocks, page-table requests, vmcall, what exits cost."""

import random
import struct

import pytest

import pvfast
from pvfast.experiments import FORMS, GuestRun, boot, settings
from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import PatchContext, hypervisor
from pvfast.paravirt.hypervisors.kvm import Kvm
from pvfast.paravirt.hypervisors.kvm_host import BOOT_SECONDS
from pvfast.paravirt.hypervisors.kvm_interface import (
    KVM_FEATURE_CLOCKSOURCE,
    KVM_FEATURE_MMU_OP,
    KVM_SIGNATURE,
    MMU_OP_BUFFER_BYTES,
    MMU_OP_FLUSH_TLB_BYTES,
    MMU_OP_WRITE_PTE_BYTES,
    MMU_QUEUE_SIZE,
    MSR_KVM_SYSTEM_TIME,
    MSR_KVM_WALL_CLOCK,
    PVCLOCK_SYSTEM_TIME,
    VMCALL,
    KvmError,
    KvmHc,
    KvmMmuOp,
)
from pvfast.processor.costs import COST_CLASSES
from tests.guest.kernel import BOOT_INSTRUCTIONS

CODE, BUFFER, TABLE = 0x1000, 0x2000, 0x3000
WORLD_SWITCH = ("vm_exit", "hypercall")
UD, GP = 6, 13


def bare(code: bytes = VMCALL, kvm: Kvm | None = None) -> pvfast.Machine:
    """A machine under KVM in front of `code`, paging off; a #UD or #GP of its own ends the run."""
    machine = pvfast.Machine(ram="1M", hypervisor=kvm or hypervisor("kvm"))
    machine.write(CODE, code)
    machine.cpu.eip = CODE
    return machine


def word(machine: pvfast.Machine, linear: int) -> int:
    return int.from_bytes(machine.read_linear(linear, 4), "little")


def call(machine: pvfast.Machine, image: GuestImage, label: str, eax: int = 0, edx: int = 0) -> None:
    """A function of the guest kernel, as an indirect call would enter it."""
    cpu = machine.cpu
    cpu.esp -= 4
    machine.write_linear(cpu.esp, image.labels["bench_done"].to_bytes(4, "little"))
    cpu.eip, cpu.eax, cpu.edx = image.labels[label], eax, edx
    stop = machine.run(until=image.labels["bench_done"], max_instructions=5000)
    assert stop.reason is pvfast.StopReason.UNTIL


def vmcall(machine: pvfast.Machine, number: int, *arguments: int) -> int:
    cpu = machine.cpu
    cpu.eip, cpu.eax = CODE, number
    for name, value in zip(("ebx", "ecx", "edx", "esi"), arguments, strict=False):
        setattr(cpu, name, value)
    machine.step()
    return cpu.eax - (cpu.eax >> 31 << 32)


def msr(machine: pvfast.Machine, number: int, value: int | None = None) -> int:
    """WRMSR, or RDMSR without a value."""
    cpu = machine.cpu
    machine.write(CODE, b"\x0f\x32" if value is None else b"\x0f\x30")
    cpu.eip, cpu.ecx = CODE, number
    if value is not None:
        cpu.eax, cpu.edx = value & 0xFFFFFFFF, value >> 32
    machine.step()
    return cpu.edx << 32 | cpu.eax


def write_pte(entry: int, value: int) -> bytes:
    return struct.pack("<IIQQ", KvmMmuOp.WRITE_PTE, 0, entry, value)


def test_the_kernel_boots_in_ring_0_and_knows_kvm(image: GuestImage) -> None:
    machine = boot(image, "kvm")
    name = word(machine, image.labels["paravirt_ops"] + image.era["name"].offset)
    assert machine.cpu.cpl == 0
    assert machine.read_linear(name, 4) == b"KVM\0"
    assert word(machine, image.labels["paravirt_ops"] + image.era["paravirt_enabled"].offset) == 1
    assert {op: word(machine, pointer) for op, pointer in image.pointers.items()} == dict(image.implementations("kvm"))


def test_only_what_traps_often_is_replaced(image: GuestImage) -> None:
    replaced = {name for name, address in image.implementations("kvm").items()
                if address != image.labels[f"native_{name}"]}
    assert replaced == {
        "io_delay", "get_wallclock", "set_wallclock", "set_pte", "set_pte_at", "set_pmd", "flush_tlb_user"}


def test_lazy_mode_collects_requests() -> None:
    """A release with lazy modes: two entries, a flush in between, one vmcall when the mode is left."""
    image = build("2.6.23")
    machine = boot(image, "kvm")
    labels, kvm = image.labels, machine.hypervisor
    table = labels["user_data_page"]
    before = kvm.hypercalls[KvmHc.MMU_OP]
    for name, eax, edx in (("set_lazy_mode", 1, 0), ("set_pte", table, 0x1111), ("flush_tlb_user", 0, 0),
                           ("set_pte", table + 4, 0x2222), ("set_lazy_mode", 0, 0)):
        assert (kvm.hypercalls[KvmHc.MMU_OP], word(machine, table)) == (before, 0)
        call(machine, image, f"kvm_{name}", eax, edx)
    assert kvm.hypercalls[KvmHc.MMU_OP] == before + 1
    assert (word(machine, table), word(machine, table + 4)) == (0x1111, 0x2222)
    assert kvm.mmu_ops[KvmMmuOp.FLUSH_TLB] == 1


def test_a_full_queue_goes_to_kvm() -> None:
    image = build("2.6.23")
    machine = boot(image, "kvm")
    table = image.labels["user_data_page"]
    before = machine.hypervisor.mmu_ops[KvmMmuOp.WRITE_PTE]
    call(machine, image, "kvm_set_lazy_mode", 1)
    for i in range(50):
        call(machine, image, "kvm_set_pte", table + 4 * i, i)
    assert machine.hypervisor.mmu_ops[KvmMmuOp.WRITE_PTE] == before + MMU_QUEUE_SIZE // MMU_OP_WRITE_PTE_BYTES
    call(machine, image, "kvm_set_lazy_mode", 3)                                        # flush, and stay
    assert machine.hypervisor.mmu_ops[KvmMmuOp.WRITE_PTE] == before + 50
    assert [word(machine, table + 4 * i) for i in range(50)] == list(range(50))


@pytest.mark.parametrize("name", GUEST_ERAS)
def test_every_release_boots(name: str) -> None:
    machine = boot(build(name), "kvm")
    assert machine.hypervisor.mmu_ops[KvmMmuOp.WRITE_PTE] >= 2


@pytest.mark.parametrize("feature", [KVM_FEATURE_CLOCKSOURCE, KVM_FEATURE_MMU_OP])
def test_the_kernel_uses_what_it_is_offered(image: GuestImage, feature: int) -> None:
    class Less(Kvm):
        features = Kvm.features & ~(1 << feature)

    kvm = Less()
    machine = pvfast.Machine(hypervisor=kvm)
    kvm.start(machine, image)
    stop = machine.run(until=image.labels["boot_done"], max_instructions=BOOT_INSTRUCTIONS)
    assert stop.reason is pvfast.StopReason.UNTIL
    for name, needed in (("set_pte", KVM_FEATURE_MMU_OP), ("get_wallclock", KVM_FEATURE_CLOCKSOURCE)):
        prefix = "native" if needed == feature else "kvm"
        assert word(machine, image.pointers[name]) == image.labels[f"{prefix}_{name}"]
    assert bool(kvm.mmu_ops) == (feature != KVM_FEATURE_MMU_OP)


def test_bare_hardware_is_not_kvm(image: GuestImage) -> None:
    machine = boot(image)
    enabled = image.labels["paravirt_ops"] + image.era["paravirt_enabled"].offset
    assert machine.read_linear(enabled, 4) == bytes(4)


def test_sites_become_native_code() -> None:
    native, kvm = hypervisor("native"), hypervisor("kvm")
    for kind in range(7):
        assert kvm.patch(kind, 7, bytes(18), 0xC0100000, PatchContext()) == native.patch(
            kind, 7, bytes(18), 0xC0100000, PatchContext())


@pytest.mark.parametrize("form", FORMS)
def test_interrupt_operations_cost_what_they_cost_natively(image: GuestImage, form: str) -> None:
    runs = [GuestRun(settings(image, name)[0], form) for name in ("kvm", "native")]
    for loop in settings(image, "kvm")[0].benchmarks():
        if loop.is_workload:                # they map and unmap pages too
            continue
        kvm, native = (run.per_operation(loop.name) for run in runs)
        assert kvm == native, loop.name


def test_the_timer_ticks(image: GuestImage) -> None:
    machine = boot(image, "kvm")
    for _ in range(3):
        machine.inject_interrupt(0x20)
        assert machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert machine.read_linear(image.labels["jiffies"], 4) == b"\x03\0\0\0"


# --- CPUID, hypercalls ------------------------------------------------------------------------------------------------

def test_signature_and_features() -> None:
    machine = bare(b"\x0f\xa2")
    machine.cpu.eax = 0x40000000
    machine.step()
    cpu = machine.cpu
    assert b"".join(getattr(cpu, name).to_bytes(4, "little") for name in ("ebx", "ecx", "edx")) == KVM_SIGNATURE
    assert cpu.eax == 0x40000001
    cpu.eip = CODE
    machine.step()
    assert cpu.eax == Kvm.features == 0b111


def test_a_vmcall_is_one_instruction_and_a_world_switch() -> None:
    machine = bare()
    assert vmcall(machine, KvmHc.VAPIC_POLL_IRQ) == 0
    counters, costs = machine.counters, machine.processor.costs
    assert machine.cpu.eip == CODE + len(VMCALL)
    assert (counters.instructions, counters.faults, counters.exits) == (1, 0, 0)
    assert counters.cycles == sum(costs[COST_CLASSES.index(name)] for name in WORLD_SWITCH)
    assert machine.hypervisor.hypercalls == {KvmHc.VAPIC_POLL_IRQ: 1}


@pytest.mark.parametrize("number", [0, KvmHc.FEATURES, 4, 0xFFFFFFFF])
def test_hypercalls_that_are_not_there(number: int) -> None:
    assert vmcall(bare(), number) == -KvmError.ENOSYS


def test_vmcall_is_not_for_user_code() -> None:
    machine = bare()
    machine.cpu.cs.set(0x1B, 0, 0xFFFFFFFF, 0xC0FB)
    machine.cpu.ss.set(0x23, 0, 0xFFFFFFFF, 0xC0F3)
    machine.write(BUFFER, write_pte(TABLE, 0x1234))
    assert vmcall(machine, KvmHc.MMU_OP, MMU_OP_WRITE_PTE_BYTES, BUFFER, 0) == -KvmError.EPERM
    assert machine.read(TABLE, 4) == bytes(4)


def test_other_undefined_instructions_are_the_guests() -> None:
    for code in (b"\x0f\x0b", b"\x0f\x01\xc2"):
        machine = bare(code)
        stop = machine.run(max_instructions=3)
        assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, UD)


def test_a_trap_flag_sees_a_vmcall_as_any_instruction() -> None:
    machine = bare(VMCALL + b"\x90")
    machine.cpu.eflags |= 0x100
    stop = machine.run(max_instructions=5)
    assert (stop.reason, stop.vector, machine.cpu.eip) == (pvfast.StopReason.SHUTDOWN, 1, CODE + len(VMCALL))


# --- MMU_OP -----------------------------------------------------------------------------------------------------------

def test_requests_are_carried_out_in_order() -> None:
    machine = bare()
    requests = write_pte(TABLE, 0x1111) + struct.pack("<II", KvmMmuOp.FLUSH_TLB, 0) + write_pte(TABLE, 0x2222) + (
        struct.pack("<IIQ", KvmMmuOp.RELEASE_PT, 0, TABLE))
    machine.write(BUFFER, requests)
    assert vmcall(machine, KvmHc.MMU_OP, len(requests), BUFFER, 0) == len(requests)
    assert machine.read(TABLE, 8) == bytes.fromhex("2222000000000000")
    assert machine.hypervisor.mmu_ops == {
        KvmMmuOp.WRITE_PTE: 2, KvmMmuOp.FLUSH_TLB: 1, KvmMmuOp.RELEASE_PT: 1}


def test_a_long_buffer_is_taken_in_pieces() -> None:
    machine = bare()
    machine.write(BUFFER, write_pte(TABLE, 1) * 40)
    taken = vmcall(machine, KvmHc.MMU_OP, 40 * MMU_OP_WRITE_PTE_BYTES, BUFFER, 0)
    assert taken == MMU_OP_BUFFER_BYTES // MMU_OP_WRITE_PTE_BYTES * MMU_OP_WRITE_PTE_BYTES


@pytest.mark.parametrize(("requests", "count", "answer"), [
    (b"", 0, -KvmError.EFAULT),
    (write_pte(TABLE, 1), MMU_OP_WRITE_PTE_BYTES - 1, -KvmError.EFAULT),                    # not whole
    (write_pte(0xFFFFFFFF_FFFFFFF0, 1), MMU_OP_WRITE_PTE_BYTES, -KvmError.EFAULT),          # not in RAM
    (write_pte(0xFFFFD, 1), MMU_OP_WRITE_PTE_BYTES, -KvmError.EFAULT),                      # its last byte is not
    (struct.pack("<II", 9, 0), 8, -KvmError.EFAULT),                                        # no such request
    (struct.pack("<II", KvmMmuOp.FLUSH_TLB, 0) * 2 + b"\xff" * 8, 24, 2 * MMU_OP_FLUSH_TLB_BYTES),
])
def test_requests_that_are_none(requests: bytes, count: int, answer: int) -> None:
    machine = bare()
    machine.write(BUFFER, requests)
    assert vmcall(machine, KvmHc.MMU_OP, count, BUFFER, 0) == answer


def test_a_buffer_outside_ram_is_refused() -> None:
    machine = bare()
    assert vmcall(machine, KvmHc.MMU_OP, 24, 0xFFFF0, 0) == -KvmError.EFAULT
    assert vmcall(machine, KvmHc.MMU_OP, 24, BUFFER, 1) == -KvmError.EFAULT


# --- Clocks -----------------------------------------------------------------------------------------------------------

def test_the_wall_clock_is_written_where_the_guest_says() -> None:
    machine = bare()
    msr(machine, MSR_KVM_WALL_CLOCK, BUFFER)
    assert struct.unpack("<III", machine.read(BUFFER, 12)) == (2, BOOT_SECONDS, 0)
    assert msr(machine, MSR_KVM_WALL_CLOCK) == BUFFER


def test_system_time_is_written_when_it_is_enabled() -> None:
    machine = bare()
    msr(machine, MSR_KVM_SYSTEM_TIME, BUFFER)
    assert machine.read(BUFFER, 32) == bytes(32)
    msr(machine, MSR_KVM_SYSTEM_TIME, BUFFER | 1)
    version, tsc, system, mul, shift = struct.unpack("<I4xQQIb3x", machine.read(BUFFER, 32))
    assert (version, tsc, mul << shift) == (2, system, 1 << 32)
    assert 0 < system <= machine.counters.cycles


@pytest.mark.parametrize("address", [0xFFFF8, 0x100000, 0xFFFFFFFF_FFFFFFF1])
def test_a_clock_outside_ram_is_not_written(address: int) -> None:
    machine = bare()
    for number in (MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME):
        msr(machine, number, address | 1)
        assert msr(machine, number) == address | 1
    assert machine.counters.faults == 0


def test_other_registers_fault_as_before() -> None:
    machine = bare(b"\x0f\x32")
    machine.cpu.ecx = 0x13
    stop = machine.run(max_instructions=3)
    assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, GP)


def test_get_wallclock_counts_seconds_since_power_on(image: GuestImage) -> None:
    machine = boot(image, "kvm")
    machine.write_linear(image.labels["kvm_vcpu_time"] + PVCLOCK_SYSTEM_TIME, (5_000_000_000).to_bytes(8, "little"))
    call(machine, image, "kvm_get_wallclock")
    assert machine.cpu.eax == BOOT_SECONDS + 5


# --- Robustness -------------------------------------------------------------------------------------------------------

def test_a_snapshot_holds_kvms_state_too() -> None:
    machine = bare()
    msr(machine, MSR_KVM_WALL_CLOCK, BUFFER)
    state = machine.snapshot()
    msr(machine, MSR_KVM_WALL_CLOCK, TABLE)
    machine.restore(state)
    assert msr(machine, MSR_KVM_WALL_CLOCK) == BUFFER
    with pytest.raises(pvfast.PvfastError):
        machine.restore(pvfast.Machine(ram="1M", hypervisor=hypervisor("native")).snapshot())


def test_random_requests_touch_only_ram() -> None:
    random_ = random.Random(4)
    machine = bare()
    for _ in range(2000):
        machine.write(BUFFER, random_.randbytes(64))
        machine.write(BUFFER, bytes((random_.randrange(5), 0, 0, 0)))
        machine.write(CODE, VMCALL)
        vmcall(machine, random_.choice([1, 2, 2, 2, 3, random_.getrandbits(32)]),
               random_.choice([8, 24, 600, random_.getrandbits(32)]),
               random_.choice([BUFFER, random_.getrandbits(20), random_.getrandbits(32)]),
               random_.choice([0, 0, random_.getrandbits(32)]))
        assert machine.cpu.eip == CODE + len(VMCALL)
