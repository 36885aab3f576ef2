"""A machine with the built-in guest under Xen, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage
from pvfast.paravirt.hypervisors import hypervisor
from pvfast.paravirt.hypervisors.xen_interface import (
    HYPERCALL_ENTRY_BYTES,
    VCPU_EVTCHN_UPCALL_MASK,
    VCPU_EVTCHN_UPCALL_PENDING,
    Hypercall,
)

BOOT_INSTRUCTIONS = 200_000
BENCH_INSTRUCTIONS = 1_000_000
_MOV_EAX_BYTES = 5


class Domain:
    """The guest, at its Xen entry until `boot`."""

    def __init__(self, image: GuestImage, ram: str = "16M") -> None:
        self.image = image
        self.xen = hypervisor("xen")
        self.machine = pvfast.Machine(ram=ram, hypervisor=self.xen)
        self.xen.start(self.machine, image)

    def boot(self) -> "Domain":
        self.run_to("boot_done", BOOT_INSTRUCTIONS)
        return self

    def run_to(self, label: str, max_instructions: int) -> None:
        stop = self.machine.run(until=self.image.labels[label], max_instructions=max_instructions)
        assert stop.reason is pvfast.StopReason.UNTIL, f"{stop}; {self.machine.cpu.registers()}; {self.fault()}"

    def word(self, label: str, index: int = 0) -> int:
        return self.read(self.image.labels[label] + 4 * index)

    def read(self, linear: int) -> int:
        return int.from_bytes(self.machine.read_linear(linear, 4), "little")

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

    @property
    def scratch(self) -> int:
        """Linear address of a page for arguments."""
        return self.image.labels["user_stack_page"]

    def store(self, *words: int, at: int | None = None) -> int:
        """Words in the scratch page; their address."""
        address = self.scratch if at is None else at
        self.machine.write_linear(address, b"".join(word.to_bytes(4, "little") for word in words))
        return address

    def hypercall(self, number: int, *arguments: int) -> int:
        """Execute the `int $0x82` of the hypercall page, nothing else; the answer, signed."""
        cpu = self.machine.cpu
        cpu.eip = self.image.labels["hypercall_page"] + Hypercall.XEN_VERSION * HYPERCALL_ENTRY_BYTES + _MOV_EAX_BYTES
        cpu.eax = number
        for name, value in zip(("ebx", "ecx", "edx", "esi", "edi"), arguments, strict=False):
            setattr(cpu, name, value & 0xFFFFFFFF)
        self.stop = self.machine.run(max_instructions=1)
        return cpu.eax - (cpu.eax >> 31 << 32)

    def execute(self, code: str, steps: int = 1) -> None:
        """Run instructions, given in hexadecimal, at the start of the scratch page's second half."""
        address = self.scratch + 0x800
        self.machine.write_linear(address, bytes.fromhex(code))
        self.machine.cpu.eip = address
        self.machine.run(max_instructions=steps)

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
