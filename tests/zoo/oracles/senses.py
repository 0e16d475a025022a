"""Oracles of what is observed: pictures over time and the robot's own senses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from cases import Case

from gates import sharpen
from oracles.language import act_differs
from oracles.registry import oracle
from wamkit.contract.protocols import Encoder
from wamkit.contract.types import Observation
from wamkit.encoders.audio import AudioEncoder
from wamkit.encoders.body_sensors import BodySensorEncoder
from wamkit.encoders.state import StateEncoder
from wamkit.encoders.tactile_image import TactileImageEncoder

Change = Callable[[torch.Tensor], torch.Tensor]
SENSES = (StateEncoder, BodySensorEncoder, AudioEncoder, TactileImageEncoder)


def newest(seen: Observation, camera: str, change: Change, step: int) -> Observation:
    """The observation with one frame of one camera changed."""
    frames = seen.images[camera].clone()
    frames[:, step] = change(frames[:, step])
    return replace(seen, images={**seen.images, camera: frames})


@oracle("oe.rgb-history")
def picture_history(case: Case) -> None:
    """Every frame of the window in every chosen view is read, under its name; nothing older exists."""
    design, seen = case.design, case.observation()
    steps = len(case.config.observation)
    assert steps > 1 or design.past_blocks, "one frame is no history"
    read = [e for e in design.encoders.values() if reads_pictures(e, seen)]
    assert read or design.past_blocks, "no encoder reads pictures"
    for encoder in read:
        with torch.no_grad():
            tokens, pad = encoder(seen)
            backwards = replace(seen, images=dict(reversed(list(seen.images.items()))))
            assert torch.equal(encoder(backwards)[0], tokens), "the order of the views matters"
            used = [c for c in seen.images if not torch.equal(encoder(newest(seen, c, flip, -1))[0], tokens)]
            for camera in used:
                for step in range(steps):
                    other = encoder(newest(seen, camera, flip, step))[0]
                    assert not torch.equal(other, tokens), (camera, step)
        assert tokens.shape[1] % (steps * len(used)) == 0, "not views x frames x patches"
        assert pad.shape == tokens.shape[:2]
    assert seen.state.shape[1] == steps, "the observation holds frames outside the window"


def flip(frame: torch.Tensor) -> torch.Tensor:
    """Negative of a frame."""
    return 255 - frame


def reads_pictures(encoder: Encoder, seen: Observation) -> bool:
    """True when the tokens of an encoder change with the pictures."""
    dark = replace(seen, images={name: flip(p) for name, p in seen.images.items()})
    with torch.no_grad():
        return not torch.equal(encoder(seen)[0], encoder(dark)[0])


@oracle("oe.body-sensors")
def body_sensors(case: Case) -> None:
    """A step of the newest reading is in the tokens at once and reaches the action; a missing sensor is not read."""
    design = sharpen(case.untrained())
    seen = case.cut(design.window)
    found = {n: e for n, e in design.encoders.items() if isinstance(e, SENSES)}
    assert found, "the robot's own senses are not read"
    for name, encoder in found.items():
        touched = felt(seen, encoder)
        with torch.no_grad():
            assert not torch.equal(encoder(seen)[0], encoder(touched)[0]), (
                f"{name}: the newest reading is not read"
            )
        if not isinstance(encoder, StateEncoder):
            flagged(seen, encoder)
        if isinstance(encoder, AudioEncoder):
            tone(seen, encoder)
    changed = seen
    for encoder in found.values():
        changed = felt(changed, encoder)
    assert any(act_differs(design, seen, changed, seed) for seed in range(4)), "no sense reaches the action"


def felt(seen: Observation, encoder: Encoder) -> Observation:
    """The observation with another newest reading of the encoder's sensors."""
    if isinstance(encoder, StateEncoder):
        state = seen.state.clone()
        state[:, -1] += 1.0
        return replace(seen, state=state)
    extras = dict(seen.extras)
    for name in encoder.extras:
        value = extras[name].clone()
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(value[:, -1].shape, generator=generator)
        value[:, -1] = (255 * noise).to(value.dtype) if value.dtype == torch.uint8 else noise.to(value.dtype)
        extras[name] = value
    return replace(seen, extras=extras)


def flagged(seen: Observation, encoder: Encoder) -> None:
    """Whatever lies in the buffer of a missing sensor, the tokens are the same."""
    missing = {name: torch.ones_like(seen.pad) for name in encoder.extras}
    absent = replace(seen, missing={**seen.missing, **missing})
    with torch.no_grad():
        blind, garbage = encoder(absent)[0], encoder(felt(absent, encoder))[0]
        assert torch.equal(blind, garbage), f"a missing sensor is read: {encoder.extras}"
        assert not torch.equal(blind, encoder(seen)[0]), "the tokens do not say that the sensor is missing"


def tone(seen: Observation, encoder: AudioEncoder) -> None:
    """A pure tone is loudest in its band of the Mel scale."""
    (name,) = encoder.extras
    rate, bands = encoder.config.rate_hz, encoder.config.mels
    time = torch.arange(seen.extras[name].shape[-1]) / rate
    for hz in (600.0, 3000.0):
        loudest = encoder.mel(torch.sin(2 * math.pi * hz * time)[None])[0].mean(dim=0).argmax()
        expected = mel(hz) / mel(rate / 2) * (bands + 1) - 1
        assert abs(float(loudest) - expected) <= 1.5, (hz, int(loudest), expected)


def mel(hz: float) -> float:
    """Pitch of a frequency on the Mel scale."""
    return 2595 * math.log10(1 + hz / 700)
