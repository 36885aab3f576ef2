"""A machine with the built-in guest under Xen, and the words the tests use for it."""

import struct
from collections import Counter

from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors.xen_interface import (
    HYPERCALL_ENTRY_BYTES,
    HYPERVISOR_VIRT_START,
    START_INFO_MFN_LIST,
    START_INFO_NR_PAGES,
    VCPU_EVTCHN_UPCALL_MASK,
    VCPU_EVTCHN_UPCALL_PENDING,
    Domid,
    Hypercall,
)
from tests.guest.kernel import BENCH_INSTRUCTIONS, Kernel

_MOV_EAX_BYTES = 5
PAGE_OFFSET = 0xC0000000
DOMID_SELF = Domid.SELF


class Domain(Kernel):
    """The guest, at its Xen entry until `boot`."""

    def __init__(self, image: GuestImage, ram: str = "16M") -> None:
        super().__init__(image, "xen", ram)
        self.xen = self.hypervisor
        start_info = self.machine.cpu.esi
        count, table = self.read(start_info + START_INFO_NR_PAGES), self.read(start_info + START_INFO_MFN_LIST)
        self.frames = struct.unpack(f"<{count}I", self.machine.read_linear(table, 4 * count))
        """The machine's frame of each page."""

    def read(self, linear: int) -> int:
        return int.from_bytes(self.machine.read_linear(linear, 4), "little")

    def write(self, linear: int, data: bytes) -> None:
        self.machine.write_linear(linear, data)

    def hypercall(self, number: int, *arguments: int) -> int:
        """Execute the `int $0x82` of the hypercall page, nothing else; the answer, signed."""
        cpu = self.machine.cpu
        cpu.eip = self.image.labels["hypercall_page"] + Hypercall.XEN_VERSION * HYPERCALL_ENTRY_BYTES + _MOV_EAX_BYTES
        cpu.eax = number
        for name, value in zip(("ebx", "ecx", "edx", "esi", "edi"), arguments, strict=False):
            setattr(cpu, name, value & 0xFFFFFFFF)
        self.stop = self.machine.run(max_instructions=1)
        return cpu.eax - (cpu.eax >> 31 << 32)

    def map_kernel_page(self, linear: int, rights: int) -> int:
        """The kernel's own mapping of one of its pages; the answer of Xen."""
        return self.hypercall(Hypercall.UPDATE_VA_MAPPING, linear, self.frame(linear) << 12 | rights, 0, 2)

    @property
    def vcpu_info(self) -> int:
        return self.word("per_cpu__xen_vcpu")

    @property
    def masked(self) -> bool:
        return self.machine.read_linear(self.vcpu_info + VCPU_EVTCHN_UPCALL_MASK, 1) != b"\0"

    @masked.setter
    def masked(self, value: bool) -> None:
        self.machine.write_linear(self.vcpu_info + VCPU_EVTCHN_UPCALL_MASK, bytes((value,)))

    @property
    def pending(self) -> bool:
        return self.machine.read_linear(self.vcpu_info + VCPU_EVTCHN_UPCALL_PENDING, 1) != b"\0"

    def frame(self, label: str | int) -> int:
        """Machine frame of a page of the kernel."""
        return self.frames[(self.image.labels[label] if isinstance(label, str) else label) - PAGE_OFFSET >> 12]

    def machine_address(self, label: str | int) -> int:
        """Machine address of what is in a page of the kernel."""
        linear = self.image.labels[label] if isinstance(label, str) else label
        return self.frame(linear) << 12 | linear & 0xFFF

    def entry(self, pfn: int, rights: int) -> int:
        """An entry as the kernel hands it to set_pte: releases without make_pte number frames as they do."""
        return (self.frames[pfn] if "make_pte" in self.image.era else pfn) << 12 | rights

    def mmuext(self, command: int, argument: int, entries: int = 0) -> int:
        """One mmuext_op; the answer."""
        return self.hypercall(Hypercall.MMUEXT_OP, self.store(command, argument, entries), 1, 0, DOMID_SELF)

    def mmu_update(self, pointer: int, value: int) -> int:
        """One mmu_update, of a machine address; the answer."""
        return self.hypercall(Hypercall.MMU_UPDATE, self.store(pointer, 0, value, 0), 1, 0, DOMID_SELF)

    def assert_uses_are_right(self) -> None:
        """Count the uses of every frame anew, from the page tables in memory, and compare with what Xen believes."""
        known = {frame: self.xen.page(frame) for frame in self.frames}
        counted: Counter[tuple[int, str]] = Counter()
        for frame, (kind, _, pinned) in known.items():
            if pinned:
                counted[frame, kind] += 1
            if kind in ("L1", "L2"):
                used = 1024 if kind == "L1" else HYPERVISOR_VIRT_START >> 22
                for entry in struct.unpack(f"<{used}I", self.machine.read(frame << 12, 4 * used)):
                    if entry & 1 and (kind == "L2" or entry & 2):
                        counted[entry >> 12, "L1" if kind == "L2" else "writable"] += 1
        counted[self.machine.cpu.cr3 >> 12, "L2"] += 1
        if self.image.vcpu_info_is_placed:
            counted[self.frame("boot_pda"), "writable"] += 1
        for frame, (kind, uses, _) in known.items():
            if kind not in ("GDT", "LDT"):
                assert uses == counted[frame, kind], (hex(frame), kind)
            assert sum(counted[frame, other] for other in ("L1", "L2", "writable") if other != kind) == 0, hex(frame)

    def call(self, label: str, eax: int = 0, edx: int = 0, ecx: int = 0, *stack: int) -> int:
        """Call a function of the kernel; EAX."""
        cpu = self.machine.cpu
        esp = cpu.esp
        cpu.eax, cpu.edx, cpu.ecx, cpu.eip = eax, edx, ecx, self.image.labels[label]
        cpu.esp -= 4 * (1 + len(stack))
        self.store(self.image.labels["bench_done"], *stack, at=cpu.esp)
        self.run_to("bench_done", BENCH_INSTRUCTIONS)
        cpu.esp = esp
        return cpu.eax


def others_frames(domain: Domain) -> list[int]:
    """The frames of the machine that another domain has."""
    return sorted(set(range(max(domain.frames))) - set(domain.frames))
