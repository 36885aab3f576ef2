# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=False
"""The core: one extension module, in topic files.

Enters: guest bytes and machine state. Leaves: `Engine`, which pvfast.machine.Machine builds on.
Reading order, which each file's "Next:" follows:

* a uop runs: types.pxd, flags.pxd, sem_alu.pxd, access.pxd, memory.pxi, sem_stack.pxi, sem_branch.pxi, blocks.pxi,
  decoder.pxi, block_decoder.pxi, prediction.pxi, run.pxi;
* integers: sem_string.pxi, sem_integer.pxi, sem_decimal.pxi;
* protection: segments.pxi, mode_8086.pxi, tasks.pxi, transfers.pxi, debug.pxi, interrupts.pxi;
* system instructions: system.pxi, control.pxi, msr.pxi, raw_segments.pxi, raw_descriptors.pxi, ports.pxi;
* floating point and vectors: x87.pxi, x87_arithmetic.pxi, x87_moves.pxi, x87_state.pxi, sem_vector.pxd, vector.pxi;
* what is outside: hypervisor.pxi, x87_registers.pxi, registers.pxi, machine.pxi (the Python face).

introspect.pxi is for tests, engine.pxd for extension modules outside the core; the headers are host.h, x87.h (made by
host_x87.h or soft_x87.h) and host_sse.h.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memmove, memset

from pvfast.core.types cimport *
from pvfast.core.flags cimport *
from pvfast.core.sem_alu cimport *
from pvfast.core.access cimport *
from pvfast.core.sem_vector cimport *

include "generated/constants.pxi"
include "memory.pxi"
include "sem_stack.pxi"
include "sem_branch.pxi"
include "blocks.pxi"
include "sem_string.pxi"
include "sem_integer.pxi"
include "sem_decimal.pxi"
include "vector.pxi"
include "segments.pxi"
include "mode_8086.pxi"
include "tasks.pxi"
include "transfers.pxi"
include "debug.pxi"
include "interrupts.pxi"
include "system.pxi"
include "control.pxi"
include "msr.pxi"
include "raw_segments.pxi"
include "raw_descriptors.pxi"
include "ports.pxi"
include "x87.pxi"
include "x87_arithmetic.pxi"
include "x87_moves.pxi"
include "x87_state.pxi"
include "decoder.pxi"
include "prediction.pxi"
include "block_decoder.pxi"
include "generated/handlers.pxi"
include "generated/tables.pxi"
include "run.pxi"
include "hypervisor.pxi"
include "x87_registers.pxi"
include "registers.pxi"
include "machine.pxi"
include "introspect.pxi"
