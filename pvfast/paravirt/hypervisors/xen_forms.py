"""What Xen's interrupt operations are made of: AT&T text, and the bytes that go into a patch site.

The kernel's own bodies are assembled from this text (the guest's prelude makes macros of it), and so is what a site
gets. A *direct* form needs vcpu_info in the per-CPU area, where ``VCPUOP_register_vcpu_info`` puts it: one instruction
finds it. Some end in a call of ``check_events``, whose distance is relative: when the form is copied into a site, it
is *relocated*. Next: ``xen.py``, which patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from pvfast.assembly import assemble
from pvfast.errors import PatchError
from pvfast.paravirt.hypervisors.xen_interface import (
    PENDING_UNMASKED,
    VCPU_EVTCHN_UPCALL_MASK,
    VCPU_INFO_BYTES,
    VCPU_INFO_SHIFT,
)
from pvfast.paravirt.sites import ADDRESS_END

#: Symbols: the per-CPU offset of vcpu_info, and the function that has pending events delivered.
VCPU_INFO_SYMBOL = "xen_vcpu_info"
CHECK_EVENTS_SYMBOL = "check_events"

#: What addresses the per-CPU area: %gs in the talk and in 2.6.20, %fs from 2.6.21 on, and in a kernel for one processor
#: nothing, for there xen_vcpu_info is an address like any other. The numbers are those of the segment registers.
SEGMENT_SYMBOL = "percpu_segment"
DS, FS, GS = 3, 4, 5
_OVERRIDES = {DS: "", FS: "%fs:", GS: "%gs:"}

_PREEMPT_DISABLE = """
    movl $-THREAD_SIZE, %edx
    andl %esp, %edx                         # thread_info stands at the low end of the stack
    incl TI_preempt_count(%edx)
"""
_PREEMPT_ENABLE_NO_RESCHED = """
    decl TI_preempt_count(%edx)
"""

_PENDING = f"PERCPU {VCPU_INFO_SYMBOL}"
_MASK = f"{_PENDING} + {VCPU_EVTCHN_UPCALL_MASK}"
_IF_IN_AH = 0x200 >> 8

#: Bodies without their ``ret``; PERCPU stands for the segment override. They keep every register but their result,
#: since the assembly sites of 2.6.20 do not save EAX, and check_events keeps all.
DIRECT_FORMS: Mapping[str, str] = MappingProxyType({
    "irq_disable": f"    movb $1, {_MASK}\n",
    # Unmask first and look after: an event that arrives in between is delivered by Xen itself.
    "irq_enable": f"""
    movb $0, {_MASK}
    testb $0xff, {_PENDING}
    jz 1f
    call {CHECK_EVENTS_SYMBOL}
1:
""",
    "save_fl": f"""
    testb $0xff, {_MASK}
    setz %ah
    addb %ah, %ah                           # X86_EFLAGS_IF is bit 1 of the second byte
""",
    "restore_fl": f"""
    testb ${_IF_IN_AH}, %ah
    setz {_MASK}
    cmpw ${PENDING_UNMASKED}, {_PENDING}
    jnz 1f
    call {CHECK_EVENTS_SYMBOL}
1:
""",
})

#: What 2.6.23 had, and was wrong: irq_enable reads and writes both bytes with one instruction, so that it overwrites
#: what another processor has set in between (fixed in 2.6.25); restore_fl asks Xen whenever it need not, and else does
#: not (fixed in 2012).
FORMS_2_6_23: Mapping[str, str] = MappingProxyType({
    "irq_enable": f"""
    andw $0x00ff, {_PENDING}
    jz 1f
    call {CHECK_EVENTS_SYMBOL}
1:
""",
    "restore_fl": DIRECT_FORMS["restore_fl"].replace("jnz", "jz"),
})

#: Bodies of ``irq_disable`` without their ``ret``, from the slowest to the one that patching makes possible.
#:
#: ``smp_processor_id``: the vcpu_info is looked up by CPU number, so preemption is held off meanwhile.
#: Symbols: THREAD_SIZE, TI_cpu, TI_preempt_count, and the pointer variable HYPERVISOR_shared_info.
#: ``per_cpu``: a per-CPU pointer (at %gs:xen_vcpu) finds it; two instructions, so preemption is held off too.
#: ``inline``: the vcpu_info lies in the per-CPU area itself (at %gs:xen_vcpu_info); one instruction.
IRQ_DISABLE_FORMS: Mapping[str, str] = MappingProxyType({
    "smp_processor_id": f"""{_PREEMPT_DISABLE}
    movl TI_cpu(%edx), %ecx                 # smp_processor_id()
    shll ${VCPU_INFO_SHIFT}, %ecx
    addl HYPERVISOR_shared_info, %ecx
    movb $1, {VCPU_EVTCHN_UPCALL_MASK}(%ecx)
{_PREEMPT_ENABLE_NO_RESCHED}""",
    "per_cpu": f"""{_PREEMPT_DISABLE}
    movl %gs:xen_vcpu, %ecx
    movb $1, {VCPU_EVTCHN_UPCALL_MASK}(%ecx)
{_PREEMPT_ENABLE_NO_RESCHED}""",
    "inline": DIRECT_FORMS["irq_disable"].replace("PERCPU ", "%gs:"),
})


def direct_text(text: str, segment: int = GS) -> str:
    """AT&T text of a direct form for a segment.

    Examples
    --------
    >>> direct_text(DIRECT_FORMS["irq_disable"], FS).strip()
    'movb $1, %fs:xen_vcpu_info + 1'
    """
    return text.replace("PERCPU ", _OVERRIDES[segment])


@dataclass(frozen=True, slots=True)
class DirectForm:
    """A direct form as assembled at address 0.

    Attributes
    ----------
    code : bytes
    reloc : int
        Where in it the distance of a call is, which is relative to its place; 0: there is none.
    """

    code: bytes
    reloc: int

    def at(self, address: int) -> bytes:
        """The code as it has to be at `address`.

        Examples
        --------
        >>> DirectForm(bytes.fromhex("7405e8f6ff0fc0"), 3).at(0xC0100000).hex()
        '7405e8f6ffffff'
        """
        if not self.reloc:
            return self.code
        end = self.reloc + 4
        distance = (int.from_bytes(self.code[self.reloc:end], "little") - address) % ADDRESS_END
        return self.code[:self.reloc] + distance.to_bytes(4, "little") + self.code[end:]


@cache
def direct_form(text: str, vcpu_info: int, check_events: int = 0, segment: int = GS) -> DirectForm:
    """Assemble a direct form.

    Parameters
    ----------
    text : str
        From `DIRECT_FORMS` or `FORMS_2_6_23`.
    vcpu_info : int
        Offset of the vcpu_info in the segment.
    check_events : int, optional
        Linear address of that function, for the forms that call it.
    segment : int, optional
        `GS`, `FS` or `DS`.

    Raises
    ------
    PatchError
        The vcpu_info does not lie in a 32-bit segment.

    Examples
    --------
    >>> direct_form(DIRECT_FORMS["irq_disable"], 0x20).code.hex(" ")
    '65 c6 05 21 00 00 00 01'
    >>> form = direct_form(DIRECT_FORMS["irq_enable"], 0x20, 0xC0200000, FS)
    >>> len(form.code), form.reloc, form.at(0xC0100000)[-5:].hex()
    (23, 19, 'e8e9ff0f00')
    """
    if not 0 <= vcpu_info <= ADDRESS_END - VCPU_INFO_BYTES:
        raise PatchError(f"{VCPU_INFO_SYMBOL} is {vcpu_info:#x}, no offset in a 32-bit segment")
    symbols = {VCPU_INFO_SYMBOL: vcpu_info, CHECK_EVENTS_SYMBOL: check_events}
    code = assemble(direct_text(text, segment), 0, symbols).code
    return DirectForm(code, len(code) - 4 if calls_check_events(text) else 0)


def calls_check_events(text: str) -> bool:
    """Whether a form ends in that call."""
    return CHECK_EVENTS_SYMBOL in text
