"""Every paravirt operation, by kernel era: one declarative row per member; layout comes out.

Rows stand in the kernel's declaration order, so an offset is never written down: it follows from the order
and the configuration. A later era is another tuple in `_ERAS`. The patch types are in ``sites.py``; the guest
kernel takes its offsets from `Era.symbols`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pvfast.errors import PvfastError
from pvfast.paravirt.sites import PatchType

POINTER_BYTES = 4

#: The site that is two operations, ``save_fl`` and ``irq_disable``: its own type in 2.6.20 and 2.6.21.
FUSED = "save_fl_irq_disable"

#: Where ``-mregparm=3`` puts the first three argument words; more go to the stack.
ARGUMENT_REGISTERS = ("eax", "edx", "ecx")


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the table, before a configuration gives it an offset.

    Attributes
    ----------
    name : str
        The kernel's name.
    returns : str
        C type; ``""`` for a data member.
    arguments : tuple of str
        C types.
    group : str
        ``info`` (data), ``init``, ``time``, ``cpu``, ``irq``, ``exit``, ``msr``, ``desc``, ``misc``,
        ``apic``, ``tlb`` or ``pte``.
    patch_type : PatchType or None
        None: sites of this operation have no records.
    config : str
        ``"pae"`` or ``"apic"`` when it exists only there.
    """

    name: str
    returns: str
    arguments: tuple[str, ...]
    group: str
    patch_type: PatchType | None = None
    config: str = ""

    @property
    def is_data(self) -> bool:
        """Whether it is no function pointer."""
        return not self.returns


@dataclass(frozen=True, slots=True)
class Operation(Member):
    """A member with its place: `offset` in the structure, `argument_words` and `jumped_to`."""

    offset: int = 0
    argument_words: int = 0

    @property
    def jumped_to(self) -> bool:
        """Whether sites jump to it and it never returns."""
        return self.group == "exit"


@dataclass(frozen=True, slots=True)
class Era:
    """``struct paravirt_ops`` of one kernel release and configuration.

    Attributes
    ----------
    name : str
        The release.
    members : tuple of Operation
        Everything, data members included, in declaration order.

    Examples
    --------
    >>> linux = era("2.6.20")
    >>> linux.size, linux["irq_disable"].offset, linux["irq_disable"].patch_type.name
    (252, 104, 'IRQ_DISABLE')
    >>> linux.symbols()["PARAVIRT_iret"]
    248
    """

    name: str
    members: tuple[Operation, ...]

    @property
    def size(self) -> int:
        """Bytes of the structure."""
        return POINTER_BYTES * len(self.members)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The function pointers."""
        return tuple(member for member in self.members if not member.is_data)

    def __getitem__(self, name: str) -> Operation:
        for member in self.members:
            if member.name == name:
                return member
        raise PvfastError(f"Linux {self.name} has no operation {name!r} in this configuration")

    def site_operation(self, patch_type: int) -> str | None:
        """What sites of a type do: the name of an operation, or `FUSED`; None: no site has this type.

        Examples
        --------
        >>> era("2.6.20").site_operation(4), era("2.6.20").site_operation(5), era("2.6.20").site_operation(99)
        ('save_fl_irq_disable', 'iret', None)
        """
        if patch_type == PatchType.SAVE_FLAGS_IRQ_DISABLE:
            return FUSED
        return next((row.name for row in self.members if row.patch_type == patch_type), None)

    def symbols(self) -> Mapping[str, int]:
        """Offsets as the kernel's asm-offsets names them: ``PARAVIRT_irq_disable`` and so on."""
        return MappingProxyType({f"PARAVIRT_{member.name}": member.offset for member in self.members})

    def pointers(self, table: int) -> Mapping[str, int]:
        """Linear address of each function pointer when the structure is at `table`."""
        return MappingProxyType({row.name: table + row.offset for row in self.operations})


def _row(group: str, returns: str, name: str, *arguments: str, patch: PatchType | None = None,
         config: str = "") -> Member:
    return Member(name, returns, arguments, group, patch, config)


_DESCRIPTOR_WRITE = ("void *table", "int entry", "u32 low", "u32 high")

_LINUX_2_6_20 = (
    _row("info", "", "kernel_rpl"),
    _row("info", "", "paravirt_enabled"),
    _row("info", "", "name"),
    _row("init", "unsigned", "patch", "u8 type", "u16 clobber", "void *firstinsn", "unsigned len"),
    _row("init", "void", "arch_setup"),
    _row("init", "char *", "memory_setup"),
    _row("init", "void", "init_IRQ"),
    _row("init", "void", "banner"),
    _row("time", "unsigned long", "get_wallclock"),
    _row("time", "int", "set_wallclock", "unsigned long"),
    _row("time", "void", "time_init"),
    _row("cpu", "void", "cpuid", "unsigned *eax", "unsigned *ebx", "unsigned *ecx", "unsigned *edx"),
    _row("cpu", "unsigned long", "get_debugreg", "int regno"),
    _row("cpu", "void", "set_debugreg", "int regno", "unsigned long value"),
    _row("cpu", "void", "clts"),
    _row("cpu", "unsigned long", "read_cr0"),
    _row("cpu", "void", "write_cr0", "unsigned long"),
    _row("cpu", "unsigned long", "read_cr2"),
    _row("cpu", "void", "write_cr2", "unsigned long"),
    _row("cpu", "unsigned long", "read_cr3"),
    _row("cpu", "void", "write_cr3", "unsigned long"),
    _row("cpu", "unsigned long", "read_cr4_safe"),
    _row("cpu", "unsigned long", "read_cr4"),
    _row("cpu", "void", "write_cr4", "unsigned long"),
    _row("irq", "unsigned long", "save_fl", patch=PatchType.SAVE_FLAGS),
    _row("irq", "void", "restore_fl", "unsigned long", patch=PatchType.RESTORE_FLAGS),
    _row("irq", "void", "irq_disable", patch=PatchType.IRQ_DISABLE),
    _row("irq", "void", "irq_enable", patch=PatchType.IRQ_ENABLE),
    _row("irq", "void", "safe_halt"),
    _row("irq", "void", "halt"),
    _row("cpu", "void", "wbinvd"),
    _row("msr", "u64", "read_msr", "unsigned msr", "int *err"),
    _row("msr", "int", "write_msr", "unsigned msr", "u64 value"),
    _row("msr", "u64", "read_tsc"),
    _row("msr", "u64", "read_pmc"),
    _row("desc", "void", "load_tr_desc"),
    _row("desc", "void", "load_gdt", "const struct Xgt_desc_struct *"),
    _row("desc", "void", "load_idt", "const struct Xgt_desc_struct *"),
    _row("desc", "void", "store_gdt", "struct Xgt_desc_struct *"),
    _row("desc", "void", "store_idt", "struct Xgt_desc_struct *"),
    _row("desc", "void", "set_ldt", "const void *desc", "unsigned entries"),
    _row("desc", "unsigned long", "store_tr"),
    _row("desc", "void", "load_tls", "struct thread_struct *", "unsigned cpu"),
    _row("desc", "void", "write_ldt_entry", *_DESCRIPTOR_WRITE),
    _row("desc", "void", "write_gdt_entry", *_DESCRIPTOR_WRITE),
    _row("desc", "void", "write_idt_entry", *_DESCRIPTOR_WRITE),
    _row("cpu", "void", "load_esp0", "struct tss_struct *", "struct thread_struct *"),
    _row("cpu", "void", "set_iopl_mask", "unsigned mask"),
    _row("misc", "void", "io_delay"),
    _row("misc", "void", "const_udelay", "unsigned long loops"),
    _row("apic", "void", "apic_write", "unsigned long reg", "unsigned long v", config="apic"),
    _row("apic", "void", "apic_write_atomic", "unsigned long reg", "unsigned long v", config="apic"),
    _row("apic", "unsigned long", "apic_read", "unsigned long reg", config="apic"),
    _row("tlb", "void", "flush_tlb_user"),
    _row("tlb", "void", "flush_tlb_kernel"),
    _row("tlb", "void", "flush_tlb_single", "u32 addr"),
    _row("pte", "void", "set_pte", "pte_t *ptep", "pte_t pte"),
    _row("pte", "void", "set_pte_at", "struct mm_struct *", "u32 addr", "pte_t *ptep", "pte_t pte"),
    _row("pte", "void", "set_pmd", "pmd_t *pmdp", "pmd_t pmd"),
    _row("pte", "void", "pte_update", "struct mm_struct *", "u32 addr", "pte_t *ptep"),
    _row("pte", "void", "pte_update_defer", "struct mm_struct *", "u32 addr", "pte_t *ptep"),
    _row("pte", "void", "set_pte_atomic", "pte_t *ptep", "pte_t pte", config="pae"),
    _row("pte", "void", "set_pte_present", "struct mm_struct *", "u32 addr", "pte_t *ptep", "pte_t pte",
         config="pae"),
    _row("pte", "void", "set_pud", "pud_t *pudp", "pud_t pud", config="pae"),
    _row("pte", "void", "pte_clear", "struct mm_struct *", "u32 addr", "pte_t *ptep", config="pae"),
    _row("pte", "void", "pmd_clear", "pmd_t *pmdp", config="pae"),
    _row("exit", "void", "irq_enable_sysexit", patch=PatchType.STI_SYSEXIT),
    _row("exit", "void", "iret", patch=PatchType.INTERRUPT_RETURN),
)

_ERAS: Mapping[str, tuple[Member, ...]] = MappingProxyType({"2.6.20": _LINUX_2_6_20})

#: The releases that `era` knows.
ERAS = tuple(_ERAS)


def era(name: str, pae: bool = False, apic: bool = True) -> Era:
    """Lay out ``struct paravirt_ops`` of a release.

    Parameters
    ----------
    name : str
        One of `ERAS`.
    pae : bool, optional
        CONFIG_X86_PAE: 8-byte page-table entries.
    apic : bool, optional
        CONFIG_X86_LOCAL_APIC.

    Returns
    -------
    Era

    Raises
    ------
    PvfastError
        The release is not in the table.

    Examples
    --------
    >>> era("2.6.20", pae=True).size
    272
    >>> len(era("2.6.20", pae=True).operations)
    65
    """
    rows = _ERAS.get(name)
    if rows is None:
        raise PvfastError(f"no paravirt operations are recorded for Linux {name}: choose {' or '.join(ERAS)}")
    configured = {"": True, "pae": pae, "apic": apic}
    present = [row for row in rows if configured[row.config]]
    return Era(name, tuple(
        Operation(row.name, row.returns, row.arguments, row.group, row.patch_type, row.config,
                  index * POINTER_BYTES, sum(_words(argument, pae) for argument in row.arguments))
        for index, row in enumerate(present)
    ))


def _words(argument: str, pae: bool) -> int:
    is_entry = argument.split()[0] in ("pte_t", "pmd_t", "pud_t")
    return 2 if "*" not in argument and (argument.startswith("u64") or (pae and is_entry)) else 1
