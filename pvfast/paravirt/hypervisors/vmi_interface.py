"""VMware's Virtual Machine Interface, ABI 3.0: numbers and layouts, nothing else.

Names and values are those of Linux 2.6.21 (asm-i386/vmi.h). The kernel finds an option ROM with the header below,
calls ``vmi_init`` in it, and asks ``get_reloc`` for each call what to do at its call sites. What the ROM and the
hypervisor agree on between themselves (the shared area, the trapping instruction) is theirs alone, and here it is
pvfast's. ``vmi_rom.py`` makes the ROM, ``vmi_host.pyx`` is what its calls trap to, ``vmi.py`` patches.
"""

import enum


class VmiCall(enum.IntEnum):
    """``VMI_CALL_*``: constants of C and of the assembler too, after their `prefix`."""

    @classmethod
    def prefix(cls) -> str:
        return "VMI_CALL_"

    CPUID = 0
    WRMSR = 1
    RDMSR = 2
    SetGDT = 3
    SetLDT = 4
    SetIDT = 5
    SetTR = 6
    GetGDT = 7
    GetLDT = 8
    GetIDT = 9
    GetTR = 10
    WriteGDTEntry = 11
    WriteLDTEntry = 12
    WriteIDTEntry = 13
    UpdateKernelStack = 14
    SetCR0 = 15
    SetCR2 = 16
    SetCR3 = 17
    SetCR4 = 18
    GetCR0 = 19
    GetCR2 = 20
    GetCR3 = 21
    GetCR4 = 22
    WBINVD = 23
    SetDR = 24
    GetDR = 25
    RDPMC = 26
    RDTSC = 27
    CLTS = 28
    EnableInterrupts = 29
    DisableInterrupts = 30
    GetInterruptMask = 31
    SetInterruptMask = 32
    IRET = 33
    SYSEXIT = 34
    Halt = 35
    Reboot = 36
    Shutdown = 37
    SetPxE = 38
    SetPxELong = 39
    UpdatePxE = 40
    UpdatePxELong = 41
    MachineToPhysical = 42
    PhysicalToMachine = 43
    AllocatePage = 44
    ReleasePage = 45
    InvalPage = 46
    FlushTLB = 47
    SetLinearMapping = 48
    SetIOPLMask = 61
    SetInitialAPState = 62
    APICWrite = 63
    APICRead = 64
    IODelay = 65
    GetCycleFrequency = 66
    GetCycleCounter = 67
    SetAlarm = 68
    CancelAlarm = 69
    GetWallclockTime = 70
    WallclockUpdated = 71
    SetLazyMode = 73


#: Calls are numbered from 0; ``vmi_init`` has a trap of its own behind them.
VMI_CALLS = 74
VMI_INIT = 74


class Reloc(enum.IntEnum):
    """``VMI_RELOCATION_*``: what `get_reloc` says about a call: EAX is the address, DL one of these."""

    @classmethod
    def prefix(cls) -> str:
        return "VMI_RELOCATION_"

    NONE = 0            # leave the native code
    CALL_REL = 1        # a call (E8)
    JUMP_REL = 2        # a jump (E9)
    NOP = 3             # nothing at all


# Flags of SetPxE and UpdatePxE, whose bits 31-12 are the linear address, and of AllocatePage and ReleasePage.
VMI_PAGE_PT = 1
VMI_PAGE_PD = 2
VMI_PAGE_CURRENT_AS = 0x10      # of a change in the address space that is running ...
VMI_PAGE_DEFER = 0x20           # ... which a flush will follow
VMI_PAGE_CLONE = 0x20           # of a new page: it is a copy of another
VMI_PAGE_VA_MASK = 0xFFFFF000

VMI_LAZY_NONE = 0
VMI_LAZY_MMU = 1
VMI_LAZY_CPU = 2

VMI_FLUSH_TLB = 1
VMI_FLUSH_GLOBAL = 2

# SetAlarm's flags: which counter, and again and again. GetCycleCounter takes the counter alone.
VMI_CYCLES_REAL = 0
VMI_CYCLES_AVAILABLE = 1
VMI_CYCLES_STOLEN = 2
VMI_ALARM_IS_PERIODIC = 0x100

# struct vrom_header, at the start of the ROM, and where a kernel looks for it.
VROM_FIRST = 0xC0000
VROM_END = 0xE0000
VROM_STEP = 2048
VROM_BYTES = 144
VROM_ROM_SIGNATURE = 0
VROM_ROM_LENGTH = 2             # in units of 512 bytes
VROM_ROM_ENTRY = 3
VROM_CHECKSUM = 7               # makes all bytes add up to 0, as of any option ROM
VROM_VROM_SIGNATURE = 8
VROM_API_VERSION_MIN = 12
VROM_API_VERSION_MAJ = 13
VROM_JUMP_SLOTS = 14
VROM_VIRTUAL_TOP = 16
VROM_LICENSE_OFFS = 22
VROM_PCI_HEADER_OFFS = 24
VROM_PNP_HEADER_OFFS = 26
VROM_VMI_INIT = 128
VROM_GET_RELOC = 136

ROM_SIGNATURE = 0xAA55
VMI_SIGNATURE = 0x696D5663      # "cVmi"
VMI_API_REV_MAJOR = 3
VMI_API_REV_MINOR = 0
PCI_VENDOR_ID_VMWARE = 0x15AD
PCI_DEVICE_ID_VMWARE_VMI = 0x0801

# --- Between the ROM and its hypervisor ------------------------------------------------------------------------------

# Where the ROM is: linked for a kernel that maps physical 0 at this address, as 32-bit Linux does.
LOWMEM_LINEAR = 0xC0000000
ROM_PHYSICAL = 0xC8000
ROM_BYTES = 4096
# One slot of code per call; the hypervisor tells the call from the slot that trapped.
ROM_SLOTS = 0x400
ROM_SLOT_BYTES = 32

# ``int $0x84`` in a slot enters the hypervisor: arguments in EAX, EDX, ECX and behind the return address on the
# stack, the answer in EAX or EDX:EAX. Elsewhere it is an interrupt like any other.
VMI_VECTOR = 0x84

# The area that ROM and hypervisor share, in the last page below 640 KiB, where a BIOS keeps its own data.
SHARED_PHYSICAL = 0x9F000
SHARED_IF = 0                   # the virtual interrupt flag: 0 or X86_EFLAGS_IF
SHARED_PENDING = 4              # not 0: an interrupt waits for the flag
SHARED_CR0 = 8
SHARED_CR2 = 12
SHARED_CR3 = 16
SHARED_CR4 = 20
SHARED_SYSEXIT_CS = 24          # what SYSEXIT loads, from the virtual MSR_IA32_SYSENTER_CS
SHARED_SYSEXIT_SS = 28
SHARED_LAZY = 32                # SetLazyMode's argument
SHARED_QUEUED = 36              # how many entries are in the queue
SHARED_QUEUE = 64               # in lazy MMU mode: value, where, flags, of SetPxE
SHARED_QUEUE_ENTRIES = 64
SHARED_QUEUE_ENTRY_BYTES = 12
#: A flag in the queue, of none that the kernel passes: UpdatePxE, which has no value.
QUEUED_UPDATE = 0x800
