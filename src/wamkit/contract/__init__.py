"""The contract: abstract base classes of all parts, and the values that travel between parts.

Its names are listed in ``__init__.pyi`` and loaded on first use, because simulators read the specs and must start
without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
