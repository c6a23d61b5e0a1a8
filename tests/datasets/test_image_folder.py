"""Folders of pictures, good, odd and bad."""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tenzoo.datasets import DataError, decode_image, image_folder


def picture(height=10, width=6, colour=(200, 100, 50)):
    array = np.empty((height, width, 3), np.uint8)
    array[:] = colour
    return Image.fromarray(array)


@pytest.fixture
def folder(tmp_path):
    """Two classes; three pictures."""
    for name in ("cat", "dog/old"):
        (tmp_path / name).mkdir(parents=True)
    picture().save(tmp_path / "cat" / "b.png")
    picture(colour=(0, 0, 0)).save(tmp_path / "cat" / "a.JPG")
    picture(20, 20, (0, 255, 0)).save(tmp_path / "dog" / "old" / "c.bmp")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / "._b.png").write_text("a shadow that macOS leaves")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_a_folder_for_each_class(folder):
    dataset = image_folder(folder)
    assert dataset.class_names == ("cat", "dog") and len(dataset) == 3
    elements = list(dataset)
    assert [int(label) for _, label in elements] == [0, 0, 1]
    assert [image.shape for image, _ in elements] == [(10, 6, 3), (10, 6, 3), (20, 20, 3)]
    assert elements[0][0].max() <= 2 and (elements[1][0] == (200, 100, 50)).all()


def test_batches_of_one_size(folder):
    images, labels = next(iter(image_folder(folder, size=(4, 5)).shuffle(seed=1).batch(3)))
    assert images.shape == (3, 4, 5, 3) and images.dtype == np.uint8 and sorted(labels) == [0, 0, 1]
    assert next(iter(image_folder(folder, size=8, channels=1)))[0].shape == (8, 8, 1)


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        image_folder(tmp_path / "missing")
    with pytest.raises(DataError, match="has no subfolder"):
        image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    picture().save(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match="there are none in dog"):
        image_folder(tmp_path)


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-1500])


def test_a_truncated_picture_is_named(folder):
    truncated(folder / "dog" / "broken.jpg")
    with pytest.raises(DataError, match=r"dog/broken\.jpg.*truncated"):
        list(image_folder(folder))


def test_unreadable_pictures_can_be_skipped_and_are_counted(folder, caplog):
    truncated(folder / "dog" / "broken.jpg")
    (folder / "cat" / "empty.png").touch()
    dataset = image_folder(folder, on_error="skip")
    assert dataset.cardinality is None and dataset.class_names == ("cat", "dog")
    with caplog.at_level(logging.WARNING, "tenzoo.datasets"):
        for _ in range(2):
            assert sorted(int(label) for _, label in dataset.shuffle(seed=1)) == [0, 0, 1]
    assert len(caplog.messages) == 2 and "2 so far" in caplog.messages[1]
    assert any("broken.jpg" in message for message in caplog.messages)
    with pytest.raises(ValueError, match="on_error"):
        image_folder(folder, on_error="ignore")


# Decoding


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_cmyk(tmp_path):
    image = decode_image(saved(tmp_path, picture(colour=(255, 0, 0)).convert("CMYK"), "x.jpg", quality=95))
    assert image.shape == (10, 6, 3) and image[..., 0].min() > 200 and image[..., 1:].max() < 60


def test_palette_and_opacity(tmp_path):
    path = saved(tmp_path, picture().quantize(4), "x.png")
    assert abs(decode_image(path).astype(int) - (200, 100, 50)).max() <= 2
    opaque = picture().convert("RGBA")
    opaque.putalpha(7)
    path = saved(tmp_path, opaque, "y.png")
    assert (decode_image(path) == (200, 100, 50)).all() and (decode_image(path, channels=4)[..., 3] == 7).all()


def test_sixteen_bits(tmp_path):
    ramp = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    for name in ("x.png", "x.tif"):
        path = saved(tmp_path, Image.fromarray(ramp), name)
        assert decode_image(path, channels=1)[0, :, 0].tolist() == [0, 0, 1, 156, 255]
        assert decode_image(path)[0, 3].tolist() == [156, 156, 156]


def test_one_bit_and_floating_point(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.eye(3, dtype=bool)), "x.png")
    assert (decode_image(path, channels=1)[..., 0] == 255 * np.eye(3)).all()
    path = saved(tmp_path, Image.fromarray(np.eye(3, dtype=np.float32)), "x.tif")
    with pytest.raises(DataError, match="floating point"):
        decode_image(path)


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [picture(colour=colour) for colour in ((255, 0, 0), (0, 0, 255))]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    assert (decode_image(path) == (255, 0, 0)).all()


def test_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image = picture(4, 8)
    image.putpixel((0, 0), (255, 255, 255))
    turned = decode_image(saved(tmp_path, image, "x.png", exif=exif))
    assert turned.shape == (8, 4, 3) and (turned[0, 3] == 255).all()


def test_a_decompression_bomb(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    warned = pytest.warns(Image.DecompressionBombWarning)
    for side, expected in (
        (10_000, warned),
        (60_000, contextlib.nullcontext()),
    ):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        with expected, pytest.raises(DataError, match="bomb"):
            decode_image(tmp_path / "x.png")


def test_what_is_no_picture(tmp_path):
    (tmp_path / "x.png").write_bytes(b"hello")
    for name in ("x.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            decode_image(tmp_path / name)
    with pytest.raises(ValueError, match="channels must be 1, 3 or 4"):
        decode_image(tmp_path / "x.png", channels=2)


def test_resizing_is_that_of_pillow(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    path = saved(tmp_path, noise, "x.png")
    expected = np.asarray(noise.resize((9, 12), Image.Resampling.BILINEAR))
    assert (decode_image(path, size=(12, 9)) == expected).all()
