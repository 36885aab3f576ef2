"""The VMI option ROM: the calls as assembly text go in, the ROM's bytes and what `get_reloc` answers come out.

Masking interrupts, reading control registers and leaving the kernel need no trap: the ROM's code works on the area
that it shares with the hypervisor. That is VMI's point: such a call costs a call. In lazy MMU
mode, changes of page tables wait in a queue there. Everything else is
``int $VMI_VECTOR`` in a slot of its own. A slot destroys no register but those of its result, and those of
SetInterruptMask's argument, so that a call may stand alone in a patch site. Next: ``vmi_host.pyx``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from pvfast.assembly import Assembler
from pvfast.errors import ImageError
from pvfast.paravirt.hypervisors import vmi_interface
from pvfast.paravirt.hypervisors.vmi_interface import Reloc, VmiCall
from pvfast.paravirt.sites import CLBR_EAX, CLBR_NONE

_TRAP = "int $VMI_VECTOR; ret"
_ADDRESSED = (Reloc.CALL_REL, Reloc.JUMP_REL)
_CALLS: Mapping[int, VmiCall] = MappingProxyType({int(call): call for call in VmiCall})

#: What is in the slot of a call. %ss: because the entry code of the kernel calls with the user's data segments.
#:
#: The real EFLAGS.IF is always set outside ring 0, so what counts is the word SHARED_IF. A trap behind the word's
#: change delivers what waits. IRET leaves the frame where it is until its last instruction: an interrupt before that
#: nests, as one before a real IRET.
_SLOTS: Mapping[VmiCall, tuple[Reloc, str]] = MappingProxyType({
    VmiCall.CPUID: (Reloc.CALL_REL, "cpuid; ret"),
    VmiCall.GetTR: (Reloc.CALL_REL, "xorl %eax, %eax; str %ax; ret"),
    VmiCall.GetCR0: (Reloc.CALL_REL, "movl %ss:SHARED + SHARED_CR0, %eax; ret"),
    VmiCall.GetCR2: (Reloc.CALL_REL, "movl %ss:SHARED + SHARED_CR2, %eax; ret"),
    VmiCall.GetCR3: (Reloc.CALL_REL, "movl %ss:SHARED + SHARED_CR3, %eax; ret"),
    VmiCall.GetCR4: (Reloc.CALL_REL, "movl %ss:SHARED + SHARED_CR4, %eax; ret"),
    VmiCall.RDTSC: (Reloc.CALL_REL, "rdtsc; ret"),
    VmiCall.DisableInterrupts: (Reloc.CALL_REL, "movl $0, %ss:SHARED + SHARED_IF; ret"),
    VmiCall.EnableInterrupts: (Reloc.CALL_REL, """
        movl $X86_EFLAGS_IF, %ss:SHARED + SHARED_IF
        cmpl $0, %ss:SHARED + SHARED_PENDING
        jne 1f
        ret
1:      int $VMI_VECTOR
        ret"""),
    VmiCall.GetInterruptMask: (Reloc.CALL_REL, "movl %ss:SHARED + SHARED_IF, %eax; ret"),
    VmiCall.SetInterruptMask: (Reloc.CALL_REL, """
        andl $X86_EFLAGS_IF, %eax
        movl %eax, %ss:SHARED + SHARED_IF
        je 1f
        cmpl $0, %ss:SHARED + SHARED_PENDING
        jne 2f
1:      ret
2:      int $VMI_VECTOR
        ret"""),
    VmiCall.IRET: (Reloc.JUMP_REL, """
        pushl %eax
        movl 12(%esp), %eax
        andl $X86_EFLAGS_IF, %eax
        movl %eax, %ss:SHARED + SHARED_IF
        je 1f
        cmpl $0, %ss:SHARED + SHARED_PENDING
        je 1f
        int $VMI_VECTOR
1:      popl %eax
        iret"""),
    VmiCall.SYSEXIT: (Reloc.JUMP_REL, """
        pushl %ss:SHARED + SHARED_SYSEXIT_SS
        pushl %ecx
        pushfl
        pushl %ss:SHARED + SHARED_SYSEXIT_CS
        pushl %edx
        jmp slot_33"""),
    VmiCall.APICWrite: (Reloc.CALL_REL, "ret"),
    VmiCall.APICRead: (Reloc.CALL_REL, "xorl %eax, %eax; ret"),
    VmiCall.IODelay: (Reloc.NOP, "ret"),
    VmiCall.SetLazyMode: (Reloc.CALL_REL, """
        movl %eax, SHARED + SHARED_LAZY
        cmpl $0, SHARED + SHARED_QUEUED
        jne 1f
        ret
1:      int $VMI_VECTOR
        ret"""),
    VmiCall.SetPxE: (Reloc.CALL_REL, """
        cmpl $VMI_LAZY_MMU, SHARED + SHARED_LAZY
        je queue_entry
set_entry:
        int $VMI_VECTOR
        ret"""),
    VmiCall.UpdatePxE: (Reloc.CALL_REL, """
        cmpl $VMI_LAZY_MMU, SHARED + SHARED_LAZY
        jne 1f
        movl %edx, %ecx
        orl $QUEUED_UPDATE, %ecx
        movl %eax, %edx
        jmp queue_entry
1:      int $VMI_VECTOR
        ret"""),
    **dict.fromkeys((
        VmiCall.SetGDT, VmiCall.SetLDT, VmiCall.SetIDT, VmiCall.SetTR, VmiCall.GetGDT, VmiCall.GetLDT, VmiCall.GetIDT,
        VmiCall.WriteGDTEntry, VmiCall.WriteLDTEntry, VmiCall.WriteIDTEntry, VmiCall.UpdateKernelStack,
        VmiCall.SetCR0, VmiCall.SetCR2, VmiCall.SetCR3, VmiCall.SetCR4, VmiCall.WBINVD, VmiCall.SetDR, VmiCall.GetDR,
        VmiCall.CLTS, VmiCall.Halt, VmiCall.Reboot, VmiCall.Shutdown,
        VmiCall.AllocatePage, VmiCall.ReleasePage, VmiCall.InvalPage, VmiCall.FlushTLB, VmiCall.SetLinearMapping,
        VmiCall.SetIOPLMask, VmiCall.GetCycleFrequency, VmiCall.GetCycleCounter, VmiCall.SetAlarm,
        VmiCall.CancelAlarm, VmiCall.GetWallclockTime, VmiCall.WallclockUpdated,
    ), (Reloc.CALL_REL, _TRAP)),
})

#: What a call destroys, where a patch site cares.
_DESTROYS: Mapping[VmiCall, int] = MappingProxyType({
    VmiCall.DisableInterrupts: CLBR_NONE,
    VmiCall.EnableInterrupts: CLBR_NONE,
    VmiCall.GetInterruptMask: CLBR_EAX,
    VmiCall.SetInterruptMask: CLBR_EAX,
})

_HEADER = """
rom:
    .word ROM_SIGNATURE
    .byte ROM_BYTES / 512
    .byte 0xcb, 0, 0, 0                 # lret: the BIOS has nothing to do here
    .byte 0                             # the checksum
    .long VMI_SIGNATURE
    .byte VMI_API_REV_MINOR, VMI_API_REV_MAJOR
    .byte VMI_CALLS, 0                  # jump_slots
    .long 0                             # virtual_top: nothing is taken from the linear address space
    .word 0
    .word license - rom, pci_header - rom, 0
    .long 0
    .fill 96, 1, 0
    jmp vmi_init                        # at VROM_VMI_INIT, eight bytes
    .balign 8
    jmp get_reloc
    .balign 8
pci_header:
    .ascii "PCIR"
    .word PCI_VENDOR_ID_VMWARE, PCI_DEVICE_ID_VMWARE_VMI
    .word 0, 24                         # vital product data; length of this structure
    .byte 0, 0, 0, 0xff                 # revision; class
    .word ROM_BYTES / 512, 0            # length; level of the code
    .byte 0, 0x80                       # of a PC; the last image
    .word 0
license:
    .asciz "GPL"

/* Out of ring 0, if this is the place the ROM was linked for; EAX: 0, or not. */
vmi_init:
    call 1f
1:  popl %eax
    cmpl $1b, %eax
    je slot_74
    orl $-1, %eax
    ret

/* (EAX: call); EAX is the address, DL the type. */
get_reloc:
    cmpl $VMI_CALLS, %eax
    jae 1f
    movl relocations + 4(,%eax,8), %edx
    movl relocations(,%eax,8), %eax
    ret
1:  xorl %eax, %eax
    xorl %edx, %edx
    ret

/* (EAX: value, EDX: where, ECX: flags). Any trap works off the queue; there is one at once when it is full. */
queue_entry:
    pushl %ebx
    movl SHARED + SHARED_QUEUED, %ebx
    cmpl $SHARED_QUEUE_ENTRIES, %ebx
    jae 1f
    leal (%ebx,%ebx,2), %ebx
    movl %eax, SHARED + SHARED_QUEUE(,%ebx,4)
    movl %edx, SHARED + SHARED_QUEUE + 4(,%ebx,4)
    movl %ecx, SHARED + SHARED_QUEUE + 8(,%ebx,4)
    incl SHARED + SHARED_QUEUED
    popl %ebx
    ret
1:  popl %ebx
    jmp set_entry
"""


@dataclass(frozen=True)
class Rom:
    """The ROM.

    Attributes
    ----------
    code : bytes
        `vmi_interface.ROM_BYTES` of them, for physical `vmi_interface.ROM_PHYSICAL`.
    relocations : mapping of VmiCall to (Reloc, int)
        What `get_reloc` answers: type and linear address.
    """

    code: bytes
    relocations: Mapping[VmiCall, tuple[Reloc, int]]

    def destroys(self, call: VmiCall) -> int:
        """``CLBR_*`` bits of a call that patch sites of the flags are replaced by."""
        return _DESTROYS[call]


@cache
def rom() -> Rom:
    """Assemble the ROM; the result is cached.

    Raises
    ------
    ImageError
        A slot is too long.

    Examples
    --------
    >>> made = rom()
    >>> made.code[:2].hex(), made.code[8:12], sum(made.code) % 256
    ('55aa', b'cVmi', 0)
    >>> kind, address = made.relocations[VmiCall.IRET]
    >>> kind.name, hex(address)
    ('JUMP_REL', '0xc00c8820')
    """
    base = vmi_interface.LOWMEM_LINEAR + vmi_interface.ROM_PHYSICAL
    numbers = {name: value for name, value in vars(vmi_interface).items() if name.isupper() and type(value) is int}
    shared = vmi_interface.LOWMEM_LINEAR + vmi_interface.SHARED_PHYSICAL
    assembler = Assembler({**numbers, "SHARED": shared, "X86_EFLAGS_IF": 0x200})
    assembler.add(_HEADER + _table() + _slots(), "vmi_rom")
    program = assembler.link({".text": base, ".slots": base + vmi_interface.ROM_SLOTS})
    labels = program.labels
    for number in range(vmi_interface.VMI_INIT + 1):
        if labels[f"slot_{number}"] != base + vmi_interface.ROM_SLOTS + number * vmi_interface.ROM_SLOT_BYTES:
            raise ImageError(f"the ROM's code for call {number - 1} does not fit its slot")
    code = bytearray(vmi_interface.ROM_BYTES)
    for section in program.sections.values():
        code[section.address - base:section.end - base] = section.code
    code[vmi_interface.VROM_CHECKSUM] = -sum(code) % 256
    return Rom(bytes(code), MappingProxyType({
        call: (_kind(call), labels[f"slot_{int(call)}"] if _kind(call) in _ADDRESSED else 0) for call in VmiCall
    }))


def _slot(number: int) -> tuple[Reloc, str]:
    call = _CALLS.get(number)
    return (Reloc.NONE, "ud2") if call is None else _SLOTS.get(call, (Reloc.NONE, "ud2"))


def _kind(number: int) -> Reloc:
    return _slot(number)[0]


def _table() -> str:
    """What `get_reloc` answers, as 64-bit numbers."""
    rows = [f"    .long {f'slot_{number}' if _kind(number) in _ADDRESSED else 0}, {int(_kind(number))}\n"
            for number in range(vmi_interface.VMI_CALLS)]
    return "relocations:\n" + "".join(rows)


def _slots() -> str:
    text = ".section .slots\n"
    for number in range(vmi_interface.VMI_CALLS):
        body = _slot(number)[1].replace(";", "\n")
        text += f"slot_{number}:\n{body}\n.balign ROM_SLOT_BYTES\n"
    return f"{text}slot_{vmi_interface.VMI_INIT}:\nint $VMI_VECTOR\nret\n"
