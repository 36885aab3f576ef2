"""Benchmarks for asv, and the comparison with other engines; run by `make bench` and `make bench-peers`.

Rules: figures that are equal on every run are `track_*` with a unit; host time is `time_*`, or a ratio of
interleaved pairs. Parameters are fixed lists. What does not exist, here or in an old commit, raises
NotImplementedError in `setup` and shows as n/a. Every benchmark has a `pretty_name`, which is its title in asv's pages.

The suites: dispatch.py (operations), workloads.py (the guest kernel's), hypercalls.py, patching.py, startup.py,
memory.py, core.py (programs without a kernel), machine.py, exits.py, peers.py. Start with guest.py, what most of them
run; then programs.py (the general programs) and engines.py (who runs them).
"""
