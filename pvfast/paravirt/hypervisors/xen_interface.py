"""Xen's 32-bit paravirtual interface: numbers and layouts, nothing else.

Names and values are those of Xen's public headers (xen.h, arch-x86/xen-x86_32.h, sched.h, vcpu.h, elfnote.h)
as Linux 2.6.23 uses them. Offsets are in bytes; 64-bit fields are aligned to 4. ``xen.py`` patches with them,
and the side of Xen inside the core serves them.
"""

import enum
from enum import IntFlag

#: ``int $0x82`` enters Xen; the number is in EAX, arguments in the registers below, the result in EAX.
HYPERCALL_VECTOR = 0x82
HYPERCALL_ARGUMENTS = ("ebx", "ecx", "edx", "esi", "edi")
HYPERCALL_PAGE_BYTES = 4096
HYPERCALL_ENTRY_BYTES = 32


class IntEnum(enum.IntEnum):
    """An enumeration whose members are C constants too, after its `prefix`."""

    @classmethod
    def prefix(cls) -> str:
        return f"{cls.__name__.upper()}_"


class Hypercall(IntEnum):
    """``__HYPERVISOR_*``."""

    SET_TRAP_TABLE = 0
    MMU_UPDATE = 1
    SET_GDT = 2
    STACK_SWITCH = 3
    SET_CALLBACKS = 4
    FPU_TASKSWITCH = 5
    SCHED_OP_COMPAT = 6
    DOM0_OP = 7
    SET_DEBUGREG = 8
    GET_DEBUGREG = 9
    UPDATE_DESCRIPTOR = 10
    MEMORY_OP = 12
    MULTICALL = 13
    UPDATE_VA_MAPPING = 14
    SET_TIMER_OP = 15
    EVENT_CHANNEL_OP_COMPAT = 16
    XEN_VERSION = 17
    CONSOLE_IO = 18
    PHYSDEV_OP_COMPAT = 19
    GRANT_TABLE_OP = 20
    VM_ASSIST = 21
    UPDATE_VA_MAPPING_OTHERDOMAIN = 22
    IRET = 23
    VCPU_OP = 24
    SET_SEGMENT_BASE = 25
    MMUEXT_OP = 26
    ACM_OP = 27
    NMI_OP = 28
    SCHED_OP = 29
    CALLBACK_OP = 30
    XENOPROF_OP = 31
    EVENT_CHANNEL_OP = 32
    PHYSDEV_OP = 33
    HVM_OP = 34


class MmuExt(IntEnum):
    """``MMUEXT_*``: commands of `Hypercall.MMUEXT_OP`."""

    PIN_L1_TABLE = 0
    PIN_L2_TABLE = 1
    PIN_L3_TABLE = 2
    PIN_L4_TABLE = 3
    UNPIN_TABLE = 4
    NEW_BASEPTR = 5
    TLB_FLUSH_LOCAL = 6
    INVLPG_LOCAL = 7
    TLB_FLUSH_MULTI = 8
    INVLPG_MULTI = 9
    TLB_FLUSH_ALL = 10
    INVLPG_ALL = 11
    FLUSH_CACHE = 12
    SET_LDT = 13
    NEW_USER_BASEPTR = 15


class MmuUpdate(IntEnum):
    """``MMU_*``: the low two bits of an mmu_update entry's ptr; an entry is {u64 ptr, u64 val}."""

    NORMAL_PT_UPDATE = 0
    MACHPHYS_UPDATE = 1


class SchedOp(IntEnum):
    """``SCHEDOP_*``."""

    YIELD = 0
    BLOCK = 1
    SHUTDOWN = 2
    POLL = 3


class VcpuOp(IntEnum):
    """``VCPUOP_*``."""

    INITIALISE = 0
    UP = 1
    DOWN = 2
    IS_UP = 3
    GET_RUNSTATE_INFO = 4
    REGISTER_RUNSTATE = 5
    SET_PERIODIC_TIMER = 6
    STOP_PERIODIC_TIMER = 7
    SET_SINGLESHOT_TIMER = 8
    STOP_SINGLESHOT_TIMER = 9
    REGISTER_VCPU_INFO = 10


class UpdateVa(IntEnum):
    """``UVMF_*``: flags of `Hypercall.UPDATE_VA_MAPPING`, the kind of flush in the low two bits."""

    NONE = 0
    TLB_FLUSH = 1
    INVLPG = 2
    FLUSH_MASK = 3


class EventOp(IntEnum):
    """``EVTCHNOP_*``: commands of `Hypercall.EVENT_CHANNEL_OP`."""

    BIND_INTERDOMAIN = 0
    BIND_VIRQ = 1
    BIND_PIRQ = 2
    CLOSE = 3
    SEND = 4
    STATUS = 5
    ALLOC_UNBOUND = 6
    BIND_IPI = 7
    BIND_VCPU = 8
    UNMASK = 9


class EventStatus(IntEnum):
    """``EVTCHNSTAT_*``: what `EventOp.STATUS` answers."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5


class Virq(IntEnum):
    """``VIRQ_*``: virtual interrupts, as many as `VIRQS`."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2


class Physdev(IntEnum):
    """``PHYSDEVOP_*``."""

    SET_IOPL = 6
    SET_IOBITMAP = 7


class Shutdown(IntEnum):
    """``SHUTDOWN_*``: why a domain ended."""

    POWEROFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3


class XenVersion(IntEnum):
    """``XENVER_*``: commands of `Hypercall.XEN_VERSION`."""

    VERSION = 0
    EXTRAVERSION = 1
    PLATFORM_PARAMETERS = 5
    GET_FEATURES = 6
    PAGESIZE = 7


class ConsoleIo(IntEnum):
    """``CONSOLEIO_*``."""

    WRITE = 0
    READ = 1


class Domid(IntEnum):
    """``DOMID_*``: domains that are named by what they are."""

    SELF = 0x7FF0


class Errno(IntEnum):
    """Errors that hypercalls answer, negated; Xen's are Linux's."""

    PERM = 1
    NOENT = 2
    FAULT = 14
    EXIST = 17
    INVAL = 22
    NOSPC = 28
    NOSYS = 38
    TIME = 62


class VmAssist(IntEnum):
    """``VMASST_TYPE_*``."""

    SEGMENTS_4GB = 0
    SEGMENTS_4GB_NOTIFY = 1
    WRITABLE_PAGETABLES = 2
    PAE_EXTENDED_CR3 = 3


class StartFlag(IntFlag):
    """``SIF_*``: start_info.flags."""

    PRIVILEGED = 1
    INITDOMAIN = 2


class ElfNote(IntEnum):
    """``XEN_ELFNOTE_*``; the notes' owner is "Xen"."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11


# struct vcpu_info. A set mask means no upcall, the opposite sense of EFLAGS.IF; read as one word, the two
# bytes are PENDING_UNMASKED when an event waits and may be delivered.
VCPU_INFO_BYTES = 64
VCPU_INFO_SHIFT = 6
VCPU_EVTCHN_UPCALL_PENDING = 0
VCPU_EVTCHN_UPCALL_MASK = 1
VCPU_EVTCHN_PENDING_SEL = 4
VCPU_ARCH_CR2 = 8
VCPU_TIME = 32
VCPU_TIME_VERSION = 32
VCPU_TIME_TSC_TIMESTAMP = 40
VCPU_TIME_SYSTEM_TIME = 48
VCPU_TIME_TSC_TO_SYSTEM_MUL = 56
VCPU_TIME_TSC_SHIFT = 60
PENDING_UNMASKED = 0x0001

# struct shared_info.
SHARED_INFO_BYTES = 2328
SHARED_VCPU_INFO = 0
MAX_VIRT_CPUS = 32
SHARED_EVTCHN_PENDING = 2048
SHARED_EVTCHN_MASK = 2176
EVENT_CHANNELS = 1024
SHARED_WC_VERSION = 2304
SHARED_WC_SEC = 2308
SHARED_WC_NSEC = 2312
SHARED_ARCH = 2316
SHARED_ARCH_MAX_PFN = 2316
SHARED_ARCH_PFN_TO_MFN_FRAME_LIST_LIST = 2320
SHARED_ARCH_NMI_REASON = 2324

# struct start_info; its virtual address is in ESI at entry.
START_INFO_MAGIC = 0
START_INFO_MAGIC_BYTES = 32
START_INFO_NR_PAGES = 32
START_INFO_SHARED_INFO = 36
START_INFO_FLAGS = 40
START_INFO_STORE_MFN = 44
START_INFO_STORE_EVTCHN = 48
START_INFO_CONSOLE_MFN = 52
START_INFO_CONSOLE_EVTCHN = 56
START_INFO_PT_BASE = 60
START_INFO_NR_PT_FRAMES = 64
START_INFO_MFN_LIST = 68
START_INFO_MOD_START = 72
START_INFO_MOD_LEN = 76
START_INFO_CMD_LINE = 80
START_INFO_CMD_LINE_BYTES = 1024
XEN_MAGIC = b"xen-3.0"

VIRQS = 24

# Flat segments that Xen keeps in every guest's GDT, and where its part of the GDT begins.
FLAT_RING1_CS = 0xE019
FLAT_RING1_DS = 0xE021
FLAT_RING1_SS = 0xE021
FLAT_RING3_CS = 0xE02B
FLAT_RING3_DS = 0xE033
FLAT_RING3_SS = 0xE033
FIRST_RESERVED_GDT_PAGE = 14
GDT_ENTRIES_PER_PAGE = 512
HYPERVISOR_VIRT_START = 0xFC000000
HYPERVISOR_VIRT_START_PAE = 0xF5800000

# struct trap_info {u8 vector, u8 flags, u16 cs, u32 address}: flags are the DPL, and TRAP_DISABLE_EVENTS.
TRAP_INFO_BYTES = 8
TRAP_VECTORS = 256
TRAP_INFO_VECTOR = 0
TRAP_INFO_FLAGS = 1
TRAP_INFO_CS = 2
TRAP_INFO_ADDRESS = 4
TRAP_DPL_MASK = 3
TRAP_DISABLE_EVENTS = 4

# struct multicall_entry {op, result, args[6]} and struct mmu_update {u64 ptr, u64 val}.
MULTICALL_ENTRY_BYTES = 32
MULTICALL_OP = 0
MULTICALL_RESULT = 4
MULTICALL_ARGS = 8
MULTICALL_ARG_COUNT = 6
MMU_UPDATE_BYTES = 16
MMUEXT_OP_BYTES = 12

# struct sched_poll {evtchn_port_t *ports, u32 nr_ports, u64 timeout}; flag of struct vcpu_set_singleshot_timer.
MAX_POLL_PORTS = 128
VCPU_SSHOTTMR_FUTURE = 1

#: Before CPUID: asks Xen for its answer instead of the processor's (``ud2a; .ascii "xen"``).
EMULATE_PREFIX = bytes.fromhex("0f0b78656e")


def hypercall_entry(number: int) -> bytes:
    """Code of one entry of the hypercall page, without its padding.

    Xen fills the page, so its bytes are Xen's business: these are assumed, not taken from Xen's source. The
    iret entry keeps EAX for Xen to restore and does not return.

    Examples
    --------
    >>> hypercall_entry(Hypercall.SCHED_OP).hex()
    'b81d000000cd82c3'
    >>> hypercall_entry(Hypercall.IRET).hex()
    '50b817000000cd82'
    """
    call = b"\xb8" + int(number).to_bytes(4, "little") + bytes((0xCD, HYPERCALL_VECTOR))
    return b"\x50" + call if number == Hypercall.IRET else call + b"\xc3"
