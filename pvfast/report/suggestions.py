"""Names for people who typed another: a mnemonic that the core does not know enters, those it may stand for leave.

The core's table has one name per instruction, without AT&T's size suffixes and with one of each pair of equal
conditions. Next: ``pvfast/cli.py`` puts them into its message.
"""

from collections.abc import Collection
from difflib import get_close_matches

#: Other name of a condition -> the one in the table (SDM 2, Jcc).
_CONDITIONS = {
    "E": "Z", "NE": "NZ", "C": "B", "NAE": "B", "NC": "NB", "AE": "NB", "NA": "BE", "A": "NBE", "NGE": "L", "GE": "NL",
    "NG": "LE", "G": "NLE", "PE": "P", "PO": "NP",
}
_CONDITIONAL = ("J", "SET", "CMOV", "LOOP")
_SIZES = "BWL"


def suggest_mnemonics(mnemonic: str, known: Collection[str]) -> list[str]:
    """The instructions that somebody may have meant.

    Parameters
    ----------
    mnemonic : str
        What was typed, in any case.
    known : collection of str
        The mnemonics that there are, in upper case.

    Returns
    -------
    list of str
        Another name's instruction alone; otherwise up to three that look alike, the closest first.

    Examples
    --------
    >>> suggest_mnemonics("je", ["JZ", "JLE", "MOV", "CMOVL"]), suggest_mnemonics("movl", ["MOV", "CMOVL"])
    (['JZ'], ['MOV'])
    """
    name = mnemonic.upper()
    same = [start + _CONDITIONS.get(name[len(start):], "") for start in _CONDITIONAL if name.startswith(start)]
    same += [name[:-1]] if name.endswith(tuple(_SIZES)) else []
    return [found for found in same if found in known] or get_close_matches(name, sorted(known))
