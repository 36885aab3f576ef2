"""Showing results: ``tables.py`` for people and machines, ``progress.py`` for the impatient, ``html.py`` for sharing.

Nothing else formats. The page: ``contents.py`` gathers what it shows, ``history.py`` reads asv's results,
``plots.py`` draws, ``provenance.py`` says where the figures are from.
"""
