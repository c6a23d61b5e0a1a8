"""Images in every form become the same pixels; how they agree with the reference is in tests/parity."""

import io

import numpy as np
import pytest
from PIL import Image

from tenzoo.datasets.errors import DataError
from tenzoo.layers.serialization import deserialize, serialize
from tenzoo.zoo.vision.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess, read_image

PICTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def file_of(picture, format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, **options)
    return buffer.getvalue()


def test_every_form_gives_the_same_pixels(tmp_path):
    preprocess = Preprocess((16, 16), resize=20)
    path = tmp_path / "picture.png"
    path.write_bytes(file_of(PICTURE))
    expected = preprocess(PICTURE)
    assert expected.shape == (16, 16, 3) and expected.dtype == np.float32
    for form in (path, str(path), path.read_bytes(), Image.fromarray(PICTURE)):
        np.testing.assert_array_equal(preprocess(form), expected)
    np.testing.assert_array_equal(preprocess([PICTURE, path]), np.stack([expected, expected]))


def test_normalisation():
    white = np.full((8, 8, 3), 255, np.uint8)
    np.testing.assert_allclose(Preprocess((4, 4), mean=HALF, std=HALF)(white), 1.0)
    expected = (1 - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    np.testing.assert_allclose(Preprocess((4, 4))(white)[0, 0], expected, rtol=1e-6)
    assert Preprocess((4, 4), mean=(0.5,), std=(0.5,))(white[..., 0]).shape == (4, 4, 1)


def test_crop_takes_the_centre():
    picture = np.zeros((9, 30, 3), np.uint8)
    picture[:, 10:19] = 255
    pixels = Preprocess((9, 9), resize=9, mean=(0, 0, 0), std=(1, 1, 1))(picture)
    np.testing.assert_array_equal(pixels, 1.0)
    shifted = Preprocess((9, 9), resize=9, mean=(0, 0, 0), std=(1, 1, 1), crop="round")(picture)
    np.testing.assert_array_equal(shifted, 1.0)  # 21 / 2 = 10.5 goes to the even 10


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pillow_modes(mode):
    picture = Image.fromarray(PICTURE)
    if mode == "I;16":
        picture = Image.fromarray((PICTURE[..., 0].astype(np.uint16) << 8) + 7)
    else:
        picture = picture.convert(mode)
    assert np.asarray(read_image(picture)).shape == (50, 70, 3)
    if mode == "I;16":
        np.testing.assert_array_equal(np.asarray(read_image(picture))[..., 0], PICTURE[..., 0])


def test_rotation_in_the_exif_data_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = file_of(PICTURE, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(turned)), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("bad", [PICTURE / 255, PICTURE[..., :2], PICTURE[0, 0]])
def test_arrays_that_are_no_images(bad):
    with pytest.raises(ValueError, match="uint8"):
        Preprocess()(bad)


def test_damaged_files(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(file_of(PICTURE, "JPEG")[:300])
    with pytest.raises(DataError, match="broken"):
        Preprocess()(path)
    with pytest.raises(DataError, match="bytes"):
        Preprocess()(b"no image")


def test_bad_arguments():
    with pytest.raises(ValueError, match="bicubik"):
        Preprocess(interpolation="bicubik")
    with pytest.raises(ValueError, match="middle"):
        Preprocess(crop="middle")
    with pytest.raises(ValueError, match="numbers"):
        Preprocess(mean=(0.5, 0.5), std=(1, 1))


def test_it_is_saved_with_a_model():
    preprocess = Preprocess((16, 16), resize=20, interpolation="bicubic", mean=HALF, std=HALF, crop="round")
    copy = deserialize(serialize(preprocess))
    np.testing.assert_array_equal(copy(PICTURE), preprocess(PICTURE))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tf", (1, 0, -1)),
        ("torch", (0.515 / 0.229, 0.044 / 0.224, -0.406 / 0.225)),
        ("caffe", (-103.939, 10.721, 131.32)),
        ("128", (127 / 128, -0.5 / 128, -1)),
    ],
)
def test_pixels_of_keras(mode, expected):
    """The documentation of keras.applications.imagenet_utils.preprocess_input, on (255, 127.5, 0), or nearly so."""
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:] = (255, 127, 0)
    half = {"tf": 0.5 / 127.5, "torch": 0.5 / 255 / 0.224, "caffe": 0.5, "128": 0.5 / 128}[mode]
    pixel = Preprocess.from_keras(mode, 2)(picture)[0, 0] + np.array((0, half, 0))
    np.testing.assert_allclose(pixel, expected, rtol=1e-4, atol=1e-4)
