"""The registry: names without imports, what is known of each model, and mistakes."""

import subprocess
import sys

import pytest

from tenzoo import zoo
from tenzoo.zoo import registry


def test_list_matches_patterns_and_domains():
    names = zoo.list("vision", "resnet5*")
    assert names == ["resnet50", "resnet50_v2", "resnet56"]
    assert zoo.list(pattern="vit_?16") and set(zoo.list("vision")) <= set(zoo.list())
    assert zoo.list("vision", "no such model") == []


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ValueError, match=r"Did you mean .*'resnet50'"):
        zoo.create("resnet5O")
    with pytest.raises(ValueError, match="vision"):
        zoo.list("visions")
    with pytest.raises(ValueError, match="imagenet"):
        zoo.create("resnet50", weights="imagent")


def test_listing_imports_no_family():
    program = (
        "import sys; from tenzoo import zoo; assert len(zoo.list()) > 10; "
        "print([name for name in sys.modules if name.startswith(('tenzoo.zoo.vision', 'tenzoo.layers', 'PIL'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_info_tells_what_is_known():
    info = zoo.info("resnet50")
    assert (info.domain, info.family) == ("vision", "resnet")
    assert info.summary.startswith("ResNet-50")
    weights = info.weights["imagenet"]
    assert weights.source.startswith("hf://") and weights.license and weights.classes == 1000


@pytest.mark.parametrize("name", zoo.list())
def test_every_entry_point_is_documented(name):
    info = zoo.info(name)
    assert info.name == name and info.summary
    for weights in info.weights.values():
        assert weights.source.startswith("hf://") and weights.license and weights.trained_on


def test_every_family_is_tested_with_a_tiny_variant():
    families = {(zoo.info(name).domain, zoo.info(name).family) for name in zoo.list()}
    tested = {(i.domain, i.family) for i in map(zoo.info, zoo.list()) if i.test_variant is not None}
    assert families == tested


def test_every_converter_is_found_by_its_key():
    for format in ("transformers", "timm", "torchvision", "keras"):
        for key in registry.known_formats(format):
            assert registry.find_converter(format, key).format == format
    assert registry.find_converter("transformers", "no such model") is None
