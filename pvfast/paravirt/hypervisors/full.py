"""Full virtualization: the kernel of bare hardware, unchanged, on a host that plays bare hardware for it.

The guest's operations are the native ones, and so is its patch function: it is for the host to find out what they do.
Easy for the guest, and slower: what a paravirtual kernel would say in one instruction traps. The host's side is
``full_host.pyx``.
"""

from pvfast.paravirt.hypervisors.full_host import FullHost
from pvfast.paravirt.hypervisors.native import Native


class Full(FullHost, Native):
    """Ring compression, as before processors could do it themselves: the guest's ring 0 is ring 1.

    Examples
    --------
    >>> from pvfast.paravirt.hypervisors import PatchContext
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Full().patch(3, 0, insns, 0xC0100000, PatchContext()).hex()                     # pushf; pop %eax
    '9c58'
    """

    name = "full"
    operations_prefix = Native.name
    rewrites_code = True
