"""The layout of struct paravirt_ops: every offset, both configurations, and the counts."""

import pytest

from pvfast.errors import PvfastError
from pvfast.paravirt.operations import ERAS, FUSED, era
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


def test_unknown_names_are_typed_errors():
    assert ERAS == ("2.6.20",)
    with pytest.raises(PvfastError, match=r"choose 2\.6\.20"):
        era("2.4.0")
    with pytest.raises(PvfastError, match="no operation 'set_pud'"):
        era("2.6.20")["set_pud"]
