"""What instructions are: facts as rows of plain Python, standard library only.

Enters: the manual. Leaves: `FORMS`, a tuple of rows that the generator (generate.py), the decoder, the tests and the
documentation read. Next: form.py (what a row holds), then forms_integer.py.
"""
