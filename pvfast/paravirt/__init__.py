"""Paravirtualisation as Linux does it: operations, patch sites, the patcher, probing, hypervisors.

Read ``operations.py`` for the table, ``sites.py`` and ``shapes.py`` for what is patched, ``patcher.py`` for
how, and ``hypervisors/`` for by what.
"""
