"""All rows, in the order of the opcode tables' making.

Enters: forms_*.py. Leaves: `FORMS`. Next: generate.py.
"""
from pvfast.isa import forms_integer, forms_system, forms_vector, forms_x87

FORMS = forms_integer.FORMS + forms_system.FORMS + forms_vector.FORMS + forms_x87.FORMS
