"""A machine with the built-in guest under lhype, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import lhype_interface as interface
from pvfast.paravirt.hypervisors.lhype_interface import LGUEST_DATA_BLOCKED_INTERRUPTS, LGUEST_DATA_IRQ_ENABLED, Lhcall
from tests.guest.kernel import Kernel

PAGE_OFFSET = 0xC0000000
IF = 0x200
#: int $0x1f
HCALL = bytes.fromhex("cd1f")


class Guest(Kernel):
    """The guest, behind its signature until `boot`."""

    def __init__(self, image: GuestImage, ram: str = "16M") -> None:
        super().__init__(image, "lhype", ram)
        self.lhype = self.hypervisor

    def physical(self, label: str) -> int:
        return self.image.labels[label] - PAGE_OFFSET

    def execute(self, code: bytes, steps: int = 1) -> pvfast.Stop:
        """Run instructions in the second half of the scratch page, which is mapped when it is first touched."""
        address = self.scratch + 0x800
        self.write(address, code)
        self.machine.cpu.eip = address
        before = self.lhype.demand_pages
        stop = self.machine.run(max_instructions=1)
        while self.lhype.demand_pages != before:        # the fault was all that the budget was for
            before = self.lhype.demand_pages
            stop = self.machine.run(max_instructions=1)
        return self.machine.run(max_instructions=steps - 1) if steps > 1 else stop

    def hypercall(self, number: int, edx: int = 0, ebx: int = 0, ecx: int = 0) -> pvfast.Stop:
        """Execute one `int $0x1f`."""
        cpu = self.machine.cpu
        cpu.eax, cpu.edx, cpu.ebx, cpu.ecx = number, edx & 0xFFFFFFFF, ebx & 0xFFFFFFFF, ecx & 0xFFFFFFFF
        return self.execute(HCALL)

    def async_hcall(self, slot: int, number: Lhcall, edx: int = 0, ebx: int = 0, ecx: int = 0) -> None:
        """Into the ring, as lhype_lazy_hcall does it."""
        data = self.image.labels["lguest_data"]
        entry = data + interface.LGUEST_DATA_HCALLS + slot * interface.LHCALL_ENTRY_BYTES
        self.store(number, edx, ebx, ecx, at=entry)
        self.write(data + interface.LGUEST_DATA_HCALL_STATUS + slot, bytes((interface.LHCALL_PENDING,)))

    @property
    def enabled(self) -> bool:
        return bool(self.read(self.image.labels["lguest_data"] + LGUEST_DATA_IRQ_ENABLED) & IF)

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self.store(IF * value, at=self.image.labels["lguest_data"] + LGUEST_DATA_IRQ_ENABLED)

    @property
    def blocked(self) -> int:
        return self.read(self.image.labels["lguest_data"] + LGUEST_DATA_BLOCKED_INTERRUPTS)

    @blocked.setter
    def blocked(self, value: int) -> None:
        self.store(value, at=self.image.labels["lguest_data"] + LGUEST_DATA_BLOCKED_INTERRUPTS)
