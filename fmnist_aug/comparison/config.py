"""What a comparison is asked to do, resolved: the identity of its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_aug.augment.policies import get_policy
from fmnist_aug.comparison.arms import ARMS, DEFAULT_ARMS
from fmnist_aug.data import NAMED_DATASETS, ImageDataset
from fmnist_aug.errors import UsageError
from fmnist_aug.models import MODELS
from fmnist_aug.pairs import parse_pairs
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training import (
    Hardware,
    Measured,
    TrainSettings,
    choose_hardware,
    default_preset,
    get_preset,
    measure_precision,
)

MAX_RUNS = 1000
MAX_SEED = 1 << 32
"""Seeds are smaller: NumPy's old generators take no others."""


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything that decides the numbers of a comparison besides the data's content.

    Attributes:
        dataset: name or path of the data set.
        preset: the preset that the settings came from.
        settings: of every arm's runs.
        keep: share of the draws that is trained on, the hardest, if no plan says otherwise.
        probe_epochs: length of the training whose held-out confusions make the plan.
        train_images: size of the slice of the training data; None for all of it.
        test_images: size of the slice of the test data; None for all of it.
        arms: which arms, in order.
        runs: trainings of each arm.
        seed: of the first run; the others count on from it.
        pairs: ``auto``, or the pairs to target as text.
        policy: augmentation of the extra draws; None for the data set's default.
        plan: the plan, if it is given; None to make one from the confusions of a probe.
        held_out: share of the training images on which the confusions are measured.
        hardware: device and precision, which may still have to be measured.
        flip: whether mirrored images keep their label; None for what the data set's card says.
        image_size: side to which the pictures of an image folder are brought.
    """

    dataset: str
    preset: str
    settings: TrainSettings
    keep: float
    probe_epochs: float
    train_images: int | None
    test_images: int | None
    arms: tuple[str, ...]
    runs: int
    seed: int
    pairs: str
    policy: str | None
    plan: ConfusionPlan | None
    held_out: float
    hardware: Hardware
    flip: bool | None
    image_size: int | None

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed a run, the same for all arms."""
        return tuple(range(self.seed, self.seed + self.runs))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        value = dataclasses.asdict(self)
        value["arms"] = list(self.arms)
        value["plan"] = self.plan and self.plan.to_dict()
        return value


def resolve_config(
    dataset: str | Path = "fashion-mnist",
    *,
    preset: str | None = None,
    model: str | None = None,
    epochs: float | None = None,
    arms: Sequence[str] = (),
    runs: int = 3,
    seed: int = 0,
    pairs: str | None = None,
    policy: str | None = None,
    plan: ConfusionPlan | None = None,
    held_out: float = 0.1,
    device: str = "auto",
    precision: str = "auto",
    flip: bool | None = None,
    image_size: int | None = None,
) -> ComparisonConfig:
    """Check the arguments and fill in what the preset and the machine decide.

    Raises:
        UsageError: an argument that can't be used, named in the message.
    """
    hardware = choose_hardware(device, precision)
    by_rule = choose_hardware(device) if precision == "measure" else hardware
    chosen = get_preset(preset or default_preset(by_rule))
    settings = chosen.settings
    if model is not None:
        if model not in MODELS:
            raise UsageError(f"unknown model {model!r}; choose one of {', '.join(MODELS)}")
        settings = dataclasses.replace(settings, model=model)
    probe_epochs = chosen.probe_epochs
    if epochs is not None:
        probe_epochs = min(probe_epochs, epochs)
        settings = dataclasses.replace(settings, epochs=epochs)
    arms = tuple(dict.fromkeys(arms)) or DEFAULT_ARMS
    for arm in arms:
        if arm not in ARMS:
            raise UsageError(f"unknown arm {arm!r}; choose from {', '.join(ARMS)}")
    if "hard-only" in arms and (plan.keep if plan else chosen.keep) == 1:
        raise UsageError(
            f"the {'plan' if plan else f'preset {chosen.name}'} trains on all draws, so the arm "
            "hard-only would do the same as uniform; leave it out"
        )
    if not 1 <= runs <= MAX_RUNS:
        raise UsageError(f"runs must be between 1 and {MAX_RUNS}, not {runs}")
    if not 0 <= seed <= MAX_SEED - runs:
        raise UsageError(f"the seeds must lie in 0 … {MAX_SEED - 1}, but begin at {seed}")
    if not 0 < held_out < 1:
        raise UsageError(f"held_out must lie between 0 and 1, not {held_out}")
    if policy is not None:
        get_policy(policy)
    pairs = (pairs or "auto").strip()
    if plan is not None:
        if pairs != "auto" or policy is not None:
            raise UsageError("a plan has its own pairs and policy; leave out --pairs and --policy")
        get_policy(plan.policy)
    if pairs != "auto":
        parse_pairs(pairs)
    return ComparisonConfig(
        dataset=spell_dataset(dataset),
        preset=chosen.name,
        settings=settings,
        keep=chosen.keep,
        probe_epochs=probe_epochs,
        train_images=chosen.train_images,
        test_images=chosen.test_images,
        arms=arms,
        runs=runs,
        seed=seed,
        pairs=pairs,
        policy=policy,
        plan=plan,
        held_out=held_out,
        hardware=hardware,
        flip=flip,
        image_size=image_size,
    )


def spell_dataset(dataset: str | Path) -> str:
    """One spelling for all of a path, ``bin`` for ``./bin/``, but none that is another's name."""
    path = str(Path(dataset))
    return str(dataset) if path in NAMED_DATASETS else path


def settle_precision(
    config: ComparisonConfig, train: ImageDataset
) -> tuple[ComparisonConfig, Measured | None]:
    """With ``precision="measure"``: time a few steps, and put the fastest in its place.

    Returns:
        The configuration, and what was measured; None if nothing had to be.
    """
    if config.hardware.precision != "measure":
        return config, None
    device = config.hardware.device
    measured = measure_precision(train, config.settings, device, choose_hardware(device).precision)
    return dataclasses.replace(config, hardware=measured.hardware), measured
