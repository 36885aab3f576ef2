"""Fixtures: the guest image, and machines on which it has booted."""

import pytest

from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import BUILT_IN
from tests.guest.kernel import Kernel


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return build()


@pytest.fixture
def booted(image: GuestImage) -> Kernel:
    return Kernel(image).boot()


@pytest.fixture(params=BUILT_IN)
def guest(request: pytest.FixtureRequest, image: GuestImage) -> Kernel:
    return Kernel(image, request.param).boot()


@pytest.fixture(params=[(era, name) for era in GUEST_ERAS for name in BUILT_IN], ids="-".join)
def guest_of_era(request: pytest.FixtureRequest) -> Kernel:
    era, name = request.param
    return Kernel(build(era), name).boot()
