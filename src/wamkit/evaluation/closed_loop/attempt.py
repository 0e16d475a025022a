"""The boundary to the code under test: exceptions of a policy become values, so that other episodes continue."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from wamkit.errors import WamkitError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """An exception raised inside the policy.

    Attributes:
        traceback: formatted traceback of the exception; for an error of ours, its type and message.
    """

    traceback: str

    @property
    def reason(self) -> str:
        """Type and message of the exception: the last line of its traceback."""
        return self.traceback.strip().splitlines()[-1]


def attempt(
    action: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | Failed:
    """Call ``action`` with the given arguments; an exception is returned as :class:`Failed` instead of raised."""
    try:
        return action(*args, **kwargs)
    except WamkitError as error:
        return Failed(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - code under test may raise anything; the caller reports it as an error
        return Failed(traceback.format_exc())
