"""Average precision of detections, worked out by hand; tests/parity compares with pycocotools."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.training.detection_metrics import box_iou, to_corners

BOX = [10.0, 10.0, 20.0, 20.0]  # xyxy, of 100 pixels: small


def shifted(pixels):
    """BOX moved to the right: 10 · (10 - pixels) pixels are common."""
    return [10.0 + pixels, 10.0, 20.0 + pixels, 20.0]


def figures(true, found, **options):
    metric = tz.metrics.DetectionMeanAveragePrecision(**options)
    truth = {"boxes": [[box for box, _ in true]], "labels": [[label for _, label in true]]}
    keys = {"boxes": 0, "labels": 1, "scores": 2}
    return metric(truth, {key: [[row[place] for row in found]] for key, place in keys.items()})


def test_thresholds():
    # The overlap is 80 / 120 = 0.667: found up to the threshold 0.65, four of ten.
    result = figures([(BOX, 0)], [(shifted(2), 0, 0.9)])
    assert result["map"] == pytest.approx(0.4) and result["map_50"] == 1 and result["map_75"] == 0
    assert result["mar_1"] == pytest.approx(0.4) and result["map_small"] == pytest.approx(0.4)
    assert np.isnan(result["map_large"]) and np.isnan(result["mar_medium"])


def test_wrong_detections_before_and_after_the_right_one():
    far = [50.0, 50.0, 60.0, 60.0]
    assert figures([(BOX, 0)], [(BOX, 0, 0.9), (far, 0, 0.8)])["map"] == 1
    assert figures([(BOX, 0)], [(BOX, 0, 0.7), (far, 0, 0.8)])["map"] == pytest.approx(0.5)
    twice = figures([(BOX, 0), (far, 0)], [(BOX, 0, 0.9), (BOX, 0, 0.8), (far, 0, 0.7)])
    # Recalls up to 0.5 with precision 1, 51 of 101 points; above with 2 / 3.
    assert twice["map"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert twice["mar_1"] == pytest.approx(0.5) and twice["mar_10"] == 1


def test_classes_and_padding():
    metric = tz.metrics.DetectionMeanAveragePrecision("xywh", name="boxes")
    boxes = [[[0, 0, 8, 8], [9, 9, 9, 9]], [[5, 5, 40, 40], [0, 0, 0, 0]]]
    truth = {"boxes": np.array(boxes), "labels": np.array([[2, 4], [2, -1]])}
    found = {"boxes": truth["boxes"], "labels": np.array([[2, 3], [2, -1]]), "scores": np.full((2, 2), 0.5)}
    metric.update_state(truth, found)
    by_class = metric.per_class()
    assert by_class[2] == 1 and by_class[4] == 0 and np.isnan(by_class[3])  # nothing of class 3 is to be found
    assert metric.result()["map"] == pytest.approx(0.5) and metric.result()["map_medium"] == 1
    metric.reset_state()
    assert np.isnan(metric.result()["map"])
    metric.update_state(truth, found, sample_weight=[0, 1])
    assert metric.result()["map"] == 1


def test_crowds_may_be_found_often_but_need_not_be():
    truth = {"boxes": [[BOX, [0.0, 0.0, 100.0, 100.0]]], "labels": [[0, 0]], "crowd": [[0, 1]]}
    inside = [[30.0, 30.0, 40.0, 40.0], [60.0, 60.0, 70.0, 70.0]]
    found = {"boxes": [[*inside, BOX]], "labels": [[0, 0, 0]], "scores": [[0.9, 0.8, 0.1]]}
    assert tz.metrics.DetectionMeanAveragePrecision()(truth, found)["map"] == 1


def test_boxes():
    corners = [[1.0, 2.0, 4.0, 8.0]]
    np.testing.assert_array_equal(to_corners([[1, 2, 3, 6]], "xywh"), corners)
    np.testing.assert_array_equal(to_corners([[2.5, 5, 3, 6]], "center_xywh"), corners)
    overlaps = box_iou(np.array([BOX, shifted(10)]), np.array([BOX, shifted(5)]))
    np.testing.assert_allclose(overlaps, [[1, 1 / 3], [0, 1 / 3]])


def test_mistakes():
    metric = tz.metrics.DetectionMeanAveragePrecision
    with pytest.raises(ValueError, match="box_format"):
        metric("yolo")
    with pytest.raises(ValueError, match="three growing"):
        metric(max_detections=(10, 1, 100))
    with pytest.raises(ValueError, match="2 boxes, 1 labels"):
        metric()({"boxes": [[BOX, BOX]], "labels": [[1]]}, {"boxes": [[]], "labels": [[]], "scores": [[]]})
    with pytest.raises(ValueError, match="1 images of truth for 2"):
        metric()({"boxes": [[]], "labels": [[]]}, {"boxes": [[], []], "labels": [[], []], "scores": [[], []]})
    with pytest.raises(ValueError, match="arguments differ"):
        metric().merge_state([metric("xywh")])
