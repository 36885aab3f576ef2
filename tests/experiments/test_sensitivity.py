"""Overheads with their intervals, from the ranges of the cost models."""
import pytest

from pvfast.errors import PvfastError
from pvfast.experiments import run_matrix
from pvfast.experiments.sensitivity import sensitivity
from pvfast.processor import load_model


def test_the_middle_is_what_the_matrix_has() -> None:
    found, = sensitivity("native", ["irq_disable"], "k8")
    assert found.percent == run_matrix(["native"], ["irq_disable"], processor="k8").rows[0].overhead_percent()
    assert found.low < found.percent < found.high


def test_the_ends_by_hand() -> None:
    """push, push, call *m, cli, ret, pop, pop over cli and three NOPs; a dear cli hides the call."""
    found, = sensitivity("native", ["irq_disable"], "pentium4")
    cost = load_model("pentium4").cycles

    def overhead(cli: int, call: int, ret: int) -> float:
        patched = cli + 2 * cost["nop"].cycles + cost["lea"].cycles
        return 100 * (2 * cost["push"].cycles + 2 * cost["pop"].cycles + call + cli + ret - patched) / patched
    assert found.low == pytest.approx(overhead(90, 3, 1), abs=0.05)
    assert found.high == pytest.approx(overhead(20, 8, 5), abs=0.05)
    assert [name for name, _, _ in found.carriers] == ["cli", "call_indirect", "ret"]


def test_a_model_without_ranges_has_no_interval() -> None:
    found, = sensitivity("native", ["irq_disable"], "generic")
    assert found.low == found.percent == found.high
    assert found.carriers == ()


def test_what_cannot_run_is_left_out_and_what_does_not_exist_is_an_error() -> None:
    assert sensitivity("xen", ["null_syscall_sysenter"], "generic") == ()
    with pytest.raises(PvfastError, match="no operation or workload 'popf'"):
        sensitivity("native", ["popf"], "generic")
