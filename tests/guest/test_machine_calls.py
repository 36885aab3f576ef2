"""System calls that reach the processor: segments, rights, clocks, registers; and returns that go wrong."""

import pytest

from tests.guest.kernel import Kernel
from tests.guest.programs import run_program
from tests.guest.test_signals import COUNT, RESTORER, SIGSEGV, action, install

READ, WRITE, OPEN, TIME, LSEEK, STIME, PTRACE, GETTIMEOFDAY, IOPL, SET_THREAD_AREA = (
    3, 4, 5, 13, 19, 25, 26, 78, 110, 243)
ESRCH, EIO, EFAULT, EINVAL = 3, 5, 14, 22
SIGTRAP = 5
SYSENTER_CS, KERNEL_CS = 0x174, 0x60
#: The value of a segment at COUNT, of a page, and the same with a field wrong.
SEGMENT = f"segment: .long -1, {COUNT}, 0xfff, 0x41\nnumbered: .long 8, {COUNT}, 0xfff, 0x41\n"
WRONG = "wrong: .long 9, 0, 0xfff, 0x41\n"


def test_a_thread_local_segment_begins_where_it_was_put(guest: Kernel) -> None:
    assert run_program(guest, f"""
        movl $0x12345678, {COUNT + 0x20}
        movl $-1, {COUNT + 0x40}                /* struct user_desc: a free entry, there, one page, 32 bits */
        movl ${COUNT}, {COUNT + 0x44}
        movl $0xfff, {COUNT + 0x48}
        movl $0x41, {COUNT + 0x4c}
        call {SET_THREAD_AREA}, ${COUNT + 0x40}
        check $0
        movl {COUNT + 0x40}, %eax
        check $6                                /* GDT_ENTRY_TLS_MIN */
        leal 3(,%eax,8), %eax
        movl %eax, %gs
        call 20                                 /* the kernel gives it back */
        exit %gs:0x20""") == 0x12345678


@pytest.mark.parametrize(("address", "error"), [("wrong", EINVAL), ("0x1000", EFAULT), ("segment", EFAULT)])
def test_wrong_segments_are_refused(guest: Kernel, address: str, error: int) -> None:
    """The last has no entry number, and stands where none can be written."""
    assert run_program(guest, f"call {SET_THREAD_AREA}, ${address}\nexit %eax\n{SEGMENT}{WRONG}") == -error


def test_a_segment_ends_at_its_limit(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {SET_THREAD_AREA}, $numbered
        check $0
        movl $67, %eax                          /* entry 8, RPL 3 */
        movl %eax, %gs
        movb %gs:0xfff, %al
        movb %gs:0x1000, %al
        exit $0
    {SEGMENT}""") == SIGSEGV


def test_a_segment_that_is_gone_is_null_after_the_next_system_call(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {SET_THREAD_AREA}, $numbered
        movl $67, %eax
        movl %eax, %gs
        call {SET_THREAD_AREA}, $empty
        check $0
        movl %gs, %eax
        exit %eax
    empty: .long 8, 0, 0, 0x28
    {SEGMENT}""") == 0
    assert guest.fault()["count"] == 0


def test_iopl_lets_a_program_use_ports(booted: Kernel) -> None:
    assert run_program(booted, "outb %al, $0x80\nexit $0") == SIGSEGV
    assert run_program(booted, f"call {IOPL}, $3\ncheck $0\noutb %al, $0x80\npushfl\npopl %eax\nandl $0x3000, %eax\n"
                               "exit %eax") == 0x3000
    assert run_program(booted, "outb %al, $0x80\nexit $0") == SIGSEGV      # the next program has not asked


def test_there_are_four_levels(guest: Kernel) -> None:
    assert run_program(guest, f"call {IOPL}, $3\nexit %eax") == 0
    assert run_program(guest, f"call {IOPL}, $4\nexit %eax") == -EINVAL


def test_the_clock_goes_on_from_where_it_is_set(guest: Kernel) -> None:
    assert run_program(guest, f"""
        movl $1000000000, {COUNT}
        call {STIME}, ${COUNT}
        check $0
        call {TIME}, ${COUNT + 4}
        check {COUNT + 4}
        call {GETTIMEOFDAY}, ${COUNT + 8}, $0
        check $0
        movl {COUNT + 12}, %ecx
        movl {COUNT + 8}, %eax
        cmpl $1000000, %ecx
        jb 1f
        exit $-1
    1:  exit %eax""") == 1_000_000_000


def test_time_does_not_stand_still(guest: Kernel) -> None:
    assert run_program(guest, f"""
        call {GETTIMEOFDAY}, ${COUNT}, $0
        movl $5000, %ecx
    1:  decl %ecx
        jnz 1b
        call {GETTIMEOFDAY}, ${COUNT + 8}, $0
        movl {COUNT + 12}, %eax
        subl {COUNT + 4}, %eax
        jns 2f
        addl $1000000, %eax
    2:  cmpl $5, %eax
        jb 3f
        cmpl $100, %eax
        ja 3f
        exit $0
    3:  exit %eax""") == 0


@pytest.mark.parametrize("number", [STIME, TIME, GETTIMEOFDAY])
def test_clocks_refuse_wrong_addresses(guest: Kernel, number: int) -> None:
    for address in (0x1000, 0xC0100000, 0xFFFFFFFF):
        assert run_program(guest, f"call {number}, ${address}\nexit %eax") == -EFAULT


MSR = 'msr: .asciz "/dev/cpu/0/msr"\npmc: .asciz "/dev/cpu/0/pmc"\n'


def test_the_msr_device_reads_and_writes_registers(booted: Kernel) -> None:
    program = f"""
        call {OPEN}, $msr
        check $0
        call {LSEEK}, $0, ${SYSENTER_CS}, $0
        check ${SYSENTER_CS}
        call {READ}, $0, ${COUNT}, $8
        check $8
        movl {COUNT}, %eax
        check ${KERNEL_CS}
        call {WRITE}, $0, ${COUNT}, $8
        check $8
        call {WRITE}, $0, ${COUNT}, $4
        exit %eax
    {MSR}"""
    assert run_program(booted, program) == -EINVAL


def test_registers_that_are_not_there_are_errors(booted: Kernel) -> None:
    for number in (READ, WRITE):
        assert run_program(booted, f"""
            call {OPEN}, $msr
            call {LSEEK}, $0, $0xdead, $0
            call {number}, $0, ${COUNT}, $8
            exit %eax
        {MSR}""") == -EIO


def test_the_counter_device_reads_eight_bytes(booted: Kernel) -> None:
    assert run_program(booted, f"call {OPEN}, $pmc\ncall {READ}, $0, ${COUNT}, $8\nexit %eax\n{MSR}") == 8


@pytest.mark.parametrize(("arguments", "error"), [
    ("$0, $0, $0, $0", EIO), ("$6, $77, $252, $0", ESRCH), ("$6, %edi, $253, $0", EIO), ("$6, %edi, $284, $0", EIO),
    ("$6, %edi, $248, $0", EIO), ("$6, %edi, $268, $0", EIO), ("$6, %edi, $252, $0xc0000000", EIO),
    ("$3, %edi, $252, $0x1000", EFAULT),
])
def test_ptrace_refuses_what_is_no_debug_register(guest: Kernel, arguments: str, error: int) -> None:
    assert run_program(guest, f"call 20\nmovl %eax, %edi\ncall {PTRACE}, {arguments}\nexit %eax") == -error


def test_single_steps_are_signals(guest: Kernel) -> None:
    """The trap is after the instruction behind popf; the handler's frame has TF, and takes it out."""
    assert run_program(guest, f"""
        {install(SIGTRAP, "act")}
        xorl %ecx, %ecx
        pushfl
        orl $0x100, (%esp)
        popfl
        nop
        nop
        exit %ecx
    handler:
        incl 8 + 40(%esp)                       /* ECX in the frame */
        andl $~0x100, 8 + 64(%esp)
        ret
    {RESTORER}{action("act", "handler")}""") == 1


@pytest.mark.parametrize(("offset", "value"), [(60, 0x1233), (72, 0x1233), (60, 8)])
def test_a_return_to_no_segment_is_the_programs_fault(booted: Kernel, offset: int, value: int) -> None:
    """The handler spoils CS or SS in its frame: the iret of its return fails in the kernel."""
    assert run_program(booted, f"""
        {install(SIGTRAP, "act")}
        call 20
        movl %eax, %ebx
        movl ${SIGTRAP}, %ecx
        movl $37, %eax
        int $0x80
        exit $1
    handler:
        movl ${value}, 8 + {offset}(%esp)
        ret
    {RESTORER}{action("act", "handler")}""") == SIGSEGV
    assert booted.fault()["count"] == 0


FORK, WRITE_LDT, MODIFY_LDT, REBOOT, WAITPID = 2, 0x11, 123, 88, 7
SUSPEND = f"call {REBOOT}, $0xfee1dead, $672274793, $0xd000fce2\n"
ENODEV = 19
LDT = f"entry: .long 1, {COUNT}, 0xfff, 0x41\n"


def test_a_local_segment_begins_where_it_was_put_and_is_copied_by_fork(booted: Kernel) -> None:
    assert run_program(booted, f"""
        movl $77, {COUNT + 0x20}
        call {MODIFY_LDT}, ${WRITE_LDT}, $entry, $16
        check $0
        movl $0xf, %eax                         /* entry 1 of the local table, RPL 3 */
        movl %eax, %gs
        call {FORK}
        testl %eax, %eax
        jz 1f
        call {WAITPID}, $-1
        exit %gs:0x20
    1:  cmpl $77, %gs:0x20
        je 2f
        ud2
    2:  movl $78, %gs:0x20                      /* in its own memory */
        exit $0
    {LDT}""") == 77
    free = booted.word("nr_free_pages")
    assert run_program(booted, f"call {MODIFY_LDT}, ${WRITE_LDT}, $entry, $16\nexit %eax\n{LDT}") == 0
    assert booted.word("nr_free_pages") == free


def test_the_next_process_has_no_local_table(booted: Kernel) -> None:
    assert run_program(booted, f"call {MODIFY_LDT}, ${WRITE_LDT}, $entry, $16\nexit %eax\n{LDT}") == 0
    assert run_program(booted, "movl $0xf, %eax\nmovl %eax, %gs\nexit $0") == SIGSEGV


@pytest.mark.parametrize(("arguments", "error"), [
    (f"${WRITE_LDT}, $entry, $15", EINVAL), (f"${WRITE_LDT}, $0x1000, $16", EFAULT), ("$2, $entry, $16", 38),
    (f"${WRITE_LDT}, $far, $16", EINVAL), (f"${WRITE_LDT}, $conforming, $16", EINVAL),
])
def test_wrong_entries_are_refused(guest: Kernel, arguments: str, error: int) -> None:
    assert run_program(guest, f"call {MODIFY_LDT}, {arguments}\nexit %eax\n{LDT}"
                              "far: .long 512, 0, 1, 0x41\nconforming: .long 1, 0, 1, 0x47\n") == -error


def test_a_watchpoint_is_a_signal(booted: Kernel) -> None:
    """The parent sets DR0 and DR7 in its child, which runs only then: writes of four bytes at COUNT + 16."""
    assert run_program(booted, f"""
        call 42, ${COUNT}
        call {FORK}
        testl %eax, %eax
        jz 1f
        movl %eax, %edi
        call {PTRACE}, $6, %edi, $252, ${COUNT + 16}
        check $0
        call {PTRACE}, $6, %edi, $280, $0x000d0001
        check $0
        call {WRITE}, $1, ${COUNT}, $1
        call {WAITPID}, %edi, ${COUNT + 8}
        exit {COUNT + 8}
    1:  call {READ}, $0, ${COUNT}, $1
        movl {COUNT + 16}, %eax
        movl %eax, {COUNT + 12}
        movl %eax, {COUNT + 16}
        exit $0""") == SIGTRAP


def test_the_processor_wakes_up_as_it_went_to_sleep(booted: Kernel) -> None:
    cpu = booted.machine.cpu
    before = (cpu.cr0, cpu.cr3, cpu.cr4, cpu.gdtr, cpu.idtr)
    assert run_program(booted, f"{SUSPEND}exit %eax") == 0
    assert (cpu.cr0, cpu.cr3, cpu.cr4, cpu.gdtr, cpu.idtr) == before
    assert booted.fault()["count"] == 0


def test_a_guest_of_a_hypervisor_does_not_suspend(guest: Kernel) -> None:
    expected = -ENODEV if guest.word("paravirt_ops", 1) else 0
    assert run_program(guest, f"{SUSPEND}exit %eax") == expected
    assert run_program(guest, f"call {REBOOT}, $0xfee1dead, $1, $0xd000fce2\nexit %eax") == -EINVAL
