"""Showing results: ``tables.py`` for people and machines, ``progress.py`` for the impatient.

Nothing else formats. Plots and the HTML page will live here too.
"""
