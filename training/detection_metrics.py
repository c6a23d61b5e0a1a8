"""Mean average precision of detected boxes, as the COCO benchmark defines it.

Boxes are matched image by image, so this metric is updated outside of compiled steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .metric import Metric

_AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_RECALLS = np.linspace(0, 1, 101)


def to_corners(boxes: Any, box_format: str) -> np.ndarray:
    """Boxes (n, 4) as (left, top, right, bottom), float64.

    >>> to_corners([[1, 2, 10, 20]], "xywh").tolist()
    [[1.0, 2.0, 11.0, 22.0]]
    """
    a, b = np.split(np.asarray(boxes, np.float64).reshape(-1, 4), 2, axis=1)
    if box_format == "xyxy":
        return np.concatenate([a, b], 1)
    if box_format == "xywh":
        return np.concatenate([a, a + b], 1)
    if box_format == "center_xywh":
        return np.concatenate([a - b / 2, a + b / 2], 1)
    raise ValueError(f'box_format is "xyxy", "xywh" or "center_xywh"; received {box_format!r}.')


def box_iou(detected: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of boxes with corners (n, 4) and (m, 4): (n, m); over the detected area for crowds."""
    low = np.maximum(detected[:, None, :2], true[None, :, :2])
    high = np.minimum(detected[:, None, 2:], true[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), -1)
    area = _area(detected)[:, None]
    union = area + _area(true) - common
    if crowd is not None:
        union = np.where(crowd, area, union)
    return common / np.where(union > 0, union, 1.0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], -1)


class _Matches(NamedTuple):
    """One class in one image: detections by falling score, and what became of them by range of areas and threshold."""

    scores: np.ndarray  # (d,)
    hit: np.ndarray  # (areas, thresholds, d)
    ignored: np.ndarray  # likewise
    wanted: np.ndarray  # (areas,): how many true boxes there are to find


class DetectionMeanAveragePrecision(Metric):
    """Average precision over classes, thresholds of the overlap and recalls; Lin et al., "Microsoft COCO" (2014).

    A detection counts if it overlaps a true box of its class, which no detection of a higher score has taken, by at
    least the threshold: 0.5, 0.55, …, 0.95. The areas of small, medium and large boxes meet at 32² and 96² pixels, so
    boxes are given in pixels. Where there is nothing to find, figures are NaN.

    ``update_state(y_true, y_pred)`` takes dicts: "boxes" (B, n, 4) and "labels" (B, n) of the truth, where labels below
    0 are padding, and "crowd" (B, n) if some boxes stand for groups, which may be found any number of times but need
    not; "boxes" (B, m, 4), "labels" (B, m) and "scores" (B, m) of the predictions.

    Args:
        box_format: "xyxy" (left, top, right, bottom), "xywh" (left, top, width, height) or "center_xywh".
        max_detections: how many detections of an image and class count, for three figures of recall; the best ones.

    Returns of ``result``: a dict of "map", "map_50" and "map_75" (one threshold), "map_small", "map_medium" and
    "map_large"; the mean of the largest recalls "mar_1", "mar_10", "mar_100" by number of detections, and "mar_small",
    "mar_medium", "mar_large".

    >>> true = {"boxes": [[[10, 10, 20, 20]]], "labels": [[3]]}
    >>> found = {"boxes": [[[10, 10, 20, 20], [0, 0, 9, 9]]], "labels": [[3, 3]], "scores": [[0.9, 0.8]]}
    >>> float(DetectionMeanAveragePrecision()(true, found)["map"])
    1.0
    """

    _direction = "up"

    def __init__(
        self,
        box_format: str = "xyxy",
        max_detections: Sequence[int] = (1, 10, 100),
        name: str = "detection_mean_average_precision",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        to_corners([], box_format)
        if len(max_detections) != 3 or sorted(max_detections) != list(max_detections) or max_detections[0] < 1:
            raise ValueError(f"max_detections are three growing numbers; received {max_detections!r}.")
        self.box_format, self.max_detections = box_format, tuple(max_detections)
        self.thresholds = np.linspace(0.5, 0.95, 10)
        self._matches: dict[int, list[_Matches]] = defaultdict(list)

    def update_state(self, y_true: dict[str, Any], y_pred: dict[str, Any], sample_weight: Any = None) -> None:
        """Take images in; those of weight 0 do not count, others count fully."""
        count = len(y_true["labels"])
        if len(y_pred["labels"]) != count:
            raise ValueError(
                f"{self.name}: received {count} images of truth for {len(y_pred['labels'])} of predictions."
            )
        weights = np.ones(count) if sample_weight is None else np.asarray(sample_weight)
        for i in np.flatnonzero(weights):
            crowd = y_true["crowd"][i] if "crowd" in y_true else np.zeros(len(y_true["labels"][i]))
            self._add(
                *self._image(y_true["boxes"][i], y_true["labels"][i], crowd),
                *self._image(y_pred["boxes"][i], y_pred["labels"][i], y_pred["scores"][i]),
            )

    def _image(self, boxes: Any, labels: Any, further: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Corners, labels and a further column of one image, without the padding."""
        boxes = to_corners(boxes, self.box_format)
        labels, further = np.asarray(labels).reshape(-1), np.asarray(further).reshape(-1)
        if not len(boxes) == len(labels) == len(further):
            raise ValueError(
                f"{self.name}: an image has {len(boxes)} boxes, {len(labels)} labels and {len(further)} "
                "scores or marks of crowds."
            )
        kept = labels >= 0
        return boxes[kept], labels[kept].astype(int), further[kept]

    def _add(self, true: Any, labels: Any, crowd: Any, found: Any, found_labels: Any, scores: Any) -> None:
        for label in np.union1d(labels, found_labels):
            mine, theirs = labels == label, found_labels == label
            best = np.argsort(-scores[theirs], kind="stable")[: self.max_detections[-1]]
            matches = self._match(true[mine], crowd[mine].astype(bool), found[theirs][best], scores[theirs][best])
            self._matches[int(label)].append(matches)

    def _match(self, true: np.ndarray, crowd: np.ndarray, found: np.ndarray, scores: np.ndarray) -> _Matches:
        """Each detection in turn takes the true box that it overlaps most, rather one that counts."""
        low, high = np.array(list(_AREAS.values())).T[..., None]
        area = _area(true)
        optional = crowd | (area < low) | (area > high)  # (areas, true)
        shape = len(_AREAS), len(self.thresholds)
        taken = np.zeros((*shape, len(true)), bool)
        hit = np.zeros((*shape, len(found)), bool)
        ignored = np.zeros_like(hit)
        least = np.minimum(self.thresholds, 1 - 1e-10)[None, :, None]
        overlaps = box_iou(found, true, crowd)
        rows, columns = np.indices(shape)
        for number, overlap in enumerate(overlaps if len(true) else []):
            possible = (overlap >= least) & (~taken | crowd)
            # Boxes that count come first; among equals the last one.
            rank = np.where(possible, overlap + 2.0 * ~optional[:, None], -1.0)
            chosen = len(true) - 1 - np.argmax(rank[..., ::-1], -1)
            matched = np.take_along_axis(rank, chosen[..., None], -1)[..., 0] >= 0
            hit[..., number] = matched
            ignored[..., number] = matched & optional[rows, chosen]
            taken[rows, columns, chosen] |= matched
        outside = (_area(found) < low) | (_area(found) > high)
        return _Matches(scores, hit, ignored | (~hit & outside[:, None]), (~optional).sum(-1))

    def result(self) -> dict[str, Any]:
        """The figures by name, as Python floats."""
        names = list(_AREAS)
        last = self.max_detections[-1]
        tables = {size: self._tables(0, size) for size in self.max_detections}
        precision = tables[last][0]
        figures = {
            "map": _mean(precision),
            "map_50": _mean(precision[:, 0]),
            "map_75": _mean(precision[:, 5]),
        }
        by_area = {name: self._tables(names.index(name), last) for name in names[1:]}
        figures |= {f"map_{name}": _mean(by_area[name][0]) for name in names[1:]}
        figures |= {f"mar_{size}": _mean(tables[size][1]) for size in self.max_detections}
        return figures | {f"mar_{name}": _mean(by_area[name][1]) for name in names[1:]}

    def per_class(self) -> dict[int, float]:
        """The average precision of each class, by label."""
        labels = sorted(self._matches)
        return dict(zip(labels, map(_mean, self._tables(0, self.max_detections[-1])[0]), strict=True))

    def _tables(self, area: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Precisions (classes, thresholds, recalls) and largest recalls (classes, thresholds); NaN without truth."""
        curves = [self._curve(self._matches[label], area, size) for label in sorted(self._matches)]
        precisions = np.array([precision for precision, _ in curves]).reshape(-1, len(self.thresholds), len(_RECALLS))
        return precisions, np.array([recall for _, recall in curves]).reshape(-1, len(self.thresholds))

    def _curve(self, images: list[_Matches], area: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Precision at each recall, and the largest recall, for each threshold."""
        wanted = sum(image.wanted[area] for image in images)
        thresholds = len(self.thresholds)
        if not wanted:
            return np.full((thresholds, len(_RECALLS)), np.nan), np.full(thresholds, np.nan)
        order = np.argsort(-np.concatenate([image.scores[:size] for image in images]), kind="stable")
        hit = np.concatenate([image.hit[area, :, :size] for image in images], -1)[:, order]
        counted = ~np.concatenate([image.ignored[area, :, :size] for image in images], -1)[:, order]
        right = np.cumsum(hit & counted, -1, dtype=float)
        wrong = np.cumsum(~hit & counted, -1, dtype=float)
        recall = right / wanted
        precision = right / np.maximum(right + wrong, 1.0)
        best = np.maximum.accumulate(precision[:, ::-1], -1)[:, ::-1]  # at this recall or a larger one
        curve = np.zeros((thresholds, len(_RECALLS)))
        for row, (reached, values) in enumerate(zip(recall, best, strict=True)):
            places = np.searchsorted(reached, _RECALLS)
            inside = places < len(values)
            curve[row, inside] = values[places[inside]]
        return curve, recall[:, -1] if recall.shape[1] else np.zeros(thresholds)

    def reset_state(self) -> None:
        """Forget everything."""
        self._matches.clear()

    def merge_state(self, metrics: Iterable[Any]) -> None:
        """Take in what other metrics of this class took in."""
        for metric in metrics:
            if (metric.box_format, metric.max_detections) != (self.box_format, self.max_detections):
                raise ValueError(f"{metric.name!r} cannot be merged into {self.name!r}: their arguments differ.")
            for label, images in metric._matches.items():
                self._matches[label].extend(images)


def _mean(values: np.ndarray) -> float:
    """The mean of what is there, NaN if nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
