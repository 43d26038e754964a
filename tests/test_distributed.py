import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import CheckpointHeader
from fmnist_aug.distributed import Processes, join_processes
from fmnist_aug.errors import UsageError
from fmnist_aug.sampler import AugmentationSampler
from fmnist_aug.training.batches import Batches


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_the_batches_of_all_processes_together_are_those_of_one(count, keep):
    data = load_dataset("fashion-mnist", "train").subset(np.arange(50))
    draws = tuple(0.5 if label in (0, 6) else 0.0 for label in range(10))
    plan = ConfusionPlan(data.class_names, (), draws, "buttons", "for a test", keep=keep)
    header = CheckpointHeader("fast-cnn", data.class_names, (28, 28), (70.0,), (90.0,), ())

    def batches(processes):
        made = Batches(
            data,
            AugmentationSampler(data, plan, seed=1),
            16,
            get_policy("flip"),
            get_policy("buttons"),
            1,
            header,
            torch.device("cpu"),
            all_until=3,
            share=processes.share,
        )
        made.hard.losses = torch.arange(50.0)
        return list(made.stream(0, 8))

    shares = [batches(Processes(rank, count)) for rank in range(count)]
    for step, whole in enumerate(batches(Processes())):
        for part, values in enumerate(whole):
            together = torch.empty_like(values)
            for rank in range(count):
                together[rank::count] = shares[rank][step][part]
            assert torch.equal(together, values)
    weights = [Processes(rank, count).weight(len(shares[rank][0][1]), 16) for rank in range(count)]
    assert sum(weights) == pytest.approx(count)


def test_alone_there_is_nothing_to_join_and_small_batches_are_not_shared():
    with join_processes("cpu") as processes:
        assert processes == Processes(0, 1)
    assert not torch.distributed.is_initialized()
    with pytest.raises(UsageError, match="can't be shared by 9 processes"):
        Processes(0, 9).check_batch(16)
