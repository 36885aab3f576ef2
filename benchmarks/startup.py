"""What a user waits for before anything is measured: import, assembling the guest kernel, its boot, the matrix.

Next: machine.py for machines without a kernel; memory.py for what all of it takes.
"""

from .guest import FORMS, HYPERVISORS, find_setting, require_guest

try:
    from pvfast.experiments import boot, run_matrix
except ImportError:
    boot = run_matrix = None


class Process:
    """Host time in a new Python process, which has imported nothing."""

    version = "1"

    def setup(self):
        require_guest()

    def timeraw_import(self):
        return "import pvfast.experiments"

    def timeraw_build_guest(self):
        return "build()", "from pvfast.guest import build"

    timeraw_import.pretty_name = "Start: import pvfast.experiments"
    timeraw_build_guest.pretty_name = "Start: assembling the guest kernel"


class Boot:
    """Host time of a machine for a hypervisor, and of the guest kernel's boot; what the kernel executes until then."""

    version = "1"
    params = (HYPERVISORS, FORMS)
    param_names = ("hypervisor", "form")

    def setup(self, hypervisor, form):
        self.image = find_setting(hypervisor).formed(form)

    def time_boot(self, hypervisor, form):
        boot(self.image, hypervisor)

    def track_instructions(self, hypervisor, form):
        return boot(self.image, hypervisor).counters.instructions

    def track_cycles(self, hypervisor, form):
        return boot(self.image, hypervisor).counters.cycles

    time_boot.pretty_name = "Boot: host time"
    track_instructions.pretty_name = "Boot: instructions"
    track_instructions.unit = "instructions"
    track_cycles.pretty_name = "Boot: modelled cycles"
    track_cycles.unit = "modelled cycles"


class Matrix:
    """Host time of what ``pvfast run`` measures: every row under one hypervisor, and under all of them."""

    version = "1"
    params = (*HYPERVISORS, "all")
    param_names = ("hypervisor",)
    timeout = 600
    number, repeat, rounds, warmup_time = 1, (1, 3, 20.0), 1, 0

    def setup(self, hypervisor):
        names = HYPERVISORS if hypervisor == "all" else (hypervisor,)
        for name in names:
            find_setting(name)
        self.names = names

    def time_matrix(self, hypervisor):
        run_matrix(self.names)

    time_matrix.pretty_name = "pvfast run: host time of the matrix"
