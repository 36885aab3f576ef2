"""Programs that call the kernel with anything: it lives, and has everything back when they are over."""

import random

import pvfast
from pvfast.guest.prelude import USER_DATA, USER_TEXT
from tests.guest.kernel import Kernel
from tests.guest.programs import start_program
from tests.guest.test_processes import TIMER_VECTOR, resources

PROGRAMS, LONGEST, TICKS, TICK_INSTRUCTIONS = 100, 25, 60, 5000
#: The system calls of processes and memory, some more than once, then the others.
NUMBERS = (1, 2, 2, 2, 7, 7, 11, 20, 37, 42, 64, 91, 91, 192, 192, 192,
           3, 4, 5, 6, 13, 19, 25, 26, 78, 110, 119, 123, 174, 243, 400)
MAPPED = 0x40000000
PLACES = (USER_DATA, USER_DATA + 0x1000, MAPPED, MAPPED + 0x1000, 0xBFFFD000)
VALUES = (0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 17, 0x21, 0x22, 0x32, 4096, 8192, 0x7FFFFFFF, 0x80000000, -1, -4096,
          USER_TEXT, USER_DATA, USER_DATA + 0x1FFE, MAPPED, 0xBFFFC000, 0xBFFFFFFC, 0xC0000000, 0xC0100000)


def program(choice: random.Random) -> str:
    """System calls with all six arguments, and accesses to places that may be mapped by then."""
    text = ""
    for _ in range(choice.randrange(3, LONGEST)):
        match choice.choices(("call", "store", "load", "push"), (15, 3, 1, 1))[0]:
            case "call":
                for register in ("ebx", "ecx", "edx", "esi", "edi", "ebp"):
                    value = choice.choice((*VALUES, choice.getrandbits(32), MAPPED + choice.getrandbits(16)))
                    text += f"movl ${value}, %{register}\n"
                text += f"movl ${choice.choice(NUMBERS)}, %eax\nint $0x80\n"
            case "store":
                text += f"movl ${choice.getrandbits(16)}, {choice.choice(PLACES)}\n"
            case "load":
                text += f"movl {choice.choice(PLACES)}, %eax\n"
            case "push":
                text += "pushl $1\n"
    return text + "exit $0"


def test_hostile_programs(guest: Kernel) -> None:
    """They fork, so there are several at once; the tick takes turns. One that waits for ever may."""
    choice = random.Random(20)
    state, before, over = guest.machine.snapshot(), resources(guest), 0
    for number in range(PROGRAMS):
        start_program(guest, program(choice))
        for _ in range(TICKS):
            stop = guest.machine.run(until=guest.image.labels["bench_done"], max_instructions=TICK_INSTRUCTIONS)
            if stop.reason is pvfast.StopReason.UNTIL:
                break
            guest.machine.inject_interrupt(TIMER_VECTOR)
        assert guest.fault()["count"] == 0, number
        if stop.reason is pvfast.StopReason.UNTIL:
            over += 1
            assert resources(guest) == before, number
        else:
            guest.machine.restore(state)
    assert over > PROGRAMS * 9 // 10
