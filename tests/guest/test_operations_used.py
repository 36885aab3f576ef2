"""Every operation of the table has a caller in the kernel, and nearly all of them are executed by its programs."""


from pvfast.experiments.tracing import OperationSites
from pvfast.guest import GuestImage

#: Operations without a caller in this kernel, and why.
NOT_REACHABLE = {
    "apic_read": "there is no local APIC",
    "apic_write": "there is no local APIC",
    "apic_write_atomic": "there is no local APIC",
}


def called(image: GuestImage) -> set[str]:
    sites, text = OperationSites(image), image.sections[".text"]
    return {operation.name for at in range(text.address, text.end) for operation in sites.at(at)}


def test_every_operation_has_a_caller(image: GuestImage) -> None:
    assert set(image.pointers) - called(image) == set(NOT_REACHABLE)
