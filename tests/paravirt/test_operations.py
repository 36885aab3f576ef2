"""The layout of the paravirt operations by era: offsets, types, configurations, and the counts."""

from itertools import pairwise
from pathlib import Path

import pytest

from pvfast.errors import PvfastError
from pvfast.paravirt.document import document
from pvfast.paravirt.operations import ERAS, ERAS_64, FUSED, Convention, era
from pvfast.paravirt.sites import PatchType

#: Non-PAE with local APIC: offsets as the compiler lays the structure out.
OFFSETS = {
    "kernel_rpl": 0, "paravirt_enabled": 4, "name": 8, "patch": 12, "arch_setup": 16, "memory_setup": 20,
    "init_IRQ": 24, "banner": 28, "get_wallclock": 32, "set_wallclock": 36, "time_init": 40, "cpuid": 44,
    "get_debugreg": 48, "set_debugreg": 52, "clts": 56, "read_cr0": 60, "write_cr0": 64, "read_cr2": 68,
    "write_cr2": 72, "read_cr3": 76, "write_cr3": 80, "read_cr4_safe": 84, "read_cr4": 88, "write_cr4": 92,
    "save_fl": 96, "restore_fl": 100, "irq_disable": 104, "irq_enable": 108, "safe_halt": 112, "halt": 116,
    "wbinvd": 120, "read_msr": 124, "write_msr": 128, "read_tsc": 132, "read_pmc": 136, "load_tr_desc": 140,
    "load_gdt": 144, "load_idt": 148, "store_gdt": 152, "store_idt": 156, "set_ldt": 160, "store_tr": 164,
    "load_tls": 168, "write_ldt_entry": 172, "write_gdt_entry": 176, "write_idt_entry": 180, "load_esp0": 184,
    "set_iopl_mask": 188, "io_delay": 192, "const_udelay": 196, "apic_write": 200, "apic_write_atomic": 204,
    "apic_read": 208, "flush_tlb_user": 212, "flush_tlb_kernel": 216, "flush_tlb_single": 220, "set_pte": 224,
    "set_pte_at": 228, "set_pmd": 232, "pte_update": 236, "pte_update_defer": 240, "irq_enable_sysexit": 244,
    "iret": 248,
}
PAE_ONLY = {"set_pte_atomic": 244, "set_pte_present": 248, "set_pud": 252, "pte_clear": 256, "pmd_clear": 260}


def test_every_offset_without_pae():
    linux = era("2.6.20")
    assert {member.name: member.offset for member in linux.members} == OFFSETS
    assert linux.size == 252
    assert len(linux.operations) == 60


def test_every_offset_with_pae():
    linux = era("2.6.20", pae=True)
    moved = {"irq_enable_sysexit": 264, "iret": 268}
    assert {member.name: member.offset for member in linux.members} == OFFSETS | PAE_ONLY | moved
    assert linux.size == 272
    assert len(linux.operations) == 65


def test_without_apic_the_rest_moves_up():
    linux = era("2.6.20", apic=False)
    assert linux["flush_tlb_user"].offset == 200
    assert linux.size == 252 - 12


def test_group_tally():
    operations = era("2.6.20", pae=True).operations
    tally = {}
    for operation in operations:
        tally[operation.group] = tally.get(operation.group, 0) + 1
    assert tally == {"init": 5, "time": 3, "cpu": 16, "irq": 6, "exit": 2, "msr": 4, "desc": 11, "misc": 2,
                     "apic": 3, "tlb": 3, "pte": 10}


def test_patch_types_lead_to_operations():
    linux = era("2.6.20")
    assert {kind.name: linux.site_operation(kind) for kind in PatchType} == {
        "IRQ_DISABLE": "irq_disable", "IRQ_ENABLE": "irq_enable", "RESTORE_FLAGS": "restore_fl",
        "SAVE_FLAGS": "save_fl", "SAVE_FLAGS_IRQ_DISABLE": FUSED, "INTERRUPT_RETURN": "iret",
        "STI_SYSEXIT": "irq_enable_sysexit",
    }
    assert [row.name for row in linux.operations if row.jumped_to] == ["irq_enable_sysexit", "iret"]


@pytest.mark.parametrize(("name", "plain", "pae"), [
    ("write_msr", 3, 3), ("set_pte", 2, 3), ("set_pte_at", 4, 5), ("cpuid", 4, 4), ("read_msr", 2, 2),
    ("set_pmd", 2, 3), ("save_fl", 0, 0), ("patch", 4, 4), ("pte_update", 3, 3),
])
def test_argument_words(name, plain, pae):
    assert era("2.6.20")[name].argument_words == plain
    assert era("2.6.20", pae=True)[name].argument_words == pae


def test_pointers_and_symbols():
    linux = era("2.6.20")
    assert linux.pointers(0xC0400000)["irq_disable"] == 0xC0400068
    assert "kernel_rpl" not in linux.pointers(0)
    assert linux.symbols()["PARAVIRT_kernel_rpl"] == 0


@pytest.mark.parametrize(("name", "pae", "pointers", "size"), [
    ("2.6.20", False, 60, 252), ("2.6.20", True, 65, 272), ("2.6.21", False, 71, 296), ("2.6.21", True, 76, 316),
    ("2.6.22", False, 80, 336), ("2.6.22", True, 87, 364), ("2.6.23", False, 81, 340), ("2.6.23", True, 88, 368),
])
def test_function_pointers_and_size(name, pae, pointers, size):
    linux = era(name, pae=pae)
    assert (len(linux.operations), linux.size) == (pointers, size)
    assert list(linux.structures) == ["paravirt_ops"]


def test_75_operations_and_patch():
    names = [row.name for row in era("2.6.21", pae=True).operations]
    assert len(set(names) - {"patch"}) == 75


def test_offsets_of_2_6_21():
    linux = era("2.6.21")
    moved = {"get_scheduled_cycles": 140, "get_cpu_khz": 144, "irq_enable_sysexit": 284, "iret": 288,
             "startup_ipi_hook": 292}
    assert {name: linux[name].offset for name in moved} == moved
    assert all(linux[name].offset == OFFSETS[name] for name in ("save_fl", "restore_fl", "irq_disable", "irq_enable"))


@pytest.mark.parametrize("name", ERAS)
def test_highpte_adds_one(name):
    added = len(era(name, highpte=True).operations) - len(era(name).operations)
    assert added == (name in ("2.6.22", "2.6.23", "2.6.24", "2.6.31"))


#: Non-PAE, APIC: a site's type is the offset of its member in words.
TYPES = {
    "2.6.22": {"clts": 17, "read_cr2": 20, "read_cr3": 22, "write_cr3": 23, "save_fl": 27, "restore_fl": 28,
               "irq_disable": 29, "irq_enable": 30, "read_tsc": 36, "set_pte": 72, "pte_val": 77, "make_pte": 79,
               "set_lazy_mode": 81, "irq_enable_sysexit": 82, "iret": 83},
    "2.6.23": {"clts": 18, "save_fl": 28, "restore_fl": 29, "irq_disable": 30, "irq_enable": 31, "iret": 84},
    "2.6.24": {"irq_enable_sysexit": 38, "iret": 39, "save_fl": 43, "restore_fl": 44, "irq_disable": 45,
               "irq_enable": 46},
}


@pytest.mark.parametrize("name", TYPES)
def test_types_are_offsets(name):
    linux = era(name)
    assert {operation: linux[operation].patch_type for operation in TYPES[name]} == TYPES[name]
    for operation in linux.operations:
        if operation.patch_type is not None:
            assert linux.site_operation(operation.patch_type) == operation.name
    assert linux.patch_types == {row.patch_type for row in linux.operations} - {None}


@pytest.mark.parametrize("name", ERAS)
def test_what_is_called_without_a_record(name):
    linux = era(name, pae=True)
    recorded = {row.name for row in linux.operations if row.patch_type is not None}
    if linux.convention is Convention.CONSTANT_TYPES:
        assert recorded == {"save_fl", "restore_fl", "irq_disable", "irq_enable", "irq_enable_sysexit", "iret"}
    elif "init_IRQ" in linux:
        assert not recorded & {"patch", "memory_setup", "init_IRQ", "set_pte_at", "set_pte_present"}
        assert {"set_pte", "set_pud", "cpuid", "write_msr", "iret", "pte_val"} <= recorded
        assert era(name)["set_pte_at"].patch_type is not None       # four words without PAE


def test_groups_of_2_6_24():
    plain, pae = ({name: len(members) for name, members in era("2.6.24", pae=pae).structures.items()}
                  for pae in (False, True))
    assert plain == {"pv_info": 4, "pv_init_ops": 5, "pv_time_ops": 5, "pv_cpu_ops": 30 + 2, "pv_irq_ops": 7,
                     "pv_apic_ops": 6, "pv_mmu_ops": 27 + 2}
    assert pae == plain | {"pv_mmu_ops": 34 + 2}
    first = era("2.6.24").structures["pv_init_ops"][0]      # the template, and so the types, begin there
    assert first.offset == 16
    assert era("2.6.24").operations.index(era("2.6.24")["init_IRQ"]) == 42


#: Types of the patch sites of Debian's 6.1 kernels, read from the images.
TYPES_6_1 = {
    32: {0: "cpu.io_delay", 1: "mmu.flush_tlb_user", 6: "mmu.exit_mmap", 7: "mmu.notify_page_enc_status_changed",
         8: "lock.queued_spin_lock_slowpath", 9: "lock.queued_spin_unlock", 12: "lock.vcpu_is_preempted"},
    64: {0: "cpu.io_delay", 30: "irq.save_fl", 31: "irq.irq_disable", 34: "irq.halt", 35: "mmu.flush_tlb_user",
         45: "mmu.write_cr3", 57: "mmu.release_p4d", 58: "mmu.set_pte", 66: "mmu.set_pud", 73: "mmu.make_p4d",
         75: "mmu.lazy_mode.enter", 78: "mmu.set_fixmap", 80: "lock.queued_spin_unlock", 83: "lock.vcpu_is_preempted"},
}


@pytest.mark.parametrize("bits", TYPES_6_1)
def test_types_of_6_1(bits):
    template = era("6.1", bits=bits).template
    assert len(template) == {32: 13, 64: 84}[bits]
    assert {number: template[number].path for number in TYPES_6_1[bits]} == TYPES_6_1[bits]


def test_callee_save_from_2_6_30():
    flags = {"save_fl", "restore_fl", "irq_disable", "irq_enable"}
    kept = {row.name for row in era("2.6.31").operations if row.callee_save}
    assert kept == flags | {"pte_val", "make_pte", "pgd_val", "make_pgd"}
    assert not any(row.callee_save for row in era("2.6.24").operations)
    assert {row.name for row in era("6.1").operations if row.callee_save} == {"queued_spin_unlock", "vcpu_is_preempted"}


def test_what_32_bit_kernels_lost_with_4_20():
    """Only Xen PV guests need the rest, and they select CONFIG_PARAVIRT_XXL for it."""
    assert "irq_disable" in era("2.6.31")
    assert "irq_disable" not in era("5.2")
    assert "irq_disable" in era("5.2", xxl=True)
    assert {row.group for row in era("5.2").operations} == {"init", "time", "misc", "tlb", "pte", "lock"}


def test_x86_64():
    linux = era("2.6.31", bits=64)
    assert linux["save_fl"].offset == 8 * linux["save_fl"].patch_type
    assert {"read_cr8", "load_gs_index", "adjust_exception_frame", "set_pgd"} <= {row.name for row in linux.operations}
    assert "set_pte_atomic" not in linux
    assert "kernel_rpl" not in linux
    for name in ERAS_64:
        assert era(name, bits=64).template == era(name, bits=64).members
    with pytest.raises(PvfastError, match=r"2\.6\.24 with 64 bits: choose 2\.6\.31"):
        era("2.6.24", bits=64)
    with pytest.raises(PvfastError, match="16 bits"):
        era("2.6.20", bits=16)


def test_an_era_is_the_one_before_but_for_what_it_changes():
    changes = []
    for before, after in pairwise(ERAS[:5]):
        old, new = ({row.name: row for row in era(name, pae=True).members} for name in (before, after))
        changes.append((sorted(old.keys() - new), len(new.keys() - old)))
        both = old.keys() & new
        redeclared = {name for name in both if old[name].arguments != new[name].arguments}
        assert redeclared <= {"patch", "alloc_pt", "read_pmc"}
    assert changes == [
        (["const_udelay"], 12), (["map_pt_hook"], 13), (["get_scheduled_cycles"], 2), (["set_lazy_mode"], 4)]


def test_unknown_names_are_typed_errors():
    with pytest.raises(PvfastError, match=r"choose 2\.6\.20"):
        era("2.4.0")
    with pytest.raises(PvfastError, match="no operation 'set_pud'"):
        era("2.6.20")["set_pud"]


def test_renamed_operations_keep_their_label():
    linux = era("2.6.31")
    renamed = {row.name: row.label for row in linux.operations if row.name != row.label}
    assert renamed == {"get_tsc_khz": "get_cpu_khz", "load_sp0": "load_esp0", "alloc_pte": "alloc_pt",
                       "alloc_pmd": "alloc_pd", "alloc_pmd_clone": "alloc_pd_clone", "release_pte": "release_pt",
                       "release_pmd": "release_pd"}
    assert set(renamed.values()) <= {row.name for row in era("2.6.24").operations}
    assert linux.symbols()["PARAVIRT_load_esp0"] == linux.symbols()["PARAVIRT_load_sp0"] == linux["load_sp0"].offset


def test_documented_table_is_what_the_rows_give():
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "operations.md").read_text(encoding="utf-8") == document(), "run `make operations`"
