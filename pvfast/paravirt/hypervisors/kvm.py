"""KVM: the guest runs in ring 0 as on bare hardware, and few operations are worth replacing.

The processor virtualizes (VT, SVM), so ``cli`` and ``sti`` cost what they cost, and what must leave the guest traps by
itself. The kernel finds KVM by CPUID on its way through the boot of bare hardware, and replaces what would trap often
and for little (``kvm.S``): ``io_delay``, and the setters of page tables, which go to KVM in batches. Constants are in
``kvm_interface.py``, the host's side in ``kvm_host.pyx``.
"""

from pvfast.paravirt.hypervisors.kvm_host import KvmHost
from pvfast.paravirt.hypervisors.kvm_interface import (
    KVM_FEATURE_CLOCKSOURCE,
    KVM_FEATURE_MMU_OP,
    KVM_FEATURE_NOP_IO_DELAY,
)
from pvfast.paravirt.hypervisors.native import Native


class Kvm(KvmHost, Native):
    """KVM as Linux 2.6.26 knows it. It has no patch function of its own: sites become native code.

    Attributes
    ----------
    features : int
        EAX of CPUID leaf 40000001: what the guest is offered. A subclass may offer less.

    Examples
    --------
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> from pvfast.paravirt.hypervisors import PatchContext
    >>> Kvm().patch(0, 0, insns, 0xC0100000, PatchContext()).hex()                      # cli
    'fa'
    """

    name = "kvm"
    banner = "KVM"
    paravirt_enabled = 1
    features = 1 << KVM_FEATURE_CLOCKSOURCE | 1 << KVM_FEATURE_NOP_IO_DELAY | 1 << KVM_FEATURE_MMU_OP
