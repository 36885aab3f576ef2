"""Sites of kernels in the core: kernels made by hand, and the real ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pvfast.errors import ImageError, PvfastError
from pvfast.experiments import Counts, KernelRow, run_kernel
from pvfast.experiments.kernel_machine import lay_out, load
from pvfast.images import load_kernel
from pvfast.processor import load_model
from tests.images.synthetic import BASES, PHYSICAL, TEXT, Kernel

FUNCTION = BASES[32] + TEXT + 0x800
#: Numbers of Linux 6.1's i386 table.
FLUSH_TLB_USER, FLUSH_TLB_KERNEL, FLUSH_TLB_MULTI, UNLOCK, KICK = 1, 2, 4, 9, 11


def kernel(function: bytes, *types: int, **more: object) -> Kernel:
    """A kernel with one site per type, 0x10 bytes apart, all calling `function`."""
    made = Kernel(sites=tuple((16 * at, kind, 6) for at, kind in enumerate(types)), pointers=(FUNCTION,) * 13,
                  **more)                                               # type: ignore[arg-type]
    code = bytearray(b"\xcc" * 0x1000)
    for at, kind, _ in made.sites:
        code[at:at + 6] = made.call(at, kind)
    code[0x800:0x800 + len(function)] = function
    made.code = bytes(code)
    return made


def rows(made: Kernel) -> dict[str, KernelRow]:
    return {row.operation: row for row in run_kernel(load_kernel(made.elf())).rows}


def test_a_site_and_its_callee_are_run() -> None:
    row, = rows(kernel(bytes.fromhex("c60000 c3"), UNLOCK)).values()     # movb $0, (%eax); ret
    assert row.operation == "lock.queued_spin_unlock"
    assert row.unpatched == Counts(3, 3 + 1 + 2)
    assert row.patched == Counts(4, 2 + 1 + 2 + 1)                      # a direct call and a NOP
    assert (row.sites, row.address, row.callee) == (1, BASES[32] + TEXT, FUNCTION)
    assert row.state.startswith("EAX: a lock word of 1")
    assert row.overhead_percent() == 0.0


def test_an_empty_function_becomes_nops() -> None:
    row, = rows(kernel(b"\xc3", KICK)).values()
    assert (row.unpatched, row.patched) == (Counts(2, 5), Counts(1, 1))


def test_what_is_not_measured_says_why() -> None:
    found = rows(kernel(bytes.fromhex("0f0b"), FLUSH_TLB_USER, FLUSH_TLB_MULTI))
    assert "interrupts other processors" in found["mmu.flush_tlb_multi"].reason
    assert f"SHUTDOWN at linear {FUNCTION:#x} (ud2), first fault 6" in found["mmu.flush_tlb_user"].reason
    assert all(row.unpatched is row.patched is None for row in found.values())


def flush_tlb_kernel(shadow: int) -> Kernel:
    """A callee that toggles CR4.PGE as native_flush_tlb_global does; its copy of CR4 lies at the end of .text."""
    at = BASES[32] + TEXT + 0xF00
    made = kernel(bytes.fromhex("64a1") + at.to_bytes(4, "little")                      # mov %fs:at, %eax
                  + bytes.fromhex("3480 0f22e0 3480 0f22e0 c3"), FLUSH_TLB_KERNEL)      # xor $0x80, %al; mov to %cr4
    code = bytearray(made.code)
    code[0xF00:0xF04] = shadow.to_bytes(4, "little")
    made.code = bytes(code)
    return made


def test_the_copy_of_cr4_is_found_by_its_poison() -> None:
    row, = rows(flush_tlb_kernel(0xFFFFFFFF)).values()
    assert row.unpatched is not None
    assert row.unpatched.instructions == 7
    row, = rows(flush_tlb_kernel(0xFFFFFFFE)).values()
    assert "copy of CR4 was not found" in row.reason


def test_operations_that_the_processor_has_no_use_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = flush_tlb_kernel(0xFFFFFFFF)
    for has_pge in (False, True):
        generic = load_model("generic")
        model = replace(generic, features=generic.features & ~(1 << 13) | has_pge << 13)
        monkeypatch.setattr("pvfast.experiments.kernel_runs.load_model", lambda name, model=model: model)
        row, = rows(made).values()
        assert (row.unpatched is not None) == has_pge
        assert ("has no PGE" in row.reason) != has_pge


def test_a_callee_that_never_returns() -> None:
    row, = rows(kernel(b"\xeb\xfe", KICK)).values()
    assert "BUDGET" in row.reason


def test_a_callee_that_breaks_the_calling_convention() -> None:
    row, = rows(kernel(bytes.fromhex("43c3"), KICK)).values()            # inc %ebx
    assert "a register that a call preserves" in row.reason


def test_an_operation_that_does_not_do_its_work() -> None:
    row, = rows(kernel(b"\xc3", UNLOCK)).values()
    assert "it left 0x1 at offset 0x0" in row.reason


def test_forms_that_do_different_things() -> None:
    made = kernel(bytes.fromhex("c60000 c3"), UNLOCK)
    # An alternative for PVUNLOCK's absence that stores something more: movb $0, (%eax); incb 8(%eax).
    made.alternatives = ((0, 6, bytes.fromhex("c60000 fe4008"), 0x8000 | 8 * 32 + 20),)
    row, = rows(made).values()
    assert "left different registers or memory" in row.reason


def test_kernels_without_names_are_listed_by_type() -> None:
    row, = rows(kernel(b"\xc3", 5, banner=b"Linux version 5.14.0 (somebody)\n\0")).values()
    assert row.operation == "type 5"
    assert "no state is written down" in row.reason


def test_operations_can_be_chosen() -> None:
    made = load_kernel(kernel(b"\xc3", KICK, UNLOCK).elf())
    assert [row.operation for row in run_kernel(made, ["lock.kick"]).rows] == ["lock.kick"]
    with pytest.raises(PvfastError, match=r"no operation .lock\.wait.: choose from lock\.kick"):
        run_kernel(made, ["lock.wait"])


def test_64_bit_kernels_are_refused() -> None:
    with pytest.raises(ImageError, match="a 64-bit ELF file"):
        run_kernel(load_kernel(Kernel(bits=64, sites=((0, 0, 6),), pointers=(0,)).elf()))


def test_the_direct_map_covers_everything_and_nothing_else() -> None:
    image = load_kernel(kernel(b"\xc3", KICK).elf())
    machine, memory = load(image)
    assert memory == lay_out(image)
    assert memory.page_offset == BASES[32] - PHYSICAL
    assert machine.read_linear(BASES[32] + TEXT, 6) == image.read(BASES[32] + TEXT, 6)
    assert machine.read_linear(memory.page_offset, 1) == b"\0"
    machine.read_linear(memory.page_offset + memory.ram_bytes - 1, 1)
    for linear in (memory.page_offset - 1, memory.page_offset + memory.ram_bytes, 0):
        with pytest.raises(PvfastError):
            machine.read_linear(linear, 1)
    assert memory.scratch == memory.stack_top


@pytest.mark.parametrize(("physical", "message"), [
    (0xF0000000, "below 512 MiB"), (0x1000800, "linear address of a"),
])
def test_segments_in_absurd_places(physical: int, message: str) -> None:
    data = bytearray(kernel(b"\xc3", KICK).elf())
    data[52 + 12:52 + 16] = physical.to_bytes(4, "little")              # p_paddr of the first program header
    with pytest.raises(ImageError, match=message):
        run_kernel(load_kernel(bytes(data)))


@pytest.mark.parametrize("flavour", ["686", "686-pae"])
def test_real_kernels(kernels: Path, flavour: str) -> None:
    path, = sorted(kernels.glob(f"vmlinuz-6.1.0-*-{flavour}"))[:1]
    image = load_kernel(path)
    run = run_kernel(image)
    assert run == run_kernel(image)
    assert len(run.rows) == 12
    assert [row.operation for row in run.rows if row not in run.measured] == ["mmu.flush_tlb_multi"]
    found = {row.operation: row for row in run.measured}
    assert found["lock.kick"].unpatched == Counts(2, 5)                 # call *; ret
    assert found["lock.queued_spin_unlock"].patched == Counts(2, 2)     # movb $0, (%eax); lea
    assert found["lock.vcpu_is_preempted"].patched == Counts(2, 2)      # xor %eax, %eax; lea
    assert all(row.reason for row in run.rows if row not in run.measured)
    assert all(row.state for row in run.measured)
    json.dumps(run.as_dict())
