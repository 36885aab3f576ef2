"""lhype's interface, which is lguest's of Linux 2.6.23, and what 2.6.31 made of it: numbers and layouts, nothing else.

Names and values are those of include/linux/lguest.h and lguest_launcher.h, offsets are in bytes. ``lhype.py`` patches
with them, ``lhype_host.pyx`` serves them, the guest's ``lhype_*.S`` are assembled with those of 2.6.23. Names that end
in ``_2_6_31`` are what that release has instead.
"""

import enum

#: ``int $0x1f`` enters the host; the number is in EAX, arguments in the registers below, the result in EAX.
LGUEST_TRAP_ENTRY = 0x1F
LHCALL_ARGUMENTS = ("edx", "ebx", "ecx")
LHCALL_ARGUMENTS_2_6_31 = ("ebx", "ecx", "edx")

#: The launcher searches the kernel for this and enters behind it.
LGUEST_SIGNATURE = b"GenuineLguest"

#: The ring of the guest kernel.
GUEST_PL = 1


class IntEnum(enum.IntEnum):
    """An enumeration whose members are C constants too, after its `prefix`."""

    @classmethod
    def prefix(cls) -> str:
        return f"{cls.__name__.upper()}_"


class Lhcall(IntEnum):
    """``LHCALL_*``. 2.6.31 has the last three, and neither LOAD_GDT nor the DMA; its CRASH is called SHUTDOWN."""

    FLUSH_ASYNC = 0
    LGUEST_INIT = 1
    CRASH = 2
    LOAD_GDT = 3
    NEW_PGTABLE = 4
    FLUSH_TLB = 5
    LOAD_IDT_ENTRY = 6
    SET_STACK = 7
    TS = 8
    SET_CLOCKEVENT = 9
    HALT = 10
    BIND_DMA = 12
    SEND_DMA = 13
    SET_PTE = 14
    SET_PMD = 15
    LOAD_TLS = 16
    NOTIFY = 17
    LOAD_GDT_ENTRY = 18
    SEND_INTERRUPTS = 19


class Killed(IntEnum):
    """Why the host ended a guest: ``kill_guest``'s messages as numbers, which are this project's own."""

    CRASH = 0                       # the guest asked for it
    BAD_HYPERCALL = 1               # no such number, or one in the wrong state
    BAD_ADDRESS = 2                 # an argument points outside the guest's memory
    BAD_PAGE_DIRECTORY_ENTRY = 3    # flags that are not _PAGE_TABLE's, or no frame of the guest's
    BAD_PAGE_TABLE_ENTRY = 4        # PWT or PSE, or no frame of the guest's
    BAD_GDT = 5                     # too many entries
    BAD_IDT_TYPE = 6                # neither an interrupt nor a trap gate
    BAD_STACK = 7                   # not of ring 1, or more than two pages
    UNHANDLED_TRAP = 8              # the guest has no handler, or its stack is not mapped


# struct lguest_data. irq_enabled has the sense of EFLAGS.IF, and only that bit counts.
LGUEST_DATA_IRQ_ENABLED = 0
LGUEST_DATA_BLOCKED_INTERRUPTS = 4
LGUEST_DATA_CR2 = 8
LGUEST_DATA_TIME_SEC = 12
LGUEST_DATA_TIME_NSEC = 16
LGUEST_DATA_HCALL_STATUS = 20
LGUEST_DATA_HCALLS = 84
LGUEST_DATA_RESERVE_MEM = 1108
LGUEST_DATA_GUESTID = 1112
LGUEST_DATA_TSC_KHZ = 1116
LGUEST_DATA_NOIRQ_START = 1120
LGUEST_DATA_NOIRQ_END = 1124
LGUEST_DATA_BYTES = 1128

# The same in 2.6.31: irq_pending is X86_EFLAGS_IF when an interrupt waits for the guest to enable interrupts.
LGUEST_DATA_IRQ_PENDING_2_6_31 = 20
LGUEST_DATA_HCALL_STATUS_2_6_31 = 24
LGUEST_DATA_HCALLS_2_6_31 = 88
LGUEST_DATA_RESERVE_MEM_2_6_31 = 1368
LGUEST_DATA_TSC_KHZ_2_6_31 = 1372
LGUEST_DATA_PGDIR_2_6_31 = 1376
LGUEST_DATA_NOIRQ_START_2_6_31 = 1380
LGUEST_DATA_NOIRQ_END_2_6_31 = 1384
LGUEST_DATA_KERNEL_ADDRESS_2_6_31 = 1388
LGUEST_DATA_SYSCALL_VEC_2_6_31 = 1392
LGUEST_DATA_BYTES_2_6_31 = 1396

# The ring of asynchronous hypercalls: a status byte each, and struct hcall_ring {eax, edx, ebx, ecx}, in 2.6.31 struct
# hcall_args, the number and four arguments.
LHCALL_RING_SIZE = 64
LHCALL_ENTRY_BYTES = 16
LHCALL_ENTRY_BYTES_2_6_31 = 20
LHCALL_PENDING = 0
LHCALL_DONE = 0xFF

#: Bit n of blocked_interrupts is vector FIRST_EXTERNAL_VECTOR + n.
LGUEST_IRQS = 32
#: Pages of a kernel stack that LHCALL_SET_STACK may ask for.
LGUEST_STACK_PAGES = 2
#: Bytes of the message of LHCALL_CRASH.
LGUEST_CRASH_BYTES = 128

# struct lguest_dma {u32 used_len; u32 addr[16]; u16 len[16]}: what LHCALL_SEND_DMA sends, to the key of a device.
LGUEST_DMA_ADDR = 4
LGUEST_DMA_LEN = 68
LGUEST_MAX_DMA_SECTIONS = 16
LGUEST_CONSOLE_DMA_KEY = 0

# Of the boot parameters, at physical 0: the number of entries of the memory map, and the first entry, {u64 addr,
# u64 size, u32 type} (Documentation/i386/zero-page.txt).
BOOT_PARAMS_BYTES = 4096
BOOT_E820_MAP_NR = 0x1E8
BOOT_E820_MAP = 0x2D0
BOOT_E820_SIZE = BOOT_E820_MAP + 8
E820_RAM = 1

# The guest's GDT: 32 entries as in 2.6.20, of which the host takes the three for thread-local storage by themselves.
LGUEST_GDT_ENTRIES = 32
LGUEST_GDT_TLS_MIN = 6
LGUEST_GDT_TLS_ENTRIES = 3
LGUEST_KERNEL_CS = 0x60
LGUEST_KERNEL_DS = 0x68
