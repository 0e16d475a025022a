"""Estimators: one factor of a design."""

from wamkit.estimators.autoregressor import Autoregressor, AutoregressorConfig
from wamkit.estimators.continuous_autoregressor import ContinuousAutoregressor, ContinuousAutoregressorConfig
from wamkit.estimators.denoiser import Denoiser, DenoiserConfig
from wamkit.estimators.fast_weights import FastWeights, FastWeightsConfig
from wamkit.estimators.feature_tap import FeatureTap, FeatureTapConfig
from wamkit.estimators.gated import Gated, GatedConfig
from wamkit.estimators.inverse_dynamics import InverseDynamics, InverseDynamicsConfig
from wamkit.estimators.jacobian_dynamics import JacobianDynamics, JacobianDynamicsConfig
from wamkit.estimators.latent_action import LatentAction, LatentActionConfig
from wamkit.estimators.motion_recovery import MotionRecovery, MotionRecoveryConfig
from wamkit.estimators.next_scale import NextScale, NextScaleConfig
from wamkit.estimators.paced import Paced, PacedConfig
from wamkit.estimators.proposer import Proposer, ProposerConfig
from wamkit.estimators.regressor import Regressor, RegressorConfig
from wamkit.estimators.staged import Staged, StagedConfig
from wamkit.estimators.state_space import StateSpace, StateSpaceConfig
from wamkit.estimators.summary import Summary, SummaryConfig
from wamkit.estimators.unmasker import Unmasker, UnmaskerConfig

__all__ = [
    "Autoregressor",
    "AutoregressorConfig",
    "ContinuousAutoregressor",
    "ContinuousAutoregressorConfig",
    "Denoiser",
    "DenoiserConfig",
    "FastWeights",
    "FastWeightsConfig",
    "FeatureTap",
    "FeatureTapConfig",
    "Gated",
    "GatedConfig",
    "InverseDynamics",
    "InverseDynamicsConfig",
    "JacobianDynamics",
    "JacobianDynamicsConfig",
    "LatentAction",
    "LatentActionConfig",
    "MotionRecovery",
    "MotionRecoveryConfig",
    "NextScale",
    "NextScaleConfig",
    "Paced",
    "PacedConfig",
    "Proposer",
    "ProposerConfig",
    "Regressor",
    "RegressorConfig",
    "Staged",
    "StagedConfig",
    "StateSpace",
    "StateSpaceConfig",
    "Summary",
    "SummaryConfig",
    "Unmasker",
    "UnmaskerConfig",
]
