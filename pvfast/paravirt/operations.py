"""Every paravirt operation, by kernel era: one declarative row per member; layout and patch types come out.

The rows of 2.6.20 stand in the kernel's declaration order; a later era is written as what it changes. So an offset is
never written down: it follows from order and configuration, and from 2.6.22 on so does a patch type. Next:
``shapes.py``, the call sites of an era; the guest kernel takes its offsets from `Era.symbols`.

Sources, each read: include/asm-i386/paravirt.h of 2.6.20 to 2.6.23, include/asm-x86/paravirt.h of 2.6.24,
arch/x86/include/asm/paravirt.h of 2.6.31, arch/x86/include/asm/paravirt_types.h of 5.2 and 6.1. x86-64 has the
operations from 2.6.25 on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from itertools import groupby
from types import MappingProxyType

from pvfast.errors import PvfastError
from pvfast.paravirt.sites import CLBR_ANY, CLBR_EDI, PatchType

#: The site that is two operations, ``save_fl`` and ``irq_disable``: its own type in 2.6.20 and 2.6.21.
FUSED = "save_fl_irq_disable"
FUSED_PARTS = ("save_fl", "irq_disable")

#: Where ``-mregparm=3`` puts the first three argument words; more go to the stack.
ARGUMENT_REGISTERS = ("eax", "edx", "ecx")

#: The registers that any call destroys on x86-64, one bit each.
_CLBR_ANY_64 = 0x1FF

#: The one structure of all operations, until 2.6.23.
ONE_STRUCTURE = "paravirt_ops"
#: From 2.6.24 on the data members are a structure of their own, which is not numbered.
INFO_STRUCTURE = "pv_info"


class Convention(Enum):
    """How call sites are made, recorded and numbered: what changes at once in all of them."""

    #: 2.6.20 and 2.6.21: seven kinds of site have records, with types that are constants.
    CONSTANT_TYPES = "constant types"
    #: From 2.6.22: every call is a site, and its type is the offset of its member in words.
    OFFSET_TYPES = "offset types"
    #: From 2.6.30: as before, and the operations on the flags keep all registers but the result's, so that their sites
    #: are a bare call.
    CALLEE_SAVE = "callee-save"


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
        What it is about: ``info`` (data), ``init``, ``time``, ``cpu``, ``irq``, ``exit``, ``msr``, ``desc``, ``misc``,
        ``apic``, ``tlb``, ``pte`` or ``lock``.
    patch_type : int or None
        None: sites of this operation have no records.
    config : str
        When it exists only there: ``"pae"``, ``"apic"``, ``"highpte"``, ``"x86-64"``, ``"levels3"``, ``"levels4"``,
        ``"levels5"`` (so many levels of page tables or more), ``"xxl"`` (CONFIG_PARAVIRT_XXL).
    structure : str
        The kernel's structure that it is a member of.
    plain : bool
        Whether the kernel calls it without a record, whatever the era: at boot, or where no site was ever made.
    member : str
        Its name in the structure, where `name` is not: two structures have a member ``lazy_mode``.
    callee_save : bool
        Whether it keeps all registers but the result's (``struct paravirt_callee_save``).
    formerly : str
        Its name in the eras before, where that was another: `label` is the first one.
    """

    name: str
    returns: str
    arguments: tuple[str, ...]
    group: str
    patch_type: int | None = None
    config: str = ""
    structure: str = ONE_STRUCTURE
    plain: bool = False
    member: str = ""
    callee_save: bool = False
    formerly: str = ""

    @property
    def label(self) -> str:
        """What the built-in kernel calls it, whatever the era."""
        return self.formerly or self.name

    @property
    def is_data(self) -> bool:
        """Whether it is no function pointer."""
        return not self.returns

    @property
    def path(self) -> str:
        """Its place as the single ``pv_ops`` of 4.20 and later has it: ``irq.save_fl``, ``mmu.lazy_mode.enter``."""
        return f"{self.structure.removeprefix('pv_').removesuffix('_ops')}.{self.member or self.name}"


@dataclass(frozen=True, slots=True)
class Operation(Member):
    """A member with its place: `offset` behind the first member, and `argument_words`."""

    offset: int = 0
    argument_words: int = 0

    @property
    def jumped_to(self) -> bool:
        """Whether sites jump to it and it never returns."""
        return self.group == "exit"


@dataclass(frozen=True, slots=True)
class Era:
    """The paravirt operations of one kernel release and configuration.

    Until 2.6.23 they are one ``struct paravirt_ops``; then several structures, which stand here one behind the other in
    the order of ``struct paravirt_patch_template``, behind ``pv_info``.

    Attributes
    ----------
    name : str
        The release.
    members : tuple of Operation
        Everything, data members included, in declaration order.
    convention : Convention
        How its call sites are made.
    bits : int
        32 or 64.

    Examples
    --------
    >>> linux = era("2.6.20")
    >>> linux.size, linux["irq_disable"].offset, linux["irq_disable"].patch_type
    (252, 104, <PatchType.IRQ_DISABLE: 0>)
    >>> era("2.6.22")["irq_disable"].patch_type, era("2.6.24")["irq_disable"].patch_type
    (29, 45)
    >>> linux.symbols()["PARAVIRT_iret"]
    248
    """

    name: str
    members: tuple[Operation, ...]
    convention: Convention
    bits: int = 32

    @property
    def release(self) -> tuple[int, ...]:
        """The numbers of the name, to compare releases by.

        Examples
        --------
        >>> era("2.6.20").release < (2, 6, 22)
        True
        """
        return tuple(map(int, self.name.split(".")))

    @property
    def size(self) -> int:
        """Bytes of all structures."""
        return self.bits // 8 * len(self.members)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The function pointers."""
        return tuple(member for member in self.members if not member.is_data)

    @property
    def template(self) -> tuple[Operation, ...]:
        """The members that are numbered: from 2.6.22 on a member's place here is the type of its sites.

        Examples
        --------
        >>> era("6.1", bits=64).template[30].path
        'irq.save_fl'
        """
        return tuple(member for member in self.members if member.structure != INFO_STRUCTURE)

    @property
    def structures(self) -> Mapping[str, tuple[Operation, ...]]:
        """The kernel's structures by name, in order, each with its members.

        Examples
        --------
        >>> [(name, len(members)) for name, members in era("2.6.24").structures.items()][:4]
        [('pv_info', 4), ('pv_init_ops', 5), ('pv_time_ops', 5), ('pv_cpu_ops', 32)]
        """
        return MappingProxyType({
            name: tuple(members) for name, members in groupby(self.members, lambda member: member.structure)
        })

    @property
    def patch_types(self) -> frozenset[int]:
        """The types that a site's record may have."""
        types = {row.patch_type for row in self.members if row.patch_type is not None}
        if self.convention is Convention.CONSTANT_TYPES:
            types.add(PatchType.SAVE_FLAGS_IRQ_DISABLE)
        return frozenset(types)

    @property
    def any_clobber(self) -> int:
        """CLBR_ANY of the release: every bit that a record may have."""
        if self.convention is not Convention.CALLEE_SAVE:
            return CLBR_ANY
        return CLBR_ANY | CLBR_EDI if self.bits == 32 else _CLBR_ANY_64

    def __contains__(self, name: str) -> bool:
        return any(member.name == name for member in self.members)

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
        >>> era("2.6.23").site_operation(28)
        'save_fl'
        """
        if self.convention is Convention.CONSTANT_TYPES and patch_type == PatchType.SAVE_FLAGS_IRQ_DISABLE:
            return FUSED
        return next((row.name for row in self.members if row.patch_type == patch_type), None)

    def symbols(self) -> Mapping[str, int]:
        """Offsets as the kernel's asm-offsets names them: ``PARAVIRT_irq_disable`` and so on, with older names too."""
        return MappingProxyType({
            f"PARAVIRT_{name}": member.offset for member in self.members for name in (member.name, member.label)
        })

    def pointers(self, table: int) -> Mapping[str, int]:
        """Linear address of each function pointer when the first member is at `table`."""
        return MappingProxyType({row.name: table + row.offset for row in self.operations})


def _row(group: str, returns: str, name: str, *arguments: str, patch: PatchType | None = None, config: str = "",
         plain: bool = False, member: str = "", formerly: str = "") -> Member:
    return Member(name, returns, arguments, group, patch, config, plain=plain, member=member, formerly=formerly)


_DESCRIPTOR_WRITE = ("void *table", "int entry", "u32 low", "u32 high")

_LINUX_2_6_20 = (
    _row("info", "", "kernel_rpl"),
    _row("info", "", "paravirt_enabled"),
    _row("info", "", "name"),
    _row("init", "unsigned", "patch", "u8 type", "u16 clobber", "void *firstinsn", "unsigned len", plain=True),
    _row("init", "void", "arch_setup", plain=True),
    _row("init", "char *", "memory_setup", plain=True),
    _row("init", "void", "init_IRQ", plain=True),
    _row("init", "void", "banner", plain=True),
    _row("time", "unsigned long", "get_wallclock"),
    _row("time", "int", "set_wallclock", "unsigned long"),
    _row("time", "void", "time_init", plain=True),
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
    _row("misc", "void", "io_delay", plain=True),
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


#: From here on: what a release changes in the rows of the one before.
_MM = "struct mm_struct *mm"
_PFN = "u32 pfn"


def _edited(
    rows: Iterable[Member],
    *,
    without: str = "",
    changed: Iterable[Member] = (),
    after: Mapping[str, Iterable[Member]] = MappingProxyType({}),
) -> tuple[Member, ...]:
    """Rows with some taken out, some replaced by one of the same name, and new ones behind others."""
    gone, new = without.split(), {row.name: row for row in changed}
    edited: list[Member] = []
    for row in rows:
        if row.name not in gone:
            edited.append(new.get(row.name, row))
        edited += after.get(row.name, ())
    return tuple(edited)


def _grouped(rows: Iterable[Member], structures: Mapping[str, str], new: Iterable[Member] = ()) -> tuple[Member, ...]:
    """The rows named, in the order and the structures given."""
    known = {row.name: row for row in (*rows, *new)}
    return tuple(
        replace(known[name], structure=structure) for structure, names in structures.items() for name in names.split()
    )


_STARTUP_IPI_HOOK = _row("apic", "void", "startup_ipi_hook", "int phys_apicid", "unsigned long start_eip",
                         "unsigned long start_esp")

_LINUX_2_6_21 = _edited(_LINUX_2_6_20, without="const_udelay", after={
    "read_pmc": (
        _row("time", "u64", "get_scheduled_cycles", plain=True),
        _row("time", "unsigned long", "get_cpu_khz", plain=True),
    ),
    "apic_read": (
        _row("apic", "void", "setup_boot_clock", config="apic"),
        _row("apic", "void", "setup_secondary_clock", config="apic"),
    ),
    "flush_tlb_single": (
        _row("pte", "void", "map_pt_hook", "int type", "pte_t *va", _PFN),
        _row("pte", "void", "alloc_pt", _PFN),
        _row("pte", "void", "alloc_pd", _PFN),
        _row("pte", "void", "alloc_pd_clone", _PFN, "u32 clonepfn", "u32 start", "u32 count"),
        _row("pte", "void", "release_pt", _PFN),
        _row("pte", "void", "release_pd", _PFN),
    ),
    "pmd_clear": (_row("pte", "void", "set_lazy_mode", "int mode"),),
    "iret": (_STARTUP_IPI_HOOK,),
})

_LINUX_2_6_22 = _edited(
    _edited(_LINUX_2_6_21, without="time_init map_pt_hook startup_ipi_hook"),
    changed=(_row("msr", "u64", "read_pmc", "int counter"),),
    after={
        "kernel_rpl": (_row("info", "", "shared_kernel_pmd"),),
        "init_IRQ": (
            _row("init", "void", "time_init", plain=True),
            _row("init", "void", "pagetable_setup_start", "pgd_t *pgd_base", plain=True),
            _row("init", "void", "pagetable_setup_done", "pgd_t *pgd_base", plain=True),
        ),
        "io_delay": (
            _row("pte", "void", "activate_mm", "struct mm_struct *prev", "struct mm_struct *next"),
            _row("pte", "void", "dup_mmap", "struct mm_struct *oldmm", _MM),
            _row("pte", "void", "exit_mmap", _MM),
        ),
        "setup_secondary_clock": (replace(_STARTUP_IPI_HOOK, config="apic"),),
        "flush_tlb_single": (
            _row("tlb", "void", "flush_tlb_others", "const cpumask_t *cpus", _MM, "unsigned long va"),
        ),
        "pte_update_defer": (
            _row("pte", "void *", "kmap_atomic_pte", "struct page *page", "enum km_type type", config="highpte"),
        ),
        "pmd_clear": (
            _row("pte", "pteval_t", "pte_val", "pte_t"),
            _row("pte", "pteval_t", "pmd_val", "pmd_t", config="pae"),
            _row("pte", "pteval_t", "pgd_val", "pgd_t"),
            _row("pte", "pte_t", "make_pte", "pteval_t"),
            _row("pte", "pmd_t", "make_pmd", "pteval_t", config="pae"),
            _row("pte", "pgd_t", "make_pgd", "pteval_t"),
        ),
    },
)

_LINUX_2_6_23 = _edited(
    _LINUX_2_6_22,
    without="get_scheduled_cycles",
    changed=(
        _row("init", "unsigned", "patch", "u8 type", "u16 clobber", "void *insnbuf", "unsigned long addr",
             "unsigned len", plain=True),
        _row("pte", "void", "alloc_pt", _MM, _PFN),
    ),
    after={
        "memory_setup": (_row("init", "void", "post_allocator_init", plain=True),),
        "read_pmc": (_row("time", "unsigned long long", "sched_clock"),),
    },
)

_LINUX_2_6_24 = _grouped(_LINUX_2_6_23, {
    "pv_info": "kernel_rpl shared_kernel_pmd paravirt_enabled name",
    "pv_init_ops": "patch arch_setup memory_setup post_allocator_init banner",
    "pv_time_ops": "time_init get_wallclock set_wallclock sched_clock get_cpu_khz",
    "pv_cpu_ops": """
        get_debugreg set_debugreg clts read_cr0 write_cr0 read_cr4_safe read_cr4 write_cr4 load_tr_desc load_gdt
        load_idt store_gdt store_idt set_ldt store_tr load_tls write_ldt_entry write_gdt_entry write_idt_entry load_esp0
        set_iopl_mask wbinvd io_delay cpuid read_msr write_msr read_tsc read_pmc irq_enable_sysexit iret
        enter_lazy_cpu leave_lazy_cpu""",
    "pv_irq_ops": "init_IRQ save_fl restore_fl irq_disable irq_enable safe_halt halt",
    "pv_apic_ops": "apic_write apic_write_atomic apic_read setup_boot_clock setup_secondary_clock startup_ipi_hook",
    "pv_mmu_ops": """
        pagetable_setup_start pagetable_setup_done read_cr2 write_cr2 read_cr3 write_cr3 activate_mm dup_mmap exit_mmap
        flush_tlb_user flush_tlb_kernel flush_tlb_single flush_tlb_others
        alloc_pt alloc_pd alloc_pd_clone release_pt release_pd set_pte set_pte_at set_pmd pte_update pte_update_defer
        set_pte_atomic set_pte_present set_pud pte_clear pmd_clear pte_val pmd_val pgd_val make_pte make_pmd make_pgd
        kmap_atomic_pte enter_lazy_mmu leave_lazy_mmu""",
}, new=(
    # Each structure has a member lazy_mode, a struct pv_lazy_ops of two pointers, enter and leave.
    _row("cpu", "void", "enter_lazy_cpu", member="lazy_mode.enter"),
    _row("cpu", "void", "leave_lazy_cpu", member="lazy_mode.leave"),
    _row("pte", "void", "enter_lazy_mmu", member="lazy_mode.enter"),
    _row("pte", "void", "leave_lazy_mmu", member="lazy_mode.leave"),
))

_ULONG_PFN = "unsigned long pfn"
_MM_ADDR_PTEP = (_MM, "unsigned long addr", "pte_t *ptep")


def _callee_save(rows: Iterable[Member], names: str) -> tuple[Member, ...]:
    keep = names.split()
    return tuple(replace(row, callee_save=row.name in keep) for row in rows)


_IDENTITIES = "pte_val make_pte pgd_val make_pgd pmd_val make_pmd pud_val make_pud p4d_val make_p4d"

_LINUX_2_6_31 = _callee_save(_grouped(_LINUX_2_6_24, {
    "pv_info": "kernel_rpl shared_kernel_pmd paravirt_enabled name",
    "pv_init_ops": "patch arch_setup memory_setup post_allocator_init banner",
    "pv_time_ops": "time_init get_wallclock set_wallclock sched_clock get_tsc_khz",
    "pv_cpu_ops": """
        get_debugreg set_debugreg clts read_cr0 write_cr0 read_cr4_safe read_cr4 write_cr4 read_cr8 write_cr8
        load_tr_desc load_gdt load_idt store_gdt store_idt set_ldt store_tr load_tls load_gs_index
        write_ldt_entry write_gdt_entry write_idt_entry alloc_ldt free_ldt load_sp0 set_iopl_mask wbinvd io_delay cpuid
        read_msr_amd read_msr write_msr read_tsc read_pmc read_tscp irq_enable_sysexit usergs_sysret64 usergs_sysret32
        iret swapgs start_context_switch end_context_switch""",
    "pv_irq_ops": "init_IRQ save_fl restore_fl irq_disable irq_enable safe_halt halt adjust_exception_frame",
    "pv_apic_ops": "setup_boot_clock setup_secondary_clock startup_ipi_hook",
    "pv_mmu_ops": """
        pagetable_setup_start pagetable_setup_done read_cr2 write_cr2 read_cr3 write_cr3 activate_mm dup_mmap exit_mmap
        flush_tlb_user flush_tlb_kernel flush_tlb_single flush_tlb_others pgd_alloc pgd_free
        alloc_pte alloc_pmd alloc_pmd_clone alloc_pud release_pte release_pmd release_pud
        set_pte set_pte_at set_pmd pte_update pte_update_defer ptep_modify_prot_start ptep_modify_prot_commit
        pte_val make_pte pgd_val make_pgd set_pte_atomic pte_clear pmd_clear set_pud pmd_val make_pmd
        pud_val make_pud set_pgd kmap_atomic_pte enter_lazy_mmu leave_lazy_mmu set_fixmap""",
    "pv_lock_ops": "spin_is_locked spin_is_contended spin_lock spin_lock_flags spin_trylock spin_unlock",
}, new=(
    _row("time", "unsigned long", "get_tsc_khz", plain=True, formerly="get_cpu_khz"),
    _row("cpu", "unsigned long", "read_cr8", config="x86-64"),
    _row("cpu", "void", "write_cr8", "unsigned long", config="x86-64"),
    _row("desc", "void", "load_gs_index", "unsigned idx", config="x86-64"),
    _row("desc", "void", "write_ldt_entry", "struct desc_struct *ldt", "int entry", "const void *desc"),
    _row("desc", "void", "write_gdt_entry", "struct desc_struct *gdt", "int entry", "const void *desc", "int size"),
    _row("desc", "void", "write_idt_entry", "gate_desc *idt", "int entry", "const gate_desc *gate"),
    _row("desc", "void", "alloc_ldt", "struct desc_struct *ldt", "unsigned entries"),
    _row("desc", "void", "free_ldt", "struct desc_struct *ldt", "unsigned entries"),
    _row("cpu", "void", "load_sp0", "struct tss_struct *", "struct thread_struct *", formerly="load_esp0"),
    _row("msr", "u64", "read_msr_amd", "unsigned msr", "int *err"),
    _row("msr", "unsigned long long", "read_tscp", "unsigned *aux"),
    _row("exit", "void", "usergs_sysret64"),
    _row("exit", "void", "usergs_sysret32"),
    _row("cpu", "void", "swapgs"),
    _row("cpu", "void", "start_context_switch", "struct task_struct *prev"),
    _row("cpu", "void", "end_context_switch", "struct task_struct *next"),
    _row("irq", "void", "adjust_exception_frame", config="x86-64"),
    _row("pte", "int", "pgd_alloc", _MM),
    _row("pte", "void", "pgd_free", _MM, "pgd_t *pgd"),
    _row("pte", "void", "alloc_pte", _MM, _ULONG_PFN, formerly="alloc_pt"),
    _row("pte", "void", "alloc_pmd", _MM, _ULONG_PFN, formerly="alloc_pd"),
    _row("pte", "void", "alloc_pmd_clone", _ULONG_PFN, "unsigned long clonepfn", "unsigned long start",
         "unsigned long count", formerly="alloc_pd_clone"),
    _row("pte", "void", "alloc_pud", _MM, _ULONG_PFN),
    _row("pte", "void", "release_pte", _ULONG_PFN, formerly="release_pt"),
    _row("pte", "void", "release_pmd", _ULONG_PFN, formerly="release_pd"),
    _row("pte", "void", "release_pud", _ULONG_PFN),
    _row("pte", "pte_t", "ptep_modify_prot_start", *_MM_ADDR_PTEP),
    _row("pte", "void", "ptep_modify_prot_commit", *_MM_ADDR_PTEP, "pte_t pte"),
    _row("pte", "void", "set_pud", "pud_t *pudp", "pud_t pud", config="levels3"),
    _row("pte", "pteval_t", "pmd_val", "pmd_t", config="levels3"),
    _row("pte", "pmd_t", "make_pmd", "pteval_t", config="levels3"),
    _row("pte", "pteval_t", "pud_val", "pud_t", config="levels4"),
    _row("pte", "pud_t", "make_pud", "pteval_t", config="levels4"),
    _row("pte", "void", "set_pgd", "pgd_t *pgdp", "pgd_t pgd", config="levels4"),
    _row("pte", "void", "set_fixmap", "unsigned idx", "phys_addr_t phys", "pgprot_t flags", plain=True),
    _row("lock", "int", "spin_is_locked", "struct raw_spinlock *lock"),
    _row("lock", "int", "spin_is_contended", "struct raw_spinlock *lock"),
    _row("lock", "void", "spin_lock", "struct raw_spinlock *lock"),
    _row("lock", "void", "spin_lock_flags", "struct raw_spinlock *lock", "unsigned long flags"),
    _row("lock", "int", "spin_trylock", "struct raw_spinlock *lock"),
    _row("lock", "void", "spin_unlock", "struct raw_spinlock *lock"),
)), f"save_fl restore_fl irq_disable irq_enable {_IDENTITIES}")


def _only_xxl(rows: Iterable[Member], common: str) -> tuple[Member, ...]:
    """Rows of 4.20 and later: what is not common exists under CONFIG_PARAVIRT_XXL, beside what else it needs."""
    always = common.split()
    return tuple(row if row.name in always else replace(row, config=f"{row.config} xxl".strip()) for row in rows)


_LOCK = "queued_spin_lock_slowpath queued_spin_unlock wait kick vcpu_is_preempted"
_ALWAYS = """
    patch sched_clock steal_clock io_delay flush_tlb_user flush_tlb_kernel flush_tlb_one_user flush_tlb_others
    flush_tlb_multi tlb_remove_table exit_mmap notify_page_enc_status_changed """ + _LOCK
_CALLEE_SAVE = f"save_fl restore_fl irq_disable irq_enable read_cr2 queued_spin_unlock vcpu_is_preempted {_IDENTITIES}"

#: One structure for all, pv_ops, since 4.20; its parts keep their types' names. Its pv_info is not recorded here.
_LINUX_5_2 = _callee_save(_only_xxl(_grouped(_LINUX_2_6_31, {
    "pv_init_ops": "patch",
    "pv_time_ops": "sched_clock steal_clock",
    "pv_cpu_ops": """
        io_delay get_debugreg set_debugreg read_cr0 write_cr0 write_cr4 read_cr8 write_cr8
        load_tr_desc load_gdt load_idt set_ldt store_tr load_tls load_gs_index
        write_ldt_entry write_gdt_entry write_idt_entry alloc_ldt free_ldt load_sp0 set_iopl_mask wbinvd cpuid
        read_msr write_msr read_msr_safe write_msr_safe read_pmc usergs_sysret64 iret swapgs
        start_context_switch end_context_switch""",
    "pv_irq_ops": "save_fl restore_fl irq_disable irq_enable safe_halt halt",
    "pv_mmu_ops": """
        flush_tlb_user flush_tlb_kernel flush_tlb_one_user flush_tlb_others tlb_remove_table exit_mmap
        read_cr2 write_cr2 read_cr3 write_cr3 activate_mm dup_mmap pgd_alloc pgd_free
        alloc_pte alloc_pmd alloc_pud alloc_p4d release_pte release_pmd release_pud release_p4d
        set_pte set_pte_at set_pmd ptep_modify_prot_start ptep_modify_prot_commit
        pte_val make_pte pgd_val make_pgd set_pte_atomic pte_clear pmd_clear set_pud pmd_val make_pmd
        pud_val make_pud set_p4d p4d_val make_p4d set_pgd enter_lazy_mmu leave_lazy_mmu flush_lazy_mmu set_fixmap""",
    "pv_lock_ops": _LOCK,
}, new=(
    _row("init", "unsigned", "patch", "u8 type", "void *insnbuf", "unsigned long addr", "unsigned len", plain=True),
    _row("time", "unsigned long long", "steal_clock", "int cpu"),
    _row("cpu", "void", "load_sp0", "unsigned long sp0"),
    _row("msr", "u64", "read_msr", "unsigned msr"),
    _row("msr", "void", "write_msr", "unsigned msr", "unsigned low", "unsigned high"),
    _row("msr", "u64", "read_msr_safe", "unsigned msr", "int *err"),
    _row("msr", "int", "write_msr_safe", "unsigned msr", "unsigned low", "unsigned high"),
    _row("tlb", "void", "flush_tlb_one_user", "unsigned long addr"),
    _row("tlb", "void", "flush_tlb_others", "const struct cpumask *cpus", "const struct flush_tlb_info *info"),
    _row("tlb", "void", "tlb_remove_table", "struct mmu_gather *tlb", "void *table"),
    _row("pte", "void", "alloc_p4d", _MM, _ULONG_PFN),
    _row("pte", "void", "release_p4d", _ULONG_PFN),
    _row("pte", "pte_t", "ptep_modify_prot_start", "struct vm_area_struct *vma", "unsigned long addr", "pte_t *ptep"),
    _row("pte", "void", "ptep_modify_prot_commit", "struct vm_area_struct *vma", "unsigned long addr", "pte_t *ptep",
         "pte_t pte"),
    _row("pte", "void", "set_p4d", "p4d_t *p4dp", "p4d_t p4d", config="levels4"),
    _row("pte", "pteval_t", "p4d_val", "p4d_t", config="levels5"),
    _row("pte", "p4d_t", "make_p4d", "pteval_t", config="levels5"),
    _row("pte", "void", "set_pgd", "pgd_t *pgdp", "pgd_t pgd", config="levels5"),
    _row("pte", "void", "flush_lazy_mmu", member="lazy_mode.flush"),
    _row("lock", "void", "queued_spin_lock_slowpath", "struct qspinlock *lock", "u32 val"),
    _row("lock", "void", "queued_spin_unlock", "struct qspinlock *lock"),
    _row("lock", "void", "wait", "u8 *ptr", "u8 val"),
    _row("lock", "void", "kick", "int cpu"),
    _row("lock", "bool", "vcpu_is_preempted", "long cpu"),
)), _ALWAYS), _CALLEE_SAVE)

_LINUX_6_1 = _callee_save(_only_xxl(_grouped(_LINUX_5_2, {
    "pv_cpu_ops": """
        io_delay get_debugreg set_debugreg read_cr0 write_cr0 write_cr4
        load_tr_desc load_gdt load_idt set_ldt store_tr load_tls load_gs_index
        write_ldt_entry write_gdt_entry write_idt_entry alloc_ldt free_ldt load_sp0 invalidate_io_bitmap
        update_io_bitmap wbinvd cpuid read_msr write_msr read_msr_safe write_msr_safe read_pmc
        start_context_switch end_context_switch""",
    "pv_irq_ops": "save_fl irq_disable irq_enable safe_halt halt",
    "pv_mmu_ops": """
        flush_tlb_user flush_tlb_kernel flush_tlb_one_user flush_tlb_multi tlb_remove_table exit_mmap
        notify_page_enc_status_changed read_cr2 write_cr2 read_cr3 write_cr3 activate_mm dup_mmap pgd_alloc pgd_free
        alloc_pte alloc_pmd alloc_pud alloc_p4d release_pte release_pmd release_pud release_p4d
        set_pte set_pmd ptep_modify_prot_start ptep_modify_prot_commit
        pte_val make_pte pgd_val make_pgd set_pud pmd_val make_pmd pud_val make_pud set_p4d p4d_val make_p4d set_pgd
        enter_lazy_mmu leave_lazy_mmu flush_lazy_mmu set_fixmap""",
    "pv_lock_ops": _LOCK,
}, new=(
    _row("misc", "void", "io_delay"),
    _row("cpu", "void", "invalidate_io_bitmap"),
    _row("cpu", "void", "update_io_bitmap"),
    _row("tlb", "void", "flush_tlb_multi", "const struct cpumask *cpus", "const struct flush_tlb_info *info"),
    _row("tlb", "void", "notify_page_enc_status_changed", "unsigned long pfn", "int npages", "bool enc"),
)), _ALWAYS), _CALLEE_SAVE)

_ERAS: Mapping[str, tuple[Convention, tuple[Member, ...]]] = MappingProxyType({
    "2.6.20": (Convention.CONSTANT_TYPES, _LINUX_2_6_20),
    "2.6.21": (Convention.CONSTANT_TYPES, _LINUX_2_6_21),
    "2.6.22": (Convention.OFFSET_TYPES, _LINUX_2_6_22),
    "2.6.23": (Convention.OFFSET_TYPES, _LINUX_2_6_23),
    "2.6.24": (Convention.OFFSET_TYPES, _LINUX_2_6_24),
    "2.6.31": (Convention.CALLEE_SAVE, _LINUX_2_6_31),
    "5.2": (Convention.CALLEE_SAVE, _LINUX_5_2),
    "6.1": (Convention.CALLEE_SAVE, _LINUX_6_1),
})

#: The releases that `era` knows.
ERAS = tuple(_ERAS)

#: Those that x86-64 kernels have.
ERAS_64 = ("2.6.31", "5.2", "6.1")


@cache
def era(name: str, pae: bool = False, apic: bool = True, highpte: bool = False, bits: int = 32,
        xxl: bool | None = None) -> Era:
    """Lay out the paravirt operations of a release.

    Parameters
    ----------
    name : str
        One of `ERAS`.
    pae : bool, optional
        CONFIG_X86_PAE: 8-byte page-table entries.
    apic : bool, optional
        CONFIG_X86_LOCAL_APIC.
    highpte : bool, optional
        CONFIG_HIGHPTE: page tables in high memory.
    bits : int, optional
        32, or 64 for x86-64, whose data members are not recorded.
    xxl : bool, optional
        CONFIG_PARAVIRT_XXL, for kernels that may be Xen PV guests; default: on x86-64.

    Returns
    -------
    Era

    Raises
    ------
    PvfastError
        The release is not in the table, or not for so many bits.

    Examples
    --------
    >>> era("2.6.20", pae=True).size
    272
    >>> len(era("2.6.21", pae=True).operations)      # 75 and patch
    76
    >>> len(era("6.1").operations), len(era("6.1", bits=64).operations)
    (13, 84)
    """
    known = {32: ERAS, 64: ERAS_64}.get(bits, ())
    if name not in known:
        raise PvfastError(f"no paravirt operations are recorded for Linux {name} with {bits} bits: choose "
                          f"{' or '.join(known or ERAS)}")
    convention, rows = _ERAS[name]
    configured = {
        "pae": pae and bits == 32, "apic": apic, "highpte": highpte, "x86-64": bits == 64,
        "levels3": pae or bits == 64, "levels4": bits == 64, "levels5": bits == 64,
        "xxl": bits == 64 if xxl is None else xxl,
    }
    present = [
        row for row in rows
        if all(configured[need] for need in row.config.split()) and not (row.is_data and bits == 64)
    ]
    numbered = next(index for index, row in enumerate(present) if row.structure != INFO_STRUCTURE)
    members = []
    for index, row in enumerate(present):
        words = len(row.arguments) if bits == 64 else sum(_words(argument, pae) for argument in row.arguments)
        patch_type: int | None = row.patch_type
        if convention is not Convention.CONSTANT_TYPES:
            has_sites = not (row.is_data or row.plain or words > _MOST_SITE_WORDS)
            patch_type = index - numbered if has_sites else None
        members.append(Operation(row.name, row.returns, row.arguments, row.group, patch_type, row.config, row.structure,
                                 row.plain, row.member, row.callee_save, row.formerly, index * bits // 8, words))
    return Era(name, tuple(members), convention, bits)


#: PVOP_CALL4 is the longest: set_pte_at of a PAE kernel, with five words, is an ordinary call.
_MOST_SITE_WORDS = 4

#: Page-table entries and their values, which PAE doubles.
_ENTRIES = frozenset(("pte_t", "pmd_t", "pud_t", "pgd_t", "pteval_t", "pgprot_t", "phys_addr_t"))


def _words(argument: str, pae: bool) -> int:
    is_entry = argument.split()[0] in _ENTRIES
    return 2 if "*" not in argument and (argument.startswith("u64") or (pae and is_entry)) else 1
