"""A denoiser whose answer is known in closed form: one Gaussian action."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.streams import StreamSpec
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.trunks import TransformerConfig

MEAN, DEVIATION = 2.0, 0.5
Answer = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Cache, Tensor | None], dict[str, Tensor]]
ONE = StreamSpec("action", "action", 1, 1, 1)


def denoiser(config: DenoiserConfig, width: int = 32) -> Denoiser:
    return config.build((ONE,), (), TransformerConfig(width=width, depth=2, heads=2).build())


def gaussian(prediction: str, calls: list[float]) -> Answer:
    """Stands for the network: exact answer for data ~ N(MEAN, DEVIATION^2); writes down the levels."""

    def answer(
        values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        x, t = values["action"], levels["action"][:, None, None, None]
        calls.append(t.flatten()[0].item())
        variance = (1 - t) ** 2 * DEVIATION**2 + t**2
        away = x - (1 - t) * MEAN
        if prediction == "noise":
            return {"action": t / variance * away}
        return {"action": (t - (1 - t) * DEVIATION**2) / variance * away - MEAN}

    return answer
