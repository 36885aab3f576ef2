"""Patching: a site rewritten and run, by host and by guest, and a whole kernel patched as at its boot.

Next: latencies.py for the site; pvfast/paravirt/patcher.py for the kernel.
"""

from .guest import HYPERVISORS, OPERATIONS, find_setting

try:
    from .latencies import Machine, pvfast_rewrite
    from .programs import loaded
except ImportError:
    Machine = None

REWRITES = 1_000


class PatchAndRun:
    """Host time to write a 10-byte site and run it, REWRITES times; and of a guest that patches itself."""

    version = "1"

    def setup(self):
        if Machine is None:
            raise NotImplementedError("this commit has no Machine")
        self.machine, self.done = loaded("patch_itself", 100_000)
        self.start = self.machine.cpu.eip

    def time_rewrite_by_host(self):
        pvfast_rewrite(REWRITES)

    def time_patches_itself(self):
        self.machine.cpu.eip = self.start
        self.machine.run(until=self.done)

    time_rewrite_by_host.pretty_name = f"Patching: {REWRITES:,} sites rewritten by the host and run"
    time_patches_itself.pretty_name = "Patching: a guest that patches itself"


def changed(before: bytes, after: bytes) -> int:
    """Bytes that differ."""
    return sum(a != b for a, b in zip(before, after, strict=True))


class ApplyParavirt:
    """All sites of the built-in guest kernel, as `apply_paravirt` does it."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        self.setting = find_setting(hypervisor)

    def time_patched(self, hypervisor):
        self.setting.formed("patched")

    def track_sites(self, hypervisor):
        return len(self.setting.image.sites)

    def track_patched_sites(self, hypervisor):
        after = self.setting.formed("patched")
        return sum(self.setting.image.read(site.address, site.length) != after.read(site.address, site.length)
                   for site in self.setting.image.sites)

    def track_changed_bytes(self, hypervisor):
        return changed(self.setting.image.code, self.setting.formed("patched").code)

    time_patched.pretty_name = "Patching: host time of all sites of the kernel"
    track_sites.pretty_name = "Patching: sites of the kernel"
    track_sites.unit = "sites"
    track_patched_sites.pretty_name = "Patching: sites that the hypervisor changes"
    track_patched_sites.unit = "sites"
    track_changed_bytes.pretty_name = "Patching: bytes of the kernel that change"
    track_changed_bytes.unit = "bytes"


class Site:
    """The patch sites of one operation: their length, and how much of it the hypervisor changes."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS)
    param_names = ("hypervisor", "operation")

    def setup(self, hypervisor, operation):
        setting = find_setting(hypervisor)
        if operation not in setting.image.benchmarks:
            raise NotImplementedError(f"this commit has no {operation}")
        sites = [setting.image.site(label) for label in setting.image.benchmarks[operation].sites]
        after = setting.formed("patched")
        self.bytes = sum(site.length for site in sites)
        self.changed = sum(changed(*(image.read(site.address, site.length) for image in (setting.image, after)))
                           for site in sites)

    def track_bytes(self, hypervisor, operation):
        return self.bytes

    def track_changed_bytes(self, hypervisor, operation):
        return self.changed

    track_bytes.pretty_name = "Operation: bytes of its patch sites"
    track_bytes.unit = "bytes"
    track_changed_bytes.pretty_name = "Operation: bytes of its patch sites that change"
    track_changed_bytes.unit = "bytes"
