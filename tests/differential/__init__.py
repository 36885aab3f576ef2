"""Proof against an independent emulator: the same bytes, run by pvfast and by Unicorn, compared state by state.

Reading order: encoder.py (rows to bytes), differences.py (what is not compared, and why), builder.py (programs of
known addresses), cases.py (what is tried), runners.py (both emulators), fuzz.py (`python -m tests.differential.fuzz`).
"""
