"""How layers with a faster way of their own use the CPU."""

from __future__ import annotations

import threading

import pytest
import torch

from fmnist_aug.computing import on_threads, use_threads


@pytest.fixture(autouse=True)
def three_threads():
    with use_threads(3):
        yield


def threads_of_a_new_one() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_each_share_has_a_thread_that_torch_does_not_split():
    meeting = threading.Barrier(3, timeout=60)  # broken unless all three are at work at once
    weight = torch.ones(2, requires_grad=True)
    seen: dict[int, tuple[int, int, bool]] = {}

    def work(share: int) -> None:
        meeting.wait()
        product = weight * torch.ones(100_000, 2)  # an operation that torch would split
        seen[share] = threading.get_ident(), torch.get_num_threads(), product.requires_grad

    on_threads(work, [5, 6, 7])
    assert sorted(seen) == [5, 6, 7]
    assert len({thread for thread, _, _ in seen.values()}) == 3
    assert seen[5][0] == threading.get_ident()
    assert {(count, recorded) for _, count, recorded in seen.values()} == {(1, False)}
    assert torch.get_num_threads() == threads_of_a_new_one() == 3
    assert torch.is_grad_enabled()


def test_one_share_is_split_by_torch():
    seen: list[tuple[int, int, bool]] = []
    on_threads(
        lambda share: seen.append((share, torch.get_num_threads(), torch.is_grad_enabled())), [4]
    )
    assert seen == [(4, 3, False)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_a_share_raises_is_raised(failing):
    def work(share: int) -> None:
        if share == failing:
            raise ValueError(f"share {share}")

    with pytest.raises(ValueError, match=f"share {failing}"):
        on_threads(work, range(3))
    assert torch.get_num_threads() == threads_of_a_new_one() == 3
