"""The optimisers."""

import dataclasses

import pytest
import torch

from fmnist_aug import create_model
from fmnist_aug.training.muon import Muon, orthogonalise
from fmnist_aug.training.optimizers import keep_rates_on, make_optimizers, set_learning_rates
from fmnist_aug.training.sgd import SGD
from trainings.short import SHORT


def test_each_optimizer_gets_its_own_settings():
    settings = dataclasses.replace(
        SHORT, learning_rate=0.3, momentum=0.8, muon_learning_rate=0.02, muon_momentum=0.7
    )
    sgd, muon = make_optimizers(create_model("fast-cnn"), settings)
    assert isinstance(sgd, SGD)
    assert (sgd.momentum, sgd.param_groups[0]["lr"]) == (0.8, 0.3)
    assert isinstance(muon, Muon)
    assert (muon.momentum, muon.param_groups[0]["lr"]) == (0.7, 0.02)


@pytest.mark.parametrize(("linear", "shapes"), [(False, []), (True, [(256, 12544)])])
def test_muon_takes_the_inner_weights_and_each_weight_has_one_optimizer(linear, shapes):
    model = create_model("baseline-cnn")
    sgd, muon = make_optimizers(model, dataclasses.replace(SHORT, muon_linear=linear))
    taken = [tuple(weight.shape) for weight in muon.param_groups[0]["params"]]
    assert taken == [(128, 128, 3, 3), (256, 128, 3, 3), *shapes]
    of_sgd = [len(group["params"]) for group in sgd.param_groups]
    assert sum(of_sgd) + len(taken) == len(list(model.parameters()))
    assert all(weight.ndim > 1 for weight in sgd.param_groups[0]["params"])
    assert all(weight.ndim == 1 for weight in sgd.param_groups[1]["params"])
    (alone,) = make_optimizers(model, dataclasses.replace(SHORT, optimizer="sgd", muon_linear=True))
    assert sum(len(group["params"]) for group in alone.param_groups) == len(
        list(model.parameters())
    )


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
