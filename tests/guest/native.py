"""A machine with the guest kernel in it, and the words the tests use for it."""

import pvfast
from pvfast.guest import GuestImage

BOOT_INSTRUCTIONS = 200_000
BENCH_INSTRUCTIONS = 10_000_000


class Booted:
    """A machine that holds `image`; not started yet."""

    def __init__(self, image: GuestImage) -> None:
        self.image = image
        self.machine = pvfast.Machine(ram="16M")
        image.load(self.machine)

    def run_to(self, label: str, max_instructions: int) -> None:
        stop = self.machine.run(until=self.image.labels[label], max_instructions=max_instructions)
        assert stop.reason is pvfast.StopReason.UNTIL, f"{stop}; {self.fault()}"

    def word(self, label: str, index: int = 0) -> int:
        raw = self.machine.read_linear(self.image.labels[label] + 4 * index, 4)
        return int.from_bytes(raw, "little")

    def fault(self) -> dict[str, int]:
        names = ("vector", "error_code", "eip", "cs", "eflags", "esp", "eax", "cr2", "count")
        return {name: self.word("fault_record", index) for index, name in enumerate(names)}

    @property
    def stack_top(self) -> int:
        """Where ESP is when the kernel idles."""
        return self.image.labels["init_thread_union"] + 8192

    def bench(self, name: str, iterations: int, max_instructions: int = BENCH_INSTRUCTIONS) -> int:
        """Run a benchmark by its protocol; instructions it retired."""
        before = self.machine.counters.instructions
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations
        self.run_to("bench_done", max_instructions)
        return self.machine.counters.instructions - before

    def per_iteration(self, name: str) -> int:
        """Instructions of one iteration, the loop itself subtracted."""
        total = self.bench(name, 200) - self.bench(name, 100)
        assert total % 100 == 0
        baseline = self.image.benchmarks[name].baseline
        return total // 100 - (self.per_iteration(baseline) if baseline else 0)
