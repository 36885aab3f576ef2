"""Devices: one file each, behind one port and MMIO interface.

Enters: accesses of the guest and modelled time. Leaves: values and interrupts. Time is the machine's cycle
counter, never the host's clock, so a run replays bit for bit. Next: interface.py, then interval_timer.py.
"""

from pvfast.devices.debug_port import DebugPort
from pvfast.devices.interface import Device, SavedDevice, TimedDevice
from pvfast.devices.interval_timer import IntervalTimer

__all__ = ["DebugPort", "Device", "IntervalTimer", "SavedDevice", "TimedDevice"]
