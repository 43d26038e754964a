"""How to train: settings of a run, and the presets that bundle them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from fmnist_aug.augment.policies import get_policy
from fmnist_aug.errors import UsageError
from fmnist_aug.training.hardware import Hardware

MAX_EPOCHS = 100_000
"""More would not end: a mistake in the number, not a wish."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training besides data, plan and seed.

    Attributes:
        model: the network's name, for `create_model`.
        epochs: length of the training, in passes over the original images; an arm with extra
            draws takes as many optimisation steps, and so passes a little less often.
        batch_size: images a step.
        optimizer: ``sgd`` (Nesterov) for all weights, or ``muon`` for the inner convolutions
            (Keller Jordan's, as in his airbench) and SGD for the rest.
        learning_rate: peak of SGD's triangular schedule.
        muon_learning_rate: peak of Muon's.
        momentum: of SGD.
        muon_momentum: of Muon.
        muon_linear: let Muon move the fully connected layers too, but for the last.
        weight_decay: of SGD, on weights, not on biases and norms.
        warmup: share of the steps over which the rate rises from 0; it then falls to 0.
        label_smoothing: share of the target that is spread over all classes.
        augment: name of the policy that follows the data set's base augmentation, in all arms that
            augment.
        whitening: let the first convolution begin with the directions in which small patches of the
            training images vary, instead of random filters.
        progressive_resizing: share of the steps that see smaller images: half of them images of
            half the side, the others of half the pixels. Networks that take images of one size
            only see them as they are.
        ema: decay of the running average of the weights with which is predicted in the end; 0 for
            the last weights themselves.
        sam: how far uphill of the weights the gradients are taken (sharpness-aware minimisation,
            arXiv 2010.01412), as the Euclidean norm over all matrices and kernels; 0 for where the
            weights are.
        test_time_flip: average the logits of an image and its mirror image, of a network that was
            trained on mirrored images.
        test_time_shift: average in the logits of the image moved by one pixel each way, where
            those of the image as it is leave doubt.
    """

    model: str
    epochs: float
    batch_size: int = 256
    optimizer: Literal["sgd", "muon"] = "sgd"
    learning_rate: float = 0.2
    muon_learning_rate: float = 0.05
    momentum: float = 0.9
    muon_momentum: float = 0.6
    muon_linear: bool = False
    weight_decay: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.1
    augment: str = "none"
    whitening: bool = False
    progressive_resizing: float = 0.0
    ema: float = 0.0
    sam: float = 0.0
    test_time_flip: bool = True
    test_time_shift: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.epochs <= MAX_EPOCHS:
            raise UsageError(
                f"epochs must be more than 0 and at most {MAX_EPOCHS}, not {self.epochs:g}"
            )
        if self.batch_size < 2:
            raise UsageError(f"the batch size must be at least 2, not {self.batch_size}")
        if not 0 <= self.progressive_resizing < 1:
            raise UsageError(
                "progressive_resizing must be at least 0 and less than 1, not "
                f"{self.progressive_resizing}"
            )
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must lie between 0 and 1, not {self.ema}")
        if not 0 <= self.sam < math.inf:
            raise UsageError(f"sam must be a number of at least 0, not {self.sam}")
        if not get_policy(self.augment).on_base:
            raise UsageError(f"the policy {self.augment!r} cannot follow a base augmentation")

    def batch_for(self, images: int) -> int:
        """Images a step for a data set of that size: small sets still get some steps an epoch."""
        return max(2, min(self.batch_size, images // 8))

    def steps_for(self, images: int) -> int:
        """Optimisation steps for a data set of that size, the same for every arm."""
        return max(1, round(self.epochs * images / self.batch_for(images)))


@dataclass(frozen=True)
class Preset:
    """A bundle of settings for a purpose.

    Attributes:
        name: for the command line.
        description: for people.
        settings: of every arm's runs.
        probe_epochs: epochs of the one training whose held-out confusions make the plan.
        train_images: size of the slice of the training data; None for all of it.
        test_images: size of the slice of the test data; None for all of it.
        keep: share of the draws that is trained on, the hardest, without a plan or by a plan that
            is made with this preset; 1 for all.
    """

    name: str
    description: str
    settings: TrainSettings
    probe_epochs: float
    train_images: int | None = None
    test_images: int | None = None
    keep: float = 0.5


_SMALL = TrainSettings(
    model="fast-cnn",
    epochs=4,
    batch_size=192,
    optimizer="muon",
    learning_rate=0.16,
    muon_learning_rate=0.05,
    muon_momentum=0.9,
)
"""Network, rates, momentum and batch size were chosen on 10,000 held-out training images of
Fashion-MNIST (the momentum in ``examples/results``: ``held_out_trials.jsonl``)."""
FAST = replace(_SMALL, progressive_resizing=0.5, whitening=True, test_time_shift=True)
"""Resizing, whitening and moved images were chosen on the same images (in ``examples/results``:
``held_out_trials.jsonl``), the length by the time that a comparison may take on two cores that
compute bf16."""
LIGHT = replace(FAST, epochs=3.4)
"""The length is for CPUs that don't compute bf16: it takes as long there as 2.5 epochs of whole
images, and is more accurate on held-out images (in ``examples/results``:
``held_out_trials.jsonl``)."""
_AS_MEASURED = replace(_SMALL, muon_momentum=0.6)
"""What the original's presets and those for a GPU were chosen and measured with. 0.9 was tried in
`ORIGINAL`, together with smaller images, and was no better on held-out images."""
ORIGINAL = replace(_AS_MEASURED, model="baseline-cnn", epochs=4)
"""The rates of `FAST`, better than SGD's on held-out images with the 200,000-parameter variant too
(``examples/results/held_out_trials.jsonl``); the length by the hours that a comparison takes on two
cores without bf16."""
ORIGINAL_CPU = replace(ORIGINAL, epochs=6, muon_linear=True, test_time_shift=True)
"""Chosen on held-out images, with the hardest half of the draws: two trainings were as accurate as
two of 16 epochs on all draws with erasing, CutMix, MixUp and an average of the weights, in less
than half the time (``examples/results/held_out_trials.jsonl``)."""
MEDIUM_CPU = replace(
    FAST,
    model="deep-cnn-48",
    epochs=11,
    muon_momentum=0.6,
    augment="erasing-mix",
    ema=0.995,
    whitening=False,
)
"""The length fits into 12 minutes on two cores that compute bf16. On held-out images as good,
without a plan, as 26 epochs on all draws (``examples/results/held_out_trials.jsonl``)."""
STRONG_CPU = replace(MEDIUM_CPU, epochs=26)
"""The length fills half an hour on two cores that compute bf16. On held-out images better than a
network a third wider in as much time (``examples/results/held_out_trials.jsonl``)."""
GPU = replace(
    _AS_MEASURED, model="deep-cnn-128", epochs=8, batch_size=256, augment="erasing", ema=0.99
)
"""Tried on held-out images on an H200 (``examples/results/held_out_trials.jsonl``), with the rates
of `FAST`."""
FAST_GPU = replace(
    _AS_MEASURED, epochs=6, batch_size=768, learning_rate=0.48, muon_learning_rate=0.08
)
"""In larger batches, which keep a GPU busy; the rates were tried once, on held-out images."""
ORIGINAL_GPU = replace(
    FAST_GPU, model="baseline-cnn", epochs=24, learning_rate=0.32, augment="erasing-mix"
)
"""The policy was chosen on held-out images, with the rates and batches of `ORIGINAL`; four times as
large batches take twice as large a rate."""
STRONG = replace(GPU, model="wide-resnet-16-8", epochs=120, augment="erasing-mix", ema=0.998)
"""Network and policy were chosen by trainings of some 20 seconds on held-out images, one each; the
optimiser is that of `FAST`, not compared with SGD here. The parts of the recipe are published
(Random Erasing, arXiv 1708.04896; CutMix, arXiv 1905.04899)."""

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "smoke",
            "a first look in about a minute: the whole comparison on a slice of the data",
            replace(_SMALL, epochs=2, batch_size=128),
            probe_epochs=2,
            train_images=3000,
            test_images=1000,
        ),
        Preset(
            "fast", "the default on CPUs that compute bf16 and on other GPUs", FAST, probe_epochs=1
        ),
        Preset("light", "the default on other CPUs: fast with fewer epochs", LIGHT, probe_epochs=1),
        Preset(
            "original",
            "the original experiment's network at full size",
            ORIGINAL,
            probe_epochs=1,
        ),
        Preset(
            "gpu",
            "the default on GPUs that compute bf16: a wider network, about ten seconds a run",
            GPU,
            probe_epochs=1,
        ),
        Preset(
            "fast-gpu",
            "the network of fast in larger batches, for large GPUs: seconds a run",
            FAST_GPU,
            probe_epochs=1,
        ),
        Preset(
            "original-gpu",
            "the original experiment's network, trained as long as only a GPU can",
            ORIGINAL_GPU,
            probe_epochs=2,
        ),
        Preset(
            "original-cpu",
            "the original experiment's network, as accurate as half an hour a run gets on a CPU "
            "core that computes bf16",
            ORIGINAL_CPU,
            probe_epochs=1,
        ),
        Preset(
            "medium-cpu",
            "as accurate as twelve minutes a run get on 2 CPU cores that compute bf16",
            MEDIUM_CPU,
            probe_epochs=2,
        ),
        Preset(
            "strong-cpu",
            "as accurate as half an hour a run gets on 2 CPU cores that compute bf16",
            STRONG_CPU,
            probe_epochs=2,
            keep=1.0,
        ),
        Preset(
            "strong",
            "as accurate as minutes a run get on one large GPU",
            STRONG,
            probe_epochs=2,
            keep=1.0,
        ),
    )
}


def default_preset(hardware: Hardware) -> str:
    """``light`` on CPUs that don't compute bf16, ``gpu`` on CUDA GPUs that do, else ``fast``."""
    known = {Hardware("cpu", "fp32"): "light", Hardware("cuda", "bf16"): "gpu"}
    return known.get(hardware, "fast")


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise UsageError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}") from None
