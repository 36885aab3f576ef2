"""Small user programs, as text, for a guest kernel that has booted, natively or under a hypervisor."""

from typing import Protocol

from pvfast.assembly import assemble
from pvfast.guest import GuestImage
from pvfast.guest.prelude import USER_TEXT
from pvfast.machine import Machine

_INSTRUCTIONS = 200_000
PAGE_SIZE = 4096

#: `call NUMBER, EBX, ECX, EDX, ESI` makes a system call; `check VALUE` ends the program unless EAX is VALUE.
_MACROS = """
.macro call number, ebx=$0, ecx=$0, edx=$0, esi=$0
    movl \\ebx, %ebx
    movl \\ecx, %ecx
    movl \\edx, %edx
    movl \\esi, %esi
    movl $\\number, %eax
    int $0x80
.endm
.macro exit status
    movl \\status, %ebx
    movl $1, %eax
    int $0x80
.endm
.macro check value
    cmpl \\value, %eax
    je 9f
    exit %eax
9:
.endm
"""


class Guest(Protocol):
    """A booted guest kernel."""

    image: GuestImage
    machine: Machine

    def run_to(self, label: str, max_instructions: int) -> None: ...
    def bench(self, name: str, iterations: int, max_instructions: int = ...) -> int: ...
    def word(self, label: str, index: int = 0) -> int: ...
    def fault(self) -> dict[str, int]: ...


def start_program(guest: Guest, text: str, iterations: int = 1) -> None:
    """Put a program in the place of the built-in ones, and the machine where it starts it, `iterations` in EBX."""
    code = assemble(_MACROS + text, USER_TEXT).code
    guest.machine.write_linear(guest.image.labels["user_text_page"], code)
    guest.machine.cpu.eip = guest.image.benchmarks["null"].address
    guest.machine.cpu.ecx = iterations


def run_program(guest: Guest, text: str) -> int:
    """Run a program in the place of the built-in ones; its exit status, signed. They are back afterwards."""
    page = guest.image.labels["user_text_page"]
    built_in = guest.machine.read_linear(page, PAGE_SIZE)
    start_program(guest, text)
    guest.run_to("bench_done", _INSTRUCTIONS)
    guest.machine.write_linear(page, built_in)
    status = guest.word("exit_status")
    return status - (status >> 31 << 32)
