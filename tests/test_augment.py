from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import Resize
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2 import RandomHorizontalFlip

from fmnist_aug import AugmentationSampler, AugmentedDataset, ConfusionPlan, load_dataset
from fmnist_aug.augment import (
    POLICIES,
    Policy,
    augment_batch,
    base_policy,
    batched,
    compose,
    get_policy,
    random_numbers,
)
from fmnist_aug.augment.dataset import to_uint8_array
from fmnist_aug.augment.per_image import apply_seeded
from fmnist_aug.augment.policies import Affine, Erase, Flip, Sharpen, plan_policy
from fmnist_aug.augment.random_numbers import draw_keys, image_keys, uniform
from fmnist_aug.classifier import Normalisation
from fmnist_aug.data.folders import choose_format, read_images
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.sampler import AugmentedIndex


@pytest.fixture(scope="module")
def garments():
    dataset = load_dataset("fashion-mnist", "test")
    return dataset.subset(np.arange(300))


def as_batch(dataset):
    return torch.from_numpy(dataset.images.transpose(0, 3, 1, 2).astype(np.float32))


def test_uniform_numbers_are_uniform_and_unrelated():
    indices = torch.arange(200_000)
    keys = draw_keys(0, 0, indices, torch.zeros_like(indices))
    numbers = [uniform(keys, purpose).numpy() for purpose in range(3)]
    numbers.append(uniform(draw_keys(0, 1, indices, torch.zeros_like(indices)), 0).numpy())
    numbers.append(uniform(draw_keys(1, 0, indices, torch.zeros_like(indices)), 0).numpy())
    numbers += [uniform(image_keys(seed, indices), 0).numpy() for seed in (0, 1)]
    for values in numbers:
        assert values.min() >= 0
        assert values.max() < 1
        counts = np.histogram(values, 50, (0, 1))[0]
        assert ((counts - 4000) ** 2 / 4000).sum() < 100  # chi-square, 49 degrees of freedom
    shifted = [np.roll(numbers[0], 1), np.roll(numbers[-1], 1)]
    correlations = np.corrcoef(np.stack([*numbers, *shifted]))
    assert np.abs(correlations - np.eye(9)).max() < 0.01


def test_random_numbers_are_the_same_on_the_cpu_and_on_a_device():
    values = torch.randint(-(1 << 63), (1 << 63) - 1, (10_000,))
    found = random_numbers._mix_array(values.numpy().view(np.uint64)).view(np.int64)
    assert torch.equal(torch.from_numpy(found), random_numbers._mix_tensor(values))
    # the first output of SplitMix64 from state 0, as its authors' reference code gives it
    assert random_numbers._mix_array(np.zeros(1, np.uint64)) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("seed", [0, 3, -1, 1 << 50])
def test_a_coin_is_heads_where_its_number_is_below_a_half(seed):
    indices = torch.randint(0, 1 << 62, (10_000,))
    for purpose in (0, 16):
        heads = random_numbers.coins(seed, indices, purpose)
        assert np.array_equal(heads, uniform(image_keys(seed, indices), purpose).numpy() < 0.5)
        on_a_device = random_numbers.coins(seed, indices.to("meta"), purpose)
        assert on_a_device.shape == indices.shape
        assert on_a_device.dtype == torch.bool


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_random_numbers_as_asked_for_on_any_device(count):
    for device in ("cpu", "meta"):
        keys = torch.arange(5, device=device)
        assert random_numbers.uniforms(keys, 2, count).shape == (count, 5)


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_is_augmented_image_by_image_whatever_its_company(garments, name):
    images, indices = as_batch(garments), torch.arange(300)
    epochs, copies = indices % 3, indices % 2
    options = {"seed": 5, "epochs": epochs, "copies": copies}
    together = augment_batch(images, POLICIES[name], indices, **options)
    assert together.shape == images.shape
    assert together.min() >= 0
    assert together.max() <= 255
    assert torch.equal(together, together.round())
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:100]
    apart = augment_batch(
        images[order], POLICIES[name], order, seed=5, epochs=epochs[order], copies=copies[order]
    )
    assert torch.equal(apart, together[order])


@pytest.mark.parametrize("name", POLICIES)
def test_uint8_images_are_augmented_like_floats_and_stay_as_they_were(garments, name):
    images = as_batch(garments).to(torch.uint8)
    before, indices = images.clone(), torch.arange(300)
    found = augment_batch(images, POLICIES[name], indices, seed=3)
    assert torch.equal(
        found.float(), augment_batch(images.float(), POLICIES[name], indices, seed=3)
    )
    assert torch.equal(images, before)
    computed = name in ("geometric", "photometric", "buttons")
    assert found.dtype == (torch.float32 if computed else torch.uint8)
    assert torch.equal(found, augment_batch(images, POLICIES[name], indices, seed=3, inplace=True))


@pytest.mark.parametrize(
    "operation", {type(op): op for policy in POLICIES.values() for op in policy.operations}.values()
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_operation_leaves_alone_what_it_is_not_to_change(garments, operation, dtype):
    images, indices = as_batch(garments).to(dtype), torch.arange(300)
    found, everywhere = (
        augment_batch(images, Policy("", "", (replace(operation, p=p),)), indices)
        for p in (0.3, 1.0)
    )
    kept = (found == images).flatten(1).all(dim=1)
    assert 0.6 < kept.float().mean() < 0.8
    assert torch.equal(found[~kept], everywhere[~kept])


@pytest.mark.parametrize("name", [name for name in POLICIES if POLICIES[name].operations])
def test_images_copies_epochs_and_seeds_are_augmented_differently(garments, name):
    image = as_batch(garments)[:1].expand(200, -1, -1, -1)
    zeros, numbers = torch.zeros(200, dtype=torch.int64), torch.arange(200)
    variants = {
        "index": augment_batch(image, POLICIES[name], numbers),
        "copy": augment_batch(image, POLICIES[name], zeros, copies=numbers),
        "epoch": augment_batch(image, POLICIES[name], zeros, epochs=numbers),
    }
    for batch in variants.values():
        assert len(torch.unique(batch, dim=0)) >= (2 if name == "flip" else 20)
    seeds = [augment_batch(image, POLICIES[name], numbers, seed=seed) for seed in (0, 1)]
    assert not torch.equal(*seeds)


def test_flips_alternate_between_epochs(garments):
    images, indices = as_batch(garments), torch.arange(300)
    first, second = (
        augment_batch(images, get_policy("flip"), indices, epochs=epoch) for epoch in (0, 1)
    )
    assert torch.equal(first, second.flip(3))
    flipped = (first != images).flatten(1).any(dim=1).float().mean()
    assert 0.4 < flipped < 0.6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_chosen_images_are_mirrored_alike_on_the_cpu_and_on_a_device(garments, dtype):
    images, chosen = as_batch(garments).to(dtype), np.arange(300) % 3 == 0
    before = images.clone()
    mirrored = batched._mirror(images, chosen, inplace=False)
    assert torch.equal(mirrored[1::3], images[1::3])
    assert torch.equal(mirrored[::3], images[::3].flip(3))
    assert torch.equal(mirrored, batched._mirror(images, torch.from_numpy(chosen), inplace=False))
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("chosen", [[], [0], [1, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 9, 11), (1, 8, 7), (2, 4, 2)])
def test_images_of_any_shape_are_mirrored_wherever_they_lie_in_memory(shape, layout, chosen, dtype):
    size = 5 * int(np.prod(shape))
    values = torch.randint(0, 256, (size + 3,), generator=torch.Generator().manual_seed(0))
    images = values.to(dtype)[3:].view(5, *shape)  # begins between two words
    if layout == torch.channels_last:
        images = images.contiguous(memory_format=layout)
    is_chosen = np.isin(np.arange(5), chosen)
    expected = images.clone()
    expected[chosen] = images[chosen].flip(3)
    before = images.clone()
    assert torch.equal(batched._mirror(images, is_chosen, inplace=False), expected)
    assert torch.equal(images, before)
    assert torch.equal(batched._mirror(images, is_chosen, inplace=True), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_channels_have_mean_0_and_deviation_1(garments, channels):
    images = torch.cat([as_batch(garments) * share for share in (1, 0.5, 0.25)[:channels]], 1)
    images = images.round_()
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
    normalise = Normalisation(tuple(mean.tolist()), tuple(std.tolist()), torch.device("cpu"))
    before = images.clone()
    inputs = normalise(images)
    assert torch.equal(images, before)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(channels), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3)), torch.ones(channels), atol=1e-4, rtol=0)
    assert torch.equal(normalise(images.to(torch.uint8)), inputs)
    assert torch.equal(normalise(images, inplace=True), inputs)
    assert torch.equal(images, inputs)


def centre_and_spread(images):
    """Per image: total brightness, centre of mass (y, x) and spread about it."""
    weights = images.astype(np.float64).reshape(len(images), 28, 28) + 1e-9
    total = weights.sum(axis=(1, 2))
    y, x = np.mgrid[:28, :28]
    y_mean = (weights * y).sum(axis=(1, 2)) / total
    x_mean = (weights * x).sum(axis=(1, 2)) / total
    distance = (y - y_mean[:, None, None]) ** 2 + (x - x_mean[:, None, None]) ** 2
    tilt = (weights * (y - y_mean[:, None, None]) * (x - x_mean[:, None, None])).sum(axis=(1, 2))
    return np.stack(
        [total, y_mean, x_mean, (weights * distance).sum(axis=(1, 2)) / total, tilt / total]
    )


@pytest.mark.parametrize("name", POLICIES)
def test_batched_and_per_image_policies_agree_in_distribution(garments, name):
    image = garments.images[0]
    draws = 4000
    batch = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).expand(draws, 1, 28, 28)
    batched = augment_batch(batch, POLICIES[name], torch.arange(draws), seed=1).numpy()
    pipeline = compose(POLICIES[name])
    apart = np.stack([apply_seeded(pipeline, image, (1, index)) for index in range(draws)])
    for one, other in zip(
        centre_and_spread(batched[:, 0]), centre_and_spread(apart[..., 0]), strict=True
    ):
        scale = max(other.std(), 1e-3 * abs(other.mean()), 1e-3)
        assert abs(one.mean() - other.mean()) < 5 * scale * (2 / draws) ** 0.5 + 0.02 * scale
        assert abs(one.std() - other.std()) < 0.08 * scale
        # the largest gap between the two distribution functions (Kolmogorov–Smirnov)
        grid = np.quantile(other, np.linspace(0, 1, 41)[1:-1])
        if other.std() > 1e-6:
            gap = np.abs(
                (one[:, None] <= grid + 1e-3 * scale).mean(axis=0)
                - (other[:, None] <= grid + 1e-3 * scale).mean(axis=0)
            ).max()
            assert gap < 0.06


def displacements(images):
    """Where the brightest pixel of each image (N, 28, 28) lies, as counts (28 · 28,)."""
    return np.bincount(images.reshape(len(images), -1).argmax(axis=1), minlength=28 * 28)


@pytest.mark.parametrize("name", ["shift", "geometric", "buttons"])
def test_displacements_of_batched_and_per_image_policies_agree(name):
    # a dot off the centre: rotations and scales move it too
    image = np.zeros((28, 28, 1), np.uint8)
    image[6, 19] = 255
    draws = 6000
    batch = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).expand(draws, 1, 28, 28)
    batched = augment_batch(batch, POLICIES[name], torch.arange(draws), seed=2).numpy()[:, 0]
    pipeline = compose(POLICIES[name])
    apart = np.stack([apply_seeded(pipeline, image, (2, index)) for index in range(draws)])[..., 0]
    one, other = displacements(batched), displacements(apart)
    often = one + other >= 20
    # two-sample chi-square; a rare place counts with the others in one last cell
    pairs = np.stack([np.append(c[often], c[~often].sum()) for c in (one, other)])
    pairs = pairs[:, pairs.sum(axis=0) > 0]
    statistic = ((pairs[0] - pairs[1]) ** 2 / pairs.sum(axis=0)).sum()
    freedom = pairs.shape[1] - 1
    assert freedom >= 20
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("shape", [(20, 34), (34, 20)])
def test_images_that_are_not_square_turn_as_in_a_square_frame(shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(64, 1, *shape)
    images[..., 6:-6, 6:-6] = torch.rand(64, 1, *(side - 12 for side in shape), generator=generator)
    images = images.mul(255).round()
    policy, indices = Policy("r", "", (Affine(rotate=30.0, scale=(0.8, 1.2)),)), torch.arange(64)
    turned = augment_batch(images, policy, indices)
    rows, columns = ((34 - side) // 2 for side in shape)
    framed = torch.nn.functional.pad(images, (columns, columns, rows, rows))
    expected = augment_batch(framed, policy, indices)
    expected = expected[..., rows : 34 - rows, columns : 34 - columns]
    assert (turned != images).flatten(1).any(dim=1).all()
    assert (turned - expected).abs().max() <= 1  # rounding


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)])
def test_shifts_repeat_the_border_in_any_shape_and_memory_layout(shape):
    images = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0)).mul(255).round()
    policy, indices = Policy("s", "", (Affine(shift=0.15),)), torch.arange(64)
    moved = augment_batch(images, policy, indices)
    height, width = shape[1:]
    limit_y, limit_x = (policy.operations[0].shift_pixels(side) for side in (height, width))
    padded = torch.nn.functional.pad(images, (limit_x,) * 2 + (limit_y,) * 2, mode="replicate")
    found = set()
    for number in range(64):
        for y in range(2 * limit_y + 1):
            for x in range(2 * limit_x + 1):
                window = padded[number, :, y : y + height, x : x + width]
                if torch.equal(window, moved[number]):
                    found.add((number, y, x))
    assert {number for number, _, _ in found} == set(range(64))
    assert {y for _, y, _ in found} == set(range(2 * limit_y + 1))
    assert {x for _, _, x in found} == set(range(2 * limit_x + 1))
    other = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment_batch(other, policy, indices), moved)
    assert torch.equal(other, images)


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border():
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 14, 14] = 255
    moved = augment_batch(
        image.expand(500, -1, -1, -1), Policy("s", "", (Affine(shift=2 / 28),)), torch.arange(500)
    )
    places = moved.flatten(1).argmax(dim=1)
    assert set((places // 28 - 14).tolist()) == set((places % 28 - 14).tolist()) == {*range(-2, 3)}
    assert (moved.amax(dim=(1, 2, 3)) == 255).all()


def test_erasing_takes_one_rectangle_of_the_promised_size():
    images = torch.full((500, 3, 28, 28), 200.0)
    erased = augment_batch(images, Policy("e", "", (Erase(p=1.0),)), torch.arange(500)) == 0
    heights, widths = (erased[:, 0].any(dim=axis).sum(dim=1) for axis in (2, 1))
    assert (erased[:, 0].sum(dim=(1, 2)) == heights * widths).all()
    assert {int(heights.min()), int(widths.min())} == {4}
    assert {int(heights.max()), int(widths.max())} == {12}
    assert (erased[:, 0] == erased[:, 1]).all()


@pytest.mark.parametrize("width", [28, 27, 1])
def test_erasing_leaves_every_other_pixel_as_it_is_whatever_the_type_and_width(width):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (200, 2, 28, width), generator=generator, dtype=torch.uint8)
    policy = Policy("e", "", (Erase(),))
    erased = augment_batch(images, policy, torch.arange(200))
    assert erased.dtype == torch.uint8
    assert torch.equal(augment_batch(images.float(), policy, torch.arange(200)), erased.float())
    assert torch.equal(erased, torch.where(erased == 0, 0, images))
    assert 60 < (erased == images).all(dim=(1, 2, 3)).sum() < 140
    assert torch.equal(erased[:, 0] == 0, erased[:, 1] == 0)


@pytest.mark.parametrize(("step", "first"), [(784, 0), (784, 1), (785, 0)])
def test_erasing_takes_an_image_that_lies_anywhere_in_memory(step, first):
    row = torch.randint(1, 256, (1000,), generator=torch.Generator().manual_seed(0))
    image = row.to(torch.uint8).as_strided((1, 1, 28, 28), (step, 784, 28, 1), first)
    policy = Policy("e", "", (Erase(p=1.0),))
    expected = augment_batch(image.clone(), policy, torch.arange(1))
    assert torch.equal(augment_batch(image, policy, torch.arange(1)), expected)


class Loader:
    """The garments through an `AugmentedDataset` and a `DataLoader`."""

    def __init__(self, garments, **options):
        plan = ConfusionPlan(garments.class_names, (), (0.5,) * 10, "buttons", "made for a test")
        self.sampler = AugmentationSampler(garments, plan, seed=1)
        data = AugmentedDataset(garments, plan, base="geometric", seed=options.pop("seed", 1))
        self.loader = DataLoader(data, batch_size=50, sampler=self.sampler, **options)

    def epoch(self, number):
        self.sampler.set_epoch(number)
        return torch.cat([images for images, _ in self.loader])


@pytest.mark.fault(16)
def test_per_image_augmentation_repeats_with_the_seed_and_not_with_the_epoch(garments):
    expected = Loader(garments).epoch(0)
    draws = AugmentationSampler.epoch_draws(Loader(garments).sampler, 0)
    for workers in (1, 2):
        options = {"num_workers": workers, "persistent_workers": True}
        loader = Loader(garments, **options)
        assert torch.equal(loader.epoch(0), expected)
        later = loader.epoch(1)
        assert not torch.equal(later.sort(dim=0).values, expected.sort(dim=0).values)
        assert torch.equal(loader.epoch(0), expected)
    assert not torch.equal(Loader(garments, seed=2).epoch(0), expected)
    # copies of an image differ from each other, as do images
    for index in draws[0][draws[1] == 1][:20]:
        same = expected[np.flatnonzero(draws[0] == index)]
        assert len(torch.unique(same, dim=0)) == len(same) >= 2


@pytest.mark.fault(16)
def test_workers_that_are_spawned_augment_alike(garments):
    few = garments.subset(np.arange(60))
    expected = Loader(few).epoch(0)
    found = Loader(few, num_workers=1, multiprocessing_context="spawn").epoch(0)
    assert torch.equal(found, expected)


def test_regular_draws_get_the_base_and_extra_draws_the_targeted_augmentation(garments):
    mirror, dark = Policy("mirror", "", (Flip(p=1.0),)), Policy("hole", "", (Erase(p=1.0),))
    data = AugmentedDataset(garments, dark, base=mirror, transform=lambda image: image)
    mirrored = garments.images[3][:, ::-1]
    assert (data[3][0] == mirrored).all()
    extra = data[AugmentedIndex(3, 0, 1)][0]
    assert not (extra == mirrored).all()
    assert (extra[extra != 0] == mirrored[extra != 0]).all()
    assert (data.targets == garments.labels).all()


@pytest.mark.parametrize("number", [np.int64, np.uint8])
def test_numbers_of_numpys_are_regular_draws(garments, number):
    flip, weaker = get_policy("flip"), get_policy("weaker")
    data = AugmentedDataset(garments, weaker, base=flip)
    for index in range(20):
        assert torch.equal(data[number(index)][0], data[index][0])


@pytest.mark.parametrize("side", [8, 19, 33])
def test_white_that_was_resized_is_white(side):
    white = Image.fromarray(np.full((50, 50, 3), 255, np.uint8))
    resized = Resize((side, side))(to_tensor(white))
    assert (to_uint8_array(resized) == 255).all()
    assert (to_uint8_array(torch.full((1, 8, 8), 1 + 1e-6)) == 255).all()
    assert (to_uint8_array(torch.full((1, 8, 8), -1e-6)) == 0).all()


def make_image(kind):
    pixels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    return {
        "array": pixels[..., None],
        "flat array": pixels,
        "PIL grey": Image.fromarray(pixels),
        "PIL colour": Image.fromarray(np.stack([pixels] * 3, axis=2)),
        "uint8 tensor": torch.from_numpy(pixels)[None],
        "float tensor": torch.from_numpy(pixels)[None] / 255,
    }[kind], pixels


@pytest.mark.parametrize(
    "kind", ["array", "flat array", "PIL grey", "PIL colour", "uint8 tensor", "float tensor"]
)
def test_any_common_kind_of_image_is_taken(kind):
    image, pixels = make_image(kind)
    found, label, extra = AugmentedDataset([(image, 4, "more")], "none")[0]
    assert (found[0] * 255).round().numpy().astype(np.uint8).tolist() == pixels.tolist()
    assert (label, extra) == (4, "more")


@pytest.mark.parametrize("mode", ["1", "P", "PA", "transparent P", "transparent 1"])
def test_palettes_and_two_colours_are_read_as_in_a_folder(mode, tmp_path):
    pixels = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
    image = (
        Image.fromarray(pixels).convert("1")
        if "1" in mode
        else Image.fromarray(pixels).quantize(16)
    )
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.fromarray(pixels[..., 0]))
    path, options = tmp_path / "image.png", {"transparency": 0} if "transparent" in mode else {}
    if mode != "PA":  # which PNG doesn't know
        image.save(path, **options)
        image = Image.open(path)
    else:
        image.convert("RGBA").save(path)
    expected = read_images([path], choose_format([path]))[0]
    assert image.mode == mode[-2:].strip()
    assert (to_uint8_array(image) == expected).all()


@pytest.mark.parametrize("value", [-1.0, 1.1, float("nan")])
def test_an_image_that_was_normalised_already_is_refused(value):
    image = torch.full((1, 28, 28), 0.5)
    image[0, 3, 3] = value
    with pytest.raises(DataError, match="move normalisation"):
        AugmentedDataset([(image, 0)], "flip")[0]


@pytest.mark.parametrize(("shape", "number"), [((4, 28, 28), 4), ((4, 1, 28, 28), 3)])
def test_batches_that_do_not_fit_are_refused(shape, number):
    with pytest.raises(DataError, match=r"images \(N, C, H, W\)"):
        augment_batch(torch.zeros(shape), get_policy("erasing"), torch.arange(number))


def test_unknown_policies_are_refused_by_name():
    with pytest.raises(UsageError, match="buttons"):
        get_policy("button")


@given(st.booleans(), st.integers(0, 4))
def test_the_base_policy_does_what_the_card_allows(flip, shift):
    operations = base_policy(flip, shift).operations
    assert any(isinstance(operation, Flip) for operation in operations) == flip
    moves = [op.shift_pixels(28) for op in operations if isinstance(op, Affine)]
    assert moves == ([shift] if shift else [])


@settings(max_examples=30)
@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from([1, 3]))
def test_policies_work_on_any_size(height, width, channels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    batch = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    for policy in POLICIES.values():
        assert augment_batch(batch, policy, torch.tensor([0])).shape == batch.shape
        found = apply_seeded(compose(policy, (height, width)), image, (0,))
        assert found.shape == image.shape
        assert found.dtype == np.uint8


def test_albumentations_pipelines_of_ones_own_are_taken(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # this may import it first
    import albumentations

    pipeline = albumentations.Compose([albumentations.InvertImg(p=1.0)])
    data = AugmentedDataset([(np.full((8, 8, 1), 255, np.uint8), 0)], pipeline)
    assert data[0][0].max() == 1
    assert data[AugmentedIndex(0, 0, 1)][0].max() == 0


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("ending", [("Normalize",), ("Normalize", "ToTensorV2")])
def test_a_pipeline_that_normalises_is_refused(extra, ending, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # this may import it first
    import albumentations

    pipeline = albumentations.Compose([getattr(albumentations, name)() for name in ending])
    data = AugmentedDataset(
        [(np.full((8, 8, 3), 255, np.uint8), 0)], **{("base", "targeted")[extra]: pipeline}
    )
    with pytest.raises(DataError, match=r"normalisation, into AugmentedDataset\(transform"):
        data[AugmentedIndex(0, 0, extra)]


def test_what_is_no_policy_is_refused_before_an_image_is_drawn():
    with pytest.raises(UsageError, match="with a RandomHorizontalFlip; give"):
        AugmentedDataset([], RandomHorizontalFlip())


def test_strength_scales_ranges_about_doing_nothing():
    for policy in POLICIES.values():
        assert policy.scaled(1) == policy
        images = torch.randint(0, 256, (20, 1, 28, 28), generator=torch.Generator().manual_seed(0))
        images = images.float()
        if not any(isinstance(operation, Flip | Erase) for operation in policy.operations):
            still = augment_batch(images, policy.scaled(0), torch.arange(20))
            assert torch.allclose(still, images, atol=0.51)
        assert augment_batch(images, policy.scaled(3), torch.arange(20)).shape == images.shape
        compose(policy.scaled(3))
    plan = ConfusionPlan(("a", "b"), (), (1.0, 0.0), "geometric", "made", strength=0.25)
    (affine,) = plan_policy(plan).operations
    assert (affine.rotate, affine.scale) == (2.0, (0.975, 1.025))


def test_sharpening_keeps_flat_areas_and_raises_edges():
    image = torch.full((1, 1, 9, 9), 100.0)
    image[..., 5:] = 150
    sharp = augment_batch(image, Policy("s", "", (Sharpen(amount=(0.3, 0.3)),)), torch.tensor([0]))
    assert (sharp[..., :3] == 100).all()
    assert sharp[0, 0, 4, 5] > 150
    assert sharp[0, 0, 4, 4] < 100


def test_numbers_of_numpys_are_numbers():
    images, indices = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3)
    images[..., 1] = 200
    for name in ("flip", "geometric", "erasing"):
        plain = augment_batch(images, get_policy(name), indices, seed=3, epochs=4, copies=1)
        numbers = {"seed": np.int64(3), "epochs": np.int32(4), "copies": np.int64(1)}
        assert torch.equal(plain, augment_batch(images, get_policy(name), indices, **numbers))
    data = [(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 0)]
    ours, theirs = (
        AugmentedDataset(data, "geometric", seed=seed)[AugmentedIndex(0, 1, 1)][0]
        for seed in (3, np.int64(3))
    )
    assert torch.equal(ours, theirs)
    for seed in (1.5, None, -1, "1"):
        with pytest.raises(UsageError, match="seed must be a whole number"):
            AugmentedDataset(data, "geometric", seed=seed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_batches_of_other_types_are_refused(dtype):
    images = torch.zeros(2, 1, 8, 8, dtype=dtype)
    with pytest.raises(DataError, match=f"must be uint8 or float32, values 0–255, not {dtype}"):
        augment_batch(images, get_policy("erasing"), torch.arange(2))


@pytest.mark.parametrize("name", list(POLICIES))
def test_without_strength_a_policy_does_nothing(name):
    images = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    images[..., 0] = 7
    changed = augment_batch(images, get_policy(name).scaled(0), torch.arange(64))
    assert torch.equal(changed, images)
    assert get_policy(name).scaled(0).mix is None
