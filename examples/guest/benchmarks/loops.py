"""The loops of the kernel: exact figures, the same on every machine, and the host's time."""

from small_kernel import FORMS, LOOPS, Guest, build, per_iteration

ITERATIONS = 10_000


class Loop:
    """One loop, its patch sites in one form."""

    version = "1"
    params = (LOOPS, FORMS)
    param_names = ("loop", "form")

    def track_instructions(self, loop, form):
        return per_iteration(loop, form).instructions

    def track_cycles(self, loop, form):
        return per_iteration(loop, form).cycles

    def time_loop(self, loop, form):
        Guest(form).loop(loop, ITERATIONS)

    track_instructions.unit = "instructions/iteration"
    track_cycles.unit = "modelled cycles/iteration"
    time_loop.pretty_name = f"Host time of {ITERATIONS:,} iterations"


class Processor:
    """What indirect calls cost the critical section, by processor model."""

    version = "1"
    params = ("pentium4", "k8", "nehalem", "skylake", "skylake-retpoline", "zen")
    param_names = ("processor",)

    def track_overhead(self, processor):
        indirect, patched = (per_iteration("critical_section", form, processor) for form in ("indirect", "patched"))
        return 100 * (indirect.cycles / patched.cycles - 1)

    track_overhead.unit = "%"


def track_site_bytes():
    return build().site_bytes


track_site_bytes.unit = "bytes"
