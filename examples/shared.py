"""What the examples for Lightning, skorch and the Hugging Face Trainer have in common."""

from fmnist_aug import AugmentationSampler, AugmentedDataset, ConfusionPlan, load_dataset
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


def prove_order(data: RecordedDataset, sampler: AugmentationSampler, epochs: int) -> None:
    """Every draw that reached the data set is the sampler's own, in its order, none left out."""
    expected = []
    for epoch in range(epochs):
        indices, copies = sampler.epoch_draws(epoch)
        expected += [
            (index, epoch, copy)
            for index, copy in zip(indices.tolist(), copies.tolist(), strict=True)
        ]
    if data.drawn != expected:
        raise SystemExit("the framework did not use the sampler's own order")
    extra = sum(copy > 0 for _, _, copy in expected)
    print(f"{len(expected)} draws in the sampler's own order, {extra} of them extra (targeted)")
