"""Dictionaries of modules and of parameters by names from data and configs, which may be any text.

torch stores a module or a parameter as an attribute, so ``type`` would collide with a method and ``rgb.head`` with the
dots of state dicts. Here a name and the key under which it is stored are two things: :func:`key_of` maps one to the
other, injectively, and leaves ordinary names as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast, final

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

# Dots separate the parts of a state-dict key, surrogates cannot be stored as UTF-8, and the escape escapes itself.
_ESCAPED = re.compile("[.%\ud800-\udfff]")
_ESCAPE = re.compile("%([0-9A-F]+)_")
_TAKEN = frozenset(dir(nn.ModuleDict()))
_PREFIX = "%="


def key_of(name: str) -> str:
    """Key of a name in state dicts: the name itself unless torch gives it another meaning.

    ``.``, ``%`` and lone surrogates become ``%<code>_`` in hexadecimal; the empty name and names of attributes of
    modules, such as ``type``, get the prefix ``%=``.
    """
    taken = not name or name in _TAKEN or (name.startswith("__") and name.endswith("__"))
    escaped = _ESCAPED.sub(lambda found: f"%{ord(found.group()):X}_", name)
    return _PREFIX + escaped if taken else escaped


def name_of(key: str) -> str:
    """Invert :func:`key_of`."""
    return _ESCAPE.sub(lambda found: chr(int(found.group(1), 16)), key.removeprefix(_PREFIX))


@final
class Named(nn.Module, Generic[M]):
    """Mapping from names to modules of type ``M``, in the order given."""

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(key_of(name), module)

    def __getitem__(self, name: str) -> M:
        try:
            return cast(M, self._modules[key_of(name)])
        except KeyError:
            raise KeyError(name) from None

    def __contains__(self, name: str) -> bool:
        return key_of(name) in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return map(name_of, self._modules)

    def keys(self) -> list[str]:
        """Names."""
        return list(self)

    def values(self) -> list[M]:
        """Modules."""
        return [cast(M, module) for module in self._modules.values()]

    def items(self) -> list[tuple[str, M]]:
        """Names with their modules."""
        return list(zip(self, self.values(), strict=True))


@final
class NamedParameters(nn.Module):
    """Mapping from names to parameters, sorted by name."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in sorted(parameters.items()):
            self.register_parameter(key_of(name), nn.Parameter(value))

    def __getitem__(self, name: str) -> nn.Parameter:
        return cast(nn.Parameter, self._parameters[key_of(name)])
