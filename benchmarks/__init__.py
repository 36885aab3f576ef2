"""Benchmarks for asv, and the comparison with other engines; run by `make bench` and `make bench-peers`.

Rules: figures that are equal on every run are `track_*` with a unit; host time is `time_*`, or a ratio of
interleaved pairs. Parameters are fixed lists. What does not exist, here or in an old commit, raises
NotImplementedError in `setup` and shows as n/a. Start with dispatch.py; then programs.py (the general workloads) and
engines.py (who runs them).
"""
