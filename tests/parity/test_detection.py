"""The mean average precision of detections is that of pycocotools."""

import numpy as np
import pytest

pytest.importorskip("pycocotools")

import tenzoo as tz

pytestmark = pytest.mark.slow
NAMES = ["map", "map_50", "map_75", "map_small", "map_medium", "map_large"]
NAMES += ["mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"]


def pictures(seed, images=12, classes=4, crowds=False, ties=False):
    """Boxes of all sizes; detections are true boxes moved a little, some of another class, and some made up."""
    rng = np.random.default_rng(seed)
    for _ in range(images):
        n, spare = rng.integers(0, 14), rng.integers(0, 8)
        corner, size = rng.uniform(0, 300, (n, 2)), np.exp(rng.uniform(1.5, 5.5, (n, 2)))
        boxes, labels = np.concatenate([corner, size], 1).round(1), rng.integers(0, classes, n)
        kept = rng.random(n) < 0.85
        moved = boxes[kept] * (1 + rng.normal(0, 0.06, (kept.sum(), 4)))
        made_up = np.concatenate([rng.uniform(0, 300, (spare, 2)), np.exp(rng.uniform(2, 5, (spare, 2)))], 1)
        found = np.concatenate([moved, boxes[kept][:3], made_up])
        found_labels = np.concatenate([labels[kept], labels[kept][:3], rng.integers(0, classes + 1, spare)])
        found_labels[rng.random(len(found)) < 0.1] = 0
        scores = rng.random(len(found))
        yield {
            "true": (boxes, labels, (rng.random(n) < 0.15 if crowds else np.zeros(n, bool))),
            "found": (found, found_labels, scores.round(1) if ties else scores),
        }


def reference(pictures):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, picture in enumerate(pictures):
        for box, label, crowd in zip(*picture["true"], strict=True):
            common = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "bbox": box.tolist()}
            annotations.append({**common, "area": float(box[2] * box[3]), "iscrowd": int(crowd)})
        for box, label, score in zip(*picture["found"], strict=True):
            common = {"image_id": image, "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
            results.append(common)
    truth = COCO()
    images = [{"id": i} for i in range(len(pictures))]
    categories = [{"id": i} for i in range(6)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    classes = {k: precision[:, :, k].mean() for k in range(6) if precision[:, :, k].max() > -1}
    return dict(zip(NAMES, evaluation.stats, strict=True)), classes


def parts(pictures):
    true = {key: [p["true"][i] for p in pictures] for i, key in enumerate(("boxes", "labels", "crowd"))}
    found = {key: [p["found"][i] for p in pictures] for i, key in enumerate(("boxes", "labels", "scores"))}
    return true, found


@pytest.mark.parametrize(
    "options", [{}, {"crowds": True}, {"ties": True}, {"images": 40, "classes": 2, "crowds": True}]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures(seed, options):
    data = list(pictures(seed, **options))
    figures, classes = reference(data)
    metric = tz.metrics.DetectionMeanAveragePrecision("xywh")
    metric.update_state(*parts(data[:5]))
    other = tz.metrics.DetectionMeanAveragePrecision("xywh")
    other.update_state(*parts(data[5:]))
    metric.merge_state([other])
    ours = metric.result()
    for name, value in figures.items():
        assert ours[name] == pytest.approx(value if value > -1 else np.nan, abs=1e-9, nan_ok=True), name
    per_class = {label: value for label, value in metric.per_class().items() if not np.isnan(value)}
    assert per_class == pytest.approx(classes, abs=1e-9)
