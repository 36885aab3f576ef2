"""Global pages: the kernel's are, where CPUID shows it that they can be, and a user's never."""

from collections.abc import Iterator

import pytest

from pvfast.guest import GUEST_ERAS, NATIVE_ERAS, GuestImage, build
from pvfast.guest.prelude import PAGE_OFFSET, USER_DATA, USER_TEXT
from pvfast.paravirt.hypervisors import BUILT_IN
from pvfast.paravirt.hypervisors.xen_interface import HYPERVISOR_VIRT_START
from tests.guest.conftest import boot
from tests.guest.kernel import Kernel
from tests.guest.programs import run_program, start_program
from tests.guest.test_machine_calls import ENODEV, SUSPEND
from tests.guest.test_memory import ANONYMOUS, PRIVATE, mmap

P, G = 0x001, 0x100
CR4_PGE = 0x80


def entries(guest: Kernel) -> Iterator[tuple[int, int]]:
    """Of the only process: the address of each page that is present, and its entry."""
    directory = guest.word("pgd_cache", 1 + guest.word("pgd_cache"))        # behind those that are free
    for upper in range(HYPERVISOR_VIRT_START >> 22):
        pde = guest.read(directory + 4 * upper)
        if pde & P:
            table = memoryview(guest.machine.read(pde & 0xFFFFF000, 4096)).cast("I")
            yield from ((upper << 22 | lower << 12, pte) for lower, pte in enumerate(table) if pte & P)


def in_a_program(guest: Kernel) -> Kernel:
    """With its text, data, stack and a mapping."""
    start_program(guest, f"""
        pushl $0
        movl $0, {USER_DATA}
        {mmap(4096, PRIVATE | ANONYMOUS)}
        movl $0, (%eax)
        call 64
        exit $0""")
    guest.run_to("sys_getppid", 100_000)
    return guest


@pytest.mark.parametrize(("era", "hypervisor"), [
    *((era, hypervisor) for era in (GUEST_ERAS[0], GUEST_ERAS[-1]) for hypervisor in BUILT_IN),
    (NATIVE_ERAS[-1], "native")])
def test_the_kernels_pages_are_global_and_the_users_are_not(era: str, hypervisor: str) -> None:
    """Xen refuses such entries, so there the cpuid operation hides PGE."""
    guest = in_a_program(boot(build(era), hypervisor))
    kernel, user = ({linear: pte & G for linear, pte in entries(guest) if (linear >= PAGE_OFFSET) == own}
                    for own in (True, False))
    assert len(kernel) >= guest.word("memory_end") >> 12
    assert set(kernel.values()) == {0 if hypervisor == "xen" else G}
    assert {USER_TEXT, USER_DATA, PAGE_OFFSET - 4096, 0x40000000} <= set(user)
    assert set(user.values()) == {0}


@pytest.mark.parametrize("hypervisor", ["native", "kvm"])
def test_the_processor_keeps_them(image: GuestImage, hypervisor: str) -> None:
    assert boot(image, hypervisor).machine.cpu.cr4 & CR4_PGE


@pytest.mark.parametrize("hypervisor", ["native", "kvm", "vmi", "full"])
def test_a_processor_without_them_goes_on_without(image: GuestImage, hypervisor: str) -> None:
    """lhype shows PGE on any processor, as lguest, and its shadow has no global page."""
    guest = Kernel(image, hypervisor, processor="pentium").boot()
    assert not guest.machine.cpu.cr4 & CR4_PGE
    assert not any(pte & G for _, pte in entries(in_a_program(guest)))
    guest.run_to("bench_done", 100_000)
    assert run_program(guest, f"{SUSPEND}exit %eax") == (-ENODEV if guest.word("paravirt_ops", 1) else 0)
    assert guest.fault()["count"] == 0


def seen(guest: Kernel, operation: str) -> list[int]:
    """A word of the kernel's, read before its page is another, then before and after the operation."""
    page = guest.image.labels["module_page"]
    entry = guest.image.labels["pg0"] + (page - PAGE_OFFSET >> 12) * 4
    guest.store(1, at=page)
    guest.store(2, at=guest.image.labels["empty_zero_page"])
    read = f"a1{page.to_bytes(4, 'little').hex()}"                                          # mov page, %eax
    call = f"ff15{guest.image.pointers[operation].to_bytes(4, 'little').hex()}"             # call *operation
    found = []
    for code in (read, read, call, read):
        if code == call:
            guest.execute(f"{code}eb fe", 100)          # jmp to itself, when it is back
            continue
        guest.execute(code)
        found.append(guest.machine.cpu.eax)
        guest.store(guest.image.labels["empty_zero_page"] - PAGE_OFFSET | guest.read(entry) & 0xFFF, at=entry)
    return found


def test_only_flush_tlb_kernel_flushes_the_kernels(image: GuestImage) -> None:
    assert seen(boot(image, "native"), "flush_tlb_user") == [1, 1, 1]
    assert seen(boot(image, "native"), "flush_tlb_kernel") == [1, 1, 2]


@pytest.mark.parametrize("hypervisor", ["lhype", "kvm", "vmi", "full"])
def test_flush_tlb_kernel_flushes_them_for_every_guest(image: GuestImage, hypervisor: str) -> None:
    """But Xen's, which has none."""
    assert seen(boot(image, hypervisor), "flush_tlb_kernel")[-1] == 2
