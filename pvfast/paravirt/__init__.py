"""Paravirtualisation as Linux does it: operations, patch sites, the patcher, probing, hypervisors.

Read ``operations.py`` for the table, ``sites.py`` and ``shapes.py`` for what is patched, ``patcher.py`` for
how, and ``hypervisors/`` for by what; ``poking.py``, ``alternatives.py``, ``smp_alternatives.py``, ``boot_patching.py``
and ``modules.py`` for the rest of what a kernel does to its own code.
"""
