"""A module and its own tables: code for an address and three sections go in, what runs in the kernel comes out.

A module is compiled like the kernel, so its calls through ``paravirt_ops`` are sites of its own, in tables of its own,
and loading it patches them: nobody has to look through its code. Next: ``hypervisors/``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pvfast.paravirt.alternatives import unpack_alternatives
from pvfast.paravirt.boot_patching import BootOptions, PatchTables, alternative_instructions
from pvfast.paravirt.operations import Era
from pvfast.paravirt.patcher import PatchFunction
from pvfast.paravirt.sites import unpack_records
from pvfast.paravirt.smp_alternatives import unpack_locks


@dataclass(frozen=True)
class Module:
    """A module, linked for the address it is loaded at.

    Attributes
    ----------
    code : bytes
        Everything that stays in memory.
    address : int
        Linear address of the first byte.
    sections : mapping of str to bytes
        Its ``.altinstructions``, ``.smp_locks`` and ``.parainstructions``, as far as it has them.

    Examples
    --------
    >>> from pvfast.paravirt.hypervisors import hypervisor
    >>> from pvfast.paravirt.operations import era
    >>> code = bytes.fromhex("5152ff15680040c05a59 f0ff0500101ac0 c3")
    >>> module = Module(code, 0xC01A0000, {
    ...     ".parainstructions": bytes.fromhex("00001ac0000a0100"), ".smp_locks": bytes.fromhex("0a001ac0")})
    >>> module.finalized(hypervisor("native").patcher(), era("2.6.20")).code.hex(" ")
    'fa 90 8d b4 26 00 00 00 00 90 90 ff 05 00 10 1a c0 c3'
    """

    code: bytes
    address: int
    sections: Mapping[str, bytes]

    @property
    def end(self) -> int:
        """Linear address behind the last byte."""
        return self.address + len(self.code)

    def tables(self, era: Era) -> PatchTables:
        """Read its sections.

        Raises
        ------
        PatchError
            One is cut short, or points outside the module.
        """
        return PatchTables(
            unpack_alternatives(self.sections.get(".altinstructions", b""), self.address, self.end),
            unpack_locks(self.sections.get(".smp_locks", b""), self.address, self.end),
            tuple(unpack_records(
                self.sections.get(".parainstructions", b""), self.address, self.end, era.patch_types)),
        )

    def finalized(
        self,
        patch: PatchFunction,
        era: Era,
        *,
        features: Collection[int] = (),
        smp: bool = False,
        options: BootOptions | None = None,
        nop_family: str = "generic",
    ) -> "Module":
        """What ``module_finalize`` makes of it, before any of it runs.

        Parameters
        ----------
        patch, era, features, smp, options, nop_family
            As for `pvfast.paravirt.boot_patching.alternative_instructions`: the kernel's own.

        Returns
        -------
        Module
            A new one.

        Raises
        ------
        PatchError
            A section is wrong, or a replacement breaks a rule.
        """
        code = alternative_instructions(self.code, self.address, self.tables(era), patch, era, features=features,
                                        smp=smp, options=options, nop_family=nop_family)
        return replace(self, code=code)
