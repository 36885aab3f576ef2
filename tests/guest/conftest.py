"""Fixtures: the guest image, and machines on which it has booted."""

import pytest

from pvfast.guest import GuestImage, build
from tests.guest.native import BOOT_INSTRUCTIONS, Booted
from tests.guest.programs import Guest
from tests.paravirt import lhype, vmi
from tests.paravirt.xen import Domain


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return build()


@pytest.fixture
def booted(image: GuestImage) -> Booted:
    guest = Booted(image)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    return guest


@pytest.fixture(params=["native", "xen", "lhype", "vmi"])
def guest(request: pytest.FixtureRequest, image: GuestImage) -> Guest:
    if request.param == "xen":
        return Domain(image).boot()
    if request.param == "lhype":
        return lhype.Guest(image).boot()
    if request.param == "vmi":
        return vmi.Guest(image).boot()
    booted = Booted(image)
    booted.run_to("boot_done", BOOT_INSTRUCTIONS)
    return booted
