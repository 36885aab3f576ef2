# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""KVM's side of the interface: vmcall, the clock registers, and what leaving the guest costs.

Enters: a machine. Leaves: the same machine, with KVM's CPUID leaves, for a guest in ring 0. Next: kvm.py.

Design: with hardware virtualization the guest's own tables are the processor's, so there is nothing here that plays
ring 0: only two exits do something. The core knows no VMX, so they arrive as the exception that the instruction is
without it: #UD for vmcall, #GP for an MSR that no processor has. Page tables are the guest's too, as with nested
paging: requests of MMU_OP are carried out, where KVM with shadow tables would save itself page faults by them.

A world switch (exit and entry) costs what the processor model says for an exception, an iret and a hypervisor's
dispatch. Instructions that KVM intercepts and that need no help from it (CPUID, HLT, IN, OUT, other MSRs) do what
they do, and cost it in addition.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pvfast.core.engine cimport *
from pvfast.core.types cimport *

from pvfast.errors import PvfastError, SnapshotError
from pvfast.paravirt.hypervisors import kvm_interface as interface
from pvfast.processor.costs import COST_CLASSES as _COST_CLASSES

include "generated/constants.pxi"
include "kvm_numbers.pxi"

cdef enum:
    HYPERCALLS = 4
    MMU_OPS = 4
    BOOT = 1199145600           # seconds since 1970: 1 January 2008, when every machine is powered on

BOOT_SECONDS = BOOT
_WORLD_SWITCH = ("vm_exit", "hypercall")
_INTERCEPTED = ("cpuid", "hlt", "io", "rdmsr", "wrmsr")

cdef struct Guest:
    u64 wall_clock              # what the clock registers hold
    u64 system_time
    u64 hypercalls[HYPERCALLS]
    u64 mmu_ops[MMU_OPS]


cdef bint kvm_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook: exits that look like exceptions. False: the guest's own exception."""
    cdef Guest* guest = <Guest*>state
    if kind != EVENT_FAULT:
        return False
    if vector == VECTOR_UD and holds(cpu, VMCALL_FIRST, VMCALL_BYTES):
        leave_guest(cpu, VMCALL_BYTES)
        hypercall(guest, cpu)
        return True
    if vector != VECTOR_GP or error != 0 or cpu.cpl != 0:
        return False
    if cpu.gpr[ECX].d != MSR_KVM_WALL_CLOCK and cpu.gpr[ECX].d != MSR_KVM_SYSTEM_TIME:
        return False
    if holds(cpu, RDMSR_FIRST, 2):
        leave_guest(cpu, 2)
        read_clock_register(guest, cpu)
    elif holds(cpu, WRMSR_FIRST, 2):
        leave_guest(cpu, 2)
        write_clock_register(guest, cpu)
    else:
        return False
    return True


cdef enum:
    VMCALL_FIRST = 0xC1010F     # bytes of the instructions, the first one lowest
    RDMSR_FIRST = 0x320F
    WRMSR_FIRST = 0x300F


cdef bint holds(CPU* cpu, u32 code, u32 size) noexcept nogil:
    """Is this the instruction at EIP?"""
    cdef u32 i, byte
    for i in range(size):
        if not linear_read(cpu, <u32>cpu.seg[CS].base + cpu.eip + i, 1, cpu.cpl == 3, &byte):
            cpu.exit = EXIT_NONE        # code in device memory
            return False
        if byte != (code >> 8 * i) & 0xFF:
            return False
    return True


cdef void leave_guest(CPU* cpu, u32 length) noexcept nogil:
    """The instruction retires by an exit: what the core has counted as a fault is none."""
    cpu.eip += length
    cpu.surplus -= 1
    cpu.faults -= 1
    if cpu.eflags & TF:
        cpu.debug_traps |= DR6_BS
    charge_event(cpu, cpu.cost[COST_VM_EXIT] + cpu.cost[COST_HYPERCALL])


# --- Hypercalls ------------------------------------------------------------------------------------------------------

cdef void hypercall(Guest* guest, CPU* cpu) noexcept nogil:
    cdef u32 number = cpu.gpr[EAX].d
    cdef i32 answer = -KVM_ENOSYS
    if number < HYPERCALLS:
        guest.hypercalls[number] += 1
    if cpu.cpl != 0:
        answer = -KVM_EPERM
    elif number == KVM_HC_VAPIC_POLL_IRQ:
        answer = 0                      # an interrupt that waits is delivered at the entry anyway
    elif number == KVM_HC_MMU_OP:
        answer = mmu_op(guest, cpu, cpu.gpr[EBX].d, <u64>cpu.gpr[EDX].d << 32 | cpu.gpr[ECX].d)
    cpu.gpr[EAX].q = <u32>answer


cdef bint is_ram(CPU* cpu, u64 physical, u32 size) noexcept nogil:
    cdef Region* region = find_region(cpu, physical)
    return region != NULL and region.kind == REGION_RAM and size <= region.end - physical


cdef u32 read_word(CPU* cpu, u64 physical) noexcept nogil:
    cdef u32 value
    physical_read(cpu, physical, 4, &value)
    return value


cdef i32 mmu_op(Guest* guest, CPU* cpu, u32 count, u64 buffer) noexcept nogil:
    """Work off a buffer of requests: how many bytes of it have been dealt with, or why nothing."""
    cdef u32 done = 0
    cdef u32 size
    if count > MMU_OP_BUFFER_BYTES:
        count = MMU_OP_BUFFER_BYTES
    if not is_ram(cpu, buffer, count):
        return -KVM_EFAULT
    while count - done >= MMU_OP_HEADER_BYTES:
        size = one_mmu_op(guest, cpu, buffer + done, count - done)
        if size == 0:
            break
        done += size
    return <i32>done if done else -KVM_EFAULT


cdef u32 one_mmu_op(Guest* guest, CPU* cpu, u64 request, u32 left) noexcept nogil:
    """Bytes of the request, 0 when it is not whole, or none."""
    cdef u32 number = read_word(cpu, request)
    cdef u32 size = 0
    cdef u64 entry
    if number == KVM_MMU_OP_WRITE_PTE:
        size = MMU_OP_WRITE_PTE_BYTES
    elif number == KVM_MMU_OP_FLUSH_TLB:
        size = MMU_OP_FLUSH_TLB_BYTES
    elif number == KVM_MMU_OP_RELEASE_PT:
        size = MMU_OP_RELEASE_PT_BYTES
    if size == 0 or size > left:
        return 0
    if number == KVM_MMU_OP_WRITE_PTE:
        entry = <u64>read_word(cpu, request + 12) << 32 | read_word(cpu, request + 8)
        if not is_ram(cpu, entry, 8 if cpu.cr4 & CR4_PAE else 4):
            return 0
        if cpu.cr4 & CR4_PAE:
            physical_write(cpu, entry + 4, 4, read_word(cpu, request + 20))
        physical_write(cpu, entry, 4, read_word(cpu, request + 16))
    elif number == KVM_MMU_OP_FLUSH_TLB:
        flush_tlb(cpu)
    guest.mmu_ops[number] += 1          # RELEASE_PT: there is no shadow to drop
    return size


# --- The clock -------------------------------------------------------------------------------------------------------
# System time is modelled cycles since power-on, a nanosecond each.

cdef void read_clock_register(Guest* guest, CPU* cpu) noexcept nogil:
    cdef u64 value = guest.wall_clock if cpu.gpr[ECX].d == MSR_KVM_WALL_CLOCK else guest.system_time
    cpu.gpr[EAX].q = <u32>value
    cpu.gpr[EDX].q = <u32>(value >> 32)


cdef void write_clock_register(Guest* guest, CPU* cpu) noexcept nogil:
    cdef u64 value = <u64>cpu.gpr[EDX].d << 32 | cpu.gpr[EAX].d
    if cpu.gpr[ECX].d == MSR_KVM_WALL_CLOCK:
        guest.wall_clock = value
        if is_ram(cpu, value, WALL_CLOCK_BYTES):
            tell_wall_clock(cpu, value)
        return
    guest.system_time = value
    value &= ~<u64>KVM_SYSTEM_TIME_ENABLE
    if guest.system_time & KVM_SYSTEM_TIME_ENABLE and is_ram(cpu, value, PVCLOCK_BYTES):
        tell_system_time(cpu, value)


cdef void tell_wall_clock(CPU* cpu, u64 at) noexcept nogil:
    """The version is odd while the rest is written; a guest that comes between tries again."""
    cdef u32 version = read_word(cpu, at + WALL_CLOCK_VERSION) & ~<u32>1
    physical_write(cpu, at + WALL_CLOCK_SEC, 4, BOOT)
    physical_write(cpu, at + WALL_CLOCK_NSEC, 4, 0)
    physical_write(cpu, at + WALL_CLOCK_VERSION, 4, version + 2)


cdef void tell_system_time(CPU* cpu, u64 at) noexcept nogil:
    """Once: the time-stamp counter never changes its pace, so this stays true."""
    cdef u64 now = cycles_now(cpu)
    cdef u64 tsc = now + cpu.tsc_offset
    cdef u32 version = read_word(cpu, at + PVCLOCK_VERSION) & ~<u32>1
    physical_write(cpu, at + PVCLOCK_TSC_TIMESTAMP, 4, <u32>tsc)
    physical_write(cpu, at + PVCLOCK_TSC_TIMESTAMP + 4, 4, <u32>(tsc >> 32))
    physical_write(cpu, at + PVCLOCK_SYSTEM_TIME, 4, <u32>now)
    physical_write(cpu, at + PVCLOCK_SYSTEM_TIME + 4, 4, <u32>(now >> 32))
    physical_write(cpu, at + PVCLOCK_TSC_TO_SYSTEM_MUL, 4, <u32>1 << 31)      # half, after a shift by one
    physical_write(cpu, at + PVCLOCK_TSC_SHIFT, 1, 1)
    physical_write(cpu, at + PVCLOCK_VERSION, 4, version + 2)


cdef class KvmHost(HypervisorBase):
    """The host side of KVM, with one guest. `pvfast.paravirt.hypervisors.kvm.Kvm` is what to use."""

    cdef Guest* guest

    def __cinit__(self, *args, **kwargs):
        self.guest = <Guest*>calloc(1, sizeof(Guest))
        if self.guest == NULL:
            raise MemoryError("no memory for a guest")
        self.hook = kvm_event
        self.state = self.guest

    def __dealloc__(self):
        free(self.guest)

    def attach(self, machine):
        """Called by `Machine(hypervisor=...)`."""
        processor = machine.processor
        if not processor.cpuid:
            raise PvfastError(f"a guest finds KVM by CPUID, which {processor.name} does not have")
        super().attach(machine)
        costs = list(processor.costs)
        world_switch = sum(costs[_COST_CLASSES.index(name)] for name in _WORLD_SWITCH)
        for name in _INTERCEPTED:
            costs[_COST_CLASSES.index(name)] += world_switch
        machine._set_costs(costs)
        signature = (interface.KVM_CPUID_FEATURES, interface.KVM_SIGNATURE_EBX, interface.KVM_SIGNATURE_ECX,
                     interface.KVM_SIGNATURE_EDX)
        machine._set_cpuid(processor.cpuid, processor.cpuid_extended, (signature, (self.features, 0, 0, 0)))

    @property
    def hypercalls(self):
        """How many there were, by `kvm_interface.KvmHc`."""
        return {number: self.guest.hypercalls[number] for number in interface.KvmHc if self.guest.hypercalls[number]}

    @property
    def mmu_ops(self):
        """Requests of `KvmHc.MMU_OP` that were carried out, by `kvm_interface.KvmMmuOp`."""
        return {number: self.guest.mmu_ops[number] for number in interface.KvmMmuOp if self.guest.mmu_ops[number]}

    def save(self):
        return (<char*>self.guest)[:sizeof(Guest)]

    def restore(self, state):
        if not isinstance(state, bytes) or len(state) != sizeof(Guest):
            raise SnapshotError("the snapshot was taken from a machine without KVM")
        memcpy(self.guest, <char*>(<bytes>state), sizeof(Guest))
