"""Trainings: repeatable, resumable, and what they refuse."""

import contextlib
import dataclasses
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.data import DatasetCard, ImageDataset
from fmnist_aug.errors import DataError, TrainingError
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.training import Hardware, TrainSettings, engine, train_model
from fmnist_aug.training.replay import ReplayedStep
from trainings.short import CPU, SHORT


@pytest.fixture(scope="module")
def plan(garments):
    names = garments.class_names
    draws = tuple(0.5 if label in (0, 6) else 0.02 for label in range(10))
    return ConfusionPlan(names, (), draws, "buttons", "made for a test")


def weights(trained):
    return {name: value.clone() for name, value in trained.classifier.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.fault(16)
def test_training_learns_and_repeats_to_the_bit(garments, plan):
    first, second = (
        train_model(garments, SHORT, base=get_policy("flip"), plan=plan, seed=1, hardware=CPU)
        for _ in range(2)
    )
    assert_equal(weights(first), weights(second))
    assert first.steps == 24
    assert first.images_seen == 24 * 50
    accuracy = (first.classifier.predict(garments.images) == garments.labels).mean()
    assert accuracy > 0.5
    other = train_model(garments, SHORT, plan=plan, seed=2, hardware=CPU)
    assert not torch.equal(other.classifier.model.head.weight, first.classifier.model.head.weight)


@pytest.mark.fault(16)
def test_training_leaves_torchs_random_state_alone(garments):
    before = torch.get_rng_state()
    train_model(garments, dataclasses.replace(SHORT, epochs=0.2), hardware=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_plan_that_changes_with_time_takes_as_many_steps(garments, plan):
    changing = dataclasses.replace(plan, start=0.3, ramp=0.3, stop=0.8)
    trained = train_model(garments, SHORT, plan=changing, hardware=CPU)
    assert trained.steps == SHORT.steps_for(len(garments))
    short = dataclasses.replace(SHORT, epochs=0.2)
    train_model(garments, short, plan=changing, hardware=CPU)


class Stop(Exception):
    pass


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    "settings",
    [
        SHORT,
        dataclasses.replace(SHORT, augment="erasing-mix", ema=0.9, progressive_resizing=0.6),
        TrainSettings(model="baseline-cnn", epochs=2, batch_size=75, learning_rate=0.02, sam=0.1),
    ],
    ids=["muon and hard examples", "mixing, resizing and an average", "sgd, dropout and sam"],
)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    garments, plan, tmp_path, settings, monkeypatch
):
    from fmnist_aug.training import progress

    data = garments.subset(np.arange(150 if settings.model == "baseline-cnn" else 600))
    plan = dataclasses.replace(plan, keep=0.5, keep_after=0.5)
    base = get_policy("flip").then(get_policy(settings.augment))
    options = {"plan": plan, "base": base, "hardware": CPU, "seed": 3}
    unbroken = train_model(data, settings, **options)
    state = tmp_path / "state.safetensors"
    monkeypatch.setattr(progress, "_REPORT_SECONDS", 0.0)

    def stop(progress):
        if progress.step == settings.steps_for(len(data)) // 2 + 1:
            raise Stop

    with pytest.raises(Stop):
        train_model(data, settings, state_path=state, on_progress=stop, **options)
    assert state.exists()
    seen = []
    resumed = train_model(data, settings, state_path=state, on_progress=seen.append, **options)
    assert seen[0].step > 1, "it began again at the beginning"
    assert_equal(weights(resumed), weights(unbroken))
    assert resumed.curve == unbroken.curve
    assert resumed.curve[-1][0] == pytest.approx(settings.epochs, rel=0.05)


def test_hard_examples_are_those_with_the_highest_last_loss():
    hard = HardExamples(6, torch.device("cpu"))
    hard.record(torch.tensor([0, 1, 2, 3]), torch.tensor([0.1, 3.0, 0.2, 1.0]))
    # images 4 and 5 were never trained on, so they come first
    assert hard.choose(torch.arange(6), 4).tolist() == [1, 3, 4, 5]
    hard.record(torch.tensor([4, 4, 5]), torch.tensor([0.3, 0.0, 0.0]))
    assert hard.choose(torch.tensor([5, 4, 3, 2, 1, 0]), 3).tolist() == [1, 2, 4]
    # equal losses: the earlier draw
    assert hard.choose(torch.tensor([3, 1, 3, 1]), 3).tolist() == [0, 1, 3]


def test_keeping_hard_examples_passes_over_more_draws_in_as_many_steps(garments):
    plan = ConfusionPlan.empty(garments.class_names, keep=0.5)
    trained = train_model(garments, SHORT, plan=plan, hardware=CPU)
    assert (trained.steps, trained.images_seen) == (24, 24 * 50)
    everything = train_model(garments, SHORT, hardware=CPU)
    first, second = weights(trained), weights(everything)
    assert not torch.equal(first["head.weight"], second["head.weight"])
    with pytest.raises(DataError, match="keep"):
        dataclasses.replace(plan, keep=0.0)


@pytest.mark.fault(13)
def test_the_state_of_another_training_or_a_damaged_one_is_not_used(garments, tmp_path):
    state = tmp_path / "state.safetensors"
    train_model(garments, SHORT, seed=1, hardware=CPU, state_path=state)
    expected = weights(train_model(garments, SHORT, seed=2, hardware=CPU))
    found = train_model(garments, SHORT, seed=2, hardware=CPU, state_path=state)
    assert_equal(weights(found), expected)
    state.write_bytes(state.read_bytes()[:1000])
    found = train_model(garments, SHORT, seed=2, hardware=CPU, state_path=state)
    assert_equal(weights(found), expected)


@pytest.mark.fault(4, 5)
def test_test_images_and_single_classes_are_refused():
    test = load_dataset("fashion-mnist", "test").subset(np.arange(100))
    with pytest.raises(DataError, match="test split"):
        train_model(test, SHORT)
    one = ImageDataset(
        np.zeros((20, 28, 28, 1), np.uint8),
        np.zeros(20, np.int64),
        ("a", "b"),
        DatasetCard("one", "One"),
    )
    with pytest.raises(DataError, match="nothing to classify"):
        train_model(one, SHORT)


@pytest.mark.fault(4)
def test_a_constant_data_set_trains_without_nan():
    data = ImageDataset(
        np.full((40, 8, 8, 3), 7, np.uint8),
        np.arange(40) % 2,
        ("a", "b"),
        DatasetCard("flat", "Flat"),
    )
    trained = train_model(data, SHORT, hardware=CPU)
    assert np.isfinite(trained.classifier.predict_proba(data.images)).all()


@pytest.mark.fault(6)
def test_a_loss_that_is_not_finite_stops_the_run(garments):
    wild = dataclasses.replace(SHORT, optimizer="sgd", learning_rate=1e30, weight_decay=1e3)
    with pytest.raises(TrainingError, match="learning rate"):
        train_model(garments, wild, hardware=CPU)


def test_bf16_training_stays_close_to_fp32(garments):
    settings = dataclasses.replace(SHORT, epochs=1)
    accuracies = [
        (
            train_model(garments, settings, hardware=Hardware("cpu", precision)).classifier.predict(
                garments.images
            )
            == garments.labels
        ).mean()
        for precision in ("fp32", "bf16")
    ]
    assert abs(accuracies[0] - accuracies[1]) < 0.15


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu(garments, plan, precision):
    trained = train_model(garments, SHORT, plan=plan, hardware=Hardware("cuda", precision))
    predicted = trained.classifier.predict(garments.images)
    assert (predicted == garments.labels).mean() > 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_replaying_a_recorded_step_trains_as_the_step_itself_does(garments, plan, monkeypatch):
    gpu = Hardware("cuda", "bf16")
    replayed = train_model(garments, SHORT, plan=plan, hardware=gpu)
    monkeypatch.setattr(engine, "ReplayedStep", lambda step, version, device: step)
    one_by_one = train_model(garments, SHORT, plan=plan, hardware=gpu)
    assert np.allclose(
        [point[1] for point in replayed.curve], [p[1] for p in one_by_one.curve], atol=0.05
    )
    same = replayed.classifier.predict(garments.images)
    assert (same == one_by_one.classifier.predict(garments.images)).mean() > 0.9


def test_a_step_is_recorded_once_and_again_when_its_draws_or_its_plan_change(monkeypatch):
    """With stand-ins for what only a GPU has."""
    recording, done = [], []

    def step(draws, decoded):
        if recording:  # a GPU computes nothing while it records
            recorded.append((draws, step))
        else:
            done.append(draws.tolist())
        return draws.sum(), draws.max()

    class Graph:
        def replay(self):
            draws, again = recorded[-1]
            again(draws, None)

    @contextlib.contextmanager
    def record(graph, capture_error_mode):
        recording.append(graph)
        yield
        recording.clear()

    recorded = []
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    version = ["first plan"]
    replayed = ReplayedStep(step, lambda: version[0], torch.device("cpu"))
    given = [torch.arange(9).view(3, 3) + number for number in range(10)]
    for draws in given[:6]:
        replayed(draws, None)
    assert len(recorded) == 1
    for draws in given[6:]:
        replayed(draws[:, :2], None)
    assert len(recorded) == 2, "another number of draws"
    version[0] = "second plan"
    for draws in given:
        replayed(draws[:, :2], None)
    assert len(recorded) == 3, "another plan"
    assert done == [draws.tolist() for draws in given[:6]] + [
        draws[:, :2].tolist() for draws in given[6:] + given
    ]


def test_a_training_imports_neither_torchs_compiler_nor_scipy():
    """Each is a second and some eighty megabytes, in every process that trains."""
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from fmnist_aug import ConfusionPlan, load_dataset\n"
        "from fmnist_aug.augment import get_policy\n"
        "from fmnist_aug.training import PRESETS, train_model\n"
        "import dataclasses\n"
        "data = load_dataset().subset(np.arange(64))\n"
        "settings = dataclasses.replace(PRESETS['fast'].settings, epochs=0.25)\n"
        "train_model(data, settings, base=get_policy('flip'))\n"
        "print(*{'torch._dynamo', 'triton', 'scipy', 'sklearn', 'albumentations'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
