"""Pipes: bytes through them, who waits for whom, and what their ends mean."""

import pytest

from tests.guest.kernel import Kernel
from tests.guest.programs import run_program
from tests.guest.test_signals import COUNT, RESTORER, SIGUSR1, action, install

FORK, READ, WRITE, CLOSE, WAITPID, GETPID, KILL, PIPE, GETPPID = 2, 3, 4, 6, 7, 20, 37, 42, 64
EINTR, EBADF, EFAULT, EMFILE, EPIPE = 4, 9, 14, 24, 32
SIGPIPE = 13
SIG_IGN = 1
SA_RESTART = 0x10000000
BUFFER = COUNT + 0x100


def test_bytes_come_out_in_order(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {PIPE}, ${COUNT}
        check $0
        movl $0x44434241, {BUFFER}
        call {WRITE}, {COUNT + 4}, ${BUFFER}, $3
        check $3
        call {WRITE}, {COUNT + 4}, ${BUFFER + 3}, $1
        call {READ}, {COUNT}, ${BUFFER + 8}, $100
        check $4
        exit {BUFFER + 8}""") == 0x44434241


def test_a_pipe_goes_round_its_page(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {PIPE}, ${COUNT}
        movl $5, %ebp
    1:  call {WRITE}, $1, $0x08048000, $3000
        check $3000
        call {READ}, $0, ${BUFFER}, $3000
        check $3000
        decl %ebp
        jnz 1b
        movl $0x08048000, %esi
        movl ${BUFFER}, %edi
        movl $3000, %ecx
        repe cmpsb
        jne 2f
        exit $0
    2:  exit $1""") == 0


def test_a_reader_waits_for_a_writer(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {PIPE}, ${COUNT}
        call {FORK}
        testl %eax, %eax
        jz 1f
        call {READ}, $0, ${BUFFER}, $4
        check $4
        call {WAITPID}, $-1
        exit {BUFFER}
    1:  movl $77, {BUFFER}
        call {WRITE}, $1, ${BUFFER}, $4
        exit $0""") == 77


def test_a_writer_waits_for_room(guest: Kernel) -> None:
    """Three times 2000 bytes do not fit a page: what fits goes in as a whole or not at all."""
    assert run_program(guest, f"""
        movl $0, {BUFFER}
        call {PIPE}, ${COUNT}
        call {FORK}
        testl %eax, %eax
        jz 2f
        call {CLOSE}, $1
        xorl %ebp, %ebp
    1:  call {READ}, $0, ${BUFFER}, $1000
        testl %eax, %eax
        jz 3f
        addl %eax, %ebp
        jmp 1b
    3:  call {WAITPID}, $-1
        exit %ebp
    2:  movl $3, %ebp
    4:  call {WRITE}, $1, $0x08048000, $2000
        check $2000
        decl %ebp
        jnz 4b
        exit $0""") == 6000


def test_more_than_a_page_goes_through_in_pieces(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {PIPE}, ${COUNT}
        call {FORK}
        testl %eax, %eax
        jz 2f
        call {CLOSE}, $1
        xorl %ebp, %ebp
    1:  call {READ}, $0, ${BUFFER}, $1000
        testl %eax, %eax
        jz 3f
        addl %eax, %ebp
        jmp 1b
    3:  call {WAITPID}, $-1
        exit %ebp
    2:  call {WRITE}, $1, $0x08048000, $8192
        check $8192
        exit $0""") == 8192


def test_without_writers_a_pipe_has_an_end(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {PIPE}, ${COUNT}
        call {WRITE}, $1, $0x08048000, $5
        call {CLOSE}, $1
        call {READ}, $0, ${BUFFER}, $9
        check $5
        call {READ}, $0, ${BUFFER}, $9
        exit %eax""") == 0


@pytest.mark.parametrize("ignored", [False, True])
def test_without_readers_a_write_is_an_error_and_a_signal(guest: Kernel, ignored: bool) -> None:
    assert run_program(guest, f"""
        {install(SIGPIPE, "act") if ignored else ""}
        call {PIPE}, ${COUNT}
        call {CLOSE}, $0
        call {WRITE}, $1, $0x08048000, $5
        exit %eax
    {RESTORER}{action("act", SIG_IGN)}""") == (-EPIPE if ignored else SIGPIPE)


@pytest.mark.parametrize(("flags", "result"), [(0, -EINTR), (SA_RESTART, 4)])
def test_a_signal_ends_the_wait_unless_the_call_is_to_be_made_again(guest: Kernel, flags: int, result: int) -> None:
    assert run_program(guest, f"""
        {install(SIGUSR1, "act")}
        call {PIPE}, ${COUNT}
        call {PIPE}, ${COUNT + 8}
        call {FORK}
        testl %eax, %eax
        jz 1f
        call {WRITE}, $3, $0x08048000, $1       /* the child goes on when this process sleeps */
        call {READ}, $0, ${BUFFER}, $4
        movl %eax, %ebp
        call {WAITPID}, $-1
        exit %ebp
    1:  call {READ}, $2, ${BUFFER}, $1
        call {GETPPID}
        movl %eax, %ebx
        movl ${SIGUSR1}, %ecx
        movl ${KILL}, %eax
        int $0x80
        call {READ}, $2, ${BUFFER}, $1          /* until the handler has run */
        call {WRITE}, $1, $0x08048000, $4
        exit $0
    handler:
        call {WRITE}, $3, $0x08048000, $1
        ret
    {RESTORER}{action("act", "handler", flags)}""") == result


@pytest.mark.parametrize(("calls", "error"), [
    (f"call {PIPE}, $0x1000", EFAULT),
    (f"call {PIPE}, $0x08048000", EFAULT),
    (f"call {PIPE}, ${COUNT}; call {WRITE}, $0, $0x08048000, $1", EBADF),
    (f"call {PIPE}, ${COUNT}; call {READ}, $1, ${COUNT}, $1", EBADF),
    (f"call {PIPE}, ${COUNT}; call {WRITE}, $1, $0x1000, $1", EFAULT),
    (f"call {PIPE}, ${COUNT}; call {WRITE}, $1, ${COUNT}, $1; call {READ}, $0, $0x1000, $1", EFAULT),
    (f".rept 17; call {PIPE}, ${COUNT}; .endr", EMFILE),
])
def test_wrong_requests_are_refused(guest: Kernel, calls: str, error: int) -> None:
    program = calls.replace("; ", "\n")
    assert run_program(guest, f"{program}\nexit %eax") == -error
    assert run_program(guest, f"call {PIPE}, ${COUNT}\nexit {COUNT + 4}") == 1        # nothing is left open


def test_the_pages_of_pipes_come_back(guest: Kernel) -> None:
    text = f".rept 8\ncall {PIPE}, ${COUNT}\ncall {WRITE}, {COUNT + 4}, ${COUNT}, $4\n.endr\nexit %eax"
    assert run_program(guest, text) == 4
    free = guest.word("nr_free_pages")
    for _ in range(3):
        assert run_program(guest, text) == 4
        assert guest.word("nr_free_pages") == free
