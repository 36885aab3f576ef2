"""A machine with the built-in guest under lhype, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors import lhype_interface as interface
from pvfast.paravirt.hypervisors.lhype_interface import LGUEST_DATA_BLOCKED_INTERRUPTS, LGUEST_DATA_IRQ_ENABLED, Lhcall

BOOT_INSTRUCTIONS = 200_000
BENCH_INSTRUCTIONS = 10_000_000
PAGE_OFFSET = 0xC0000000
IF = 0x200
#: int $0x1f
HCALL = bytes.fromhex("cd1f")


class Guest:
    """The guest, behind its signature until `boot`."""

    def __init__(self, image: GuestImage, ram: str = "16M") -> None:
        self.image = image
        self.lhype = hypervisor("lhype")
        self.machine = pvfast.Machine(ram=ram, hypervisor=self.lhype)
        self.lhype.start(self.machine, image)

    def boot(self) -> "Guest":
        self.run_to("boot_done", BOOT_INSTRUCTIONS)
        return self

    def run_to(self, label: str, max_instructions: int) -> None:
        stop = self.machine.run(until=self.image.labels[label], max_instructions=max_instructions)
        assert stop.reason is pvfast.StopReason.UNTIL, f"{stop}; {self.lhype.killed}; {self.fault()}"

    # The shadow maps only what has been touched, so memory is looked at where it is.

    def word(self, label: str, index: int = 0) -> int:
        return self.read(self.image.labels[label] + 4 * index)

    def read(self, linear: int) -> int:
        return int.from_bytes(self.machine.read(linear - PAGE_OFFSET, 4), "little")

    def write(self, linear: int, data: bytes) -> None:
        self.machine.write(linear - PAGE_OFFSET, data)

    def fault(self) -> dict[str, int]:
        names = ("vector", "error_code", "eip", "cs", "eflags", "esp", "eax", "cr2", "count")
        return {name: self.word("fault_record", index) for index, name in enumerate(names)}

    def enter(self, name: str, iterations: int) -> None:
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations

    def bench(self, name: str, iterations: int = 1, max_instructions: int = BENCH_INSTRUCTIONS) -> int:
        """Run a benchmark by its protocol; instructions it retired."""
        before = self.machine.counters.instructions
        self.enter(name, iterations)
        self.run_to("bench_done", max_instructions)
        return self.machine.counters.instructions - before

    @property
    def scratch(self) -> int:
        """Linear address of a page of the kernel's that is free for arguments and code."""
        return self.image.labels["user_data_page"]

    def store(self, *words: int, at: int | None = None) -> int:
        """Words in the scratch page; their linear address."""
        address = self.scratch if at is None else at
        self.write(address, b"".join(word.to_bytes(4, "little") for word in words))
        return address

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
