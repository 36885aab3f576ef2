"""KVM's paravirtual interface for x86: numbers and layouts, nothing else.

Names and values are those of asm-x86/kvm_para.h and linux/kvm_para.h of Linux 2.6.26. Offsets are in bytes.
``kvm.S`` is the guest's side of it, ``kvm_host.pyx`` the host's.
"""

import enum

# CPUID: where a guest looks for a hypervisor, and what KVM answers there in EBX, ECX, EDX.
KVM_CPUID_SIGNATURE = 0x40000000
KVM_CPUID_FEATURES = 0x40000001
KVM_SIGNATURE = b"KVMKVMKVM\0\0\0"
KVM_SIGNATURE_EBX, KVM_SIGNATURE_ECX, KVM_SIGNATURE_EDX = (
    int.from_bytes(KVM_SIGNATURE[i:i + 4], "little") for i in (0, 4, 8))

# Bits of EAX of KVM_CPUID_FEATURES.
KVM_FEATURE_CLOCKSOURCE = 0
KVM_FEATURE_NOP_IO_DELAY = 1
KVM_FEATURE_MMU_OP = 2

#: ``vmcall`` enters KVM: number in EAX, arguments in EBX, ECX, EDX, ESI, answer in EAX.
VMCALL = b"\x0f\x01\xc1"
VMCALL_BYTES = 3


class IntEnum(enum.IntEnum):
    """An enumeration whose members are C constants too, after its `prefix`."""

    @classmethod
    def prefix(cls) -> str:
        return f"{cls.__name__.upper()}_"


class KvmHc(IntEnum):
    """``KVM_HC_*``."""

    VAPIC_POLL_IRQ = 1
    MMU_OP = 2
    FEATURES = 3

    @classmethod
    def prefix(cls) -> str:
        return "KVM_HC_"


class KvmError(IntEnum):
    """Errors that hypercalls answer, negated."""

    EPERM = 1
    EFAULT = 14
    ENOSYS = 1000

    @classmethod
    def prefix(cls) -> str:
        return "KVM_"


class KvmMmuOp(IntEnum):
    """``KVM_MMU_OP_*``: what a request in the buffer of `KvmHc.MMU_OP` is."""

    WRITE_PTE = 1
    FLUSH_TLB = 2
    RELEASE_PT = 3

    @classmethod
    def prefix(cls) -> str:
        return "KVM_MMU_OP_"


# struct kvm_mmu_op_header {op, pad}, and what follows it: pte_phys u64, pte_val u64; nothing; pt_phys u64.
MMU_OP_HEADER_BYTES = 8
MMU_OP_WRITE_PTE_BYTES = 24
MMU_OP_FLUSH_TLB_BYTES = 8
MMU_OP_RELEASE_PT_BYTES = 16
#: The guest's queue per CPU, and how much of it KVM takes at once.
MMU_QUEUE_SIZE = 1024
MMU_OP_BUFFER_BYTES = 512

# Model-specific registers: the physical address of what KVM shall fill in, and in SYSTEM_TIME an enable bit.
MSR_KVM_WALL_CLOCK = 0x11
MSR_KVM_SYSTEM_TIME = 0x12
KVM_SYSTEM_TIME_ENABLE = 1

# struct kvm_wall_clock: the time of day when the machine was powered on.
WALL_CLOCK_VERSION = 0
WALL_CLOCK_SEC = 4
WALL_CLOCK_NSEC = 8
WALL_CLOCK_BYTES = 12

# struct kvm_vcpu_time_info, later pvclock_vcpu_time_info: nanoseconds are
# system_time + ((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32.
PVCLOCK_VERSION = 0
PVCLOCK_TSC_TIMESTAMP = 8
PVCLOCK_SYSTEM_TIME = 16
PVCLOCK_TSC_TO_SYSTEM_MUL = 24
PVCLOCK_TSC_SHIFT = 28
PVCLOCK_BYTES = 32
