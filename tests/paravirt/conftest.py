"""What the tests of hypervisors begin with: the kernel, and a booted domain of Xen; other tests have their own."""

import pytest

from pvfast.guest import GuestImage, build
from tests.paravirt.xen import Domain


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return build()


@pytest.fixture
def domain(image: GuestImage) -> Domain:
    return Domain(image).boot()
