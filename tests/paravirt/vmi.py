"""A machine with the built-in guest under VMI, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import Hypervisor
from pvfast.paravirt.hypervisors.vmi import Vmi
from pvfast.paravirt.hypervisors.vmi_interface import (
    LOWMEM_LINEAR,
    ROM_PHYSICAL,
    SHARED_IF,
    SHARED_PENDING,
    SHARED_PHYSICAL,
    VMI_VECTOR,
    VmiCall,
)
from pvfast.paravirt.hypervisors.vmi_rom import rom

BOOT_INSTRUCTIONS = 200_000
BENCH_INSTRUCTIONS = 10_000_000
SHARED = LOWMEM_LINEAR + SHARED_PHYSICAL


def trap(number: VmiCall) -> int:
    """Linear address of the trap in a call's slot."""
    slot = rom().relocations[number][1]
    return slot + rom().code[slot - LOWMEM_LINEAR - ROM_PHYSICAL:].index(bytes((0xCD, VMI_VECTOR)))


class Guest:
    """The kernel at its first instruction, until `boot`."""

    def __init__(self, image: GuestImage, vmi: Vmi | None = None, ram: str = "16M") -> None:
        self.image = image
        self.vmi = vmi or Vmi()
        self.machine = pvfast.Machine(ram=ram, hypervisor=self.vmi)
        host: Hypervisor = self.vmi
        host.start(self.machine, image)

    def boot(self) -> "Guest":
        self.run_to("boot_done", BOOT_INSTRUCTIONS)
        return self

    def run_to(self, label: str, max_instructions: int) -> None:
        stop = self.machine.run(until=self.image.labels[label], max_instructions=max_instructions)
        assert stop.reason is pvfast.StopReason.UNTIL, f"{stop}; {self.machine.cpu.registers()}; {self.fault()}"

    def word(self, label: str, index: int = 0) -> int:
        return self.read(self.image.labels[label] + 4 * index)

    def read(self, linear: int) -> int:
        return int.from_bytes(self.machine.read_linear(linear, 4), "little")

    def write(self, linear: int, *words: int) -> None:
        self.machine.write_linear(linear, b"".join((word % 2**32).to_bytes(4, "little") for word in words))

    def fault(self) -> dict[str, int]:
        names = ("vector", "error_code", "eip", "cs", "eflags", "esp", "eax", "cr2", "count")
        return {name: self.word("fault_record", index) for index, name in enumerate(names)}

    def bench(self, name: str, iterations: int, max_instructions: int = BENCH_INSTRUCTIONS) -> int:
        """Run a benchmark by its protocol; instructions it retired."""
        before = self.machine.counters.instructions
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations
        self.run_to("bench_done", max_instructions)
        return self.machine.counters.instructions - before

    def run_to_user(self, name: str, iterations: int) -> None:
        """Start a benchmark's user program, and stop in its loop, where its page has been used already."""
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations
        self.run_to("system_call", BENCH_INSTRUCTIONS)
        self.run_to(f"user_{name}", BENCH_INSTRUCTIONS)

    @property
    def scratch(self) -> int:
        """Linear address of a page for arguments."""
        return self.image.labels["user_data_page"]

    def call(self, number: VmiCall, *arguments: int) -> int:
        """Execute the trap of a call's slot, nothing else; the answer."""
        cpu = self.machine.cpu
        cpu.eip = trap(number)
        for name, value in zip(("eax", "edx", "ecx"), arguments, strict=False):
            setattr(cpu, name, value % 2**32)
        self.write(cpu.esp - 4 * max(len(arguments) - 2, 1), 0, *arguments[3:])
        cpu.esp -= 4 * max(len(arguments) - 2, 1)
        self.stop = self.machine.run(max_instructions=1)
        return cpu.eax

    def execute(self, code: str, steps: int = 1) -> None:
        """Run instructions, given in hexadecimal, at the start of the scratch page's second half."""
        address = self.scratch + 0x800
        self.machine.write_linear(address, bytes.fromhex(code))
        self.machine.cpu.eip = address
        self.machine.run(max_instructions=steps)

    @property
    def enabled(self) -> bool:
        """The virtual interrupt flag."""
        return self.read(SHARED + SHARED_IF) != 0

    @property
    def pending(self) -> bool:
        return self.read(SHARED + SHARED_PENDING) != 0
