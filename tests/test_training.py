import contextlib
import copy
import dataclasses
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from fmnist_aug import BaselineCNN, ConfusionPlan, create_model, load_classifier, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import Classifier, softmax
from fmnist_aug.data import DatasetCard, ImageDataset, stratified_slice
from fmnist_aug.errors import CheckpointError, DataError, TrainingError, UsageError
from fmnist_aug.training import (
    PRESETS,
    Hardware,
    TrainSettings,
    choose_hardware,
    default_preset,
    engine,
    measure,
    measure_precision,
    train_model,
)
from fmnist_aug.training.measure import choose_fastest
from fmnist_aug.training.muon import Muon, orthogonalise
from fmnist_aug.training.optimizers import keep_rates_on, make_optimizers, set_learning_rates
from fmnist_aug.training.replay import ReplayedStep
from fmnist_aug.training.selection import HardExamples
from fmnist_aug.training.sgd import SGD

SHORT = TrainSettings(model="fast-cnn", epochs=2, batch_size=50, optimizer="muon")
CPU = Hardware("cpu", "fp32")


@pytest.fixture(scope="module")
def slice_of_fashion():
    return stratified_slice(load_dataset("fashion-mnist", "train"), 600)


@pytest.fixture(scope="module")
def plan(slice_of_fashion):
    names = slice_of_fashion.class_names
    draws = tuple(0.5 if label in (0, 6) else 0.02 for label in range(10))
    return ConfusionPlan(names, (), draws, "buttons", "made for a test")


def weights(trained):
    return {name: value.clone() for name, value in trained.classifier.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_baseline_has_the_layers_of_the_original():
    block, pooling = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d], [nn.MaxPool2d]
    layers = [*block, *block, *pooling, *block, *pooling]
    assert all(map(isinstance, BaselineCNN().features, layers))
    model = BaselineCNN(num_classes=7, in_channels=3, image_size=(32, 20))
    assert model(torch.zeros(2, 3, 32, 20)).shape == (2, 7)


@pytest.mark.parametrize("name", ["baseline-cnn", "fast-cnn"])
def test_models_take_any_size_from_eight_pixels_on(name):
    for height, width in ((8, 8), (28, 28), (31, 45)):
        model = create_model(name, 4, 3, (height, width))
        assert model(torch.zeros(2, 3, height, width)).shape == (2, 4)
    with pytest.raises(UsageError, match="too small"):
        create_model(name, image_size=(7, 28))


def test_unknown_models_are_refused():
    with pytest.raises(UsageError, match="fast-cnn"):
        create_model("resnet")
    with pytest.raises(UsageError, match="num_classes"):
        create_model("fast-cnn", 0)


@pytest.mark.fault(16)
def test_training_learns_and_repeats_to_the_bit(slice_of_fashion, plan):
    first, second = (
        train_model(
            slice_of_fashion, SHORT, base=get_policy("flip"), plan=plan, seed=1, hardware=CPU
        )
        for _ in range(2)
    )
    assert_equal(weights(first), weights(second))
    assert first.steps == 24
    assert first.images_seen == 24 * 50
    accuracy = (first.classifier.predict(slice_of_fashion.images) == slice_of_fashion.labels).mean()
    assert accuracy > 0.5
    other = train_model(slice_of_fashion, SHORT, plan=plan, seed=2, hardware=CPU)
    assert not torch.equal(other.classifier.model.head.weight, first.classifier.model.head.weight)


@pytest.mark.fault(16)
def test_training_leaves_torchs_random_state_alone(slice_of_fashion):
    before = torch.get_rng_state()
    train_model(slice_of_fashion, dataclasses.replace(SHORT, epochs=0.2), hardware=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_plan_that_changes_with_time_takes_as_many_steps(slice_of_fashion, plan):
    changing = dataclasses.replace(plan, start=0.3, ramp=0.3, stop=0.8)
    trained = train_model(slice_of_fashion, SHORT, plan=changing, hardware=CPU)
    assert trained.steps == SHORT.steps_for(len(slice_of_fashion))
    short = dataclasses.replace(SHORT, epochs=0.2)
    train_model(slice_of_fashion, short, plan=changing, hardware=CPU)


class Stop(Exception):
    pass


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    "settings",
    [
        SHORT,
        dataclasses.replace(SHORT, augment="erasing-mix", ema=0.9, progressive_resizing=0.6),
        TrainSettings(model="baseline-cnn", epochs=2, batch_size=75, learning_rate=0.02),
    ],
    ids=["muon and hard examples", "mixing, resizing and an average", "sgd and dropout"],
)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    slice_of_fashion, plan, tmp_path, settings, monkeypatch
):
    from fmnist_aug.training import progress

    data = slice_of_fashion.subset(np.arange(150 if settings.model == "baseline-cnn" else 600))
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


def test_keeping_hard_examples_passes_over_more_draws_in_as_many_steps(slice_of_fashion):
    plan = ConfusionPlan.empty(slice_of_fashion.class_names, keep=0.5)
    trained = train_model(slice_of_fashion, SHORT, plan=plan, hardware=CPU)
    assert (trained.steps, trained.images_seen) == (24, 24 * 50)
    everything = train_model(slice_of_fashion, SHORT, hardware=CPU)
    first, second = weights(trained), weights(everything)
    assert not torch.equal(first["head.weight"], second["head.weight"])
    with pytest.raises(DataError, match="keep"):
        dataclasses.replace(plan, keep=0.0)


@pytest.mark.fault(13)
def test_the_state_of_another_training_or_a_damaged_one_is_not_used(slice_of_fashion, tmp_path):
    state = tmp_path / "state.safetensors"
    train_model(slice_of_fashion, SHORT, seed=1, hardware=CPU, state_path=state)
    expected = weights(train_model(slice_of_fashion, SHORT, seed=2, hardware=CPU))
    found = train_model(slice_of_fashion, SHORT, seed=2, hardware=CPU, state_path=state)
    assert_equal(weights(found), expected)
    state.write_bytes(state.read_bytes()[:1000])
    found = train_model(slice_of_fashion, SHORT, seed=2, hardware=CPU, state_path=state)
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
def test_a_loss_that_is_not_finite_stops_the_run(slice_of_fashion):
    wild = dataclasses.replace(SHORT, optimizer="sgd", learning_rate=1e30, weight_decay=1e3)
    with pytest.raises(TrainingError, match="learning rate"):
        train_model(slice_of_fashion, wild, hardware=CPU)


def test_bf16_training_stays_close_to_fp32(slice_of_fashion):
    settings = dataclasses.replace(SHORT, epochs=1)
    accuracies = [
        (
            train_model(
                slice_of_fashion, settings, hardware=Hardware("cpu", precision)
            ).classifier.predict(slice_of_fashion.images)
            == slice_of_fashion.labels
        ).mean()
        for precision in ("fp32", "bf16")
    ]
    assert abs(accuracies[0] - accuracies[1]) < 0.15


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu(slice_of_fashion, plan, precision):
    trained = train_model(slice_of_fashion, SHORT, plan=plan, hardware=Hardware("cuda", precision))
    predicted = trained.classifier.predict(slice_of_fashion.images)
    assert (predicted == slice_of_fashion.labels).mean() > 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_replaying_a_recorded_step_trains_as_the_step_itself_does(
    slice_of_fashion, plan, monkeypatch
):
    gpu = Hardware("cuda", "bf16")
    replayed = train_model(slice_of_fashion, SHORT, plan=plan, hardware=gpu)
    monkeypatch.setattr(engine, "ReplayedStep", lambda step, version, device: step)
    one_by_one = train_model(slice_of_fashion, SHORT, plan=plan, hardware=gpu)
    assert np.allclose(
        [point[1] for point in replayed.curve], [p[1] for p in one_by_one.curve], atol=0.05
    )
    same = replayed.classifier.predict(slice_of_fashion.images)
    assert (same == one_by_one.classifier.predict(slice_of_fashion.images)).mean() > 0.9


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


def test_each_optimizer_gets_its_own_settings():
    settings = dataclasses.replace(
        SHORT, learning_rate=0.3, momentum=0.8, muon_learning_rate=0.02, muon_momentum=0.7
    )
    sgd, muon = make_optimizers(create_model("fast-cnn"), settings)
    assert isinstance(sgd, SGD)
    assert (sgd.momentum, sgd.param_groups[0]["lr"]) == (0.8, 0.3)
    assert isinstance(muon, Muon)
    assert (muon.momentum, muon.param_groups[0]["lr"]) == (0.7, 0.02)


@pytest.mark.parametrize("make", [SGD, Muon])
def test_a_learning_rate_in_a_tensor_moves_the_weights_as_a_number_does(make):
    """Recorded steps on a GPU read it from there."""
    gradients = torch.randn(3, 8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    results = []
    for on_device in (False, True):
        weight = torch.nn.Parameter(torch.ones(8, 4, 3, 3))
        groups = [{"params": [weight], "weight_decay": 0.1}] if make is SGD else [weight]
        optimizer = make(groups, lr=0.1, momentum=0.9)
        optimizer.param_groups[0]["peak"] = 0.1
        if on_device:
            keep_rates_on(torch.device("cpu"), [optimizer])
        for step, gradient in enumerate(gradients):
            set_learning_rates([optimizer], step / 3, warmup=0.5)
            weight.grad = gradient
            optimizer.step()
        results.append(weight.detach())
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)
    assert not torch.equal(results[0], torch.ones(8, 4, 3, 3))
    assert torch.allclose(*results, atol=1e-6)


def test_the_hardware_is_chosen_by_what_the_cpu_can_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for capability, precision in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=capability: {name: True})
        assert choose_hardware() == Hardware("cpu", precision)
    with pytest.raises(UsageError, match="no cuda device"):
        choose_hardware("cuda")


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((10, 0), "bf16"), ((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")],
)
def test_a_gpu_gets_the_precision_that_its_capability_allows(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert choose_hardware() == Hardware("cuda", precision)


def test_the_fastest_precision_is_taken_unless_the_rule_is_as_fast_but_for_noise():
    assert choose_fastest({"fp32": 0.10, "bf16": 0.20}, "bf16") == "fp32"
    assert choose_fastest({"fp32": 0.10, "bf16": 0.05}, "fp32") == "bf16"
    assert choose_fastest({"fp32": 0.100, "bf16": 0.101}, "bf16") == "bf16"


@pytest.mark.parametrize("capability", ["avx2", "amx_bf16"])
def test_measuring_times_each_precision_on_real_steps(slice_of_fashion, monkeypatch, capability):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    monkeypatch.setattr(measure, "TURNS", 1)
    before = torch.get_rng_state()
    small = dataclasses.replace(SHORT, batch_size=16)
    found = measure_precision(slice_of_fashion, small, "cpu", choose_hardware("cpu").precision)
    assert found.trial_seconds.keys() == {"fp32", "bf16"}
    assert min(found.step_seconds.values()) > 0
    assert found.hardware.precision in found.step_seconds
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_preset_follows_from_the_machine():
    assert default_preset(Hardware("cpu", "fp32")) == "light"
    assert default_preset(Hardware("cpu", "bf16")) == "fast"
    assert default_preset(Hardware("cuda", "bf16")) == "gpu"
    assert (
        default_preset(Hardware("cuda", "fp16"))
        == default_preset(Hardware("mps", "fp32"))
        == "fast"
    )


def test_presets_are_complete_and_settings_are_checked():
    on_cpus = {"smoke", "fast", "light", "original", "medium-cpu", "strong-cpu"}
    assert set(PRESETS) == on_cpus | {"gpu", "fast-gpu", "original-gpu", "strong"}
    with pytest.raises(UsageError, match="epochs"):
        TrainSettings(model="fast-cnn", epochs=0)
    with pytest.raises(UsageError, match="less than 1, not 1"):
        TrainSettings(model="fast-cnn", epochs=1, progressive_resizing=1)
    assert SHORT.batch_for(10) == 2
    assert SHORT.steps_for(10) == 10


def test_a_precision_that_is_hopelessly_slow_is_not_measured_on_whole_batches(
    slice_of_fashion, monkeypatch
):
    trained: list[tuple[str, int]] = []

    def train(dataset, settings, hardware):
        trained.append((hardware.precision, settings.batch_size))
        seconds = settings.batch_size * {"fp32": 1, "bf16": 5}[hardware.precision]
        return types.SimpleNamespace(seconds=seconds, steps=1)

    monkeypatch.setattr(measure, "train_model", train)
    small = dataclasses.replace(SHORT, batch_size=16)
    found = measure_precision(slice_of_fashion, small, "cpu", "bf16")
    assert found.hardware == Hardware("cpu", "fp32")
    assert found.trial_seconds == {"fp32": 8, "bf16": 40}
    assert found.step_seconds == {"fp32": 16}
    assert ("bf16", 16) not in trained


def test_precisions_are_measured_on_images_that_are_sorted_by_class(slice_of_fashion, monkeypatch):
    monkeypatch.setattr(measure, "TURNS", 1)
    by_class = slice_of_fashion.subset(np.argsort(slice_of_fashion.labels, kind="stable"))
    small = dataclasses.replace(SHORT, batch_size=4)
    assert measure_precision(by_class, small, "cpu", "fp32").step_seconds


def test_orthogonalised_matrices_have_singular_values_near_one():
    matrix = torch.randn(16, 72, generator=torch.Generator().manual_seed(0))
    for shaped in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalise(shaped))
        assert values.min() > 0.4
        assert values.max() < 1.4


def test_orthogonalising_in_the_gram_matrix_is_newton_schulz_on_the_matrix():
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(side, 24, generator=generator, dtype=torch.float64))[0]
        for side in (24, 100)
    )
    matrix = left @ torch.diag(torch.logspace(0, -4, 24, dtype=torch.float64)) @ right.T
    expected = matrix / matrix.norm()
    for _ in range(3):  # airbench94_muon.py
        gram = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    for shaped, told in ((matrix, expected), (matrix.T, expected.T)):
        torch.testing.assert_close(orthogonalise(shaped), told)
        found = orthogonalise(shaped.float())
        assert (found - told).norm() / told.norm() < 1e-5


def test_large_matrices_are_orthogonalised_in_bf16_where_the_cpu_has_it(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.randn(rows, 300, generator=generator) for rows in (127, 128))
    found = {}
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        found[has] = orthogonalise(small), orthogonalise(large)
    assert torch.equal(found[False][0], found[True][0])
    exact, rounded = found[False][1], found[True][1]
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert 0 < (exact - rounded).norm() / exact.norm() < 0.02


def test_sgd_moves_as_torchs_does():
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        SGD([{"params": [ours], "weight_decay": 0.1}], lr=0.1, momentum=0.9),
        torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    )
    for _ in range(5):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (weight.sin() ** 2).sum().backward()
            optimizer.step()
    assert not torch.allclose(ours, start)
    assert torch.equal(ours, theirs)


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


@pytest.fixture(scope="module")
def trained(slice_of_fashion):
    settings = dataclasses.replace(SHORT, epochs=0.5, test_time_shift=True)
    return train_model(slice_of_fashion, settings, base=get_policy("flip"), hardware=CPU)


def test_only_a_network_that_was_trained_on_mirrored_images_is_asked_about_them(slice_of_fashion):
    short = dataclasses.replace(SHORT, epochs=0.1)
    for base, views in (("flip", ("identity", "flip")), ("erasing", ("identity",))):
        trained = train_model(slice_of_fashion, short, base=get_policy(base), hardware=CPU)
        assert trained.classifier.header.views == views
    trained = train_model(slice_of_fashion, short, hardware=CPU)
    assert trained.classifier.header.views == ("identity",)


# larger logits make a network surer of itself
@pytest.mark.parametrize("sharper", [1, 1000])
@pytest.mark.parametrize("views", [("identity",), ("identity", "flip")])
def test_moved_images_count_where_the_others_leave_doubt(trained, slice_of_fashion, views, sharper):
    images = slice_of_fashion.images[:200]
    around = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    model = copy.deepcopy(trained.classifier.model)
    model.head.weight.data *= sharper

    def logits(images, *views):
        header = dataclasses.replace(trained.classifier.header, views=views)
        return Classifier(model, header).predict_logits(images)

    # down, up, right, left
    moves = [around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:]]
    mirrored = [False, True, True, False] if "flip" in views else [False] * 4
    moved = [
        logits(each[:, :, ::-1] if mirror else each, "identity")
        for each, mirror in zip(moves, mirrored, strict=True)
    ]
    own = logits(images, *views)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = logits(images, *views, "shift")
    second, first = np.sort(softmax(own), axis=1)[:, -2:].T
    weight = 0.4 * np.clip(2 - 4 * (first - second), 0, 1)[:, None]
    expected = (1 - weight) * own + weight * np.mean(moved, axis=0)
    assert found == pytest.approx(expected, abs=1e-5 * sharper)
    sure = weight[:, 0] == 0
    assert np.array_equal(found[sure], own[sure])
    assert sure.any() == (sharper > 1)
    assert sum(seen) == len(views) * len(images) + 4 * np.count_nonzero(~sure)
    assert np.abs(found - own).max() > 1e-3


def test_a_checkpoint_predicts_as_the_classifier_did(trained, slice_of_fashion, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.classifier.save(path)
    loaded = load_classifier(path)
    images = slice_of_fashion.images[:30]
    expected = trained.classifier.predict_proba(images)
    assert np.array_equal(loaded.predict_proba(images), expected)
    assert np.array_equal(loaded.predict_proba(images[..., 0]), expected)
    assert expected.dtype == np.float32
    assert expected.sum(axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    assert loaded.header.views == ("identity", "flip", "shift")
    assert loaded.predict_proba(images[:0]).shape == (0, 10)
    with pytest.raises(DataError, match="28, 28, 1"):
        loaded.predict(np.zeros((2, 32, 32, 1), np.uint8))


@pytest.mark.fault(13)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text", "not ours"])
def test_damaged_checkpoints_give_one_kind_of_error(trained, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    trained.classifier.save(path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "not ours":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[: len(content) // 2],
                "flipped": content[:30] + bytes([content[30] ^ 255]) + content[31:],
                "text": b"<html>not found</html>" * 100,
            }[damage]
        )
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_classifier(path)


@pytest.mark.fault(6, 13)
def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    model = trained.classifier.model
    kept = model.head.weight.data.clone()
    model.head.weight.data[0, 0] = float("nan")
    trained.classifier.save(path)
    model.head.weight.data = kept
    with pytest.raises(CheckpointError, match="not finite"):
        load_classifier(path)
