"""What a hypervisor is: a name, a patch function, and what happens to the machine under it.

A new hypervisor is one file with one subclass of `Hypervisor`. Another package ships one through the
entry-point group ``pvfast.hypervisors``. ``native.py`` is the shortest example, ``xen.py`` a real one, whose
host side (``xen_host.pyx``) is served inside the core. A host side in Python overrides `interrupt`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pvfast.core.engine import HypervisorBase
from pvfast.paravirt.patcher import PatchContext, PatchFunction


class Hypervisor(HypervisorBase):
    """Base class of all hypervisors; as it stands it patches nothing, and its machine is bare hardware.

    Attributes
    ----------
    name : str
        The word that selects it.
    banner : str
        ``paravirt_ops.name``, which the kernel prints at boot.
    kernel_rpl : int
        The ring its guest kernel runs in.
    paravirt_enabled : int
        ``paravirt_ops.paravirt_enabled``.
    operations_prefix : str
        What the labels of its operations in the guest kernel begin with, before ``_irq_disable`` and the like; its
        name unless given. An operation without a label is the native one.
    patch_labels : tuple of str
        Labels of the guest kernel whose addresses `patch` wants among its context's symbols.
    operations : mapping of str to int
        Linear addresses of operations that are not the kernel's but the hypervisor's own code, such as a ROM's.
    guest_source : str
        AT&T text that the guest kernel is assembled with: its probe and its operations. Empty for those that the
        kernel holds already.
    rewrites_code : bool
        Whether its host puts traps of its own into the guest's code: see `code_changed`.

    Examples
    --------
    >>> class Quiet(Hypervisor):
    ...     name = "quiet"
    >>> Quiet().patch(0, 0, b"", 0, PatchContext()) is None
    True
    """

    name = ""
    banner = ""
    kernel_rpl = 0
    paravirt_enabled = 0
    operations_prefix = ""
    patch_labels: tuple[str, ...] = ()
    operations: Mapping[str, int] = MappingProxyType({})
    guest_source = ""
    rewrites_code = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "operations_prefix" not in cls.__dict__:
            cls.operations_prefix = cls.name

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """Say what replaces a patch site.

        Parameters
        ----------
        site_type : int
            As in the site's record; ``context.era`` tells what it means.
        clobbers : int
            ``CLBR_*`` bits: the registers the replacement may destroy.
        insns : bytes
            What the site holds now; its length is all there is.
        address : int
            Linear address of the site.
        context : PatchContext
            What is known about the kernel.

        Returns
        -------
        bytes or None
            Code for the start of the site; the patcher fills the rest with NOPs. None leaves the site as it
            is.
        """
        return None

    def start(self, machine: Any, image: Any) -> None:
        """Put a guest image into a machine made with this hypervisor, ready to run.

        Parameters
        ----------
        machine : pvfast.Machine
            ``Machine(hypervisor=self)``.
        image : pvfast.guest.GuestImage
        """
        image.load(machine)

    def code_changed(self, machine: Any, entry: int | None = None) -> None:
        """Called by who has written code into a stopped machine, past the guest: for hosts that look at code.

        Parameters
        ----------
        machine : pvfast.Machine
        entry : int, optional
            Linear address of code that the guest has not entered yet, and is going to without a jump of its own.
        """

    def patcher(self, context: PatchContext | None = None) -> PatchFunction:
        """Bind `patch` to a kernel: the function that `pvfast.paravirt.patcher` takes."""
        known = context or PatchContext()

        def patch(site_type: int, clobbers: int, insns: bytes, address: int) -> bytes | None:
            return self.patch(site_type, clobbers, insns, address, known)

        return patch
