"""Every handler ends in a jump: a call to the next uop would let the host's stack grow with each instruction.

Compilers give a tail call up without a word, for instance where a local's address has been given away.
"""

import re
import shutil
import subprocess
from collections import Counter

import pytest

from pvfast.core import engine

_FUNCTION = re.compile(r"^[0-9a-f]+ <__pyx_f_6pvfast_4core_6engine_(?P<name>[a-z]\w*)")
#: Uop.run of the next uop, and of a link's target: its first field, 32 bytes on or at once.
_CALL = re.compile(r"\tcall[lq]?\s+\*(?:0x20)?\(%r\w+\)")
#: They call handlers, or hypervisors through CPU.interrupt_hook.
_CALLERS = {"enter_block", "run_one", "run_cpu", "offer_software", "offer_event", "deliver_event", "deliver_by_idt"}


@pytest.fixture(scope="module")
def listing() -> str:
    if not engine.makes_tail_calls():
        pytest.skip("this build returns from every block")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not there")
    return subprocess.run(["objdump", "-d", "--no-show-raw-insn", engine.__file__], capture_output=True, text=True,
                          check=True, timeout=300).stdout


def test_handlers_do_not_call_handlers(listing: str) -> None:
    callers: Counter[str] = Counter()
    name = ""
    seen = 0
    for line in listing.splitlines():
        if match := _FUNCTION.match(line):
            name = match["name"]
            seen += 1
        elif line.endswith(">:"):
            name = ""
        elif name and _CALL.search(line):
            callers[name] += 1
    assert seen > 1000, "no symbols"
    assert [caller for caller in callers if caller not in _CALLERS] == []
