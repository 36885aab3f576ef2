"""Fixtures: the guest image, and machines on which it has booted."""

import pytest

from pvfast.guest import GUEST_ERAS, GuestImage, build
from pvfast.paravirt.hypervisors import BUILT_IN
from tests.guest.kernel import Kernel
from tests.paravirt.xen import Domain


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return build()


@pytest.fixture
def booted(image: GuestImage) -> Kernel:
    return Kernel(image).boot()


@pytest.fixture(params=BUILT_IN)
def guest(request: pytest.FixtureRequest, image: GuestImage) -> Kernel:
    return boot(image, request.param)


@pytest.fixture(params=[(era, name) for era in GUEST_ERAS for name in BUILT_IN], ids="-".join)
def guest_of_era(request: pytest.FixtureRequest) -> Kernel:
    era, name = request.param
    return boot(build(era), name)


def boot(image: GuestImage, hypervisor: str) -> Kernel:
    """Xen's domain has its memory at other frames than it believes."""
    kernel = Domain(image) if hypervisor == "xen" else Kernel(image, hypervisor)
    return kernel.boot()
