"""What the examples for Lightning, skorch and the Hugging Face Trainer have in common."""

from fmnist_aug import (
    AugmentationSampler,
    AugmentedDataset,
    ConfusionPlan,
    HardExampleBatchSampler,
    load_dataset,
)
from fmnist_aug.comparison import make_plan, measure_confusions
from fmnist_aug.data import ImageDataset, stratified_slice
from fmnist_aug.training import get_preset


def data_and_plan(size: int = 500) -> tuple[ImageDataset, ConfusionPlan]:
    """Some of Fashion-MNIST, and a plan from confusions that a quick probe measures on it."""
    train_set = stratified_slice(load_dataset("fashion-mnist", "train"), size)
    probe = measure_confusions(train_set, get_preset("smoke").settings)
    plan = make_plan(probe, train_set, pairs="T-shirt/top:Shirt")
    print(plan.to_table())
    return train_set, plan


class RecordedDataset(AugmentedDataset):
    """Remembers which draws it was asked for, in order; not needed in a program of one's own."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.drawn = []

    def __getitem__(self, index):
        # a plain int here would mean that the sampler was replaced
        self.drawn.append((int(index), getattr(index, "epoch", None), getattr(index, "copy", None)))
        return super().__getitem__(index)


def draws_of(sampler: AugmentationSampler, epoch: int) -> list[tuple[int, int, int]]:
    """Index, epoch and copy of each draw of an epoch, as `RecordedDataset` remembers them."""
    indices, copies = sampler.epoch_draws(epoch)
    return [
        (index, epoch, copy) for index, copy in zip(indices.tolist(), copies.tolist(), strict=True)
    ]


def prove_order(data: RecordedDataset, sampler: AugmentationSampler, epochs: int) -> None:
    """Every draw that reached the data set is the sampler's own, in its order, none left out."""
    expected = [draw for epoch in range(epochs) for draw in draws_of(sampler, epoch)]
    _check(data, expected, "")


def prove_draws(data: RecordedDataset, batches: HardExampleBatchSampler, epochs: int) -> None:
    """The draws that reached the data set are the sampler's own, in its order, the hardest of them.

    As long as the plan trains on all draws, none is left out, after it half of them or so.
    """
    plan, reached, expected, left_out = batches.sampler.plan, set(data.drawn), [], 0
    for epoch in range(epochs):
        draws = draws_of(batches.sampler, epoch)
        if epoch >= plan.keep_after:
            kept = [draw for draw in draws if draw in reached]
            share = len(kept) / len(draws)
            if abs(share - plan.keep) > 0.1:
                raise SystemExit(f"{share:.0%} of the draws were trained on, not {plan.keep:.0%}")
            left_out += len(draws) - len(kept)
            draws = kept
        expected += draws
    if batches.hard.losses.isinf().any():
        raise SystemExit("the losses of some images were not told")
    _check(data, expected, f", and {left_out} easy ones left out")


def _check(data: RecordedDataset, expected: list[tuple[int, int, int]], more: str) -> None:
    if data.drawn != expected:
        raise SystemExit("the framework did not use the sampler's own order")
    extra = sum(copy > 0 for _, _, copy in expected)
    print(
        f"{len(expected)} draws in the sampler's own order, {extra} of them extra (targeted){more}"
    )
