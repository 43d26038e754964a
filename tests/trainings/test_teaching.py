"""Networks that learn from others instead of from labels."""

import dataclasses

import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, create_model, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.classifier import Classifier, Normalisation
from fmnist_aug.errors import DataError
from fmnist_aug.training import Hardware, Teacher, train_model
from trainings.short import CPU, SHORT


@pytest.fixture(scope="module")
def learned(garments):
    """Two classifiers that know their garments."""
    longer = dataclasses.replace(SHORT, epochs=5)
    return [train_model(garments, longer, seed=seed, hardware=CPU).classifier for seed in (10, 11)]


def normalised(classifier, images):
    batch = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)
    header = classifier.header
    return Normalisation(header.mean, header.std, torch.device("cpu"))(batch)


def plainly(classifier, images):
    """Probabilities of the images as they are, without test-time views."""
    with torch.no_grad():
        return classifier.model.eval()(normalised(classifier, images)).softmax(dim=1)


def test_the_answer_is_the_mean_of_the_probabilities(learned, garments):
    images = garments.images[:40]
    answer = Teacher.of(learned).on(CPU, learned[0].header)(normalised(learned[0], images))
    expected = (plainly(learned[0], images) + plainly(learned[1], images)) / 2
    assert torch.allclose(answer, expected, atol=1e-5)
    assert not answer.requires_grad
    assert answer.dtype == torch.float32


def test_inputs_that_were_prepared_for_another_network_are_prepared_anew(learned, garments):
    other = dataclasses.replace(learned[0].header, mean=(20.0,), std=(40.0,))
    images = garments.images[:40]
    inputs = normalised(Classifier(learned[0].model, other), images)
    before = inputs.clone()
    answer = Teacher.of(learned[:1]).on(CPU, other)(inputs)
    assert torch.allclose(answer, plainly(learned[0], images), atol=1e-5)
    assert torch.equal(inputs, before)


def test_answers_in_low_precision_are_about_the_same(learned, garments):
    inputs = normalised(learned[0], garments.images[:40])
    exact, rough = (
        Teacher.of(learned).on(hardware, learned[0].header)(inputs)
        for hardware in (CPU, Hardware("cpu", "bf16"))
    )
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, exact, atol=0.05)


@pytest.mark.parametrize("policy", ["flip", "erasing-mix"])
def test_the_answers_are_learned_not_the_labels(learned, garments, policy):
    nonsense = dataclasses.replace(
        garments, labels=np.random.default_rng(0).integers(0, 10, len(garments))
    )
    longer = dataclasses.replace(SHORT, epochs=4)
    base = get_policy(policy)
    taught, untaught = (
        train_model(nonsense, longer, base=base, hardware=CPU, teacher=teacher).classifier
        for teacher in (Teacher.of(learned), None)
    )
    assert (taught.predict(garments.images) == garments.labels).mean() > 0.5
    assert (untaught.predict(garments.images) == garments.labels).mean() < 0.4


def test_a_teacher_is_left_as_it_is(learned, garments):
    before = [weights(network) for network in learned]
    teacher = Teacher.of(learned)
    described = teacher.describe()
    train_model(
        garments,
        dataclasses.replace(SHORT, epochs=0.5),
        plan=ConfusionPlan.empty(garments.class_names, keep=0.5),
        hardware=CPU,
        teacher=teacher,
    )
    assert all(map(equal, map(weights, learned), before))
    assert teacher.describe() == described
    assert [network["model"] for network in described] == ["fast-cnn", "fast-cnn"]
    assert described[0]["sha256"] != described[1]["sha256"]
    assert teacher.name == "2 × fast-cnn"


def weights(classifier):
    return {name: value.numpy().copy() for name, value in classifier.model.state_dict().items()}


def equal(one, other):
    return all(np.array_equal(value, other[name]) for name, value in one.items())


class Stopped(Exception):
    """In the midst of a training."""


def test_a_taught_training_goes_on_with_its_own_teacher_only(learned, garments, tmp_path):
    teacher, other = Teacher.of(learned), Teacher.of(learned[:1])
    settings = {"base": get_policy("flip"), "seed": 3, "hardware": CPU}

    def stop(progress):
        if progress.step >= 18:
            raise Stopped

    def train(teacher, **further):
        return train_model(garments, SHORT, teacher=teacher, **settings, **further)

    whole, elsewise = (weights(train(who).classifier) for who in (teacher, other))
    for resumed_by in (teacher, other):
        state = tmp_path / "state.safetensors"
        with pytest.raises(Stopped):
            train(teacher, state_path=state, on_progress=stop)
        assert state.is_file()
        resumed = weights(train(resumed_by, state_path=state).classifier)
        assert equal(resumed, whole if resumed_by is teacher else elsewise)
        state.unlink()


def test_teachers_that_do_not_fit_are_refused(learned, garments):
    digits = load_dataset("mnist", "train").subset(np.arange(600))
    with pytest.raises(DataError, match="whose classes are not those of MNIST"):
        train_model(digits, SHORT, hardware=CPU, teacher=Teacher.of(learned))
    larger = dataclasses.replace(garments, images=garments.images.repeat(2, axis=1))
    with pytest.raises(DataError, match=r"of \(28, 28, 1\), but those .* are \(56, 28, 1\)"):
        train_model(larger, SHORT, hardware=CPU, teacher=Teacher.of(learned))
    elsewhere = dataclasses.replace(learned[0].header, fingerprint="of other images")
    stranger = Classifier(create_model("fast-cnn"), elsewhere)
    with pytest.raises(DataError, match="with different training images"):
        Teacher.of([learned[0], stranger])
