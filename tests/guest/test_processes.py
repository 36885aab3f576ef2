"""Processes: fork, execve, exit and wait, the tick, what happens when there are too many, and that nothing is lost."""

import pytest

import pvfast
from pvfast.guest.prelude import USER_DATA
from tests.guest.kernel import Kernel
from tests.guest.programs import run_program, start_program

EXIT, FORK, WAITPID, EXECVE, GETPID, KILL, GETPPID, RT_SIGACTION, MMAP2 = 1, 2, 7, 11, 20, 37, 64, 174, 192
ENOENT, EINTR, ECHILD, EAGAIN, ENOMEM, EFAULT = 2, 4, 10, 11, 12, 14
SIGKILL, SIGUSR1, SIGSEGV = 9, 10, 11
WNOHANG = 1
READ_WRITE, MAP_SHARED = 3, 1
NR_TASKS = 16
CACHES = ("thread_cache", "pgd_cache", "task_cache", "mm_cache", "area_cache", "files_cachep", "sighand_cachep")
TIMER_VECTOR = 0x20
TICKS, TICK_INSTRUCTIONS = 300, 2000
INSTRUCTIONS = 100_000

STATUS = USER_DATA + 0x10
#: A page that both see, at EDI.
SHARED = f"""
    movl $4096, %ecx
    movl ${READ_WRITE}, %edx
    movl ${MAP_SHARED}, %esi
    xorl %ebp, %ebp
    movl ${MMAP2}, %eax
    int $0x80
    movl %eax, %edi
"""
SPIN_UNTIL_SET = """
1:  cmpl $0, (%edi)
    je 1b
"""


def fork(child: str) -> str:
    """The child's number is in EBP."""
    return f"call {FORK}\ntestl %eax, %eax\njnz 8f\n{child}\n8: movl %eax, %ebp\n"


def wait(process: str = "%ebp", options: int = 0) -> str:
    return f"call {WAITPID}, {process}, ${STATUS}, ${options}\n"


def resources(guest: Kernel) -> dict[str, int]:
    return {name: guest.word(name) for name in ("nr_free_pages", "nr_threads", *CACHES)}


def run_with_ticks(guest: Kernel, text: str) -> list[int]:
    """Run a program with a timer interrupt now and then; what its processes gave to exit, in their order."""
    start_program(guest, text)
    statuses = []
    for _ in range(TICKS):
        stop = guest.machine.run(until=guest.image.labels["sys_exit"], max_instructions=TICK_INSTRUCTIONS)
        if stop.reason is pvfast.StopReason.UNTIL:
            statuses.append(signed(guest.machine.cpu.ebx))
            guest.machine.step()
        elif stop.reason is pvfast.StopReason.HALT:
            assert guest.word("nr_threads") == 0        # idle again
            return statuses
        guest.machine.inject_interrupt(TIMER_VECTOR)
    raise AssertionError("it does not end")


def signed(word: int) -> int:
    return word - (word >> 31 << 32)


def frame(guest: Kernel, linear: int) -> int:
    """The frame that a user address of the current process has."""
    entry = guest.machine.cpu.cr3
    for shift in (22, 12):
        entry = int.from_bytes(guest.machine.read((entry & ~0xFFF) + (linear >> shift & 0x3FF) * 4, 4), "little")
        assert entry & 1
    return entry >> 12


def set_free_pages(guest: Kernel, pages: int) -> None:
    guest.machine.write_linear(guest.image.labels["nr_free_pages"], pages.to_bytes(4, "little"))


def test_fork_answers_twice_and_copies_memory_on_write(guest: Kernel) -> None:
    text = f"""
        movl $7, {USER_DATA}
        {fork(f"addl $2, {USER_DATA}; pushl $1; exit {USER_DATA}".replace("; ", chr(10)))}
        {wait()}
        cmpl %ebp, %eax
        jne bad
        addl $0x10000, {USER_DATA}
        movl {STATUS}, %eax
        addl {USER_DATA}, %eax
        exit %eax
    bad: exit $-1
    """
    before = resources(guest)
    assert run_program(guest, text) == 0x10007 + (9 << 8)
    assert resources(guest) == before


def test_every_release_forks_under_every_hypervisor(guest_of_era: Kernel) -> None:
    """Its hooks are where it has them, and nothing that a lazy mode holds back is read too early."""
    text = f"""
        movl $7, {USER_DATA}
        pushl $0
        {fork(f"addl $2, {USER_DATA}" + chr(10) + "pushl $1" + chr(10) + f"exit {USER_DATA}")}
        {wait()}
        addl $0x10000, {USER_DATA}
        {fork(f"call {EXECVE}, $0, $1")}
        {wait("$-1")}
        popl %eax
        addl {STATUS}, %eax
        addl {USER_DATA}, %eax
        exit %eax
    """
    before = resources(guest_of_era)
    for _ in range(2):
        assert run_program(guest_of_era, text) == 0x10007 + (1 << 8)
        assert resources(guest_of_era) == before
    assert guest_of_era.fault()["count"] == 0


@pytest.mark.parametrize("alone", [True, False])
def test_only_a_page_that_is_shared_is_copied_by_a_write(guest: Kernel, alone: bool) -> None:
    write = f"movl $1, {USER_DATA}\n"
    start_program(guest, f"{write}{fork('exit $0')}{wait() if alone else ''}{write}{'' if alone else wait()}exit $0")
    guest.run_to("sys_fork", INSTRUCTIONS)
    before = frame(guest, USER_DATA)
    if not alone:                                       # the parent first: the child stays where it is
        guest.run_to("ret_from_fork", INSTRUCTIONS)
        guest.machine.inject_interrupt(TIMER_VECTOR)
        guest.run_to("sys_waitpid", INSTRUCTIONS)
        assert frame(guest, USER_DATA) != before
    else:
        guest.run_to("sys_exit", INSTRUCTIONS)
        guest.machine.step()
        guest.run_to("sys_exit", INSTRUCTIONS)
        assert frame(guest, USER_DATA) == before
    guest.run_to("bench_done", INSTRUCTIONS)


def test_the_child_runs_first(guest: Kernel) -> None:
    text = f"{SHARED}{fork('movl $5, (%edi)' + chr(10) + 'exit $0')}exit (%edi)"
    assert run_program(guest, text) == 5


def test_processes_have_numbers_and_parents(guest: Kernel) -> None:
    text = f"""
        call {GETPID}
        movl %eax, {USER_DATA}
        {fork(f'''
        call {GETPPID}
        subl {USER_DATA}, %eax
        movl %eax, %ebp
        call {GETPID}
        subl {USER_DATA}, %eax
        leal (%eax,%ebp,8), %eax
        exit %eax
        ''')}
        {wait()}
        exit {STATUS}
    """
    assert run_program(guest, text) == 1 << 8


def test_execve_starts_another_program_from_nothing(guest: Kernel) -> None:
    text = f"""
        {fork(f'''
        movl $1, {USER_DATA}
        movl %esp, %esi
        call {EXECVE}, $0, $42
        exit $-1
        ''')}
        {wait()}
        exit {STATUS}
    """
    before = resources(guest)
    assert run_program(guest, text) == 42 << 8
    assert resources(guest) == before


def test_there_are_only_so_many_programs(guest: Kernel) -> None:
    assert run_program(guest, f"call {EXECVE}, $1000\nexit %eax") == -ENOENT


@pytest.mark.parametrize(("child", "status"), [
    ("exit $3", 3 << 8),
    ("exit $0x1ff", 0xFF << 8),
    ("movl 0, %eax", SIGSEGV),
    (f"call {GETPID}\nmovl %eax, %ebx\nmovl ${SIGKILL}, %ecx\nmovl ${KILL}, %eax\nint $0x80", SIGKILL),
])
@pytest.mark.parametrize("process", ["%ebp", "$-1"])
def test_wait_tells_how_it_ended(guest: Kernel, child: str, status: int, process: str) -> None:
    assert run_program(guest, f"{fork(child)}{wait(process)}exit {STATUS}") == status


@pytest.mark.parametrize(("text", "answer"), [
    (wait("$-1"), -ECHILD),
    (fork("exit $0") + wait("$1"), -ECHILD),
    (fork(SPIN_UNTIL_SET.replace("(%edi)", str(USER_DATA))) + wait("%ebp", WNOHANG), 0),
    (fork("exit $0") + f"call {WAITPID}, %ebp, $0xc0100000, $0\n", -EFAULT),
    (fork("exit $0") + wait() + wait(), -ECHILD),
])
def test_wait_without_success(guest: Kernel, text: str, answer: int) -> None:
    program = f"{text}pushl %eax\ncall {KILL}, %ebp, ${SIGKILL}\npopl %eax\nexit %eax"
    assert answer in run_with_ticks(guest, program)


def test_the_tick_takes_the_processor_away(guest: Kernel) -> None:
    """The child runs first and waits for something that its parent has to do."""
    text = f"{SHARED}{fork(SPIN_UNTIL_SET + 'exit $6')}movl $1, (%edi)\n{wait()}exit {STATUS}"
    before = resources(guest)
    statuses = run_with_ticks(guest, text)
    assert statuses == [6, 6 << 8]
    assert resources(guest) == before


def test_without_a_tick_a_program_keeps_the_processor(guest: Kernel) -> None:
    text = f"{SHARED}{fork(SPIN_UNTIL_SET + 'exit $6')}movl $1, (%edi)\n{wait()}exit {STATUS}"
    start_program(guest, text)
    stop = guest.machine.run(until=guest.image.labels["sys_exit"], max_instructions=INSTRUCTIONS)
    assert stop.reason is pvfast.StopReason.BUDGET


def test_orphans_are_nobodys_to_wait_for(guest: Kernel) -> None:
    """The parent is over before its child, which dies without a trace; the benchmark ends with the last of them."""
    text = f"{SHARED}{fork(SPIN_UNTIL_SET + f'call {GETPPID}' + chr(10) + 'exit %eax')}movl $1, (%edi)\nexit $9"
    before = resources(guest)
    statuses = run_with_ticks(guest, text)
    assert statuses == [9, 1]
    assert resources(guest) == before


def test_children_nobody_waited_for_go_with_their_parent(guest: Kernel) -> None:
    before = resources(guest)
    assert run_program(guest, fork("exit $1") + "exit $2") == 2
    assert resources(guest) == before


def test_a_signal_ends_a_wait(guest: Kernel) -> None:
    text = f"""
        call {RT_SIGACTION}, ${SIGUSR1}, $act, $0, $8
        {SHARED}
        {fork(f'''
        {SPIN_UNTIL_SET}
        call {GETPPID}
        movl %eax, %ebx
        call {KILL}, %ebx, ${SIGUSR1}
    2:  cmpl $1, (%edi)
        je 2b
        exit $0
        ''')}
        movl $1, (%edi)
        {wait()}
        exit %eax
    handler:
        movl $2, (%edi)
        ret
    restorer:
        popl %eax
        movl $119, %eax
        int $0x80
    act: .long handler, 0x04000000, restorer, 0, 0
    """
    statuses = run_with_ticks(guest, text)
    assert sorted(statuses) == [-EINTR, 0]


def test_too_many_processes_are_refused(guest: Kernel) -> None:
    text = f"""
        xorl %ebp, %ebp
    again:
        call {FORK}
        testl %eax, %eax
        jz child
        js full
        incl %ebp
        jmp again
    child:
        exit $0
    full:
        cmpl $-{EAGAIN}, %eax
        jne bad
        exit %ebp
    bad: exit %eax
    """
    before = resources(guest)
    assert run_program(guest, text) == NR_TASKS - 1
    assert resources(guest) == before


@pytest.mark.parametrize("pages", range(6))
def test_fork_without_memory_is_refused(guest: Kernel, pages: int) -> None:
    """However far it got, it gives everything back. The child needs two page tables: for data, and for the stack."""
    before = resources(guest)
    start_program(guest, f"movl $1, {USER_DATA}\npushl $1\n{fork('exit $0')}exit %eax")
    guest.run_to("sys_fork", INSTRUCTIONS)
    hidden = guest.word("nr_free_pages") - pages
    set_free_pages(guest, pages)
    guest.run_to("sys_exit", INSTRUCTIONS)
    if pages < 2:
        assert signed(guest.machine.cpu.ebx) == -ENOMEM
        assert guest.word("nr_free_pages") == pages
        assert guest.word("nr_threads") == 1
    else:
        assert guest.machine.cpu.ebx == 0               # the child
    set_free_pages(guest, guest.word("nr_free_pages") + hidden)
    guest.run_to("bench_done", INSTRUCTIONS)
    assert resources(guest) == before


def test_a_page_that_cannot_be_had_ends_the_process(guest: Kernel) -> None:
    before = resources(guest)
    start_program(guest, f"call {GETPID}\nmovl $1, {USER_DATA}\nexit $0")
    guest.run_to("sys_getpid", INSTRUCTIONS)
    hidden = guest.word("nr_free_pages")
    set_free_pages(guest, 0)
    guest.run_to("do_exit", INSTRUCTIONS)
    assert guest.word("exit_status") == SIGKILL
    set_free_pages(guest, hidden)
    guest.run_to("bench_done", INSTRUCTIONS)
    assert resources(guest) == before


@pytest.mark.parametrize("child", ["exit $0", f"call {EXECVE}, $0, $0"])
def test_every_process_costs_the_same(guest: Kernel, child: str) -> None:
    text = f"""
        movl %ebx, {USER_DATA}
        movl $1, {USER_DATA + 0x1000}
    again:
        {fork(child)}
        {wait()}
        decl {USER_DATA}
        jnz again
        exit $0
    """
    before = resources(guest)
    counts = []
    for iterations in (10, 20, 50, 10):
        start_program(guest, text, iterations)
        start = guest.machine.counters.instructions
        guest.run_to("bench_done", 1_000_000)
        counts.append(guest.machine.counters.instructions - start)
    assert (counts[1] - counts[0]) * 4 == counts[2] - counts[0]
    assert (counts[1] - counts[0]) % 10 == 0
    assert counts[3] == counts[0]
    assert resources(guest) == before


def test_segment_registers_are_the_processes_own(guest: Kernel) -> None:
    text = f"""
        movl $0x7b, %eax
        movl %eax, %fs
        {fork('''
        xorl %eax, %eax
        movl %eax, %fs
        exit $0
        ''')}
        {wait()}
        movl %fs, %eax
        exit %eax
    """
    assert run_program(guest, text) == 0x7B


def test_whose_fpu_it_is_is_told_by_ts(guest: Kernel) -> None:
    """__unlazy_fpu: who used it leaves it with CR0.TS set, so that the next one's use is noticed."""
    text = f"fninit\n{fork('exit $0')}{wait()}exit $0"
    machine = guest.machine
    start_program(guest, text)
    assert machine.cpu.cr0 & 8
    guest.run_to("sys_fork", INSTRUCTIONS)
    status = (machine.cpu.esp & -8192) + 12
    assert not machine.cpu.cr0 & 8
    assert machine.read_linear(status, 4) == (1).to_bytes(4, "little")
    guest.run_to("ret_from_fork", INSTRUCTIONS)
    assert machine.cpu.cr0 & 8
    assert machine.read_linear(status, 4) == bytes(4)


@pytest.mark.parametrize("fpu", [False, True])
def test_a_switch_executes_the_operations_of_2_6_20(booted: Kernel, fpu: bool) -> None:
    start_program(booted, f"{fork('exit $0')}{wait()}exit $0")
    booted.run_to("sys_fork", INSTRUCTIONS)
    if fpu:
        booted.machine.write_linear((booted.machine.cpu.esp & -8192) + 12, (1).to_bytes(4, "little"))
    booted.run_to("schedule", INSTRUCTIONS)
    names = {address: name for name, address in booted.image.implementations().items()}
    found = []
    while booted.machine.cpu.cpl != 3:
        if booted.machine.cpu.eip in names:
            found.append(names[booted.machine.cpu.eip])
        booted.machine.step()
    assert found == [
        "read_tsc", "irq_disable", "write_cr3", *(["read_cr0", "write_cr0"] if fpu else []), "load_esp0", "load_tls",
        "irq_enable",                                   # and the way out of the new process's system call
        "irq_disable", "iret",
    ]
