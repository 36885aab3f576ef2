"""Memory: the most that a process takes, Python and all. Next: startup.py, the same in time."""

from .guest import FORMS, HYPERVISORS, WORKLOADS, find_run, find_setting

try:
    from pvfast.experiments import boot
except ImportError:
    boot = None
try:
    from pvfast.experiments.sweep import points, sweep
except ImportError:
    sweep = None


class Guest:
    """A booted guest kernel in its machine of 16 MiB."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        self.setting = find_setting(hypervisor)

    def peakmem_boot(self, hypervisor):
        return boot(self.setting.image, hypervisor)

    peakmem_boot.pretty_name = "Memory: a booted guest"


class Workloads:
    """The same after every workload."""

    version = "1"
    params = HYPERVISORS
    param_names = ("hypervisor",)

    def setup(self, hypervisor):
        self.run = find_run(hypervisor, FORMS[0], WORKLOADS[0])

    def peakmem_workloads(self, hypervisor):
        for workload in WORKLOADS:
            self.run.loop(workload, 1)

    peakmem_workloads.pretty_name = "Memory: a guest that has run every workload"


class Sweep:
    """A sweep over the workloads in every form, its machines in threads."""

    version = "1"
    timeout = 600

    def setup(self):
        if sweep is None:
            raise NotImplementedError("this commit has no sweeps")

    def peakmem_sweep(self):
        return sweep(points(WORKLOADS, forms=FORMS))

    peakmem_sweep.pretty_name = "Memory: a sweep"
