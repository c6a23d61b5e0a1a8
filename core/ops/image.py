"""Images, channels last: (H, W, C) or (N, H, W, C). Resizing, warping, filters, colours, cropping, patches."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DtypeError, ShapeError
from ..primitives import indexing
from ..tensor import Tensor, wrap
from . import math
from .common import along_axis, cast_to, convert, pair, promote_float, scalar, to_float
from .indexing import take
from .linalg import solve
from .linear import einsum, tensordot
from .nn import _channels_last, conv, depthwise_conv
from .reductions import max, mean, min, sum
from .shape import arange, broadcast_to, concatenate, expand_dims, pad, reshape, squeeze, stack, unstack


def _batch(name: str, images: Any, data_format: str | None, axes: str = "H, W, C") -> tuple[Tensor, bool]:
    """Images as (N, H, W, C), and whether there was only one."""
    _channels_last(data_format, name)
    x = convert(images)
    missing = len(axes.split()) + 1 - x.ndim
    if missing not in (0, 1):
        raise ShapeError(f"{name}: expected ({axes}) or (N, {axes}); received shape {x.shape}.")
    return (expand_dims(x, 0), True) if missing else (x, False)


# -- resizing --------------------------------------------------------------------------------------------------------


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - x)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -1/2."""
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(radius: int) -> Callable:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


_KERNELS = {
    "bilinear": _triangle,
    "linear": _triangle,
    "trilinear": _triangle,
    "bicubic": _cubic,
    "cubic": _cubic,
    "tricubic": _cubic,
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
}


def _weights(extent: int, count: int, scale: float, shift: float, method: str, antialias: bool) -> np.ndarray:
    """Share of each of ``extent`` elements in each of ``count`` new ones, (count, extent)."""
    step = 1 / scale
    position = (np.arange(count) + 0.5) * step - shift * step - 0.5
    width = np.maximum(step, 1) if antialias else 1
    shares = _KERNELS[method](np.abs(position[:, None] - np.arange(extent)) / width)
    total = shares.sum(1, keepdims=True)
    shares = np.where(np.abs(total) > 1e-6, shares / np.where(total == 0, 1, total), 0)
    inside = (position >= -0.5) & (position <= extent - 0.5)
    return np.where(inside[:, None], shares, 0)


def resize(
    images: Any,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Images of another (height, width). Pixels are squares: their centres lie at halves, as in Pillow.

    interpolation: "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5". ``antialias`` widens the kernel
    when shrinking. With ``crop_to_aspect_ratio`` or ``pad_to_aspect_ratio`` the content keeps its
    proportions. The dtype is kept; integers are rounded.
    """
    x, single = _batch("resize", images, data_format)
    if interpolation != "nearest" and interpolation not in _KERNELS:
        known = ", ".join(["nearest", *_KERNELS])
        raise ValueError(f"resize: interpolation is one of {known}; received {interpolation!r}.")
    if fill_mode != "constant" or (crop_to_aspect_ratio and pad_to_aspect_ratio):
        raise ValueError("resize: fill_mode is 'constant', and images are cropped or padded, not both.")
    height, width = pair(size, 2, "size")
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x = _proportioned(x, height, width, pad_to_aspect_ratio, fill_value)
    dtype = x.dtype
    if interpolation == "nearest":
        for axis, count in ((1, height), (2, width)):
            places = np.floor((np.arange(count) + 0.5) * x.shape[axis] / count).astype(np.int32)
            x = take(x, places, axis)
    else:
        x = to_float(x)
        for axis, count in ((1, height), (2, width)):
            if count != x.shape[axis]:
                shares = _weights(x.shape[axis], count, count / x.shape[axis], 0, interpolation, antialias)
                x = _resampled(x, shares, axis)
        x = x if dtypes.is_floating(dtype) else math.saturate_cast(math.round(x), dtype)
    return squeeze(x, 0) if single else x


def _resampled(x: Tensor, shares: np.ndarray, axis: int) -> Tensor:
    letters = "abcdefgh"[: x.ndim]
    result = letters.replace(letters[axis], "z")
    return einsum(f"{letters},z{letters[axis]}->{result}", x, wrap(shares.astype(x.dtype)))


def _proportioned(x: Tensor, height: int, width: int, padded: bool, fill_value: float) -> Tensor:
    """Cut or fill up (N, H, W, C) in the middle to the proportions height : width."""
    h, w = x.shape[1:3]
    fit_h, fit_w = int(w * height / width), int(h * width / height)
    if not padded:
        fit_h, fit_w = np.clip(fit_h, 1, h), np.clip(fit_w, 1, w)
        top, left = int((h - fit_h) / 2), int((w - fit_w) / 2)
        return x[:, top : top + int(fit_h), left : left + int(fit_w)]
    top, left = (int((np.maximum(fit, n) - n) / 2) for fit, n in ((fit_h, h), (fit_w, w)))
    return pad(x, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=fill_value)


def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Tensor:
    """Resample the ``spatial_dims`` of a value: position p goes to p · scale + translation (known numbers)."""
    x = to_float(images)
    if method not in _KERNELS:
        raise ValueError(f"scale_and_translate: method is one of {', '.join(_KERNELS)}; received {method!r}.")
    for axis, factor, shift in zip(spatial_dims, np.asarray(scale), np.asarray(translation), strict=True):
        axis = axis % x.ndim
        shares = _weights(x.shape[axis], output_shape[axis], float(factor), float(shift), method, antialias)
        x = _resampled(x, shares, axis)
    return x


# -- warping ---------------------------------------------------------------------------------------------------------


def _mirrored(index: Tensor, extent: int) -> Tensor:
    last = np.maximum(extent - 1, 1)
    return math.absolute((index + last) % (2 * last) - last) if extent > 1 else index * 0


_FILL_MODES: dict[str, Callable] = {
    "constant": lambda index, extent: math.clip(index, 0, extent - 1),
    "nearest": lambda index, extent: math.clip(index, 0, extent - 1),
    "wrap": lambda index, extent: index % extent,
    "mirror": _mirrored,
    "reflect": lambda index, extent: (_mirrored(2 * index + 1, 2 * extent + 1) - 1) // 2,
}


def _interpolate(
    x: Tensor, lead: list[Tensor], coordinates: list[Tensor], order: int, mode: str, fill: float
) -> Tensor:
    """x[*lead, *coordinates], the coordinates being floats between positions; further axes of x stay, and its dtype."""
    if mode not in _FILL_MODES or order not in (0, 1):
        raise ValueError(
            f"fill_mode is one of {', '.join(_FILL_MODES)} and the order of interpolation 0 or 1; received "
            f"{mode!r}, {order}."
        )
    dtype, x = x.dtype, to_float(x)
    extents = x.shape[len(lead) : len(lead) + len(coordinates)]
    spare = (1,) * (x.ndim - len(lead) - len(coordinates))
    corners = []
    for place in coordinates:
        if order == 0:  # halves are rounded away from 0
            nearest = math.sign(place) * math.floor(math.absolute(place) + 0.5)
            corners.append([(nearest, None)])
        else:
            low = math.floor(place)
            corners.append([(low, 1 - (place - low)), (low + 1, place - low)])
    total = None
    for choice in itertools.product(*corners):
        places, share, valid = [], None, None
        for (place, weight), extent in zip(choice, extents, strict=True):
            index = math.cast(place, "int32")
            here = math.logical_and(index >= 0, index < extent)
            valid = here if valid is None else math.logical_and(valid, here)
            places.append(_FILL_MODES[mode](index, extent))
            if weight is not None:
                share = weight if share is None else share * weight
        part = indexing.gather(x, *lead, *places)
        if mode == "constant":
            part = math.where(reshape(valid, valid.shape + spare), part, scalar(fill, x))
        part = part if share is None else part * reshape(share, share.shape + spare)
        total = part if total is None else total + part
    return total if dtypes.is_floating(dtype) else cast_to(math.round(total), dtype)


def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> Tensor:
    """Values of ``inputs`` (n axes) at float ``coordinates`` (n, …): (…).

    order: 0 nearest, 1 linear. Outside, fill_mode says: "constant", "nearest", "wrap", "mirror" (about the
    centre of the last element), "reflect" (about its edge).
    """
    x, places = convert(inputs), to_float(coordinates)
    if places.ndim < 2 or places.shape[0] != x.ndim:
        raise ShapeError(f"map_coordinates: expected coordinates ({x.ndim}, …); received shape {places.shape}.")
    return _interpolate(x, [], unstack(places), order, fill_mode, fill_value)


_ORDERS = {"nearest": 0, "bilinear": 1}


def _warped(
    name: str, x: Tensor, single: bool, rows: Tensor, columns: Tensor, interpolation: str, mode: str, fill: float
) -> Tensor:
    """Pixels of (N, H, W, C) at float rows and columns that broadcast to (N, H, W): as many pixels, of one image alone
    if ``single``.
    """
    if interpolation not in _ORDERS:
        raise ValueError(f"{name}: interpolation is 'nearest' or 'bilinear'; received {interpolation!r}.")
    places = [broadcast_to(place, x.shape[:3]) for place in (along_axis(arange(x.shape[0]), 0, 3), rows, columns)]
    y = _interpolate(x, places[:1], places[1:], _ORDERS[interpolation], mode, fill)
    return squeeze(y, 0) if single else y


def _grid(x: Tensor, dtype: np.dtype) -> tuple[Tensor, Tensor]:
    """Row and column number of each pixel, (H, 1) and (1, W)."""
    rows, columns = (np.arange(n, dtype=dtype) for n in x.shape[1:3])
    return wrap(rows[:, None]), wrap(columns[None])


def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Warp: the pixel at (x, y) is taken from (a0·x + a1·y + a2, b0·x + b1·y + b2).

    ``transform``: (8,) or (N, 8), [a0, a1, a2, b0, b1, b2, 0, 0].
    """
    x, single = _batch("affine_transform", images, data_format)
    t = to_float(transform)
    t = expand_dims(t, 0) if t.ndim == 1 else t
    if t.shape not in ((1, 8), (x.shape[0], 8)):
        raise ShapeError(f"affine_transform: expected transforms (8,) or ({x.shape[0]}, 8); received shape {t.shape}.")
    a0, a1, a2, b0, b1, b2 = (reshape(t[:, i], (-1, 1, 1)) for i in range(6))
    row, column = _grid(x, t.dtype)
    rows, columns = b1 * row + b0 * column + b2, a1 * row + a0 * column + a2
    return _warped("affine_transform", x, single, rows, columns, interpolation, fill_mode, fill_value)


def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Warp four points (x, y) of each image, (4, 2) or (N, 4, 2), onto four others."""
    x, single = _batch("perspective_transform", images, data_format)
    start, end = promote_float(start_points, end_points)
    if start.shape[-2:] != (4, 2) or start.shape != end.shape:
        raise ShapeError(
            f"perspective_transform: expected points (4, 2) or (N, 4, 2); received {start.shape} and {end.shape}."
        )
    start, end = reshape(start, (-1, 4, 2)), reshape(end, (-1, 4, 2))
    sx, sy, ex, ey = start[..., 0], start[..., 1], end[..., 0], end[..., 1]
    zero, one = ex * 0, ex * 0 + 1
    across = stack([ex, ey, one, zero, zero, zero, -sx * ex, -sx * ey], -1)
    down = stack([zero, zero, zero, ex, ey, one, -sy * ex, -sy * ey], -1)
    h = solve(concatenate([across, down], 1), concatenate([sx, sy], 1))
    h = [reshape(h[:, i], (-1, 1, 1)) for i in range(8)]
    row, column = _grid(x, start.dtype)
    scale = h[6] * column + h[7] * row + 1
    columns = (h[0] * column + h[1] * row + h[2]) / scale
    rows = (h[3] * column + h[4] * row + h[5]) / scale
    return _warped("perspective_transform", x, single, rows, columns, interpolation, "constant", fill_value)


def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Tensor:
    """Warp by a smooth random field: noise blurred with width ``sigma``, times ``alpha``.

    Simard, Steinkraus, Platt: "Best practices for convolutional neural networks" (2003). Where ``sigma`` is a
    tensor, the blur reaches as far as the shorter side of the image.
    """
    from ..random import normal

    x, single = _batch("elastic_transform", images, data_format)
    width = (builtins.min(x.shape[1:3]) if isinstance(sigma, Tensor) else int(6 * sigma)) | 1
    dtype = x.dtype if dtypes.is_floating(x.dtype) else None
    noise = normal((x.shape[0], *x.shape[1:3], 2), dtype=dtype, seed=seed) * sigma
    shift = gaussian_blur(noise, (width, width), stack([convert(sigma)] * 2)) * alpha
    row, column = _grid(x, shift.dtype)
    rows, columns = row + shift[..., 0], column + shift[..., 1]
    return _warped("elastic_transform", x, single, rows, columns, interpolation, fill_mode, fill_value)


# -- filters ---------------------------------------------------------------------------------------------------------


def _filtered(x: Tensor, kernel: Tensor, padding: str = "same") -> Tensor:
    """Convolve each channel of (N, H, W, C) with the kernels (h, w, m): (N, H, W, C·m)."""
    kernel = expand_dims(cast_to(kernel, x.dtype), 2)
    return depthwise_conv(x, broadcast_to(kernel, (*kernel.shape[:2], x.shape[-1], kernel.shape[-1])), padding=padding)


def _gaussian(size: int, sigma: Any) -> Tensor:
    x = wrap(np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2))
    bell = math.exp(-0.5 * math.square(x / sigma))
    return bell / sum(bell)


def gaussian_blur(
    images: Any, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None
) -> Tensor:
    """Blur with Gaussian weights of widths ``sigma``, (x, y), over ``kernel_size`` pixels, (x, y); zeros outside."""
    x, single = _batch("gaussian_blur", images, data_format)
    (width, height), sigma = pair(kernel_size, 2, "kernel_size"), convert(sigma)
    x = to_float(x)
    y = _filtered(x, reshape(_gaussian(height, sigma[1]), (height, 1, 1)))
    y = _filtered(y, reshape(_gaussian(width, sigma[0]), (1, width, 1)))
    return squeeze(y, 0) if single else y


def sobel_edges(images: Any, data_format: str | None = None) -> Tensor:
    """Derivatives by Sobel's filter: (N, H, W, C) -> (N, H, W, C, 2), down and across."""
    _channels_last(data_format, "sobel_edges")
    x = to_float(images)
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    y = _filtered(x, wrap(np.stack([across.T, across], -1)))
    return reshape(y, (*x.shape, 2))


def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Tensor:
    """Structural similarity of two images: (), or (N,).

    Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to structural similarity" (2004).
    """
    x, single = _batch("ssim", image1, data_format)
    y, _ = _batch("ssim", image2, data_format)
    x, y = promote_float(x, y)
    if x.shape != y.shape or filter_size % 2 == 0:
        raise ShapeError(
            f"ssim: expected images of one shape and an odd filter_size; received {x.shape}, {y.shape}, {filter_size}."
        )
    bell = _gaussian(filter_size, filter_sigma)

    def local(value: Tensor) -> Tensor:
        value = _filtered(value, reshape(bell, (filter_size, 1, 1)), "valid")
        return _filtered(value, reshape(bell, (1, filter_size, 1)), "valid")

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x * mean_x, local(y * y) - mean_y * mean_y
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    result = mean(luminance * structure, (1, 2, 3))
    return squeeze(result, 0) if single else result


# -- colours ---------------------------------------------------------------------------------------------------------


def _planes(name: str, images: Any, data_format: str | None) -> list[Tensor]:
    x = convert(images)
    _batch(name, x, data_format)
    if not dtypes.is_floating(x.dtype):
        raise DtypeError(f"{name}: expected a float dtype; received {x.dtype.name}.")
    if x.shape[-1] != 3:
        raise ShapeError(f"{name}: expected 3 channels; received shape {x.shape}.")
    return unstack(x, axis=-1)


def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Tensor:
    """Brightness, 0.2989·red + 0.587·green + 0.114·blue: (…, 3) -> (…, 1); one channel stays as it is."""
    x = convert(images)
    _batch("rgb_to_grayscale", x, data_format)
    if x.shape[-1] not in (1, 3):
        raise ShapeError(f"rgb_to_grayscale: expected 3 channels (or 1); received shape {x.shape}.")
    if x.shape[-1] == 1:
        return x
    values = to_float(x)
    grey = tensordot(values, wrap(np.array([0.2989, 0.5870, 0.1140], values.dtype)), 1)
    return cast_to(expand_dims(grey, -1), x.dtype)


def rgb_to_hsv(images: Any, data_format: str | None = None) -> Tensor:
    """Hue, saturation and value, all in [0, 1], of float images."""
    planes = _planes("rgb_to_hsv", images, data_format)
    tiny = float(dtypes.limits(planes[0].dtype).eps)
    red, green, blue = (math.where(math.absolute(p) < tiny, 0.0, p) for p in planes)
    value, least = max(stack([red, green, blue]), 0), min(stack([red, green, blue]), 0)
    spread = value - least
    saturation = math.where(value > 0, spread / math.where(value > 0, value, 1.0), 0.0)
    unit = 1 / (6 * math.where(spread > 0, spread, 1.0))
    hue = math.where(value == green, unit * (blue - red) + 2 / 6, unit * (red - green) + 4 / 6)
    hue = math.where(value == red, unit * (green - blue), hue)
    hue = math.where(spread > 0, hue, 0.0)
    return stack([hue + math.cast(hue < 0, hue.dtype), saturation, value], -1)


def hsv_to_rgb(images: Any, data_format: str | None = None) -> Tensor:
    """Red, green and blue of float images that hold hue, saturation and value."""
    hue, saturation, value = _planes("hsv_to_rgb", images, data_format)
    sector = (hue % 1.0) * 6
    red = math.clip(math.absolute(sector - 3) - 1, 0, 1)
    green = math.clip(2 - math.absolute(sector - 2), 0, 1)
    blue = math.clip(2 - math.absolute(sector - 4), 0, 1)
    return stack([value * (1 - saturation + saturation * c) for c in (red, green, blue)], -1)


# -- cropping, padding, patches --------------------------------------------------------------------------------------


def _edges(name: str, low: Any, high: Any, total: int | None, target: int | None) -> tuple[int, int]:
    """Both ends, from two of (low, high, extent); ``total`` is what they add up to if the extent is given."""
    if [low, high, target].count(None) != 1:
        raise ValueError(f"{name}: for each axis give two of: first end, second end, target extent.")
    low = total - high if low is None else low
    high = total - low if high is None else high
    if low < 0 or high < 0:
        raise ValueError(f"{name}: the ends {low} and {high} are negative; does the target extent {target} fit?")
    return int(low), int(high)


def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Cut away rows and columns; for each axis give two of: first end, second end, target extent."""
    x, single = _batch("crop_images", images, data_format)
    h, w = x.shape[1:3]
    top, bottom = _edges("crop_images", top_cropping, bottom_cropping, h - (target_height or 0), target_height)
    left, right = _edges("crop_images", left_cropping, right_cropping, w - (target_width or 0), target_width)
    x = x[:, top : h - bottom, left : w - right]
    return squeeze(x, 0) if single else x


def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Add rows and columns of zeros; for each axis give two of: first end, second end, target extent."""
    x, single = _batch("pad_images", images, data_format)
    h, w = x.shape[1:3]
    vertical = _edges("pad_images", top_padding, bottom_padding, (target_height or 0) - h, target_height)
    horizontal = _edges("pad_images", left_padding, right_padding, (target_width or 0) - w, target_width)
    x = pad(x, ((0, 0), vertical, horizontal, (0, 0)))
    return squeeze(x, 0) if single else x


def extract_patches(
    images: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Patches of (height, width) as channels: (N, H, W, C) -> (N, rows, columns, height·width·C)."""
    if not isinstance(size, int) and len(size) == 3:
        return extract_patches_3d(images, size, strides, dilation_rate, padding, data_format)
    x, single = _batch("extract_patches", images, data_format)
    patches = _patches(x, pair(size, 2, "size"), strides, dilation_rate, padding)
    return squeeze(patches, 0) if single else patches


def extract_patches_3d(
    volumes: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Patches of volumes as channels: (N, D, H, W, C) -> (N, …, …, …, patch elements · C)."""
    x, single = _batch("extract_patches_3d", volumes, data_format, "D, H, W, C")
    patches = _patches(x, pair(size, 3, "size"), strides, dilation_rate, padding)
    return squeeze(patches, 0) if single else patches


def _patches(x: Tensor, size: tuple, strides: Any, dilation: Any, padding: str) -> Tensor:
    count = int(np.prod(size)) * x.shape[-1]
    kernel = wrap(np.eye(count, dtype=x.dtype).reshape(*size, x.shape[-1], count))
    return conv(x, kernel, strides or size, padding, dilation_rate=dilation)
