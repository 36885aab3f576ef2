"""Benchmarks for asv: ``asv run``, ``asv publish``."""
