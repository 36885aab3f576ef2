from collections.abc import Mapping
from typing import Any

from typing_extensions import disjoint_base

from pvfast.core.engine import HypervisorBase
from pvfast.paravirt.hypervisors.kvm_interface import KvmHc, KvmMmuOp

BOOT_SECONDS: int

@disjoint_base
class KvmHost(HypervisorBase):
    features: int
    def attach(self, machine: Any) -> None: ...
    @property
    def hypercalls(self) -> Mapping[KvmHc, int]: ...
    @property
    def mmu_ops(self) -> Mapping[KvmMmuOp, int]: ...
    def save(self) -> bytes: ...
    def restore(self, state: Any) -> None: ...
