"""What the recipes for pictures of one's own share: a folder of them, any model of the zoo, training, testing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ... import datasets, training, zoo
from ...datasets import augment
from ...datasets.image.decode import open_image
from ...datasets.image.image_folder import class_files
from ...training import callbacks, losses, optimizers
from ...zoo.vision.classifier import Classifier
from ...zoo.vision.preprocess import Preprocess, read_image
from ..image_prediction import labels_of, probabilities_of
from ..registry import Metrics
from . import _shapes
from ._classification import TrainingConfig, check_finite, draw_pictures, stratified, warm_up_and_cosine

if TYPE_CHECKING:
    from ..run_folder import RunFolder

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
TEST_FOLDERS = ("test", "val", "valid", "validation")  # the first that is there
GENERATED = "shapes"
POLICIES: dict[str, Callable[[], Callable]] = {
    "randaugment": augment.RandAugment,
    "autoaugment": augment.AutoAugment,
    "trivialaugment": augment.TrivialAugment,
}

logger = logging.getLogger("tenzoo.recipes")


@dataclass(frozen=True)
class OwnPicturesConfig(TrainingConfig):
    """Options of the recipes for any model and any folder."""

    data: str = GENERATED
    """A folder of images for each class, in one folder or in `train` and `test`; or `shapes`, generated pictures."""
    generated: int = 1500
    """How many pictures to generate for training, where no folder is given."""
    on_error: Literal["skip", "raise"] = "skip"
    """An image file that cannot be read is left out, with a warning, and counted; or it ends the run (`raise`)."""
    label_smoothing: float = 0.1
    """Share of the targets that goes to all classes alike."""
    smallest_crop: float = 0.4
    """In training a random part of each image is shown, this share of its area at least."""
    keep_sides: bool = False
    """Do not mirror half of the images in training, left to right: where the sides matter, as in writing."""
    policy: Literal["none", "randaugment", "autoaugment", "trivialaugment"] = "none"
    """Further changes of shape and colour in training, drawn for each image; `autoaugment` is that for ImageNet."""
    random_erasing: float = 0.0
    """Share of the training images that have noise put over a random rectangle."""
    mixup: float = 0.0
    """MixUp: alpha of the beta distribution by which training images, and labels, are mixed in pairs; 0: none."""
    cutmix: float = 0.0
    """CutMix: alpha for pasting a part of one image into another; with `mixup`, a batch gets one of both by lot."""
    ema: float = 0.0
    """Validate and end with a moving average of the weights in which the old average has this share; 0: none."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), received {getattr(self, name)}.")
        if not 0 < self.smallest_crop <= 1:
            raise ValueError(f"smallest_crop must lie in (0, 1], received {self.smallest_crop}.")
        if not 0 <= self.random_erasing <= 1:
            raise ValueError(f"random_erasing must lie in [0, 1], received {self.random_erasing}.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, received {getattr(self, name)}.")


class Pictures(NamedTuple):
    """Images (N, H, W, C) of unsigned bytes, or their paths (N,), and labels (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def batches(self, preprocess: Preprocess, batch_size: int) -> datasets.Dataset:
        """Return batches of what the model takes, in order."""
        elements = datasets.Dataset.from_arrays(tuple(self))
        decoded = elements.map(lambda image, label: (preprocess(image), label), num_parallel=2)
        return decoded.batch(batch_size).prefetch()

    def augmented_batches(self, preprocess: Preprocess, config: Any, classes: int) -> datasets.Dataset:
        """Return batches in an order and with an augmentation that are new in each epoch; labels (B, classes)."""
        change, mix = augment.Compose(_steps(config, preprocess.size)), _mixing(config, classes)
        channels = len(preprocess.mean)

        def decode(image: Any, label: np.int32, rng: np.random.Generator) -> tuple:
            pixels = change(read_image(image, channels), rng=rng)
            return pixels.reshape(*preprocess.size, channels), label

        def finish(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
            images, labels = mix(images, labels, rng)
            pixels = augment.normalize(images, preprocess.mean, preprocess.std)
            return pixels[..., ::-1] if preprocess.reverse else pixels, labels

        elements = datasets.Dataset.from_arrays(tuple(self)).shuffle(seed=config.seed)
        decoded = elements.map(decode, num_parallel=2, seed=config.seed)
        return decoded.batch(config.batch_size).map(finish, seed=config.seed).prefetch()


def _steps(config: Any, size: tuple[int, int]) -> list[Callable]:
    """What changes a training image, in order."""
    steps: list[Callable] = [augment.RandomResizedCrop(size, (config.smallest_crop, 1.0))]
    if not config.keep_sides:
        steps.append(augment.RandomFlip())
    if config.policy != "none":
        steps.append(POLICIES[config.policy]())
    if config.random_erasing:
        steps.append(augment.RandomErasing(config.random_erasing))
    return steps


def _mixing(config: Any, classes: int) -> Callable:
    """What mixes a batch: (images, labels (B,), rng) -> (images, labels (B, classes))."""
    ways = [
        way(classes, alpha) for way, alpha in ((augment.MixUp, config.mixup), (augment.CutMix, config.cutmix)) if alpha
    ]

    def mix(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
        return ways[rng.integers(len(ways))](images, labels, rng) if ways else one_hot(images, labels, classes)

    return mix


def one_hot(images: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, and the labels (B,) as probabilities (B, classes)."""
    return images, np.eye(classes, dtype=np.float32)[labels]


class Splits(NamedTuple):
    """Pictures for training, validation and test, the names of the classes, and how many files are left out."""

    train: Pictures
    validation: Pictures
    test: Pictures
    classes: tuple[str, ...]
    skipped: int = 0


def load(config: Any, size: int, shapes: dict = _shapes.TARGET) -> Splits:
    """Return the pictures of ``config.data``; ``size`` and ``shapes`` are those of generated ones.

    Raises:
        DataError: there is no such folder, fewer than two classes in it, a class with too few images, or, with
            ``on_error="raise"``, an image that cannot be read.
    """
    rng, skipped = np.random.default_rng(config.seed), 0
    if config.data == GENERATED:
        train = Pictures(*_shapes.draw(shapes, config.limit or config.generated, size, config.seed))
        test = Pictures(*_shapes.draw(shapes, min(config.limit or 600, 600), size, config.seed + 1_000_000))
        classes = tuple(shapes)
    else:
        train, test, classes = _from_folder(Path(config.data).expanduser(), rng)
        train, test = (_some(pictures, config.limit, rng) for pictures in (train, test))
        bad = _unreadable(np.concatenate([train.images, test.images]), config.on_error)
        train = _without(train, bad[: len(train.labels)], classes)
        test = _without(test, bad[-len(test.labels) :])
        skipped = int(bad.sum())
    train, validation = _divided(train, VALIDATION_SHARE, rng)
    return Splits(train, validation, test, classes, skipped)


def _from_folder(root: Path, rng: np.random.Generator) -> tuple[Pictures, Pictures, tuple[str, ...]]:
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not ((root / "train").is_dir() and tests):
        pictures, classes = _listed(root, least=3)
        return *_divided(pictures, TEST_SHARE, rng), classes
    (train, classes), (test, known) = _listed(root / "train", least=2), _listed(tests[0], least=1)
    if known != classes:
        differing = ", ".join(sorted(set(known) ^ set(classes)))
        raise datasets.DataError(f"{root / 'train'} and {tests[0]} need the same classes; they differ in {differing}.")
    return train, test, classes


def _listed(folder: Path, least: int) -> tuple[Pictures, tuple[str, ...]]:
    """The files in the folders of the classes; some of each are held out, so ``least`` are needed."""
    files = class_files(folder)
    if few := [name for name, some in files.items() if len(some) < least]:
        raise datasets.DataError(f"Every class in {folder} needs {least} images at least; {', '.join(few)} has fewer.")
    if len(files) < 2:
        raise datasets.DataError(f"{folder} needs a subfolder for each of two classes at least; it has {[*files]}.")
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(some) for some in files.values()])
    paths = np.array([str(file) for some in files.values() for file in some])
    return Pictures(paths, labels), tuple(files)


def _unreadable(paths: np.ndarray, on_error: str) -> np.ndarray:
    """A mask of the files that cannot be decoded, found by doing it; each is told on the log.

    It takes about as long as an epoch's reading, and saves what an error after hours of training would cost.

    Raises:
        DataError: there is one, and ``on_error`` is "raise".
    """
    from tqdm import tqdm

    looked = datasets.Dataset.from_arrays(paths).map(_problem, num_parallel=2)
    problems = list(tqdm(looked, "Looking at the images", len(paths), delay=2, leave=False, disable=None))
    found = [problem for problem in problems if problem]
    if found and on_error == "raise":
        raise datasets.DataError(found[0])
    for number, problem in enumerate(found, 1):
        logger.warning("Skipped (%d of %d): %s", number, len(found), problem)
    return np.array([bool(problem) for problem in problems])


def _problem(path: str) -> str:
    """What is wrong with an image file; nothing for a good one."""
    try:
        open_image(path)
    except datasets.DataError as error:
        return str(error)
    return ""


def _without(pictures: Pictures, bad: np.ndarray, classes: tuple[str, ...] = ()) -> Pictures:
    """The pictures without the bad ones; two of each of ``classes`` have to be left, to be divided again."""
    kept = Pictures(pictures.images[~bad], pictures.labels[~bad])
    if bad.all():
        raise datasets.DataError(f"None of {len(bad)} images can be read; the first of them is {pictures.images[0]}.")
    for label in np.unique(pictures.labels[bad]) if classes else ():
        left = int(np.sum(kept.labels == label))
        if left < 2:
            file = pictures.images[np.argmax(bad & (pictures.labels == label))]
            raise datasets.DataError(
                f"Two images of each class are needed for training, but of {classes[label]} {left} can be read; "
                f"{file} cannot."
            )
    return kept


def _divided(pictures: Pictures, share: float, rng: np.random.Generator) -> tuple[Pictures, Pictures]:
    """Hold out a share of each class, drawn by lot: the rest, and the share."""
    order = rng.permutation(len(pictures.labels))
    pictures = Pictures(pictures.images[order], pictures.labels[order])
    held_out = stratified(pictures.labels, share)
    return (
        Pictures(pictures.images[~held_out], pictures.labels[~held_out]),
        Pictures(pictures.images[held_out], pictures.labels[held_out]),
    )


def _some(pictures: Pictures, limit: int | None, rng: np.random.Generator) -> Pictures:
    chosen = rng.permutation(len(pictures.labels))[:limit]
    return Pictures(pictures.images[chosen], pictures.labels[chosen])


# Models


def make_model(name: str, splits: Splits, size: int, **options: Any) -> Classifier:
    """Return a model of the zoo for the classes and images of this size; see :func:`tenzoo.zoo.create`."""
    model = zoo.create(name, classes=len(splits.classes), image_size=size, **options)
    return prepared(model, splits)


def load_trained(source: str, name: str | None = None) -> Classifier:
    """Return a trained classifier: of a run's folder, a saved model, of the hub, or weights of the model ``name``.

    Raises:
        ValueError: it is no image classifier, or there is nothing of that name.
    """
    path = Path(source).expanduser()
    if (path / "model.tenzoo").is_file():
        path = path / "model.tenzoo"
    if name is not None and not source.startswith("hf://") and not path.exists():
        model = zoo.create(name, weights=source)
    else:
        model = zoo.load(source if source.startswith("hf://") else path)
    if not isinstance(model, Classifier) or model.features_only:
        raise ValueError(f"{source} holds a {type(model).__name__}; expected an image classifier of the zoo.")
    return model


def prepared(model: Classifier, splits: Splits) -> Classifier:
    """Let a model know the names of its classes, and how images are read, so that it can be used on files."""
    model.card.labels = list(splits.classes)
    preprocess = model.preprocess
    if preprocess.resize is None:  # the shorter side, and then the middle, in place of stretching
        size, mean, std = preprocess.size, preprocess.mean, preprocess.std
        preprocess = Preprocess(size, min(size), preprocess.interpolation, mean, std, preprocess.crop)
    model.card.preprocess = preprocess
    return model


def fit(
    model: training.Model,
    splits: Splits,
    config: Any,
    run: RunFolder,
    *,
    epochs: int,
    learning_rate: float,
    initial_epoch: int = 0,
    stage: str = "",
    log: str = "metrics",
    rates: dict[str, float] | None = None,
    preprocess: Preprocess | None = None,
) -> None:
    """Train with AdamW, warm-up and cosine, up to epoch ``epochs``; ``stage`` and ``log`` are those of the run folder.

    Args:
        learning_rate: the highest.
        rates: multipliers of the learning rate.
        preprocess: that of the model, where the model itself has none.

    Raises:
        FloatingPointError: the loss is no number any more.
    """
    preprocess, classes = preprocess or model.preprocess, len(splits.classes)
    averages = [callbacks.ModelEMA(config.ema)] if config.ema else []
    validation = splits.validation.batches(preprocess, config.batch_size)
    steps = (epochs - initial_epoch) * -(-len(splits.train.labels) // config.batch_size)
    schedule = warm_up_and_cosine(learning_rate, steps)
    model.compile(
        optimizer=optimizers.AdamW(schedule, config.weight_decay, learning_rate_multipliers=rates),
        loss=losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    model.fit(
        splits.train.augmented_batches(preprocess, config, classes),
        epochs=epochs,
        initial_epoch=initial_epoch,
        validation_data=validation.map(lambda images, labels: one_hot(images, labels, classes)),
        callbacks=[callbacks.TerminateOnNaN(), *averages, *run.callbacks(stage, log)],
        verbose=run.verbose,
    )
    check_finite(run.history_of(log))


def test_logits(model: Classifier, test: Pictures, batch_size: int) -> np.ndarray:
    """Return what the model says of the test pictures, (N, classes)."""
    return model.predict(test.batches(model.preprocess, batch_size), verbose=0)


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return accuracy and cross-entropy of logits (N, classes) for labels (N,)."""
    chosen = probabilities_of(logits)[np.arange(len(labels)), labels]
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
        "loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
    }


def finish(
    model: Classifier,
    test: Pictures,
    config: Any,
    run: RunFolder,
    logits: np.ndarray | None = None,
    skipped: int = 0,
) -> Metrics:
    """Save the model, test it, draw the pictures, and return the metrics.

    Args:
        logits: (N, classes), those of the test pictures, where the model alone does not make them.
        skipped: how many image files were left out.
    """
    run.save_model(model)
    preprocess = model.preprocess
    if logits is None:
        logits = test_logits(model, test, config.batch_size)
    mean, std = (np.asarray(values, np.float32) for values in (preprocess.mean, preprocess.std))
    draw_pictures(
        run,
        model,
        inputs=lambda numbers: np.stack([preprocess(test.images[number]) for number in numbers]),
        view=lambda pixels: ((pixels[..., ::-1] if preprocess.reverse else pixels) * std + mean).clip(0, 1)[..., :3],
        labels=test.labels,
        logits=logits,
        classes=labels_of(model),
    )
    last = run.history[-1]
    metrics: Metrics = {"test": scores(logits, test.labels)}
    if "val_loss" in last:
        metrics["validation"] = {name: last[f"val_{name}"] for name in ("accuracy", "loss")}
    metrics["train"] = {name: last[name] for name in ("accuracy", "loss")}
    metrics["parameters"] = model.count_params()
    return metrics | ({"skipped_images": skipped} if skipped else {})
