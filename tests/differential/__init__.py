"""Proof against an independent emulator and the host's processor: the same bytes, compared state by state.

Reading order: encoder.py (rows to bytes), differences.py (what is not compared, and why), builder.py (programs of
known addresses), instructions.py and families.py (one instruction of a row), cases.py (what is tried), runners.py (both
emulators), host/ (the processor), fuzz.py (`python -m tests.differential.fuzz`).
published.py: cases that others wrote. sixteen.py stands beside: real mode, one instruction a case.
"""
