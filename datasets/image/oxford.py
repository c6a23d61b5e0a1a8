"""Pets and flowers of the Visual Geometry Group in Oxford, https://www.robots.ox.ac.uk/~vgg/data/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..archives import unpacked
from ..errors import DataError
from ..fetch import File, find
from ..matlab import read_mat
from ..registry import dataset
from .image_files import ImageFilesSpec

PETS = """
    Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal Birman Bombay boxer
    British_Shorthair chihuahua Egyptian_Mau english_cocker_spaniel english_setter german_shorthaired great_pyrenees
    havanese japanese_chin keeshond leonberger Maine_Coon miniature_pinscher newfoundland Persian pomeranian pug
    Ragdoll Russian_Blue saint_bernard samoyed scottish_terrier shiba_inu Siamese Sphynx staffordshire_bull_terrier
    wheaten_terrier yorkshire_terrier
"""
FLOWERS = """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
    bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
    globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily,
    pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers,
    stemless gentian, artichoke, sweet william, carnation, garden phlox, love in the mist, mexican aster,
    alpine sea holly, ruby-lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy,
    daffodil, sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy,
    common dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium,
    orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone, black-eyed susan, silverbush,
    californian poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania, azalea,
    water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis,
    hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm,
    ball moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
    blackberry lily
"""
COMMON = {
    "kind": ImageFilesSpec,
    "shapes": ((None, None, 3), ()),
    "dtypes": ("uint8", "int32"),
    "value_range": (0, 255),
}


# Addresses and checksums as in torchvision (torchvision/datasets/oxford_iiit_pet.py); names of the classes as in
# TensorFlow Datasets (oxford_iiit_pet.py).
@dataset(
    "oxford_pets",
    description="7,349 photographs of cats and dogs of 37 breeds",
    license="CC BY-SA 4.0; the copyright remains with the owners of the images",
    citation="Parkhi, Vedaldi, Zisserman and Jawahar (2012). Cats and Dogs. IEEE Conference on Computer Vision and "
    "Pattern Recognition.",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    files=tuple(
        File(name, (f"https://www.robots.ox.ac.uk/~vgg/data/pets/data/{name}",), f"md5:{md5}")
        for name, md5 in (
            ("images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            ("annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        )
    ),
    classes=tuple(PETS.split()),
    splits={"train": 3680, "test": 3669},
    **COMMON,
)
def read_pets(folder: Path, split: str) -> tuple[list[Path], np.ndarray]:
    """Return the paths of the photographs, and labels (n,); "train" is the published "trainval"."""
    images = unpacked(folder, "images", "images.tar.gz")
    annotations = unpacked(folder, "annotations", "annotations.tar.gz")
    path = find(annotations, "trainval.txt" if split == "train" else "test.txt")
    files, labels = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            name, label, _species, _breed = line.split()
            labels.append(int(label) - 1)
            if not 0 <= labels[-1] < len(PETS.split()) or "/" in name:
                raise ValueError
        except ValueError:
            raise DataError(
                f"Line {number} of {path} must hold a name, a label from 1 to 37, and two numbers; received {line!r}."
            ) from None
        files.append(images / f"{name}.jpg")
    return files, np.array(labels, np.int32)


# Addresses, checksums and names of the classes as in torchvision (torchvision/datasets/flowers102.py).
@dataset(
    "oxford_flowers102",
    description="8,189 photographs of 102 kinds of flowers",
    license="none known; see the homepage",
    citation="Nilsback and Zisserman (2008). Automated Flower Classification over a Large Number of Classes. Indian "
    "Conference on Computer Vision, Graphics and Image Processing.",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    files=tuple(
        File(name, (f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{name}",), f"md5:{md5}")
        for name, md5 in (
            ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            ("setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        )
    ),
    classes=tuple(" ".join(name.split()) for name in FLOWERS.split(",")),
    splits={"train": 1020, "validation": 1020, "test": 6149},
    **COMMON,
)
def read_flowers(folder: Path, split: str) -> tuple[list[Path], np.ndarray]:
    """Return the paths of the photographs, and labels (n,), in the published splits."""
    images = unpacked(folder, "jpg", "102flowers.tgz")
    path = find(folder, "setid.mat")
    (labels,) = read_mat(find(folder, "imagelabels.mat"), "labels")
    (numbers,) = read_mat(path, {"train": "trnid", "validation": "valid", "test": "tstid"}[split])
    labels, numbers = labels.ravel().astype(np.int32), numbers.ravel().astype(np.int64)
    if numbers.size and not 1 <= numbers.min() <= numbers.max() <= labels.size:
        raise DataError(
            f"{path} must hold numbers of the {labels.size} images that imagelabels.mat has labels for; "
            f"received {numbers.min()} to {numbers.max()}."
        )
    chosen = labels[numbers - 1]
    if chosen.size and not 1 <= chosen.min() <= chosen.max() <= 102:
        raise DataError(f"imagelabels.mat must hold labels from 1 to 102; received {chosen.min()} to {chosen.max()}.")
    return [images / f"image_{number:05d}.jpg" for number in numbers], chosen - 1
