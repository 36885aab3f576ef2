"""Signals: installed, sent, caught, returned from, and what happens without a handler."""

import pytest

from pvfast.guest.prelude import USER_DATA
from tests.guest.kernel import Kernel
from tests.guest.programs import run_program

GETPID, KILL, SIGRETURN, RT_SIGACTION = 20, 37, 119, 174
ESRCH, EFAULT, EINVAL = 3, 14, 22
SIGILL, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGCHLD = 4, 8, 9, 10, 11, 12, 17
SA_RESTORER, SA_NODEFER = 0x04000000, 0x40000000
SIG_IGN = 1
COUNT = USER_DATA                                       # a word to write to


def action(name: str, handler: str | int, flags: int = 0, mask: int = 0) -> str:
    return f"{name}: .long {handler}, {SA_RESTORER | flags}, restorer, {mask}, 0\n"


def install(signal: int, name: str) -> str:
    return f"call {RT_SIGACTION}, ${signal}, ${name}, $0, $8\ncheck $0\n"


def send(signal: int) -> str:
    return f"call {GETPID}\nmovl %eax, %ebx\nmovl ${signal}, %ecx\nmovl ${KILL}, %eax\nint $0x80\n"


RESTORER = f"restorer: popl %eax\nmovl ${SIGRETURN}, %eax\nint $0x80\n"


def test_a_handler_runs_with_its_number_and_everything_is_as_before(guest: Kernel) -> None:
    text = f"""
        {install(SIGUSR1, "act")}
        call {GETPID}
        movl %eax, %ebx
        movl ${SIGUSR1}, %ecx
        movl $0x11111111, %edx
        movl $0x22222222, %esi
        movl $0x33333333, %edi
        movl $0x44444444, %ebp
        movl %esp, {COUNT + 4}
        movl ${KILL}, %eax
        stc
        int $0x80
        jnc bad
        check $0
        cmpl $0x11111111, %edx
        jne bad
        cmpl $0x22222222, %esi
        jne bad
        cmpl $0x33333333, %edi
        jne bad
        cmpl $0x44444444, %ebp
        jne bad
        cmpl {COUNT + 4}, %esp
        jne bad
        exit {COUNT}
    bad:
        exit $-1
    handler:
        movl 4(%esp), %eax
        movl %eax, {COUNT}
        xorl %edx, %edx
        xorl %esi, %esi
        xorl %edi, %edi
        xorl %ebp, %ebp
        clc
        ret
    {RESTORER}{action("act", "handler")}"""
    assert run_program(guest, text) == SIGUSR1


@pytest.mark.parametrize(("code", "signal"), [
    ("movl 0, %eax", SIGSEGV),
    ("movl %eax, 0xc0100000", SIGSEGV),
    ("movl %eax, 0x08048000", SIGSEGV),
    ("cli", SIGSEGV),
    ("hlt", SIGSEGV),
    ("int $0x20", SIGSEGV),
    ("ud2", SIGILL),
    ("xorl %ecx, %ecx; divl %ecx", SIGFPE),
    (send(SIGUSR1), SIGUSR1),
    (send(SIGKILL), SIGKILL),
])
def test_without_a_handler_the_program_dies(guest: Kernel, code: str, signal: int) -> None:
    assert run_program(guest, code.replace("; ", "\n")) == signal
    assert guest.fault()["count"] == 0
    assert guest.bench("signal-catch", 10)
    assert guest.word("exit_status") == 0               # the next one is not concerned


@pytest.mark.parametrize("signal", [SIGSEGV, SIGUSR1])
def test_a_fault_handler_may_repair_what_was_wrong(guest: Kernel, signal: int) -> None:
    """It finds the interrupted registers in its frame: struct sigcontext, behind the return address and the number."""
    text = f"""
        {install(SIGSEGV, "act")}
        {install(SIGUSR1, "act")}
        xorl %ebp, %ebp
        {"movl (%ebp), %eax" if signal == SIGSEGV else send(SIGUSR1)}
        exit %ebp
    handler:
        movl $0x08048000, 8 + 24(%esp)
        ret
    {RESTORER}{action("act", "handler")}"""
    assert run_program(guest, text) == 0x08048000


def test_the_frame_says_which_fault_it_was(guest: Kernel) -> None:
    text = f"""
        {install(SIGSEGV, "act")}
        movl %eax, 0x12345678
    handler:
        cmpl $14, 8 + 48(%esp)
        jne 1f
        cmpl $6, 8 + 52(%esp)                   /* a write, by the user, to what is not there */
        jne 1f
        exit 8 + 84(%esp)
    1:  exit $1
    {RESTORER}{action("act", "handler")}"""
    assert run_program(guest, text) == 0x12345678


def test_ignored_signals_do_nothing(guest: Kernel) -> None:
    text = f"{install(SIGUSR1, 'act')}{send(SIGUSR1)}{send(SIGCHLD)}exit $7\n{RESTORER}{action('act', SIG_IGN)}"
    assert run_program(guest, text) == 7


def test_a_fault_cannot_be_ignored(guest: Kernel) -> None:
    text = f"{install(SIGSEGV, 'act')}movl 0, %eax\nexit $7\n{RESTORER}{action('act', SIG_IGN)}"
    assert run_program(guest, text) == SIGSEGV


@pytest.mark.parametrize(("flags", "deepest"), [(0, 1), (SA_NODEFER, 2)])
def test_a_handler_is_not_interrupted_by_its_own_signal_unless_it_wants(
        guest: Kernel, flags: int, deepest: int) -> None:
    text = f"""
        movl $0, {COUNT}                        /* how often */
        movl $0, {COUNT + 4}                    /* how deep now */
        movl $0, {COUNT + 8}                    /* how deep at most */
        {install(SIGUSR1, "act")}
        {send(SIGUSR1)}
        cmpl $2, {COUNT}
        jne 2f
        exit {COUNT + 8}
    2:  exit $-1
    handler:
        incl {COUNT}
        incl {COUNT + 4}
        movl {COUNT + 4}, %eax
        cmpl {COUNT + 8}, %eax
        jbe 1f
        movl %eax, {COUNT + 8}
    1:  cmpl $1, {COUNT}
        jne 3f
        {send(SIGUSR1)}
    3:  decl {COUNT + 4}
        ret
    {RESTORER}{action("act", "handler", flags)}"""
    assert run_program(guest, text) == deepest


def test_a_mask_holds_other_signals_back(guest: Kernel) -> None:
    text = f"""
        movl $0, {COUNT}
        {install(SIGUSR1, "first")}{install(SIGUSR2, "second")}
        {send(SIGUSR1)}
        exit {COUNT}
    one:
        {send(SIGUSR2)}
        cmpl $0, {COUNT}
        jne 1f
        movl $10, {COUNT}
    1:  ret
    two:
        addl $5, {COUNT}
        ret
    {RESTORER}{action("first", "one", mask=1 << (SIGUSR2 - 1))}{action("second", "two")}"""
    assert run_program(guest, text) == 15


def test_the_old_action_comes_back(guest: Kernel) -> None:
    text = f"""
        {install(SIGUSR1, "act")}
        call {RT_SIGACTION}, ${SIGUSR1}, $0, ${COUNT}, $8
        check $0
        movl {COUNT}, %eax
        subl $handler, %eax
        exit %eax
    handler:
        ret
    {RESTORER}{action("act", "handler")}"""
    assert run_program(guest, text) == 0


@pytest.mark.parametrize(("call", "error"), [
    (f"call {RT_SIGACTION}, ${SIGUSR1}, $0x1000, $0, $8", EFAULT),
    (f"call {RT_SIGACTION}, ${SIGUSR1}, $0, $0x08048000, $8", EFAULT),
    (f"call {RT_SIGACTION}, ${SIGUSR1}, $0, $0, $4", EINVAL),
    (f"call {RT_SIGACTION}, $0, $0, $0, $8", EINVAL),
    (f"call {RT_SIGACTION}, $33, $0, $0, $8", EINVAL),
    (f"call {RT_SIGACTION}, ${SIGKILL}, $0x08048000, $0, $8", EINVAL),
    (f"call {KILL}, $77, ${SIGUSR1}", ESRCH),
    (f"call {GETPID}; movl %eax, %ebx; movl $33, %ecx; movl ${KILL}, %eax; int $0x80", EINVAL),
])
def test_wrong_requests_are_refused(guest: Kernel, call: str, error: int) -> None:
    program = call.replace("; ", "\n")
    assert run_program(guest, f"{program}\nexit %eax") == -error


def test_without_a_stack_there_is_no_handler(guest: Kernel) -> None:
    no_stack = send(SIGUSR1).removesuffix("int $0x80\n") + "movl $16, %esp\nint $0x80\n"
    text = f"{install(SIGUSR1, 'act')}{install(SIGSEGV, 'act')}{no_stack}" \
           f"exit $7\nhandler: ret\n{RESTORER}{action('act', 'handler')}"
    assert run_program(guest, text) == SIGSEGV
