"""Fixtures: the guest image, and a machine on which it has booted bare."""

import pytest

from pvfast.guest import GuestImage, build
from tests.guest.native import BOOT_INSTRUCTIONS, Booted


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return build()


@pytest.fixture
def booted(image: GuestImage) -> Booted:
    guest = Booted(image)
    guest.run_to("boot_done", BOOT_INSTRUCTIONS)
    return guest
