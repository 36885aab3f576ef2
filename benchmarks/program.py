"""What a workload is, and where its parts lie in memory.

Enters: nothing. Leaves: `Program`, the addresses that programs name as symbols, and their common beginning. Next:
programs.py (the general ones) and system_programs.py (what an operating system does).
"""

from dataclasses import dataclass

BASE, END = 0x100000, 0x130000
DATA = BASE + 0x1000                    # code ends here: engines that map code and data apart are faster
SYMBOLS = {
    "TABLE": DATA, "PER_CPU": DATA + 0x800,
    "POINTER": DATA + 0xC00, "OPERATION": DATA + 0xC04, "COUNT": DATA + 0xC08,
    "STACK_TOP": DATA + 0x7000, "SOURCE": BASE + 0x10000, "TARGET": BASE + 0x20000,
}
START = """
start:
    movl $STACK_TOP, %esp
    cld
    movl $callee, OPERATION
    movl $PER_CPU, POINTER
    movl COUNT, %ecx
    call workload
done:                               /* a process on the bare processor ends here, with EAX as its status */
    movl %eax, %ebx
    andl $127, %ebx
    movl $1, %eax
    int $0x80
.balign 16
callee:
"""


@dataclass(frozen=True)
class Program:
    """A workload: `text` enters at ``workload`` with the count in ECX and returns a result in EAX."""

    title: str
    text: str
    callee: str = "ret"                 # what OPERATION points to
    ring0: bool = False
    per_cpu: bool = False               # needs %gs with PER_CPU as its base
    patches_itself: bool = False
    start: str = START
    gates: tuple[str, ...] = ()         # labels of handlers: the program has the tables of system_programs.py
    only_pvfast: str = ""               # why no other engine can run it
