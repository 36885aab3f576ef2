"""A hypervisor in one file: the guest runs in ring 0, and two operations are its own.

``io_delay``, because a virtual port needs no pause, and ``get_wallclock``, which asks the host by ``int $0x90``. All
other operations stay native, as the talk has it: not all hypervisors need all of them. ``pip install`` this folder, and
``pvfast run quiet`` knows it.
"""

from typing import Any

from pvfast.paravirt.hypervisors import Native

#: Where the guest looks for us, and what it finds there; a port that nobody has reads as ones.
PORT = 0x510
SIGNATURE = int.from_bytes(b"Shh!", "little")
HYPERCALL_VECTOR = 0x90
#: Seconds since 1970. The host's clock would make no two runs equal.
WALLCLOCK = 1_165_449_600


class Quiet(Native):
    """Sites of interrupt operations are patched as on bare hardware, for they are native."""

    name = "quiet"
    banner = "Quiet"
    paravirt_enabled = 1
    guest_source = f"""
.text

quiet_probe:
	movl ${PORT}, %edx
	inl %dx, %eax
	cmpl ${SIGNATURE:#x}, %eax
	jne 1f
	movl $quiet_name, paravirt_ops + PARAVIRT_name
	movl $1, paravirt_ops + PARAVIRT_paravirt_enabled
	movl $quiet_io_delay, paravirt_ops + PARAVIRT_io_delay
	movl $quiet_get_wallclock, paravirt_ops + PARAVIRT_get_wallclock
1:	ret

	hypervisor_init quiet_probe

quiet_io_delay:
	ret

quiet_get_wallclock:
	int ${HYPERCALL_VECTOR:#x}
	ret

.pushsection .rodata
quiet_name:
	.asciz "Quiet"
.popsection
"""

    def attach(self, machine: Any) -> None:
        """Called by ``Machine(hypervisor=...)``."""
        super().attach(machine)
        machine.intercept_port(PORT, self)

    def read(self, port: int, size: int) -> int:
        """What the guest's probe reads."""
        return SIGNATURE

    def write(self, port: int, size: int, value: int) -> None:
        """Nothing is written there."""

    def interrupt(self, machine: Any, vector: int, error: int | None, software: bool) -> bool:
        """Every interrupt and exception of the guest is offered here first; only the hypercall is ours."""
        if not software or vector != HYPERCALL_VECTOR:
            return False
        machine.cpu.eax = WALLCLOCK
        return True
