"""The contract: what each kind of part must do, and the values that travel between parts.

Its names are listed in ``__init__.pyi`` and loaded when they are first used, because simulators read the specs and
are to start without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
