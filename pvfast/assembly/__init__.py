"""Text <-> bytes: assembler, disassembler and NOP families.

Read ``assembler.py`` first; ``disassembler.py`` goes the other way; ``nops.py`` is a table.
"""

from pvfast.assembly.assembler import AssembledSection, Assembler, Assembly, Program, assemble
from pvfast.assembly.disassembler import Instruction, disassemble, show_code
from pvfast.assembly.nops import FAMILIES, NOP_MAX, nops

__all__ = [
    "FAMILIES",
    "NOP_MAX",
    "AssembledSection",
    "Assembler",
    "Assembly",
    "Instruction",
    "Program",
    "assemble",
    "disassemble",
    "nops",
    "show_code",
]
