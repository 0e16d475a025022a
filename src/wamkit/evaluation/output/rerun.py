"""Export of episodes for the Rerun viewer: observations, actions and imagined frames by tick (extra ``rerun``)."""

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

RERUN_FOLDER = "rerun"


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

    The timelines are ``tick``, ``time`` (seconds) and, for imagined frames, ``call``, the tick of the model call. The
    entities are ``camera/<name>`` and ``state`` at every tick; ``action`` at the tick from which it was executed;
    ``imagined/<name>`` at the tick that it predicts; ``psnr_db/<name>`` of imagined against real frames, where they
    differ; ``instruction`` and ``status`` as text.

    Args:
        recording: recorded episode.
        strips: filmstrips of the report. Those of this episode are written.
        folder: output folder.
        observation: observation spec, which names the entries of the state.
        action: action spec, which names the entries of the action and sets the control rate.

    Returns:
        path of the file.

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
            stream.log(["camera", camera], _picture(picture))
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
        stream.log(["imagined", strip.camera], _picture(picture))
        if psnr is not None:
            stream.log(["psnr_db", strip.camera], rr.Scalars(psnr))
    stream.disable_timeline("call")


def _at(stream: rr.RecordingStream, tick: int, rate_hz: float) -> None:
    stream.set_time("tick", sequence=tick)
    stream.set_time("time", duration=tick / rate_hz)


def _picture(picture: Frames) -> rr.EncodedImage:
    """Encode losslessly, since small pictures are inspected pixel by pixel."""
    import rerun as rr

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return rr.EncodedImage(contents=buffer.getvalue(), media_type="image/png")
