"""``python -m small_kernel [processor]``: what every loop costs in each form."""

import sys

from pvfast.experiments import FORMS, overhead_percent
from small_kernel import LOOPS, build, per_iteration


def main(processor: str = "generic") -> None:
    print(f"{len(build().sites)} patch sites of {build().site_bytes} bytes; {processor}")
    for name in LOOPS:
        found = {form: per_iteration(name, form, processor) for form in FORMS}
        figures = ", ".join(f"{form} {counts.instructions} instructions {counts.cycles} cycles"
                            for form, counts in found.items())
        print(f"{name}: {figures}; indirect over patched {overhead_percent(found['indirect'], found['patched'])} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
