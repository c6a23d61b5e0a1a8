"""`tenzoo predict` on image files of all kinds, and the picture of where the answer was found."""

import json

import numpy as np
import pytest
from PIL import Image

from tenzoo.recipes.image_prediction import Predictor
from tenzoo.recipes.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(smoke_run):
    """A finished run with a model of the zoo, for images of 16 pixels."""
    return smoke_run("vision/classify")


@pytest.fixture
def photo(tmp_path):
    """A picture as wide as two high, of few colours, so that a palette holds it."""
    pixels = np.random.default_rng(0).integers(0, 5, (20, 40), dtype=np.uint8).repeat(3, 1).repeat(3, 0) * 60
    pixels = np.stack([pixels, 255 - pixels, np.zeros_like(pixels)], -1)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def saved(photo, name, change, **options):
    with Image.open(photo) as image:
        change(image).save(photo.with_name(name), **options)
    return photo.with_name(name)


def probabilities(tenzoo, run, *files):
    status, output, errors = tenzoo("predict", run, *files, "--json")
    assert status == 0, errors
    return [[entry["probability"] for entry in record["predictions"]] for record in json.loads(output)]


def test_the_same_picture_in_other_clothes(tenzoo, run, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    files = [
        photo,
        saved(photo, "palette.png", lambda image: image.quantize(64)),
        saved(photo, "turned.png", lambda image: image.transpose(Image.Transpose.ROTATE_90), exif=exif),
        saved(photo, "opaque.png", lambda image: image.convert("RGBA")),
        saved(
            photo, "moving.gif", lambda image: image.quantize(64), save_all=True, append_images=[Image.new("P", (9, 9))]
        ),
    ]
    plain, *others = probabilities(tenzoo, run, *files)
    for other in others:
        np.testing.assert_allclose(other, plain, atol=1e-5)


def test_cmyk_and_16_bits(tenzoo, run, photo):
    grey = np.random.default_rng(1).integers(0, 256, (30, 30), dtype=np.uint8)
    eight, sixteen = photo.with_name("8.png"), photo.with_name("16.png")
    Image.fromarray(grey).save(eight)
    Image.fromarray(grey.astype(np.uint16) * 257).save(sixteen)
    cmyk = saved(photo, "cmyk.jpg", lambda image: image.convert("CMYK"))
    first, second, _ = probabilities(tenzoo, run, eight, sixteen, cmyk)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_truncated_file_is_named(tenzoo, run, photo):
    whole = saved(photo, "whole.jpg", lambda image: image).read_bytes()
    cut = photo.with_name("cut.jpg")
    cut.write_bytes(whole[: len(whole) // 2])
    status, output, errors = tenzoo("predict", run, photo, cut)
    assert status == 1 and not output and f"{cut} cannot be read" in errors


@pytest.mark.parametrize("recipe", ["vision/classify", "vision/digits"])
def test_gradcam(tenzoo, smoke_run, photo, recipe):
    run = smoke_run(recipe)
    plain = tenzoo("predict", run, photo, photo).output
    for name in ("where.png", "where.jpg"):
        out = photo.with_name(name)
        assert tenzoo("predict", run, photo, photo, "--gradcam", out).output == plain
        with Image.open(out) as picture:
            picture.load()
            # Two rows; in each the photo, which keeps its proportions, and beside it the photo in colours.
            assert picture.width > 900 and picture.height > 500


def test_the_whole_photo_is_shown_and_coloured_where_the_net_looked(run, photo):
    figure = Predictor.of_run(RunFolder(run)).explanation([photo])
    (canvas,) = (np.asarray(image.get_array()) for image in figure.images)
    step = round(1.06 * canvas.shape[1] / 2.18)  # from one to the other: with gaps of 0.06 they are 2.18 wide
    rows = slice(int(canvas.shape[0] * 0.45), int(canvas.shape[0] * 0.6))  # the picture is half as high as wide
    left, right = canvas[rows, 40:540], canvas[rows, 40 + step : 540 + step]
    changed = np.abs(left.astype(int) - right.astype(int)).max(-1) > 8
    assert changed.any() and not changed[:, :80].any(), "the net saw the square in the middle"


@pytest.mark.parametrize(
    ("out", "message"),
    [("nowhere/where.png", "there is no folder"), ("where.txt", "a name that ends in .png or .jpg")],
)
def test_a_picture_that_cannot_be_written(tenzoo, run, photo, out, message):
    status, output, errors = tenzoo("predict", run, photo, "--gradcam", photo.with_name("x").parent / out)
    assert status == 1 and message in errors and not output
