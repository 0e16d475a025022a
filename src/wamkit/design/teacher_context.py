"""Teacher context: another design's context -> tokens (`ss.distill`, teacher-context transfer as in CKT-WAM).

This encoder is not in the room of encoders, which read the contract alone: it holds the context path of a whole design.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config import decode
from wamkit.config.ranges import Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.design.build import extras_of, sensed_by
from wamkit.design.checkpoint import find_checkpoint, load_weights, read_design, read_facts, verify
from wamkit.design.config import DesignConfig
from wamkit.design.model import Design
from wamkit.errors import ConfigError, DataError, did_you_mean

PART = "encoder 'teacher_context'"


@EncoderConfig.register_subclass("teacher_context")
@dataclass(frozen=True)
class TeacherContextConfig(EncoderConfig):
    """Context of a frozen teacher, read by learned queries behind a gate (as CKT-WAM; Alayrac et al. 2022).

    Attributes:
        checkpoint: folder or hub id of the teacher, which may be any design. Its weights are written into every
            checkpoint of the student, which does not need the teacher's again.
        architecture: description of the teacher as JSON; filled in when it is empty. Without a checkpoint it is
            ``{"design": ...}``, the config of a design that is built for the student's data with random weights, in
            place of a trained one, as in tests and small recipes.
        trunk: name of the trunk whose last hidden states are read; empty for the only one. A design without a trunk
            provides the tokens of its encoders.
        tokens: R, number of context tokens for the student.
        heads: attention heads of the queries.
    """

    extras: ClassVar[tuple[str, ...]] = ("(those of the teacher's encoders)",)
    checkpoint: str = ""
    architecture: str = ""
    trunk: str = ""
    tokens: Size = 8
    heads: Size = 4

    def __post_init__(self) -> None:
        """Read the description of the teacher, unless it is there already."""
        try:
            described = json.loads(self.architecture) if self.architecture else {}
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{PART}: `architecture` is not JSON ({error}). Leave it empty: it is filled in from `checkpoint`."
            ) from error
        if self.checkpoint and described.get("checkpoint") != self.checkpoint:
            object.__setattr__(self, "architecture", describe_teacher(self.checkpoint))

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> TeacherContext:
        """Build the encoder; raises :class:`ConfigError` when the student's data lack what the teacher reads."""
        if not self.checkpoint and not self.architecture:
            raise ConfigError(f"{PART}: name a `checkpoint`: a folder that training wrote, or a hub id.")
        if width % self.heads:
            raise ConfigError(
                f"{PART}: tokens of width {width} with {self.heads} heads; needs a width that the heads divide"
            )
        design, absent = load_teacher(self) if self.checkpoint else (random_teacher(self, data), "")
        check_inputs(design, data, window)
        return TeacherContext(self, ContextPath(design, self.trunk, window, absent), width)


def describe_teacher(checkpoint: str) -> str:
    """Description of the teacher as JSON; raises :class:`ConfigError` when there is no such checkpoint.

    The order of keys is kept: it is the order of the teacher's encoders, and so of its context tokens.
    """
    return json.dumps({"checkpoint": checkpoint, **read_facts(find_checkpoint(checkpoint))})


def random_teacher(config: TeacherContextConfig, data: DataSpec) -> Design:
    """Build the teacher that ``architecture`` describes, for ``data`` and with random weights."""
    described = json.loads(config.architecture)
    if not isinstance(described, dict) or set(described) != {"design"}:
        raise ConfigError(
            f"{PART}: without a `checkpoint`, `architecture` must hold the field 'design' alone, the config of the "
            f"teacher. Name the checkpoint that it describes."
        )
    return Design(decode(DesignConfig, described["design"], f"{PART}: architecture, design"), data)


def load_teacher(config: TeacherContextConfig) -> tuple[Design, str]:
    """Load the teacher with its weights, or with random ones and the reason why its own are missing."""
    teacher, absent = read_design(json.loads(config.architecture), f"{PART}: {config.checkpoint}"), ""
    try:
        described = describe_teacher(config.checkpoint)
    except (ConfigError, DataError, OSError) as error:
        # The teacher is gone or out of reach. A checkpoint of the student may still bring the weights.
        absent = str(error)
    else:
        if described == config.architecture:
            folder = find_checkpoint(config.checkpoint)
            verify(folder)
            load_weights(teacher, folder)
        else:
            absent = f"{config.checkpoint} holds another design now, or other statistics."
    if absent:
        absent = (
            f"{PART}: the teacher's weights are missing: {absent} Put the teacher back, or load a checkpoint of the "
            f"student, which holds them too."
        )
    return teacher, absent


def check_inputs(teacher: Design, data: DataSpec, window: WindowSpec) -> None:
    """Raise :class:`ConfigError` unless windows of ``data`` hold everything that the teacher was trained to read."""
    ours, theirs = data.observation, teacher.observation_spec
    for name, camera in theirs.cameras.items():
        if ours.cameras.get(name) != camera:
            raise ConfigError(
                f"{PART}: the teacher sees camera {name!r} as {camera}, the student's data have "
                f"{ours.cameras.get(name)}. Use data with this camera, or another teacher."
            )
    if (ours.state, ours.rate_hz) != (theirs.state, theirs.rate_hz):
        raise ConfigError(
            f"{PART}: the teacher reads the state {theirs.state} at {theirs.rate_hz} Hz, the student's data have "
            f"{ours.state} at {ours.rate_hz} Hz. Use data with the same state, or another teacher."
        )
    for name in extras_of(teacher.encoders.values()):
        if tuple(data.extra(name, f"{PART}: its teacher")) != tuple(teacher.data.extras[name]):
            raise ConfigError(
                f"{PART}: the teacher reads the extra {name!r} of shape {tuple(teacher.data.extras[name])}, the "
                f"student's data have {tuple(data.extras[name])}. Use data with the same sensor, or another teacher."
            )
    if any(encoder.goal for encoder in teacher.encoders.values()) and teacher.config.aim != window.aim:
        raise ConfigError(
            f"{PART}: the teacher's goal is the {teacher.config.aim!r}, the student's the {window.aim!r}. Give the "
            f"student the same `aim`."
        )
    missing = sorted(set(teacher.config.observation) - set(window.observation))
    if missing:
        raise ConfigError(
            f"{PART}: the teacher looks at the ticks {teacher.config.observation}, the student at "
            f"{window.observation}. Add {missing} to the student's `observation`."
        )


@final
class ContextPath(nn.Module):
    """Observation -> last hidden states of a design's context. Frozen, and always in evaluation mode.

    Args:
        teacher: design whose context is read.
        trunk: name of its trunk, or empty for the only one.
        window: window of the student.
        absent: reason why the teacher's weights are missing, or empty.

    Attributes:
        width: features of a hidden state.
        extras: names of the extras that it reads.
        goal: true when it reads the goal.
        absent: reason why the weights are missing, or empty. Loading a checkpoint of the student clears it.
    """

    def __init__(self, teacher: Design, trunk: str, window: WindowSpec, absent: str) -> None:
        super().__init__()
        trunks = teacher.trunks
        if trunk not in trunks and (trunk or len(trunks) > 1):
            problem = f"has no trunk {trunk!r}" if trunk else f"has {len(trunks)} trunks; name one in `trunk`"
            raise ConfigError(f"{PART}: the teacher {problem}. {did_you_mean(trunk, trunks)}")
        name = trunk or next(iter(trunks), "")
        self.encoders = teacher.encoders
        self.context = teacher.context[name] if name else nn.Identity()
        self.trunk = trunks[name] if name else None
        self.width = trunks[name].context_width if name else teacher.config.width
        self.extras = extras_of(teacher.encoders.values())
        self.goal, self.absent = any(encoder.goal for encoder in teacher.encoders.values()), absent
        first = len(window.observation)
        self.steps = [window.observation.index(offset) - first for offset in teacher.config.observation]
        self.requires_grad_(False).eval()
        self.register_load_state_dict_pre_hook(_before_loading)

    @torch.no_grad()
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Hidden states (B, N, width) and their padding mask (B, N) bool."""
        if self.absent:
            raise ConfigError(self.absent)
        view = observation.steps(self.steps)
        encoded = [encoder(view) for encoder in self.encoders.values()]
        tokens = self.context(torch.cat([tokens for tokens, _ in encoded], dim=1))
        pad = torch.cat([pad for _, pad in encoded], dim=1)
        if self.trunk is None:
            return tokens, pad
        return self.trunk(tokens, pad=pad if bool(pad.any()) else None)[0], pad

    @override
    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


def _before_loading(path: ContextPath, state: Mapping[str, Tensor], prefix: str, *rest: object) -> None:
    """Mark the weights as present when the state dict brings them; that of a student without this encoder does not."""
    if any(key.startswith(prefix) for key in state):
        path.absent = ""


@final
class TeacherContext(Encoder):
    """N = R tokens, each ``null + tanh(gate) * (attention of its query over the teacher's hidden states)``.

    The gate starts at zero. As long as it is exactly zero, nothing that the teacher sees reaches the student. When
    acting, the tokens are then padded, and the student acts as it would without this encoder. In training they are
    read as constants, so that the gate can learn to open.
    """

    def __init__(self, config: TeacherContextConfig, teacher: ContextPath, width: int) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        self.extras, self.goal = teacher.extras, teacher.goal
        sensed = sensed_by(teacher.encoders.values())
        self.unsensed = tuple(name for name in self.extras if name not in sensed)
        self.norm = nn.LayerNorm(teacher.width)
        self.query = nn.Parameter(torch.randn(config.tokens, width))
        self.key_value = nn.Linear(teacher.width, 2 * width)
        self.out = nn.Linear(width, width, bias=False)
        self.null = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.gate = nn.Parameter(torch.zeros(()))

    def read(self, hidden: Tensor, pad: Tensor) -> Tensor:
        """Attend from the queries to hidden states (B, N, D): (B, R, width).

        A zero key with a zero value is always present, so attention over nothing but padding adds nothing.
        """
        heads = self.config.heads
        key, value = self.key_value(self.norm(hidden)).chunk(2, dim=-1)
        key, value = (F.pad(x.unflatten(2, (heads, -1)).transpose(1, 2), (0, 0, 1, 0)) for x in (key, value))
        query = self.query.unflatten(1, (heads, -1)).transpose(0, 1).expand(len(hidden), -1, -1, -1)
        allowed = F.pad(~pad, (1, 0), value=True)[:, None, None]
        return self.out(
            F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2).flatten(2)
        )

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens = self.null + self.gate.tanh() * self.read(*self.teacher(observation))
        closed = not self.training and bool(self.gate == 0)
        return tokens, torch.full(tokens.shape[:2], closed, dtype=torch.bool, device=tokens.device)
