"""Metal: solid rods and plates, and their shadows even where they are thinner than a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from examples.mura.phantom.geometry import Array, Camera, Window, affine, cross, unit


@dataclass(frozen=True)
class Rod:
    """A solid round rod of metal: a wire, a nail, a screw (``thread`` ripples its edge)."""

    start: Array
    end: Array
    radius: float
    thread: float = 0.0

    def thickness(self, camera: Camera) -> tuple[Window, Array] | None:
        """The window it fills, and cm of metal along each ray there; None outside the picture."""
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
        """The window it fills, and cm of metal along each ray there; None outside the picture."""
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
