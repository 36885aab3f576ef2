"""Stale code cannot be produced: whoever writes to code, the next instruction executed is the new one.

Every test runs a function first, so that it is decoded and linked, then changes it in one of the ways that bytes can
change, and runs it again.
"""
from __future__ import annotations

from collections.abc import Callable

import pytest

import pvfast
from pvfast.assembly import assemble

CODE, FUNCTION, DATA = 0x10000, 0x20000, 0x30000
TABLES = 0x80000
OLD, NEW = 1, 2


def code(text: str, address: int = 0) -> bytes:
    return assemble(text, address).code


def function(value: int) -> bytes:
    """Returns a value in EAX; the immediate is at +1."""
    return code(f"mov ${value}, %eax; ret")


@pytest.fixture(params=["flat", "paged"])
def machine(request: pytest.FixtureRequest) -> pvfast.Machine:
    """A machine that has called the function a few times: decoded, linked, its inline caches filled."""
    machine = pvfast.Machine(ram="4M")
    if request.param == "paged":
        machine.write(TABLES, (TABLES + 0x1000 | 3).to_bytes(4, "little"))
        machine.write(TABLES + 0x1000, b"".join((page * 0x1000 | 3).to_bytes(4, "little") for page in range(1024)))
        machine.cpu.cr3 = TABLES
        machine.cpu.cr0 = 0x80000011
    machine.write(FUNCTION, function(OLD))
    machine.write(CODE, code("call 0x20000; hlt", CODE))
    for _ in range(3):
        assert call(machine) == OLD
    return machine


def call(machine: pvfast.Machine, start: int = CODE) -> int:
    """Run from an address to HLT; EAX."""
    machine.cpu.eip = start
    machine.cpu.esp = 0x70000
    assert machine.run(max_instructions=10_000).reason is pvfast.StopReason.HALT
    return machine.cpu.eax


def run_text(machine: pvfast.Machine, text: str, at: int = CODE + 0x1000) -> int:
    machine.write(at, code(text, at))
    return call(machine, at)


# --- The guest stores ------------------------------------------------------------------------------------------------

GUEST_STORES = {
    "byte": "movb $2, 0x20001",
    "word": "movw $2, 0x20001",
    "dword": "movl $2, 0x20001",
    "register": "mov $2, %ecx; mov %ecx, 0x20001",
    "base": "mov $0x20000, %ebx; mov $2, %ecx; mov %cl, 1(%ebx)",
    "read-modify-write": "incl 0x20001",
    "locked": "lock incl 0x20001",
    "16-bit": "mov $2, %ax; mov %ax, 0x20001",
    "xchg": "mov $2, %eax; xchg %eax, 0x20001",
    "xadd": "mov $1, %eax; xadd %eax, 0x20001",
    "cmpxchg": "mov $1, %eax; mov $2, %ecx; cmpxchg %ecx, 0x20001",
    "bts": "movl $0, 0x20001; btsl $1, 0x20001",
    "setcc": "movl $0, 0x20001; stc; setc 0x20001; incl 0x20001",
    "push": "mov $0x20005, %esp; push $2",
    "push register": "mov $0x20005, %esp; mov $2, %eax; push %eax",
    "pop": "push $2; popl 0x20001",
    "pusha": "mov $2, %edi; mov $0x20021, %esp; mov $0xc3, %esi; pusha",
    "stos": "mov $0x20001, %edi; mov $2, %eax; stosl",
    "rep stos": "mov $0x20001, %edi; mov $4, %ecx; mov $0, %eax; rep stosb; movb $2, 0x20001",
    "rep stos across": "mov $0x1f000, %edi; mov $0x1001, %ecx; mov $0xb8, %eax; rep stosb; movb $2, 0x20001",
    "rep movs": "movl $2, 0x30000; mov $0x30000, %esi; mov $0x20001, %edi; mov $4, %ecx; rep movsb",
    "backwards": "movl $2, 0x30000; mov $0x30000, %esi; mov $0x20001, %edi; mov $1, %ecx; std; rep movsl; cld",
    "before the code": "movl $0x0002b8ff, 0x1ffff; movb $0, 0x20003",
    "segment": "mov $0x20000, %ebx; movl $2, %gs:1(%ebx)",
}


@pytest.mark.parametrize("text", GUEST_STORES.values(), ids=GUEST_STORES.keys())
def test_guest_store(machine: pvfast.Machine, text: str) -> None:
    run_text(machine, f"{text}; mov $0x70000, %esp; call 0x20000; hlt")
    assert machine.cpu.eax == NEW


def test_store_across_pages(machine: pvfast.Machine) -> None:
    """The instruction's last bytes lie in the next page; a store across the boundary changes both parts."""
    start = FUNCTION + 0x1000 - 3
    machine.write(start, function(0x11111111))
    text = f"call {start}; hlt"
    assert run_text(machine, text) == 0x11111111
    assert run_text(machine, f"movl $0x22222222, {start + 1}; {text}") == 0x22222222
    assert run_text(machine, f"movb $0x33, {start + 4}; {text}") == 0x33222222


def test_call_pushes_over_its_target(machine: pvfast.Machine) -> None:
    """The return address is stored into the instruction that the call leads to."""
    text = "mov $0x20005, %esp; call 0x20000; hlt"
    assert run_text(machine, text) == CODE + 0x1000 + len(code(text)) - 1


def test_patch_behind_a_link(machine: pvfast.Machine) -> None:
    """A loop calls, patches and calls: every pass sees the value of the one before."""
    run_text(machine, """
        mov $100, %ecx; xor %edi, %edi
    next: call 0x20000; add %eax, %edi; incl 0x20001; dec %ecx; jnz next; hlt""")
    assert machine.cpu.edi == sum(range(1, 101))


# --- Inside the running block ----------------------------------------------------------------------------------------

def test_patch_the_next_instruction(machine: pvfast.Machine) -> None:
    at = CODE + 0x1000
    length = len(code("movb $2, 0x11111", at))
    assert run_text(machine, f"movb $2, {at + length + 1}; mov $1, %eax; hlt") == NEW


def test_patch_later_in_the_block(machine: pvfast.Machine) -> None:
    at = CODE + 0x1000
    before = len(code("movb $2, 0x11111; inc %ecx; add $5, %edx", at))
    text = f"movb $2, {at + before + 1}; inc %ecx; add $5, %edx; mov $1, %eax; hlt"
    assert [run_text(machine, text) for _ in range(3)] == [NEW] * 3


def test_patch_itself(machine: pvfast.Machine) -> None:
    """An instruction that overwrites itself completes; the next pass runs what it wrote."""
    at = CODE + 0x1000
    run_text(machine, f"mov $2, %ecx\nagain: incl {at + 7}; mov %ecx, %eax; dec %ecx; jnz again; hlt")
    machine.write(at, code(f"movl $0x90909090, {at}; jmp {at}; hlt", at))
    machine.cpu.eip = at
    machine.run(max_instructions=20)
    assert machine.read(at, 4) == b"\x90" * 4


@pytest.mark.parametrize("pair", ["cmp $1, %eax; jz", "test %eax, %eax; jnz", "dec %ebx; jnz", "sub $1, %ebx; jnz",
                                  "cmpb $0, 0x30000; jz"])
@pytest.mark.parametrize("part", ["first", "second"])
def test_patch_a_fused_pair(machine: pvfast.Machine, pair: str, part: str) -> None:
    """Compare and branch run as one uop: a store into either half is seen all the same."""
    first, branch = pair.split("; ")
    at = FUNCTION + 0x100
    size = len(code(first, at))
    body = f"{first}; {branch} taken; mov $1, %eax; hlt\ntaken: mov $2, %eax; hlt"
    prologue = "mov $1, %eax; mov $5, %ebx; jmp 0x20100"
    machine.write(at, code(body, at))
    assert run_text(machine, prologue) == 2
    if part == "first":         # the compare becomes NOPs, with ZF as the prologue leaves it
        patch = "; ".join(f"movb $0x90, {at + i}" for i in range(size))
        flags = "xor %ecx, %ecx; inc %ecx" if branch == "jz" else "xor %ecx, %ecx"
        assert run_text(machine, f"{patch}; {flags}; mov $1, %eax; mov $5, %ebx; jmp {at}") == 1
    else:                       # the branch turns around
        assert run_text(machine, f"xorb $1, {at + size}; {prologue}") == 1


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 8])
def test_patch_a_fused_call_site(machine: pvfast.Machine, offset: int) -> None:
    """`push; push; call *m; pop; pop`: NOPs over any part of it are seen."""
    at = FUNCTION + 0x200
    machine.write(DATA, FUNCTION.to_bytes(4, "little"))
    site = "push %ecx; push %edx; call *0x30000; pop %edx; pop %ecx"
    machine.write(at, code(f"{site}; ret", at))
    text = "mov $7, %ecx; mov $8, %edx; mov $9, %eax; call 0x20200; hlt"
    assert run_text(machine, text) == OLD
    whole = "; ".join(f"movb $0x90, {at + i}" for i in range(10))
    parts = {0: whole, 1: whole, 2: "; ".join(f"movb $0x90, {at + 2 + i}" for i in range(6)),
             3: f"movl ${DATA + 4}, {at + 4}", 8: f"movb $0x5b, {at + 8}"}
    machine.write(DATA + 4, (FUNCTION + 0x300).to_bytes(4, "little"))
    machine.write(FUNCTION + 0x300, function(NEW))
    expected = {0: 9, 1: 9, 2: 9, 3: NEW, 8: OLD}[offset]
    assert run_text(machine, f"{parts[offset]}; {text}") == expected
    if offset == 8:         # the first POP goes to EBX now
        assert machine.cpu.ebx == 8


def test_rep_rewrites_the_code_behind_it(machine: pvfast.Machine) -> None:
    at = CODE + 0x1000
    head = f"mov ${at + 0x20}, %edi; mov $8, %ecx; mov $0x40, %al; cld; rep stosb"
    size = len(code(head, at))
    content = code(head, at) + b"\x90" * (0x20 - size) + b"\x90" * 8 + b"\xf4"
    machine.write(at, content)
    assert call(machine, at) == 0x40 + 8


# --- The host and devices --------------------------------------------------------------------------------------------

def host_write(machine: pvfast.Machine) -> None:
    machine.write(FUNCTION + 1, bytes([NEW]))


def host_write_linear(machine: pvfast.Machine) -> None:
    machine.write_linear(FUNCTION + 1, bytes([NEW]))


def host_writable(machine: pvfast.Machine) -> None:
    with machine.writable(FUNCTION, 16) as copy:
        copy[1] = NEW


def host_large_write(machine: pvfast.Machine) -> None:
    content = bytearray(machine.read(0, 0x40000))
    content[FUNCTION + 1] = NEW
    machine.write(0, content)


@pytest.mark.parametrize("change", [host_write, host_write_linear, host_writable, host_large_write])
def test_host_write(machine: pvfast.Machine, change: Callable[[pvfast.Machine], None]) -> None:
    change(machine)
    assert call(machine) == NEW


def test_snapshot_restore(machine: pvfast.Machine) -> None:
    state = machine.snapshot()
    machine.write(FUNCTION + 1, bytes([NEW]))
    assert call(machine) == NEW
    later = machine.snapshot()
    machine.restore(state)
    assert call(machine) == OLD
    machine.restore(later)
    assert call(machine) == NEW


class Patcher:
    """A device whose register write changes the guest's code through the API."""

    def __init__(self, machine: pvfast.Machine) -> None:
        self.machine = machine

    def read(self, _offset: int, _size: int) -> int:
        self.machine.write(FUNCTION + 1, bytes([NEW]))
        return 0

    def write(self, _offset: int, _size: int, value: int) -> None:
        self.machine.write(FUNCTION + 1, bytes([value]))


@pytest.mark.parametrize("text", ["movl $2, 0x300000", "mov 0x300000, %ecx", "mov $2, %al; out %al, $0x80"])
def test_device_writes_code(text: str) -> None:
    machine = pvfast.Machine(ram="2M")
    device = Patcher(machine)
    machine.map_mmio(0x300000, 0x1000, device)
    machine.intercept_port(0x80, device)
    machine.write(FUNCTION, function(OLD))
    assert run_text(machine, "call 0x20000; hlt") == OLD
    assert run_text(machine, f"{text}; call 0x20000; hlt") == NEW


def test_intercept_writes_the_next_instruction(machine: pvfast.Machine) -> None:
    at = CODE + 0x1000
    machine.intercept_interrupt(0x80, lambda m: m.write(at + 3, bytes([NEW])))
    assert run_text(machine, "int $0x80; mov $1, %eax; hlt") == NEW


def test_page_tables_move_code() -> None:
    """Another page at the same linear address after MOV to CR3 or INVLPG, with links from another page."""
    machine = pvfast.Machine(ram="4M")
    for number, value in ((0, OLD), (1, NEW)):
        machine.write(0x100000 + number * 0x1000, function(value))
    machine.write(TABLES, (TABLES + 0x1000 | 3).to_bytes(4, "little"))
    machine.write(TABLES + 0x1000, b"".join((page * 0x1000 | 3).to_bytes(4, "little") for page in range(1024)))
    machine.cpu.cr3 = TABLES
    machine.cpu.cr0 = 0x80000011
    entry = TABLES + 0x1000 + 0x100 * 4
    swap = f"movl ${0x101000 | 3}, {entry}"
    assert run_text(machine, "call 0x100000; hlt") == OLD
    assert run_text(machine, f"{swap}; invlpg 0x100000; call 0x100000; hlt") == NEW
    back = f"movl ${0x100000 | 3}, {entry}"
    assert run_text(machine, f"{back}; mov %cr3, %eax; mov %eax, %cr3; call 0x100000; hlt") == OLD
