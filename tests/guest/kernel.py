"""The guest kernel in a machine, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import Hypervisor
from pvfast.paravirt.hypervisors import hypervisor as find_hypervisor

BOOT_INSTRUCTIONS = 500_000
BENCH_INSTRUCTIONS = 10_000_000
FAULT_RECORD = ("vector", "error_code", "eip", "cs", "eflags", "esp", "eax", "cr2", "count")


class Kernel:
    """The kernel at its entry under a hypervisor, until `boot`.

    Its variables are looked at where they are in memory, whatever a shadow page table has of them.
    """

    def __init__(self, image: GuestImage, hypervisor: str | Hypervisor = "native", ram: str = "16M",
                 processor: str = "generic") -> None:
        self.image = image
        self.hypervisor = find_hypervisor(hypervisor) if isinstance(hypervisor, str) else hypervisor
        self.machine = pvfast.Machine(ram=ram, processor=processor, hypervisor=self.hypervisor)
        self.hypervisor.start(self.machine, image)

    def boot(self) -> "Kernel":
        self.run_to("boot_done", BOOT_INSTRUCTIONS)
        return self

    def run_to(self, label: str, max_instructions: int) -> None:
        stop = self.machine.run(until=self.image.labels[label], max_instructions=max_instructions)
        assert stop.reason is pvfast.StopReason.UNTIL, f"{stop}; {self.machine.cpu.registers()}; {self.fault()}"

    def read(self, linear: int) -> int:
        return int.from_bytes(self.machine.read(self.image.to_physical(linear), 4), "little")

    def write(self, linear: int, data: bytes) -> None:
        self.machine.write(self.image.to_physical(linear), data)

    def word(self, label: str, index: int = 0) -> int:
        return self.read(self.image.labels[label] + 4 * index)

    def store(self, *words: int, at: int | None = None) -> int:
        """Words, in the scratch page unless told; their linear address."""
        address = self.scratch if at is None else at
        self.write(address, b"".join((word % 2**32).to_bytes(4, "little") for word in words))
        return address

    def fault(self) -> dict[str, int]:
        return {name: self.word("fault_record", index) for index, name in enumerate(FAULT_RECORD)}

    @property
    def stack_top(self) -> int:
        """Where ESP is when the kernel idles."""
        return self.image.labels["init_thread_union"] + 8192

    @property
    def scratch(self) -> int:
        """Linear address of a page of the kernel's that is free for arguments and code."""
        return self.image.labels["user_data_page"]

    def execute(self, code: str, steps: int = 1) -> None:
        """Run instructions, given in hexadecimal, at the start of the scratch page's second half."""
        self.write(self.scratch + 0x800, bytes.fromhex(code))
        self.machine.cpu.eip = self.scratch + 0x800
        self.machine.run(max_instructions=steps)

    def enter(self, name: str, iterations: int) -> None:
        """Stand at a benchmark's first instruction."""
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations

    def bench(self, name: str, iterations: int = 1, max_instructions: int = BENCH_INSTRUCTIONS) -> int:
        """Run a benchmark by its protocol; instructions it retired."""
        before = self.machine.counters.instructions
        self.enter(name, iterations)
        self.run_to("bench_done", max_instructions)
        return self.machine.counters.instructions - before

    def per_iteration(self, name: str) -> int:
        """Instructions of one iteration, the loop itself subtracted."""
        total = self.bench(name, 200) - self.bench(name, 100)
        assert total % 100 == 0
        baseline = self.image.benchmarks[name].baseline
        return total // 100 - (self.per_iteration(baseline) if baseline else 0)
