"""Episodes for the Rerun viewer: what the policy saw, did and imagined, tick by tick (extra ``rerun``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.errors import MissingExtraError
from wamkit.evaluation.closed_loop.recording import Recording
from wamkit.evaluation.output.films import file_name
from wamkit.evaluation.report.filmstrip import Filmstrip, Frames

if TYPE_CHECKING:
    import rerun as rr

FOLDER = "rerun"


def require_rerun() -> None:
    """Raise :class:`MissingExtraError` unless the Rerun library is installed."""
    try:
        import rerun  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("The Rerun export needs rerun-sdk: pip install 'wamkit[rerun]'.") from error


def write_rerun(
    recording: Recording,
    strips: Sequence[Filmstrip],
    folder: Path,
    observation: ObservationSpec,
    action: ActionSpec,
) -> Path:
    """Write one episode as ``.rrd``.

    Timelines: ``tick``, ``time`` (seconds), and for what was imagined ``call``, the tick of the call. Entities:
    ``camera/<name>`` and ``state`` at every tick; ``action`` at the tick from which it was executed;
    ``imagined/<name>`` at the tick it speaks of, beside ``camera/<name>`` there; ``psnr_db/<name>`` of the two, where
    they differ; ``instruction`` and ``status`` as text.

    Args:
        recording: the episode.
        strips: forecasts of the report, of any episodes; those of this one are written.
        folder: where the file goes.
        observation: names the state's entries.
        action: names the action's entries and gives the control rate.

    Returns:
        the file.

    Raises:
        MissingExtraError: rerun-sdk is not installed.
    """
    require_rerun()
    import rerun as rr

    plan = recording.plan
    path = folder / file_name(plan.key, ".rrd")
    folder.mkdir(parents=True, exist_ok=True)
    stream = rr.RecordingStream("wamkit", recording_id=plan.key)
    stream.save(path)
    stream.send_recording_name(f"{plan.key}: {recording.status}")
    stream.log("instruction", rr.TextDocument(recording.instruction), static=True)
    stream.log("state", rr.SeriesLines(names=list(observation.state)), static=True)
    stream.log("action", rr.SeriesLines(names=list(action.names)), static=True)
    for tick, frame in enumerate(recording.frames):
        _at(stream, tick, action.rate_hz)
        for camera, picture in frame["images"].items():
            stream.log(f"camera/{camera}", _picture(picture))
        stream.log("state", rr.Scalars(frame["state"]))
        if tick < len(recording.actions):
            stream.log("action", rr.Scalars(recording.actions[tick]))
    stream.log("status", rr.TextLog(recording.status))
    clean = plan.variant is None or plan.variant.perturbation is None
    for strip in strips:
        if clean and (strip.task, strip.seed) == (plan.task, plan.seed):
            _imagined(stream, strip, action.rate_hz)
    stream.flush()
    stream.disconnect()
    return path


def _imagined(stream: rr.RecordingStream, strip: Filmstrip, rate_hz: float) -> None:
    import rerun as rr

    for offset, picture, psnr in zip(strip.offsets, strip.imagined, strip.psnr_db, strict=True):
        _at(stream, strip.tick + offset, rate_hz)
        stream.set_time("call", sequence=strip.tick)
        stream.log(f"imagined/{strip.camera}", _picture(picture))
        if psnr is not None:
            stream.log(f"psnr_db/{strip.camera}", rr.Scalars(psnr))
    stream.disable_timeline("call")


def _at(stream: rr.RecordingStream, tick: int, rate_hz: float) -> None:
    stream.set_time("tick", sequence=tick)
    stream.set_time("time", duration=tick / rate_hz)


def _picture(picture: Frames) -> rr.EncodedImage:
    """Without loss: small pictures are looked at pixel by pixel."""
    import rerun as rr

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return rr.EncodedImage(contents=buffer.getvalue(), media_type="image/png")
