"""What boot patches, in its order: code, its three tables and the command line go in, the code as it runs comes out.

The order is that of ``alternative_instructions()`` for the kernel and of ``module_finalize()`` for a module:
``.altinstructions``, ``.smp_locks``, ``.parainstructions``. Next: ``modules.py``.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pvfast.images.altinstructions import Alternative
from pvfast.paravirt.alternatives import apply_alternatives
from pvfast.paravirt.operations import Era
from pvfast.paravirt.patcher import PatchFunction, apply_paravirt
from pvfast.paravirt.sites import PatchSite
from pvfast.paravirt.smp_alternatives import alternatives_smp_lock, alternatives_smp_unlock, up_prefix

#: Until 2.6.21 one word switches everything off; from then on there is one for each table but the alternatives'.
_SEPARATE_OPTIONS_SINCE = (2, 6, 22)


@dataclass(frozen=True, slots=True)
class PatchTables:
    """What is known about a piece of code: the contents of its ``.altinstructions``, ``.smp_locks`` and
    ``.parainstructions``."""

    alternatives: tuple[Alternative, ...] = ()
    smp_locks: tuple[int, ...] = ()
    sites: tuple[PatchSite, ...] = ()


@dataclass(frozen=True, slots=True)
class BootOptions:
    """What the command line leaves of patching: all of it, unless it says otherwise."""

    replace_alternatives: bool = True
    replace_smp: bool = True
    replace_paravirt: bool = True


def boot_options(command_line: str, era: Era) -> BootOptions:
    """Read the words of a kernel's command line that have to do with patching; others are not looked at.

    Parameters
    ----------
    command_line : str
        As a boot loader passes it.
    era : Era
        ``noreplacement`` is known until 2.6.21 and stops all patching; ``noreplace-smp`` and ``noreplace-paravirt``
        from 2.6.22 on.

    Returns
    -------
    BootOptions

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> boot_options("ro noreplacement", era("2.6.20")).replace_paravirt
    False
    >>> boot_options("ro noreplace-paravirt", era("2.6.22"))
    BootOptions(replace_alternatives=True, replace_smp=True, replace_paravirt=False)
    """
    words = command_line.split()
    if era.release < _SEPARATE_OPTIONS_SINCE:
        replace = "noreplacement" not in words
        return BootOptions(replace, replace, replace)
    return BootOptions(replace_smp="noreplace-smp" not in words, replace_paravirt="noreplace-paravirt" not in words)


def alternative_instructions(
    text: bytes,
    address: int,
    tables: PatchTables,
    patch: PatchFunction,
    era: Era,
    *,
    features: Collection[int] = (),
    smp: bool = False,
    options: BootOptions | None = None,
    nop_family: str = "generic",
    debug_clobbers: bool = False,
) -> bytes:
    """Patch a piece of code as boot does.

    Parameters
    ----------
    text : bytes
        The code.
    address : int
        Linear address of its first byte.
    tables : PatchTables
        What of it can be patched.
    patch : callable
        The hypervisor's patch function.
    era : Era
        What replaces a LOCK prefix is the era's.
    features : collection of int, optional
        Of the processor: see `pvfast.paravirt.alternatives.apply_alternatives`.
    smp : bool, optional
        Whether several processors run.
    options : BootOptions, optional
        From `boot_options`.
    nop_family, debug_clobbers
        See `pvfast.paravirt.patcher.patch_site`.

    Returns
    -------
    bytes
        As long as `text`.

    Raises
    ------
    PatchError
        A table is wrong or a replacement breaks a rule; nothing was patched.
    """
    options = options or BootOptions()
    if options.replace_alternatives:
        text = apply_alternatives(text, address, tables.alternatives, features, nop_family)
    if options.replace_smp:
        text = (alternatives_smp_lock(text, address, tables.smp_locks) if smp else
                alternatives_smp_unlock(text, address, tables.smp_locks, up_prefix(era)))
    if options.replace_paravirt:
        text = apply_paravirt(text, address, tables.sites, patch, nop_family, debug_clobbers)
    return text
