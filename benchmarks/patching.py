"""Patching: a site rewritten and run, by host and by guest, and a whole kernel patched as at its boot.

Next: latencies.py for the site; pvfast/paravirt/patcher.py for the kernel.
"""

try:
    from .latencies import Machine, pvfast_rewrite
    from .programs import loaded
except ImportError:
    Machine = None
try:
    from pvfast.guest import build
    from pvfast.paravirt.hypervisors import hypervisor as find_hypervisor
except ImportError:
    build = None

HYPERVISORS = ("native", "xen", "lhype", "vmi", "kvm", "full")


class PatchAndRun:
    """Host time to write a 10-byte site and run it, a thousand times; and of a guest that patches itself."""

    version = "1"

    def setup(self):
        if Machine is None:
            raise NotImplementedError("this commit has no Machine")
        self.machine, self.done = loaded("patch_itself", 100_000)
        self.start = self.machine.cpu.eip

    def time_rewrite_by_host(self):
        pvfast_rewrite(1_000)

    def time_patches_itself(self):
        self.machine.cpu.eip = self.start
        self.machine.run(until=self.done)


class ApplyParavirt:
    """All sites of the built-in guest kernel, as `apply_paravirt` does it."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        if build is None:
            raise NotImplementedError("this commit has no guest kernel")
        self.image = build()
        self.patch = find_hypervisor(hypervisor).patcher(self.image.patch_context(hypervisor))

    def time_patched(self, hypervisor):
        self.image.patched(self.patch)

    def track_changed_bytes(self, hypervisor):
        after = self.image.patched(self.patch).code
        return sum(a != b for a, b in zip(self.image.code, after, strict=True))

    track_changed_bytes.unit = "bytes"
