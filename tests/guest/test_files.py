"""Open files and the memory devices, from user programs, natively and under Xen."""

import pytest

from pvfast.guest.prelude import USER_DATA
from tests.guest.kernel import Kernel
from tests.guest.programs import run_program

READ, WRITE, OPEN, CLOSE, LSEEK = 3, 4, 5, 6, 19
ENOENT, EBADF, EFAULT, EINVAL, EMFILE = 2, 9, 14, 22, 24

NAMES = """
zero: .asciz "/dev/zero"
null: .asciz "/dev/null"
none: .asciz "/dev/none"
"""


def test_zero_gives_zeros(guest: Kernel) -> None:
    assert run_program(guest, f"""
        movl $-1, {USER_DATA}
        movl $-1, {USER_DATA + 4}
        call {OPEN}, $zero
        check $0
        call {READ}, $0, ${USER_DATA}, $7
        check $7
        cmpl $0, {USER_DATA}
        jne 1f
        exit {USER_DATA + 4}
    1:  exit $1
    {NAMES}""") == -0x01000000                          # the eighth byte is as it was


def test_null_has_nothing_and_takes_everything(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {OPEN}, $null
        call {READ}, $0, ${USER_DATA}, $7
        check $0
        call {WRITE}, $0, $0x08048000, $0x1000000
        exit %eax
    {NAMES}""") == 0x1000000


@pytest.mark.parametrize(("calls", "error"), [
    (f"call {READ}, $0, ${USER_DATA}, $1", EBADF),
    (f"call {READ}, $32, ${USER_DATA}, $1", EBADF),
    (f"call {WRITE}, $-1, ${USER_DATA}, $1", EBADF),
    (f"call {CLOSE}, $3", EBADF),
    (f"call {OPEN}, $none", ENOENT),
    (f"call {OPEN}, $0xc0100000", EFAULT),
    (f"call {OPEN}, $0x1000", EFAULT),
    (f"call {OPEN}, $zero; call {CLOSE}, $0; call {READ}, $0, ${USER_DATA}, $1", EBADF),
    (f"call {OPEN}, $zero; call {READ}, $0, $0x1000, $4", EFAULT),
    (f"call {OPEN}, $zero; call {READ}, $0, $0x08048000, $4", EFAULT),
    (f"call {OPEN}, $zero; call {READ}, $0, $0xc0100000, $4", EFAULT),
    (f"call {OPEN}, $zero; call {READ}, $0, $0xbffffffd, $4", EFAULT),
    (f"call {OPEN}, $zero; call {READ}, $0, ${USER_DATA}, $-1", EINVAL),
    (f"call {OPEN}, $zero; call {LSEEK}, $0, $0, $2", EINVAL),
    (f".rept 33; call {OPEN}, $zero; .endr", EMFILE),
])
def test_wrong_requests_are_refused(guest: Kernel, calls: str, error: int) -> None:
    program = calls.replace("; ", "\n")
    assert run_program(guest, f"{program}\nexit %eax\n{NAMES}") == -error
    assert guest.fault()["count"] == 0


def test_descriptors_are_the_lowest_free_ones(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {OPEN}, $zero
        call {OPEN}, $zero
        check $1
        call {CLOSE}, $0
        call {OPEN}, $null
        check $0
        call {OPEN}, $null
        exit %eax
    {NAMES}""") == 2


def test_what_a_program_left_open_is_closed(guest: Kernel) -> None:
    for _ in range(5):                                  # there is room for 48 files
        assert run_program(guest, f".rept 32\ncall {OPEN}, $zero\n.endr\nexit %eax\n{NAMES}") == 31
