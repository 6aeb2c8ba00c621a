"""Bones, flesh and metal: solids that answer with the chord each pixel's ray cuts through them.

Overlap, foreshortening and the bright rim of a hollow bone come out of the geometry. Lengths are
centimetres. The body has x to the side of the thumb, y up and z to its front; the camera is a
parallel projection from the body to the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array: TypeAlias = NDArray[Any]
Window: TypeAlias = tuple[slice, slice]


def unit(v: Sequence[float] | Array) -> Array:
    w = np.asarray(v, dtype=np.float64)
    return w / np.sqrt(w @ w)


def cross(a: Array, b: Array) -> Array:
    """a × b for two vectors of three: ten times as fast as ``np.cross``, which takes any shape."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def turn(axis: Sequence[float] | Array, degrees: float) -> Array:
    """(3, 3) rotation about ``axis``: Rodrigues' formula, I + sin θ K + (1 − cos θ) K²."""
    x, y, z = unit(axis)
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


@dataclass(frozen=True)
class Camera:
    """A parallel projection.

    shape           (height, width) pixels
    frame           (3, 3) orthogonal; rows: right in the image, down in the image, to the source
    target          (3,) the point seen at the image's centre
    pixels_per_cm   scale
    """

    shape: tuple[int, int]
    frame: Array
    target: Array
    pixels_per_cm: float

    def project(self, points: Array) -> Array:
        """Pixel coordinates (column, row) of ``points`` (..., 3)."""
        plane = (points - self.target) @ self.frame[:2].T
        return plane * self.pixels_per_cm + np.array([self.shape[1], self.shape[0]]) / 2

    def window(self, low: Array, high: Array) -> Window | None:
        """The pixels from ``low`` to ``high`` (column, row) that lie in the image, if any."""
        left, top = np.maximum(np.floor(low), 0).astype(int)
        right, bottom = np.ceil(high).astype(int) + 1
        right, bottom = min(right, self.shape[1]), min(bottom, self.shape[0])
        if right - left < 1 or bottom - top < 1:
            return None
        return slice(top, bottom), slice(left, right)


def affine(window: Window, coefficients: Array, offset: float) -> Array:
    """c₀ column + c₁ row + offset over a window, float32."""
    rows, columns = window
    across = coefficients[0] * np.arange(columns.start, columns.stop) + offset
    down = coefficients[1] * np.arange(rows.start, rows.stop)
    return (down[:, None] + across[None, :]).astype(np.float32)


SAMPLES = 512  # points of a profile along a tube, of an outline around a blob
_S = (np.arange(SAMPLES) + 0.5) / SAMPLES
# window, chord through the whole, chord through the inside, share of mineral in the inside
Seen: TypeAlias = tuple[Window, Array, Array, Array]


@dataclass(frozen=True)
class Profile:
    """Section of a tube along its length; each array is (SAMPLES,), in units of the tube's girth.

    right, left, front, back: how far the surface lies from the axis. cortex: thickness of the
    dense shell. fill: share of mineral in the cancellous bone within it.
    """

    right: Array
    left: Array
    front: Array
    back: Array
    cortex: Array
    fill: Array

    @cached_property
    def widest(self) -> float:
        """No surface lies farther than this from the axis."""
        sides = max(self.right.max(), self.left.max())
        return float(np.hypot(sides, max(self.front.max(), self.back.max())))


@cache
def profile(
    knots: tuple[tuple[float, ...], ...],
    caps: tuple[float, float] = (0.05, 0.05),
    cortex: tuple[float, float, float] = (0.12, 0.3, 0.12),
    fill: tuple[float, float, float] = (0.3, 0.06, 0.3),
    ends: float = 0.22,
) -> Profile:
    """A profile through ``knots`` (position, right, left, front, back) with rounded ends.

    caps: length of each rounded end. cortex, fill: at the start, in the shaft, at the end; the
    change from end to shaft is centred at ``ends`` from either end.
    """
    table = np.array(knots)
    sides = PchipInterpolator(table[:, 0], table[:, 1:])(_S).T
    near = np.clip(1 - _S / max(caps[0], 1e-6), 0, 1)
    far = np.clip(1 - (1 - _S) / max(caps[1], 1e-6), 0, 1)
    sides = np.maximum(sides, 1e-3) * np.sqrt((1 - near**2) * (1 - far**2))
    at_start = 1 / (1 + np.exp((_S - ends) / 0.04))
    at_end = 1 / (1 + np.exp((1 - _S - ends) / 0.04))

    def blend(values: tuple[float, float, float]) -> Array:
        first, middle, last = values
        return middle + (first - middle) * at_start + (last - middle) * at_end

    return Profile(sides[0], sides[1], sides[2], sides[3], blend(cortex), blend(fill))


@dataclass(frozen=True)
class Cut:
    """The plane that ends a fragment of a tube: position along it and slopes to right and front.

    side: +1 keeps what lies beyond the plane, -1 what lies before it. teeth: roughness in cm.
    """

    at: float
    slope_right: float
    slope_front: float
    side: int
    teeth: float
    phase: float


@dataclass(frozen=True)
class Tube:
    """A bone's shaft, or flesh around one: a profile swept from ``start`` to ``end``."""

    start: Array
    end: Array
    front: Array
    profile: Profile
    girth: float = 1.0
    bow: Array = field(default_factory=lambda: np.zeros(3))
    cuts: tuple[Cut, ...] = ()

    @cached_property
    def length(self) -> float:
        return float(np.linalg.norm(self.end - self.start))

    @cached_property
    def axis(self) -> Array:
        return unit(self.end - self.start)

    @cached_property
    def right(self) -> Array:
        return cross(self.axis, self.front)

    def point(self, s: float) -> Array:
        """The point of the axis at fraction ``s`` of the length."""
        return self.start + s * (self.end - self.start) + self.bow * (4 * s * (1 - s))

    def reach(self, direction: Array) -> Array:
        """(SAMPLES,) distance from the axis to the surface towards ``direction``."""
        across, along = float(direction @ self.right), float(direction @ self.front)
        side = self.profile.right if across > 0 else self.profile.left
        face = self.profile.front if along > 0 else self.profile.back
        return self.girth * np.hypot(across * side, along * face)

    def reach_at(self, s: float, direction: Array) -> float:
        """Distance from the axis to the surface at fraction ``s``, towards ``direction``."""
        return float(self.reach(direction)[min(max(int(s * SAMPLES), 0), SAMPLES - 1)])

    def moved(self, rotation: Array, pivot: Array, shift: Array) -> Tube:
        return replace(
            self,
            start=rotation @ (self.start - pivot) + pivot + shift,
            end=rotation @ (self.end - pivot) + pivot + shift,
            front=rotation @ self.front,
            bow=rotation @ self.bow,
        )

    def thickness(self, camera: Camera) -> Seen | None:
        """What the image sees of the tube; None where it lies outside."""
        scale = camera.pixels_per_cm
        a, b = camera.project(self.start), camera.project(self.end)
        span = b - a
        pixels = max(float(np.hypot(*span)), 1e-3)
        lean = max(pixels / scale / self.length, 0.3)  # seen end-on it is as thick as it is long
        along = span / pixels
        across = np.array([-along[1], along[0]])
        aside = across @ camera.frame[:2]  # the image's sideways direction, in the body
        aside = aside - (aside @ self.axis) * self.axis
        aside = unit(aside) if aside @ aside > 1e-12 else self.right

        plus, minus = self.reach(aside), self.reach(-aside)
        middle, half = (plus - minus) / 2, np.maximum((plus + minus) / 2, 1e-4)
        shape = self.profile
        area = (shape.right + shape.left) * (shape.front + shape.back) / 4 * self.girth**2
        depth = 2 * area / half / lean
        bow = float(self.bow @ camera.frame[:2].T @ across)

        margin = (max(plus.max(), minus.max()) + abs(bow)) * scale + 2
        window = camera.window(np.minimum(a, b) - margin, np.maximum(a, b) + margin)
        if window is None:
            return None
        s = affine(window, along / pixels, float(-a @ along / pixels))
        d = affine(window, across / scale, float(-a @ across / scale))
        inside = (s >= 0) & (s < 1)
        index = (np.clip(s, 0, 0.9999) * SAMPLES).astype(np.intp)
        if bow:
            d -= np.float32(4 * bow) * s * (1 - s)

        # the inside starts a cortex's thickness from either end and from either side
        cortex = shape.cortex * self.girth
        inset = min(0.3, 0.8 * float(cortex[[0, -1]].mean()) / self.length)
        s_in = (_S - inset) / (1 - 2 * inset)
        half_in = np.interp(s_in, _S, half, left=0, right=0) - cortex
        depth_in = np.where(half_in > 0, depth * np.maximum(half_in, 0) / half, 0)
        half_in = np.maximum(half_in, 1e-4)

        def chord(half: Array, depth: Array) -> Array:
            u = (d - middle.astype(np.float32)[index]) * (1 / half).astype(np.float32)[index]
            return depth.astype(np.float32)[index] * np.sqrt(np.maximum(1 - u * u, 0))

        outer = chord(half, depth) * inside
        inner = chord(half_in, depth_in) * inside
        for cut in self.cuts:
            keep = self._keep(cut, camera, s, d, aside, half)
            outer *= keep
            inner *= keep
        return window, outer, inner, shape.fill.astype(np.float32)[index]

    def _keep(
        self, cut: Cut, camera: Camera, s: Array, d: Array, aside: Array, half: Array
    ) -> Array:
        """Share of each ray that lies on the kept side; 0 to 1 over the plane's depth."""
        slope = cut.slope_right * self.right + cut.slope_front * self.front
        reach = float(half[min(int(cut.at * SAMPLES), SAMPLES - 1)])
        smear = abs(float(slope @ camera.frame[2])) * reach + 0.5 / camera.pixels_per_cm
        u = d * (1 / max(reach, 0.1)) + cut.phase
        rough = cut.teeth * (np.sin(4.1 * u) + 0.6 * np.sin(9.7 * u) + 0.4 * np.sin(17.3 * u))
        distance = (s - cut.at) * self.length - float(slope @ aside) * d - rough
        return np.clip(0.5 + cut.side * distance / (2 * smear), 0, 1).astype(np.float32)


@cache
def outline(*radii: float) -> Array:
    """(SAMPLES,) smooth closed outline through ``radii`` at equal angles from the right."""
    n = len(radii)
    angles = np.arange(-3, n + 4) * (2 * np.pi / n)
    values = [radii[i % n] for i in range(-3, n + 4)]
    theta = np.arange(SAMPLES) * (2 * np.pi / SAMPLES)
    return np.asarray(PchipInterpolator(angles, values)(theta))


@dataclass(frozen=True)
class Blob:
    """A rounded solid: an ellipsoid with half-axes ``size`` (right, up, front), its outline bent.

    flat: 2 for an ellipsoid, more for a plate with steep edges.
    """

    centre: Array
    size: tuple[float, float, float]
    axes: Array = field(default_factory=lambda: np.eye(3))  # rows: right, up, front
    outline: Array = field(default_factory=lambda: outline(1.0, 1.0, 1.0, 1.0))
    cortex: float = 0.05
    fill: float = 0.3
    flat: float = 2.0

    def moved(self, rotation: Array, pivot: Array, shift: Array) -> Blob:
        centre = rotation @ (self.centre - pivot) + pivot + shift
        return replace(self, centre=centre, axes=self.axes @ rotation.T)

    def thickness(self, camera: Camera) -> Seen | None:
        """As ``Tube.thickness``."""
        scale = camera.pixels_per_cm
        columns = (camera.frame[:2] @ self.axes.T) * np.array(self.size)  # (2, 3)
        # the shadow of an ellipsoid: its covariance S and the chord through its centre
        s = columns @ columns.T + 1e-6 * np.eye(2)
        root_det = float(np.sqrt(np.linalg.det(s)))
        root = (s + root_det * np.eye(2)) / np.sqrt(np.trace(s) + 2 * root_det)
        depth = 2 * float(np.prod(self.size)) / root_det
        u, _, v = np.linalg.svd(np.linalg.solve(root, columns[:, :2]))
        inverse = np.linalg.inv(root @ u @ v) / scale

        centre = camera.project(self.centre)
        margin = np.sqrt(np.diag(s)) * scale * float(self.outline.max()) + 2
        window = camera.window(centre - margin, centre + margin)
        if window is None:
            return None
        x = affine(window, inverse[0], float(-inverse[0] @ centre))
        y = affine(window, inverse[1], float(-inverse[1] @ centre))
        theta = np.arctan2(y, x)
        index = (theta * (SAMPLES / (2 * np.pi))).astype(np.intp) % SAMPLES
        q = np.hypot(x, y) / self.outline.astype(np.float32)[index]
        # the shell is as thick as its share of the chord, and of the shadow's shorter half-axis
        trace = float(np.trace(s))
        narrow = np.sqrt(max(trace - np.sqrt(max(trace**2 - 4 * root_det**2, 0.0)), 1e-6) / 2)
        along, across = (min(self.cortex / half, 0.9) for half in (depth / 2, float(narrow)))
        outer = depth * np.sqrt(np.maximum(1 - q**self.flat, 0))
        inner = depth * (1 - along) * np.sqrt(np.maximum(1 - (q / (1 - across)) ** self.flat, 0))
        return window, outer, inner, np.full_like(outer, self.fill)


Solid: TypeAlias = Tube | Blob


@dataclass(frozen=True)
class Rod:
    """A solid round rod of metal: a wire, a nail, a screw (``thread`` ripples its edge).

    Its shadow is right even where it is thinner than a pixel.
    """

    start: Array
    end: Array
    radius: float
    thread: float = 0.0

    def thickness(self, camera: Camera) -> tuple[Window, Array] | None:
        """The window it fills, and cm of metal along each ray there; None outside the image."""
        scale = camera.pixels_per_cm
        a, b = camera.project(self.start), camera.project(self.end)
        span = b - a
        pixels = float(np.hypot(*span))
        true = float(np.linalg.norm(self.end - self.start))
        margin = self.radius * scale + 2
        window = camera.window(np.minimum(a, b) - margin, np.maximum(a, b) + margin)
        if window is None:
            return None
        along = span / max(pixels, 1e-6)
        t = affine(window, along, float(-a @ along))
        d = affine(window, np.array([-along[1], along[0]]), float(a @ [along[1], -along[0]]))
        beyond = t - np.clip(t, 0, pixels)
        turns = np.sin(t * (2 * np.pi / max(0.25 * scale, 3)))
        gap = (self.radius * scale * (1 + self.thread * turns)) ** 2 - d * d - beyond * beyond
        # a rod thinner than a pixel keeps its shadow: chord times the share of the pixel covered
        chord = 2 * np.sqrt(np.maximum(gap, 0)) / scale
        if self.radius * scale < 0.8:
            core = np.exp(-(d * d + beyond * beyond) / (2 * 0.5**2))
            chord = core * (np.pi * self.radius**2 * scale / (0.5 * np.sqrt(2 * np.pi)))
        lean = max(pixels / max(true * scale, 1e-6), 0.15)
        return window, (chord / lean).astype(np.float32)


@dataclass(frozen=True)
class Bar:
    """A flat plate of metal with holes at fractions ``holes`` of its length."""

    start: Array
    end: Array
    normal: Array
    width: float
    thick: float
    holes: tuple[float, ...] = ()

    def thickness(self, camera: Camera) -> tuple[Window, Array] | None:
        """As ``Rod.thickness``."""
        scale = camera.pixels_per_cm
        a, b = camera.project(self.start), camera.project(self.end)
        span = b - a
        pixels = max(float(np.hypot(*span)), 1e-3)
        along = span / pixels
        sideways = np.array([-along[1], along[0]])
        axis = unit(self.end - self.start)
        wide = cross(axis, self.normal)
        flat = abs(float(self.normal @ camera.frame[2]))
        project = camera.frame[:2]
        half = 0.5 * (
            self.width * abs(float(wide @ project.T @ sideways))
            + self.thick * abs(float(self.normal @ project.T @ sideways))
        )
        half = max(half, 0.45 / scale)
        depth = self.width * self.thick / (2 * half)
        margin = half * scale + 2
        window = camera.window(np.minimum(a, b) - margin, np.maximum(a, b) + margin)
        if window is None:
            return None
        t = affine(window, along, float(-a @ along))
        d = affine(window, sideways, float(-a @ sideways))
        ends = half * scale - np.hypot(np.minimum(np.minimum(t, pixels - t) - half * scale, 0), d)
        cover = np.clip(ends + 0.5, 0, 1)
        for hole in self.holes:
            ring = np.hypot((t - hole * pixels), d / max(flat, 0.2)) / scale
            cover = cover * (1 - flat * np.clip((0.3 * self.width - ring) * scale + 0.5, 0, 1))
        return window, (depth * cover).astype(np.float32)


Metal: TypeAlias = Rod | Bar
