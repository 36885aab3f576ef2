"""Full virtualization: the kernel of bare hardware in ring 1, and nothing that it can tell by running."""

import random

import numpy as np
import pytest

import pvfast
from pvfast.experiments import FORMS, GuestRun, boot, settings
from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import hypervisor

IF, TF = 0x200, 0x100
KERNEL_CS, USER_CS, USER_DS = 0x60, 0x73, 0x7B
HLT = 0xF4
PAGE = 4096
TIMER = 0x20
LOOPS = ("irq_disable", "irq_save", "restore_fl", "iret", "null_syscall_int80", "null_syscall_sysenter")


@pytest.fixture
def full(image: GuestImage) -> pvfast.Machine:
    return boot(image, "full")


@pytest.fixture
def native(image: GuestImage) -> pvfast.Machine:
    return boot(image)


def word(machine: pvfast.Machine, image: GuestImage, label: str, index: int = 0) -> int:
    """A variable of the kernel, whatever the shadow holds of its page."""
    return int.from_bytes(machine.read(image.to_physical(image.labels[label]) + 4 * index, 4), "little")


def scratch(image: GuestImage) -> int:
    """Linear address of a page of the kernel's that nothing is in."""
    return image.labels["hypercall_page"]


def put(machine: pvfast.Machine, image: GuestImage, code: bytes, *, offset: int = 0, scanned: bool = True) -> int:
    """Kernel code in the scratch page, at EIP; its linear address."""
    linear = scratch(image) + offset
    machine.write(image.to_physical(linear), code)
    if scanned:
        machine.hypervisor.code_changed(machine, linear)
    machine.cpu.eip = linear
    return linear


def interrupts(machine: pvfast.Machine) -> bool:
    """The guest's own EFLAGS.IF."""
    host = machine.hypervisor
    return host.registers["interrupts"] if host.name == "full" else bool(machine.cpu.eflags & IF)


# --- The kernel ------------------------------------------------------------------------------------------------------

def test_the_kernel_runs_in_ring_1_and_thinks_it_is_in_ring_0(full: pvfast.Machine, image: GuestImage) -> None:
    assert full.cpu.cpl == 1
    assert word(full, image, "paravirt_ops") == 0                       # kernel_rpl
    assert word(full, image, "fault_record", 8) == 0
    assert interrupts(full)
    assert full.hypervisor.registers["gdtr"] == (image.labels["cpu_gdt_table"], 255)


def test_no_instruction_more_and_no_byte_different(full: pvfast.Machine, native: pvfast.Machine,
                                                   image: GuestImage) -> None:
    assert full.counters.instructions == native.counters.instructions
    assert full.counters.cycles > 2 * native.counters.cycles
    text = image.sections[".text"]
    known = {"boot_cpu_capability": 4,              # features that are not virtualized
             "wall_tsc": 8,                         # time
             "cpu_gdt_table": 256}                  # accessed bits: the processor loads from copies
    for at in np.flatnonzero(np.array(full.ram) != np.array(native.ram)):
        linear = int(at) - image.physical + image.linear
        if text.address <= linear < text.end:
            assert full.ram[at] == HLT, hex(linear)
        else:
            assert any(0 <= linear - image.labels[name] < size for name, size in known.items()), hex(linear)


@pytest.mark.parametrize("form", FORMS)
def test_loops_execute_the_same_instructions_and_take_longer(image: GuestImage, form: str) -> None:
    full, native = (GuestRun(settings(image, name)[0], form) for name in ("full", "native"))
    for name in LOOPS:
        slow, fast = full.per_operation(name), native.per_operation(name)
        assert slow.instructions == fast.instructions, name
        assert slow.cycles > 2 * fast.cycles, name


@pytest.mark.parametrize("name", ["context-switch-2p", "page-fault", "fork-exit", "signal-catch"])
def test_workloads_execute_the_same_instructions(image: GuestImage, name: str) -> None:
    full, native = (GuestRun(settings(image, host)[0], "indirect") for host in ("full", "native"))
    assert full.per_operation(name).instructions == native.per_operation(name).instructions


@pytest.mark.parametrize("era", GUEST_ERAS)
def test_every_release_boots(era: str) -> None:
    assert boot(build(era), "full").counters.instructions == boot(build(era)).counters.instructions


def test_the_timer_ticks(full: pvfast.Machine, image: GuestImage) -> None:
    for _ in range(3):
        full.inject_interrupt(TIMER)
        assert full.run(max_instructions=3000).reason is pvfast.StopReason.HALT
    assert word(full, image, "jiffies") == 3


def test_an_interrupt_waits_for_the_guest_to_enable_them(full: pvfast.Machine, image: GuestImage) -> None:
    put(full, image, bytes.fromhex("fa 90 90 fb 90 90"))                # cli; nop; nop; sti; nop; nop
    full.step()
    full.inject_interrupt(TIMER)
    at = full.cpu.eip
    full.run(until=at + 2, max_instructions=10)
    assert not interrupts(full) and word(full, image, "jiffies") == 0
    full.run(until=image.labels["timer_interrupt"], max_instructions=10)
    frame = full.read_linear(full.cpu.esp, 12)
    assert int.from_bytes(frame[:4], "little") == at + 4                # behind the instruction after STI
    assert int.from_bytes(frame[4:8], "little") == KERNEL_CS
    assert int.from_bytes(frame[8:], "little") & IF


def test_halting_with_interrupts_off_is_the_end(full: pvfast.Machine, image: GuestImage) -> None:
    put(full, image, b"\xfa\xf4")
    full.inject_interrupt(TIMER)
    full.run(max_instructions=3000)
    put(full, image, b"\xfa\xf4")
    assert full.run(max_instructions=10).reason is pvfast.StopReason.HALT
    full.inject_interrupt(TIMER)
    assert full.run(max_instructions=10).reason is pvfast.StopReason.HALT


def test_slices_do_not_change_what_happens(image: GuestImage) -> None:
    whole, sliced = boot(image, "full"), pvfast.Machine(hypervisor=hypervisor("full"))
    sliced.hypervisor.start(sliced, image)
    while sliced.cpu.eip != image.labels["boot_done"]:
        sliced.run(until=image.labels["boot_done"], max_instructions=7)
    assert sliced.counters.as_dict() == whole.counters.as_dict()
    assert sliced.cpu.registers() == whole.cpu.registers()
    assert sliced.ram.tobytes() == whole.ram.tobytes()
    assert sliced.hypervisor.exits == whole.hypervisor.exits


def test_a_snapshot_holds_the_hosts_state_too(full: pvfast.Machine, image: GuestImage) -> None:
    state = full.snapshot()
    ends = []
    for _ in range(2):
        full.cpu.eip, full.cpu.ecx = image.benchmarks["fork-exit"].address, 3
        full.run(until=image.labels["bench_done"], max_instructions=200_000)
        ends.append((full.counters.as_dict(), full.ram.tobytes(), full.hypervisor.exits))
        full.restore(state)
    assert ends[0] == ends[1]
    with pytest.raises(pvfast.PvfastError):
        full.restore(pvfast.Machine(hypervisor=hypervisor("native")).snapshot())


def test_a_host_has_one_machine() -> None:
    host = hypervisor("full")
    pvfast.Machine(hypervisor=host)
    with pytest.raises(pvfast.PvfastError, match="one machine"):
        pvfast.Machine(hypervisor=host)


# --- Sensitive instructions ------------------------------------------------------------------------------------------
# Each ends with its answer in EAX, in the eight bytes at EBX, or in the interrupt flag. In ring 1 they do not trap, and
# are wrong until the scan finds them.

SENSITIVE = {
    "pushf": "fa 9c 58",                            # cli; pushf; pop %eax
    "pushf 16": "fa 66 9c 66 58",
    "popf": "fa 68 02 02 00 00 9d",                 # cli; push $0x202; popf
    "popf 16": "fa 66 68 02 02 66 9d",
    "sgdt": "0f 01 03",                             # (%ebx)
    "sidt": "0f 01 0b",
    "sldt": "0f 00 c0",                             # %eax
    "str": "0f 00 c8",
    "str memory": "0f 00 0b",
    "smsw": "0f 20 c0 0d 00 00 00 40 0f 22 c0 0f 01 e0",    # mov %cr0, %eax; set CD; mov %eax, %cr0; smsw %eax
    "mov %cs": "8c c8",
    "mov %cs memory": "8c 0b",
    "mov %ss": "8c d0",
    "push %cs": "0e 58",
    "push %ss": "16 58",
    "lar": "0f 02 c2",                              # %edx: the TSS
    "lsl": "0f 03 c2",
    "verr": "0f 00 e1 0f 94 c0",                    # %ecx: the kernel's code segment; sete %al
    "verw": "0f 00 e9 0f 94 c0",
    "call far": "9a 07 00 00 00 60 00 58 58",       # lcall $0x60, $next (the address is filled in); pop; pop
}
SAME_EITHER_WAY = {"sldt", "verw"}         # here: the host's answer happens to be the guest's


def outcome(machine: pvfast.Machine, image: GuestImage, code: str, *, scanned: bool) -> tuple[int, bytes, bool]:
    text = bytes.fromhex(code)
    if text[0] == 0x9A:
        text = b"\x9a" + (scratch(image) + 7).to_bytes(4, "little") + text[5:]
    at = put(machine, image, text + b"\x90", scanned=scanned)
    cpu = machine.cpu
    cpu.eax, cpu.ebx, cpu.ecx, cpu.edx = 0, scratch(image) + 0x800, KERNEL_CS, 0x80
    machine.write(image.to_physical(cpu.ebx), bytes(8))
    stop = machine.run(until=at + len(text), max_instructions=10)
    assert stop.reason is pvfast.StopReason.UNTIL
    memory = machine.read(image.to_physical(scratch(image) + 0x800), 8)
    return machine.cpu.eax, memory, interrupts(machine)


@pytest.mark.parametrize("name", SENSITIVE)
def test_sensitive_instructions_are_wrong_until_they_are_found(
        full: pvfast.Machine, native: pvfast.Machine, image: GuestImage, name: str) -> None:
    expected = outcome(native, image, SENSITIVE[name], scanned=False)
    before = full.snapshot()
    raw = outcome(full, image, SENSITIVE[name], scanned=False)
    full.restore(before)
    assert outcome(full, image, SENSITIVE[name], scanned=True) == expected
    assert (raw == expected) == (name in SAME_EITHER_WAY)


def test_iret_to_the_user_is_wrong_until_it_is_found(full: pvfast.Machine, image: GuestImage) -> None:
    target = image.labels["user_exit"]
    frame = b"".join(b"\x68" + value.to_bytes(4, "little") for value in (USER_DS, 0, 0x202, USER_CS, target))
    before = full.snapshot()
    for scanned in (False, True):
        put(full, image, b"\xfa" + frame + b"\xcf", scanned=scanned)
        full.run(until=target, max_instructions=20)
        assert (full.cpu.cpl, full.cpu.cs.selector, full.cpu.eip) == (3, USER_CS, target)
        assert interrupts(full) == scanned
        full.restore(before)


def test_all_of_them_are_in_the_kernel(full: pvfast.Machine, image: GuestImage) -> None:
    for label in ("native_save_fl", "native_iret", "native_store_gdt", "native_store_idt"):
        assert full.read(image.to_physical(image.labels[label]), 1)[0] == HLT, label
    assert full.read(image.to_physical(image.labels["native_irq_disable"]), 1) == b"\xfa"       # traps by itself
    assert full.hypervisor.traps >= 15


# --- Finding code ----------------------------------------------------------------------------------------------------

PUSHF_POP = bytes.fromhex("9c 58 eb fe")            # pushf; pop %eax; jmp .


def finds_pushf(machine: pvfast.Machine, image: GuestImage, code: bytes, at: int) -> bool:
    """Whether PUSHF at offset `at` of the scratch page has told the truth, once `code` has led there."""
    machine.write(image.to_physical(scratch(image) + at), PUSHF_POP)
    put(machine, image, b"\xfa" + code)
    assert machine.run(until=scratch(image) + at + 2, max_instructions=50).reason is pvfast.StopReason.UNTIL
    return not machine.cpu.eax & IF


@pytest.mark.parametrize("code", [
    "e9 fa 02 00 00",                               # jmp
    "e8 fa 02 00 00",                               # call
    "31 c0 0f 84 f7 02 00 00",                      # xor %eax, %eax; jz
], ids=["jmp", "call", "jz"])
def test_direct_branches_are_followed(full: pvfast.Machine, image: GuestImage, code: str) -> None:
    assert finds_pushf(full, image, bytes.fromhex(code), 0x300)


def test_indirect_branches_are_found_out_when_they_are_taken(full: pvfast.Machine, image: GuestImage) -> None:
    target = (scratch(image) + 0x300).to_bytes(4, "little")
    assert finds_pushf(full, image, b"\xb8" + target + b"\xff\xe0", 0x300)             # mov $, %eax; jmp *%eax
    assert finds_pushf(full, image, b"\x68" + target + b"\xff\x14\x24", 0x300)         # push $; call *(%esp)


def test_a_return_to_a_pushed_address_finds_scanned_code(full: pvfast.Machine, image: GuestImage) -> None:
    """The gap between two pieces of code is closed as soon as an indirect branch asks."""
    page = scratch(image)
    code = (b"\xb8" + (page + 0x20).to_bytes(4, "little") + b"\xff\xd0"                # call *%eax
            + b"\x68" + (page + 0x0E).to_bytes(4, "little") + b"\xc3"                  # push $.; ret
            + PUSHF_POP).ljust(0x1F, b"\x90") + b"\xc3"
    full.write(image.to_physical(page + 0x20), b"\xc3")
    put(full, image, b"\xfa" + code)
    full.run(until=page + 0x10, max_instructions=20)
    assert full.cpu.eip == page + 0x10
    assert not full.cpu.eax & IF


def test_code_that_the_guest_writes_itself(full: pvfast.Machine, image: GuestImage) -> None:
    at = scratch(image) + 0x10
    store = b"\xfa\x66\xc7\x05" + at.to_bytes(4, "little") + PUSHF_POP[:2]             # movw $, at
    put(full, image, store.ljust(0x10, b"\x90") + b"\x90" * 2 + b"\xeb\xfe")
    full.run(until=at + 2, max_instructions=20)
    assert not full.cpu.eax & IF
    assert full.hypervisor.exits["stepped"] > 0


def test_data_beside_code_stays_what_it_is(full: pvfast.Machine, image: GuestImage) -> None:
    data = scratch(image) + 0x800
    put(full, image, b"\xff\x05" + data.to_bytes(4, "little") + b"\x9c\x58\xeb\xfe")   # incl data; pushf; pop
    full.write(image.to_physical(data), b"\x9c\x9d\xcf\x00")
    full.run(max_instructions=10)
    assert full.read(image.to_physical(data), 4) == b"\x9d\x9d\xcf\x00"


def test_a_guest_that_reads_its_code_finds_the_traps(full: pvfast.Machine, image: GuestImage) -> None:
    at = image.labels["native_save_fl"]
    put(full, image, b"\x0f\xb6\x05" + at.to_bytes(4, "little") + b"\x90")             # movzbl at, %eax
    full.step()
    assert full.cpu.eax == HLT                      # where bare hardware shows PUSHF


# --- Memory and devices ----------------------------------------------------------------------------------------------

def test_the_guest_cannot_map_the_hosts_tables(full: pvfast.Machine, image: GuestImage) -> None:
    """A page-table entry for the shadow leads to a place with nothing behind it."""
    window = 0x3FF000 + image.labels["swapper_pg_dir"] * 0      # linear: in a table made here
    table, directory = image.labels["hypercall_page"], image.labels["swapper_pg_dir"]
    full.write(image.to_physical(table) + 4 * 0x3FF, (0xE0000067).to_bytes(4, "little"))
    full.write(image.to_physical(directory), (image.to_physical(table) | 0x67).to_bytes(4, "little"))
    at = image.labels["xen_shared_info_page"]
    full.write(image.to_physical(at), b"\xa1" + window.to_bytes(4, "little") + b"\xa3" + window.to_bytes(4, "little"))
    before = full.read(0xE0000000, PAGE)
    full.hypervisor.code_changed(full, at)
    full.cpu.eip = at
    full.run(until=at + 10, max_instructions=10)
    assert full.cpu.eip == at + 10
    assert full.cpu.eax == 0xFFFFFFFF               # the bus floats
    assert full.read(0xE0000000, PAGE) == before


def test_ports_reach_devices(full: pvfast.Machine, image: GuestImage) -> None:
    class Device:
        seen: list[tuple[int, int]] = []        # noqa: RUF012

        def read(self, port: int, size: int) -> int:
            return 0x5A

        def write(self, port: int, size: int, value: int) -> None:
            self.seen.append((port, value))

    full.intercept_port(0x99, Device())
    at = put(full, image, bytes.fromhex("e4 99 40 e6 99 90"))           # in; inc %eax; out
    full.cpu.eax = 0
    full.run(until=at + 5, max_instructions=20)
    assert full.cpu.eax == 0x5B
    assert Device.seen == [(0x99, 0x5B)]
    assert not full.cpu.eflags & 0x3000             # IOPL was lent for one instruction each
    assert not full.cpu.eflags & TF


def test_a_local_descriptor_table(full: pvfast.Machine, native: pvfast.Machine, image: GuestImage) -> None:
    """native_set_ldt, then a segment of it in %fs. The copy is of ring 1, where the guest's is of 0."""
    table = scratch(image) + 0x800
    ends = []
    for machine in (full, native):
        machine.write(image.to_physical(table), bytes(8) + bytes.fromhex("ffff 0040 1092 cf00"))    # base 0x104000
        put(machine, image, bytes.fromhex("ff d3 b8 0c 00 00 00 8e e0 90"), scanned=machine is full)
        machine.cpu.ebx, machine.cpu.eax, machine.cpu.edx = image.labels["native_set_ldt"], table, 2
        machine.run(until=scratch(image) + 9, max_instructions=100)
        ends.append((machine.cpu.eip, machine.cpu.fs.selector, machine.cpu.fs.base, machine.cpu.fs.limit))
    assert ends[0] == ends[1] == (scratch(image) + 9, 0x0C, 0x104000, 0xFFFFFFFF)
    assert full.cpu.fs.attributes & 0x60 == 0x20


def test_a_descriptor_that_changes_is_loaded_as_it_is_now(full: pvfast.Machine, native: pvfast.Machine,
                                                          image: GuestImage) -> None:
    """load_tls at a task switch: the GDT is written, and %gs loaded from it, again and again."""
    entry = image.labels["cpu_gdt_table"] + 6 * 8
    for machine in (full, native):
        for base in (0x104000, 0x205000):
            high = 0x00CFF200 | base >> 16 & 0xFF
            code = (b"\xc7\x05" + entry.to_bytes(4, "little") + (0xFFFF | (base & 0xFFFF) << 16).to_bytes(4, "little")
                    + b"\xc7\x05" + (entry + 4).to_bytes(4, "little") + high.to_bytes(4, "little")
                    + b"\xb8\x33\0\0\0\x8e\xe8")                        # mov $0x33, %eax; mov %eax, %gs
            at = put(machine, image, code + b"\x90")
            machine.run(until=at + len(code), max_instructions=20)
            assert machine.cpu.gs.base == base


def test_a_triple_fault_ends_the_guest(full: pvfast.Machine, image: GuestImage) -> None:
    descriptor = scratch(image) + 0x800
    full.write(image.to_physical(descriptor), bytes(6))
    put(full, image, b"\x0f\x01\x1d" + descriptor.to_bytes(4, "little") + b"\x0f\x0b")      # lidt; ud2
    stop = full.run(max_instructions=20)
    assert (stop.reason, stop.vector) == (pvfast.StopReason.SHUTDOWN, 6)


# --- Hostile guests --------------------------------------------------------------------------------------------------

def test_code_at_the_very_end_of_memory(full: pvfast.Machine, image: GuestImage) -> None:
    """An instruction that would go on behind the last byte of RAM is looked at as far as it is there."""
    end = len(full.ram)
    linear = end - image.physical + image.linear
    code = b"\xb8" + (linear - 4).to_bytes(4, "little") + bytes.fromhex("90 90 ff e0 ff 15")
    full.write(end - len(code), code)               # mov $here, %eax; nop; nop; here: jmp *%eax; call *(cut off)
    full.hypervisor.code_changed(full, linear - len(code))
    full.hypervisor.code_changed(full, linear - 2)
    full.cpu.eip = linear - len(code)
    full.run(max_instructions=50)
    assert full.cpu.eip == linear - 4


PIECES = [
    "0f00", "0f01", "0f20", "0f22", "0f30", "0f32", "8e", "8c", "9d", "9c", "cf", "cb", "ea", "9a", "ff", "e6", "6f",
    "f36d", "cd", "fa", "fb", "17", "0fb2", "0f35", "c705", "0f02", "c3", "66cf",
]


def random_code(choice: random.Random) -> bytes:
    """Instructions that the host has to do with, with random operands."""
    code = b""
    while len(code) < 200:
        code += bytes.fromhex(choice.choice(PIECES)) + choice.randbytes(choice.randrange(1, 7))
    return code


@pytest.mark.parametrize("seed", range(6))
def test_hostile_guests_never_reach_ring_0(image: GuestImage, seed: int) -> None:
    choice = random.Random(seed)
    machine = boot(image, "full")
    state = machine.snapshot()
    for _ in range(60):
        machine.restore(state)
        pages = [scratch(image), image.labels["xen_shared_info_page"], image.labels["init_thread_union"] + PAGE,
                 image.labels["cpu_gdt_table"], image.labels["swapper_pg_dir"]]
        put(machine, image, random_code(choice), offset=choice.randrange(0, 0xF00))
        cpu = machine.cpu
        for name in ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"):
            setattr(cpu, name, choice.choice([*pages, choice.getrandbits(32), choice.getrandbits(8), 0x8005003B]))
        for _ in range(20):
            stop = machine.run(max_instructions=50)
            assert cpu.cpl in (1, 3)
            assert cpu.cr0 & 0x80010001 == 0x80010001
            assert cpu.cr3 == 0xE0000000
            if stop.reason is pvfast.StopReason.SHUTDOWN:
                break
            if choice.random() < 0.2:
                machine.inject_interrupt(choice.randrange(256))


def test_a_call_that_overwrites_its_own_page_of_code_ends(image: GuestImage) -> None:
    """The push makes the page unknown again, and the scan looks for what it knows around the call: once for ever."""
    machine = boot(image, "full")
    pointer = scratch(image)
    at = put(machine, image, bytes.fromhex("ff13"), offset=0x800)       # call *(%ebx)
    machine.write_linear(pointer, image.labels["boot_done"].to_bytes(4, "little"))
    machine.cpu.ebx, machine.cpu.esp, machine.cpu.eip = pointer, at + 0x100, at
    assert machine.run(max_instructions=1).reason.name == "BUDGET"
    assert machine.cpu.eip == image.labels["boot_done"]
    assert int.from_bytes(machine.read_linear(at + 0xFC, 4), "little") == at + 2
