"""Files <-> bytes: kernel images and the tables in them.

Read ``kernel.py`` first (``load_kernel``), then ``parainstructions.py`` and ``altinstructions.py``, the tables. What
the tables mean is the business of ``pvfast.paravirt.linux``.
"""

from pvfast.images.kernel import KernelImage, Section, Segment, load_kernel
from pvfast.images.parainstructions import SiteRecord, pointer_of, read_sites

__all__ = ["KernelImage", "Section", "Segment", "SiteRecord", "load_kernel", "pointer_of", "read_sites"]
