"""Fixtures: the guest image, and machines on which it has booted."""

import pytest

from pvfast.guest import GUEST_ERAS, GuestImage, build
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


HYPERVISORS = ("native", "xen", "lhype", "vmi")


@pytest.fixture(params=HYPERVISORS)
def guest(request: pytest.FixtureRequest, image: GuestImage) -> Guest:
    return boot(image, request.param)


@pytest.fixture(params=[(era, name) for era in GUEST_ERAS for name in HYPERVISORS], ids="-".join)
def guest_of_era(request: pytest.FixtureRequest) -> Guest:
    era, name = request.param
    return boot(build(era), name)


def boot(image: GuestImage, hypervisor: str) -> Guest:
    if hypervisor == "xen":
        return Domain(image).boot()
    if hypervisor == "lhype":
        return lhype.Guest(image).boot()
    if hypervisor == "vmi":
        return vmi.Guest(image).boot()
    booted = Booted(image)
    booted.run_to("boot_done", BOOT_INSTRUCTIONS)
    return booted
