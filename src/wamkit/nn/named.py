"""Dictionary of modules that keeps the type of its values."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView
from typing import Generic, TypeVar, cast, final

from torch import nn
from typing_extensions import override

M = TypeVar("M", bound=nn.Module)


@final
class Named(nn.ModuleDict, Generic[M]):
    """``nn.ModuleDict`` with values of type ``M``. Keys in state dicts are those of ``nn.ModuleDict``."""

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__(dict(modules))

    @override
    def __getitem__(self, name: str) -> M:
        return cast(M, super().__getitem__(name))

    @override
    def items(self) -> ItemsView[str, M]:
        return cast("ItemsView[str, M]", super().items())

    @override
    def values(self) -> ValuesView[M]:
        return cast("ValuesView[M]", super().values())
