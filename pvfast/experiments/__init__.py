"""What is run and what it costs: workloads, runs of one machine, the matrix of all of them, real kernels.

Read ``workloads.py`` (what), ``runs.py`` (how one machine is measured), ``tracing.py`` (what an iteration executes)
and ``matrix.py`` (every row), then ``kernel_machine.py``, ``kernel_states.py`` and ``kernel_runs.py`` for the sites of
a kernel image. Nothing here formats or prints: that is ``pvfast/report``.
"""

from pvfast.experiments.clobber_check import ClobberChecker, Violation, check_sites
from pvfast.experiments.kernel_runs import KernelRow, KernelRun, kernel_operation_names, run_kernel
from pvfast.experiments.matrix import (
    HYPERVISORS,
    HostTime,
    Matrix,
    Row,
    SiteCode,
    operation_names,
    run_matrix,
    workload_names,
)
from pvfast.experiments.runs import GuestRun, boot, measure_loop
from pvfast.experiments.tracing import TracedOperation, trace_iteration, trace_operations
from pvfast.experiments.workloads import FORMS, Counts, Setting, overhead_percent, settings

__all__ = [
    "FORMS",
    "HYPERVISORS",
    "ClobberChecker",
    "Counts",
    "GuestRun",
    "HostTime",
    "KernelRow",
    "KernelRun",
    "Matrix",
    "Row",
    "Setting",
    "SiteCode",
    "TracedOperation",
    "Violation",
    "boot",
    "check_sites",
    "kernel_operation_names",
    "measure_loop",
    "operation_names",
    "overhead_percent",
    "run_kernel",
    "run_matrix",
    "settings",
    "trace_iteration",
    "trace_operations",
    "workload_names",
]
