"""What changes from step to step, kept at epoch boundaries so that a killed training goes on."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmnist_aug.classifier import read_tensors, write_tensors
from fmnist_aug.errors import CheckpointError
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training.averaging import WeightAverage
from fmnist_aug.training.curve import LearningCurve
from fmnist_aug.training.sgd import Optimizer


@dataclass
class TrainingState:
    """What changes from step to step."""

    model: nn.Module
    optimizers: list[Optimizer]
    hard: HardExamples
    curve: LearningCurve
    scaler: Any
    """A `torch.amp.GradScaler`, whose types know torch's own optimisers only."""
    average: WeightAverage | None = None
    step: int = 0
    seconds: float = 0.0
    refreshed: list[ConfusionPlan] = field(default_factory=list)
    """The plan after each refresh so far."""
    made_with: list[dict[str, Any]] = field(default_factory=list)
    """The environments in which it was trained, each once; the present one is the last."""


def save_state(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write weights, optimisers and position, with what they belong to."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors["hard.losses"] = state.hard.losses
    tensors["hard.visits"] = state.hard.visits
    for name, value in _average(state).items():
        tensors[f"average.{name}"] = value
    for position, optimizer in enumerate(state.optimizers):
        for name, value in optimizer.state_dict().items():
            tensors[f"optimizer.{position}.{name}"] = value
    header = {
        "identity": identity,
        "step": state.step,
        "seconds": state.seconds,
        "curve": state.curve.state_dict(),
        "scaler": state.scaler.state_dict(),
        "refreshed": [plan.to_dict() for plan in state.refreshed],
        "made_with": state.made_with,
    }
    write_tensors(path, tensors, "training-state", header)


def load_state(path: Path | None, state: TrainingState, identity: dict[str, Any]) -> None:
    """Go on from a kept state; a state of another training or a damaged one is not used."""
    if path is None or not path.exists():
        return
    try:
        tensors, kind, header = read_tensors(path)
    except CheckpointError:
        return
    # compared as JSON, in which tuples have become lists
    if kind != "training-state" or not isinstance(header, dict):
        return
    if header.get("identity") != _as_json(identity):
        return
    optimizers = [optimizer.state_dict() for optimizer in state.optimizers]
    hard = state.hard.losses, state.hard.visits
    scaler = state.scaler.state_dict()
    fresh = copy.deepcopy(
        (state.model.state_dict(), hard, optimizers, state.curve.state_dict(), _average(state))
    )
    try:
        _load(state, tensors, header)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError):
        state.model.load_state_dict(fresh[0])
        for values, kept in zip(hard, fresh[1], strict=True):
            values.copy_(kept)
        for optimizer, content in zip(state.optimizers, fresh[2], strict=True):
            optimizer.load_state_dict(content)
        state.curve.load_state_dict(fresh[3])
        if scaler:
            state.scaler.load_state_dict(scaler)
        state.refreshed.clear()
        if state.average:
            state.average.load_state_dict(fresh[4])
        state.step, state.seconds = 0, 0.0


def _load(state: TrainingState, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    step, seconds = header["step"], float(header["seconds"])
    if type(step) is not int or step < 0 or not seconds >= 0:
        raise ValueError(f"{step} steps in {seconds} s")
    # losses are infinite for images that were not drawn yet
    weights = [value for name, value in tensors.items() if name != "hard.losses"]
    if not all(bool(torch.isfinite(value).all()) for value in weights):
        raise ValueError("values that are not finite")
    state.model.load_state_dict(_beginning_with("model.", tensors))
    if state.average:
        state.average.load_state_dict(_beginning_with("average.", tensors))
    state.hard.losses.copy_(tensors["hard.losses"])
    state.hard.visits.copy_(tensors["hard.visits"])
    for position, optimizer in enumerate(state.optimizers):
        optimizer.load_state_dict(_beginning_with(f"optimizer.{position}.", tensors))
    state.curve.load_state_dict(header["curve"])
    if state.scaler.is_enabled():
        if not all(0 <= value < math.inf for value in header["scaler"].values()):
            raise ValueError("a scale that is not finite")
        state.scaler.load_state_dict(header["scaler"])
    state.refreshed[:] = [ConfusionPlan.from_dict(value) for value in header["refreshed"]]
    earlier = header.get("made_with", [{}])  # of an earlier version: nobody knows
    if not isinstance(earlier, list) or not all(isinstance(item, dict) for item in earlier):
        raise ValueError("environments that are none")
    now = _as_json(state.made_with)
    state.made_with[:0] = [item for item in earlier if item not in now]
    state.step, state.seconds = step, seconds


def _average(state: TrainingState) -> dict[str, Tensor]:
    return state.average.values if state.average else {}


def _beginning_with(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
