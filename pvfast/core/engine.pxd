# What extension modules outside the core may use of it: hypervisors written as extension types.
#
# Enters: nothing. Leaves: the base type of hypervisors, and the core's functions that one needs. Next: hypervisor.pxi.
# All functions return False after noting a fault (CPU.fault_vector, fault_error) or an exit (EXIT_IO: the address
# belongs to a device); the caller decides what becomes of it. Only during a hook, or while the machine is not running.

from pvfast.core.types cimport *


cdef class HypervisorBase:
    cdef InterruptHook hook         # NULL: interrupt() is called instead, if a subclass has one
    cdef void* state                # the hook's first argument
    cdef u64* descriptors           # CPU.descriptors; NULL: the GDT is in guest memory
    cdef u32 descriptor_count


# Memory. `user`: with the rights of CPL 3, otherwise of CPL 0-2. Sizes are 1, 2 and 4 bytes.
cdef bint linear_read(CPU* cpu, u32 linear, u32 size, bint user, u32* value) noexcept nogil
cdef bint linear_write(CPU* cpu, u32 linear, u32 size, bint user, u32 value) noexcept nogil
cdef bint virtual_read(CPU* cpu, u32 segment, u32 offset, u32 size, u32* value) noexcept nogil
cdef bint virtual_write(CPU* cpu, u32 segment, u32 offset, u32 size, u32 value) noexcept nogil
cdef bint stack_read(CPU* cpu, u32 distance, u32 size, u32* value) noexcept nogil
cdef bint physical_read(CPU* cpu, u64 physical, u32 size, u32* value) noexcept nogil
cdef bint physical_write(CPU* cpu, u64 physical, u32 size, u32 value) noexcept nogil
cdef u32 table_read(CPU* cpu, u64 physical) noexcept nogil
cdef Region* find_region(CPU* cpu, u64 physical) noexcept nogil
cdef void flush_tlb(CPU* cpu) noexcept nogil
cdef void flush_page(CPU* cpu, u32 linear) noexcept nogil
cdef void identify(CPU* cpu) noexcept nogil

# Privilege and segments.
cdef void update_mode(CPU* cpu) noexcept nogil
cdef bint load_segment(CPU* cpu, u32 seg, u32 selector) noexcept nogil
cdef bint deliver_by_idt(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil
cdef bint interrupt_guest(CPU* cpu, u32 selector, u32 eip, u32 stack_selector, u32 stack_esp, u32* frame,
                          u32 count) noexcept nogil
cdef bint return_to_guest(CPU* cpu, u32 selector, u32 eip, u32 stack_selector, u32 esp) noexcept nogil
cdef void shut_down(CPU* cpu, u32 vector, u32 error) noexcept nogil

# Time.
cdef void charge_event(CPU* cpu, u32 cycles) noexcept nogil
cdef void charge_trap(CPU* cpu) noexcept nogil
cdef void charge_hypercall(CPU* cpu) noexcept nogil
cdef u64 cycles_now(CPU* cpu) noexcept nogil
cdef void wake_at(CPU* cpu, u64 cycles) noexcept nogil
