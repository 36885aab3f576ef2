"""Small user programs, as text, for a guest kernel that has booted, natively or under a hypervisor."""

from pvfast.assembly import assemble
from pvfast.guest import GuestImage
from pvfast.guest.prelude import USER_TEXT
from tests.guest.kernel import Kernel

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


def program(text: str) -> bytes:
    return assemble(_MACROS + text, USER_TEXT).code


def with_program(image: GuestImage, text: str) -> GuestImage:
    """A kernel that has a program in the place of the built-in ones; it starts it as any of them, iterations in EBX."""
    at = image.labels["user_text_page"] - image.linear
    code = program(text)
    return image.with_patches(image.code[:at] + code + image.code[at + len(code):])


def start_program(guest: Kernel, text: str, iterations: int = 1) -> None:
    """Put a program in the place of the built-in ones, and the machine where it starts it, `iterations` in EBX."""
    guest.write(guest.image.labels["user_text_page"], program(text))
    guest.enter("null", iterations)


def run_program(guest: Kernel, text: str) -> int:
    """Run a program in the place of the built-in ones; its exit status, signed. They are back afterwards."""
    page = guest.image.labels["user_text_page"]
    built_in = guest.image.read("user_text_page", PAGE_SIZE)
    start_program(guest, text)
    guest.run_to("bench_done", _INSTRUCTIONS)
    guest.write(page, built_in)
    status = guest.word("exit_status")
    return status - (status >> 31 << 32)
