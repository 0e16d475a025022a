"""Configs: typed values with ranges, from YAML and the command line; an unknown key or choice is refused by name.

Its names are listed in ``__init__.pyi`` and loaded on first use, because help reads ranges without parsing anything.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
