"""Steps that change pictures; how they agree with torchvision is in tests/parity/test_images.py."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from tenzoo.datasets import DataError, Dataset, augment, image_folder
from tenzoo.datasets.image import auto_augment

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)
RANDOM = [
    augment.RandomCrop(32, padding=4),
    augment.RandomCrop((20, 70), padding=2, fill="reflect"),
    augment.RandomResizedCrop(24),
    augment.RandomFlip("horizontal_and_vertical"),
    augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
    augment.RandAugment(),
    augment.TrivialAugment(interpolation="bilinear", fill=128),
    *(augment.AutoAugment(policy) for policy in ("imagenet", "cifar10", "svhn")),
    augment.RandomErasing(1.0),
    augment.RandomErasing(1.0, fill=(1, 2, 3)),
]


def name_of(step):
    return type(step).__name__


def changed(step, seed, picture=PICTURE):
    return np.asarray(step(picture, np.random.default_rng(seed)))


@pytest.mark.parametrize("step", RANDOM, ids=name_of)
def test_the_seed_decides(step):
    results = [changed(step, seed) for seed in range(12)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(changed(step, seed), result)
    assert len({result.tobytes() for result in results}) > (3 if isinstance(step, augment.RandomFlip) else 6)
    np.testing.assert_array_equal(np.asarray(PICTURE), NOISE)  # the picture itself is left alone


@pytest.mark.parametrize("step", RANDOM, ids=name_of)
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3), (33, 33, 3)])
def test_arrays_and_grey(step, shape):
    if step == RANDOM[-1] and shape[2:] != (3,):
        pytest.skip("a colour needs three channels")
    array = np.resize(NOISE, shape)
    compose = augment.Compose([step])
    result, label = compose(array, 3, rng=np.random.default_rng(0))
    assert result.dtype == np.uint8 and result.shape[2:] == shape[2:] and label == 3
    np.testing.assert_array_equal(compose(array, rng=np.random.default_rng(0)), result)


def test_sizes():
    assert augment.Resize(20)(PICTURE).size == (30, 20)
    assert augment.Resize((20, 10))(PICTURE).size == (10, 20)
    assert augment.CenterCrop(20)(PICTURE).size == (20, 20)
    assert augment.LetterBox((30, 30))(PICTURE).size == (30, 30)
    rng = np.random.default_rng(0)
    assert augment.RandomCrop((50, 70))(PICTURE, rng).size == (70, 50)
    assert augment.RandomResizedCrop((8, 16))(PICTURE, rng).size == (16, 8)


def test_the_centre():
    np.testing.assert_array_equal(np.asarray(augment.CenterCrop((20, 40))(PICTURE)), NOISE[10:30, 10:50])
    larger = np.asarray(augment.CenterCrop((44, 63))(PICTURE))
    np.testing.assert_array_equal(larger[2:42, 1:61], NOISE)
    assert larger.sum() == NOISE.sum(dtype=np.int64)  # black around it


def test_letter_box():
    boxed = np.asarray(augment.LetterBox(60, fill=9)(PICTURE))
    np.testing.assert_array_equal(boxed[10:50], NOISE)
    assert (boxed[:10] == 9).all() and (boxed[50:] == 9).all()
    expected = ImageOps.pad(PICTURE, (31, 17), Image.Resampling.BICUBIC, (1, 2, 3))
    np.testing.assert_array_equal(
        np.asarray(augment.LetterBox((17, 31), (1, 2, 3), "bicubic")(PICTURE)), np.asarray(expected)
    )


def test_random_crops_are_windows():
    padded = np.pad(NOISE, ((4, 4), (4, 4), (0, 0)))
    windows = {padded[y : y + 40, x : x + 40].tobytes() for y in range(9) for x in range(29)}
    crops = {changed(augment.RandomCrop(40, padding=4), seed).tobytes() for seed in range(300)}
    assert crops <= windows and len(crops) > 150
    mirrored = np.pad(NOISE, ((4, 4), (4, 4), (0, 0)), "reflect")
    windows = {mirrored[y : y + 40, x : x + 60].tobytes() for y in range(9) for x in range(9)}
    assert changed(augment.RandomCrop((40, 60), 4, "reflect"), 0).tobytes() in windows
    assert (changed(augment.RandomCrop((48, 68), padding=4, fill=7), 0)[:4] == 7).all()


def test_parts_of_random_resized_crops_keep_to_their_ranges():
    step = augment.RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2.0))
    rng = np.random.default_rng(0)
    parts = np.array([step.part(400, 600, rng) for _ in range(500)])
    top, left, height, width = parts.T
    area, ratio = height * width / (400 * 600), width / height
    assert 0.199 < area.min() < 0.22 and 0.48 < area.max() < 0.501
    assert 0.49 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.01
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 400 and (left + width).max() <= 600
    assert step.part(1000, 10, rng) == (490, 0, 20, 10)  # nothing fits: the largest with an allowed ratio
    assert step.part(10, 1000, rng) == (0, 490, 10, 20)


def test_flips():
    flips = {changed(augment.RandomFlip(), seed).tobytes() for seed in range(20)}
    assert flips == {NOISE.tobytes(), np.ascontiguousarray(NOISE[:, ::-1]).tobytes()}
    always = augment.RandomFlip("vertical", probability=1)
    np.testing.assert_array_equal(changed(always, 0), NOISE[::-1])


def test_colour_jitter():
    np.testing.assert_array_equal(changed(augment.ColorJitter(), 0), NOISE)
    white = Image.new("RGB", (2, 2), (100, 100, 100))
    levels = [changed(augment.ColorJitter(brightness=0.5), seed, white)[0, 0, 0] for seed in range(200)]
    assert 50 <= min(levels) < 60 and 140 < max(levels) <= 150
    assert changed(augment.ColorJitter(brightness=(2.0, 2.0)), 0, white)[0, 0, 0] == 200
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    turned = changed(augment.ColorJitter(hue=(1 / 3, 1 / 3)), 0, red)
    assert turned[0, 0, 1] > 250 and turned[0, 0, 0] < 10  # green
    np.testing.assert_array_equal(changed(augment.ColorJitter(0.4, 0.4, 0.4, 0.1), 3, white.convert("L")).shape, (2, 2))


def test_erasing():
    erased = changed(augment.RandomErasing(1.0, fill=(1, 2, 3)), 0).copy()
    rows, columns = np.nonzero((erased == (1, 2, 3)).all(axis=2))
    place = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (erased[place] == (1, 2, 3)).all() and 0.02 * 0.8 < len(rows) / (40 * 60) < 0.34
    erased[place] = NOISE[place]
    np.testing.assert_array_equal(erased, NOISE)
    kept = [(changed(augment.RandomErasing(0.25), seed) == NOISE).all() for seed in range(200)]
    assert 0.65 < np.mean(kept) < 0.85


def test_every_operation_changes_the_picture_and_does_nothing_at_its_weakest():
    for name, bounds in auto_augment.ranges(60, 40).items():
        strongest = np.asarray(auto_augment.apply_operation(PICTURE, name, auto_augment.magnitude(bounds, 9, 10)))
        weakest = np.asarray(auto_augment.apply_operation(PICTURE, name, auto_augment.magnitude(bounds, 0, 10)))
        # Noise of the full range and all levels is what these two strive for.
        assert (strongest != NOISE).any() != (name in ("Identity", "AutoContrast")), name
        if name not in ("Equalize", "Invert", "Solarize"):
            np.testing.assert_array_equal(weakest, NOISE, err_msg=name)


def test_published_policies():
    assert {len(pairs) for pairs in auto_augment.POLICIES.values()} == {25}
    # Cubuk et al. (2019), tables 7 and 9: the first sub-policies
    assert auto_augment.POLICIES["cifar10"][0] == (("Invert", 0.1, 0), ("Contrast", 0.2, 6))
    assert auto_augment.POLICIES["imagenet"][0] == (("Posterize", 0.4, 8), ("Rotate", 0.6, 9))
    assert len(auto_augment.RAND_AUGMENT) == len(auto_augment.WIDE_RANGES) == 14


def test_normalize():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (NOISE.astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
    for pixels, wanted in ((NOISE, expected), (NOISE[None], expected[None]), (NOISE[3, 4], expected[3, 4])):
        np.testing.assert_array_equal(augment.normalize(pixels, mean, std), wanted)
    np.testing.assert_array_equal(augment.Compose([augment.Normalize(mean, std)])(NOISE), expected)
    np.testing.assert_array_equal(augment.normalize(NOISE[:, ::-2], mean, std), expected[:, ::-2])
    assert augment.Compose([augment.Normalize((0.5,), (0.5,))])(NOISE[..., 0]).shape == (40, 60, 1)
    with pytest.raises(ValueError, match="3 channels"):
        augment.normalize(NOISE, (0.5,), (0.5,))


# Within a batch


@pytest.mark.parametrize("mix", [augment.MixUp(5), augment.MixUp(5, alpha=2.0), augment.CutMix(5)])
def test_mixtures_of_images_and_labels_agree(mix):
    labels = np.arange(5)
    images = np.broadcast_to(np.eye(5, dtype=np.uint8)[:, None, None] * 200, (5, 10, 12, 5)).copy()
    mixed, soft = mix(images, labels, rng=np.random.default_rng(1))
    np.testing.assert_allclose(mixed.mean(axis=(1, 2)) / 200, soft, atol=1e-5)  # the channel is the class
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    assert soft.dtype == np.float32 and mixed.dtype == (np.uint8 if isinstance(mix, augment.CutMix) else np.float32)
    assert ((soft > 0) & (soft < 1)).any() and (images.max(axis=3) == 200).all()
    again, _ = mix(images, np.eye(5, dtype=np.float32), rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again, mixed)


def test_cutmix_cuts_one_rectangle():
    images = np.stack([np.full((20, 30, 1), value, np.uint8) for value in (10, 20)])
    mixes = [augment.CutMix(2)(images, np.array([0, 1]), rng=np.random.default_rng(seed)) for seed in range(20)]
    shares = []
    for mixed, soft in mixes:
        rows, columns = np.nonzero(mixed[0, :, :, 0] == 20)
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        shares.append(soft[0, 1])
        np.testing.assert_allclose(soft[0, 1], len(rows) / 600, atol=1e-6)
    assert 0 in shares and len(set(shares)) > 8


def test_labels_outside_of_the_classes():
    with pytest.raises(ValueError, match=r"0 … 1; received 0 to 4"):
        augment.MixUp(2)(np.zeros((5, 2, 2, 1)), np.arange(5), rng=np.random.default_rng(0))


# Within a pipeline


def batches(num_parallel, processes=False, epoch=0, position=0):
    steps = augment.Compose([augment.RandomCrop(32, padding=4), augment.RandomFlip(), augment.RandAugment()])
    images = np.random.default_rng(0).integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    dataset = Dataset.from_arrays((images, np.arange(23) % 4)).shuffle(seed=3)
    dataset = dataset.map(steps, num_parallel, seed=5, processes=processes).batch(4)
    dataset = dataset.map(augment.CutMix(4), seed=6).prefetch()
    return list(dataset.iterate(epoch, position))


def assert_equal(first, second):
    assert len(first) == len(second)
    for (x, y), (x2, y2) in zip(first, second):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)


def test_the_batches_do_not_depend_on_the_workers():
    expected = batches(1)
    for workers in ((2, False), (7, False), (1, True), (3, True)):
        assert_equal(batches(*workers), expected)
    assert any((x != x2).any() for (x, _), (x2, _) in zip(expected, batches(2, epoch=1)))


@pytest.mark.parametrize("processes", [False, True])
def test_resuming_in_the_middle_of_an_epoch(processes):
    assert_equal(batches(2, processes, epoch=1, position=3), batches(1, epoch=1)[3:])


def test_a_random_step_without_a_seed():
    with pytest.raises(DataError, match=r"give Dataset\.map\(\) or image_folder\(\) a seed"):
        list(Dataset.from_arrays(NOISE[None]).map(augment.Compose([augment.RandomFlip()])))


def test_image_folders_can_be_augmented(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(3):
        PICTURE.save(tmp_path / "a" / f"{number}.png")
    steps = [augment.RandomResizedCrop(16), augment.Normalize((0.5,) * 3, (0.5,) * 3)]
    results = [
        np.stack([image for image, _ in image_folder(tmp_path, transform=steps, seed=seed, num_parallel=workers)])
        for seed, workers in ((1, 1), (1, 3), (2, 1))
    ]
    assert results[0].shape == (3, 16, 16, 3) and results[0].dtype == np.float32
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any() and (results[0][0] != results[0][1]).any()
    ((grey, _), *_) = image_folder(tmp_path, size=20, channels=1, transform=augment.RandomFlip())
    assert grey.shape == (20, 20, 1)


def test_bad_arguments():
    for make in (
        lambda: augment.RandomFlip("sideways"),
        lambda: augment.ColorJitter(hue=0.6),
        lambda: augment.ColorJitter(brightness=-1.0),
        lambda: augment.RandAugment(magnitude=31),
        lambda: augment.AutoAugment("mnist"),
    ):
        with pytest.raises(ValueError, match="received"):
            make()


@pytest.mark.parametrize("image", [NOISE / 255, NOISE[None], NOISE[..., :2], NOISE[0, 0], "a.png"])
def test_what_is_no_image(image):
    with pytest.raises(ValueError, match="Expected an image of unsigned bytes"):
        augment.Compose([augment.Resize(4)])(image)
