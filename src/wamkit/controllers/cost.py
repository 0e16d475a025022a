"""Cost and feasibility of deployment regimes (survey section 4.5, equations 33-35).

``call`` is the cost of one model call in any unit (seconds, function evaluations); the result has the same unit.
"""

from __future__ import annotations

from wamkit.errors import ConfigError


def open_loop_cost(call: float) -> float:
    """Equation (33): ``C_open(T) = N_fwd(T)``, one call regardless of the episode's length."""
    return call


def chunk_cost(ticks: int, execute: int, call: float) -> float:
    """Equation (34): ``C_chunk(T, K) = ceil(T / K) * N_fwd(K)``."""
    if execute < 1:
        raise ConfigError(f"chunk_cost: K must be at least 1, got {execute}.")
    return -(-ticks // execute) * call


def single_step_cost(ticks: int, call: float) -> float:
    """Equation (35): ``C_single(T) = T * N_fwd(1)``."""
    return ticks * call


def feasible(call_s: float, execute: int, rate_hz: float) -> bool:
    """Return true if ``N_fwd(K) / K < 1 / f``: a call ends before the actions that it replaces run out.

    Args:
        call_s: N_fwd(K), seconds per call.
        execute: K, actions executed per call; 1 gives the hard limit of the single-step regime.
        rate_hz: f, control ticks per second.
    """
    if execute < 1 or rate_hz <= 0:
        raise ConfigError(f"feasible: needs K >= 1 and a positive rate, got K={execute} and {rate_hz} Hz.")
    return call_s / execute < 1.0 / rate_hz
