"""A machine with the built-in guest under VMI, and the words the tests use for it."""

from pvfast.guest import GuestImage
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
from tests.guest.kernel import BENCH_INSTRUCTIONS, Kernel

SHARED = LOWMEM_LINEAR + SHARED_PHYSICAL


def trap(number: VmiCall) -> int:
    """Linear address of the trap in a call's slot."""
    slot = rom().relocations[number][1]
    return slot + rom().code[slot - LOWMEM_LINEAR - ROM_PHYSICAL:].index(bytes((0xCD, VMI_VECTOR)))


class Guest(Kernel):
    """The kernel at its first instruction, until `boot`."""

    def __init__(self, image: GuestImage, vmi: Vmi | None = None, ram: str = "16M") -> None:
        self.vmi = vmi or Vmi()
        super().__init__(image, self.vmi, ram)

    def run_to_user(self, name: str, iterations: int) -> None:
        """Start a benchmark's user program, and stop in its loop, where its page has been used already."""
        self.enter(name, iterations)
        self.run_to("system_call", BENCH_INSTRUCTIONS)
        self.run_to(f"user_{name}", BENCH_INSTRUCTIONS)

    def call(self, number: VmiCall, *arguments: int) -> int:
        """Execute the trap of a call's slot, nothing else; the answer."""
        cpu = self.machine.cpu
        cpu.eip = trap(number)
        for name, value in zip(("eax", "edx", "ecx"), arguments, strict=False):
            setattr(cpu, name, value % 2**32)
        cpu.esp -= 4 * max(len(arguments) - 2, 1)
        self.store(0, *arguments[3:], at=cpu.esp)
        self.stop = self.machine.run(max_instructions=1)
        return cpu.eax

    @property
    def enabled(self) -> bool:
        """The virtual interrupt flag."""
        return self.read(SHARED + SHARED_IF) != 0

    @property
    def pending(self) -> bool:
        return self.read(SHARED + SHARED_PENDING) != 0
