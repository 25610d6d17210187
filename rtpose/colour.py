"""Colours of decoded video as RGB of ordinary screens (BT.709), which the networks were trained on and the overlay is tagged as.

The colour matrix and range that a frame is tagged with are FFmpeg's business; what is not tagged is taken for BT.601 of limited range,
as FFmpeg and OpenCV do. Here are the transfer functions and primaries of HDR and wide-gamut video, which are made one table of colours:

- PQ: SMPTE ST 2084, as in ITU-R BT.2100-2 table 4. HLG: ARIB STD-B67, as in BT.2100-2 table 5, for a screen of 1000 cd/m2.
- Tone mapping: ITU-R BT.2390-11 section 5.4.1 on the largest of red, green and blue, down to the reference white of ITU-R BT.2408
  (203 cd/m2).
- Screens of ordinary range: the exponent of ITU-R BT.1886, black at zero.
- Primaries: ITU-R BT.709-6, BT.2020-2, and P3 with the white D65 (SMPTE EG 432-1).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

F64 = NDArray[np.float64]

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273."""

_BT709, _BT2020, _P3 = 1, 9, 12
"""Colour primaries of H.273."""

_UNSPECIFIED = 2

WHITE = 203.0
"""cd/m2 of HDR that become the white of SDR."""

PEAK = 1000.0
"""cd/m2 of the brightest light of PQ where the stream does not tell."""

GRID = 49
"""Colours along each side of the table; between them it is interpolated."""

_CHROMATICITIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    _P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


class Coding(NamedTuple):
    """How the colours of a frame are coded. transfer, primaries: H.273. peak: brightest light, cd/m2."""

    transfer: int
    primaries: int
    peak: float

    @property
    def plain(self) -> bool:
        """Whether it is SDR of nearly the primaries of BT.709 (those of BT.601 are), or untagged."""
        return self.transfer not in (PQ, HLG) and self.primaries not in (_BT2020, _P3)

    @staticmethod
    def of(frame: VideoFrame) -> Coding:
        transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
        if transfer in (PQ, HLG) and primaries not in _CHROMATICITIES:
            primaries = _BT2020
        peak = PEAK
        light = cast("Mapping[str, Any]", frame.side_data).get("CONTENT_LIGHT_LEVEL") if transfer == PQ else None
        if light is not None:
            peak = float(np.frombuffer(bytes(light), "<u4")[0]) or PEAK
        return Coding(transfer, primaries, peak)


def pq_to_light(signal: F64) -> F64:
    """ST 2084: code values 0 .. 1 -> cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.clip(signal, 0, 1) ** (1 / m2)
    return 10000.0 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def light_to_pq(light: F64) -> F64:
    """The inverse of `pq_to_light`."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.clip(light / 10000.0, 0, 1) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_to_light(signal: F64) -> F64:
    """ARIB STD-B67: code values (..., 3) of 0 .. 1 -> cd/m2 of a screen of 1000 cd/m2, whose system gamma is 1.2."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return cast(F64, 1000.0 * luminance[..., None] ** 0.2 * scene)


def tone_mapped(light: F64, peak: float) -> F64:
    """BT.2390: cd/m2 (..., 3) of up to `peak` -> of up to `WHITE`; hues are kept, dark and middle tones as they are."""
    if peak <= WHITE:
        return light
    top = float(light_to_pq(np.float64(peak)))
    highest = float(light_to_pq(np.float64(WHITE))) / top
    knee = 1.5 * highest - 0.5
    largest = light.max(axis=-1)
    level = np.minimum(light_to_pq(largest) / top, 1.0)
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * highest
    mapped = pq_to_light(np.where(level < knee, level, curve) * top)
    return cast(F64, light * (mapped / np.maximum(largest, 1e-9))[..., None])


def sdr_of(signal: F64, coding: Coding) -> F64:
    """Coded RGB (..., 3), 0 .. 1, as code values of BT.709 on a screen of BT.1886, 0 .. 1. Colours outside BT.709 are clipped."""
    if coding.transfer == PQ:
        linear = tone_mapped(pq_to_light(signal), coding.peak) / WHITE
    elif coding.transfer == HLG:
        linear = tone_mapped(hlg_to_light(signal), PEAK) / WHITE
    else:
        linear = signal**2.4
    to_709 = np.linalg.inv(_rgb_to_xyz(_BT709)) @ _rgb_to_xyz(coding.primaries)
    return cast(F64, np.clip(linear @ to_709.T, 0, 1) ** (1 / 2.4))


def _rgb_to_xyz(primaries: int) -> F64:
    """From chromaticities, such that red + green + blue is the white."""
    corners = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1.0, (1 - _D65[0] - _D65[1]) / _D65[1]])
    return cast(F64, corners * np.linalg.solve(corners, white))


class ToRgb:
    """Decoded frames of one stream as 8-bit RGB of BT.709."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._tables: dict[tuple[Coding, int, int], _Table] = {}
        self._met: set[str] = set()

    def __call__(self, frame: VideoFrame, width: int, height: int) -> VideoFrame:
        """The frame as "rgb24" of that size."""
        coding = Coding.of(frame)
        if coding.plain:
            return self._reformatter.reformat(frame, width, height, "rgb24")
        self._met.add(
            {PQ: "HDR (PQ) was tone-mapped", HLG: "HDR (HLG) was tone-mapped"}.get(coding.transfer, "a wide gamut was converted")
        )
        untagged = int(frame.colorspace) == _UNSPECIFIED and coding.primaries == _BT2020
        deep = self._reformatter.reformat(
            frame, width, height, _Table.FORMAT, src_colorspace=Colorspace.BT2020 if untagged else None
        )
        key = (coding, width, height)
        if key not in self._tables:
            self._tables[key] = _Table(coding, width, height)
        return self._reformatter.reformat(self._tables[key](deep), width, height, "rgb24")

    def notes(self) -> list[str]:
        return [f"{what} to SDR (BT.709)" for what in sorted(self._met)]


class _Table:
    """FFmpeg's filter lut3d (tetrahedral interpolation) with the colours of `sdr_of`."""

    FORMAT = "gbrp16le"

    def __init__(self, coding: Coding, width: int, height: int) -> None:
        steps = np.linspace(0, 1, GRID)
        # A .cube file counts red fastest.
        blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
        colours = sdr_of(np.stack([red, green, blue], axis=-1), coding).reshape(-1, 3)
        lines = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in colours.tolist())
        folder = tempfile.mkdtemp(prefix="rtpose-")
        path = os.path.join(folder, "table.cube")
        try:
            with open(path, "w") as file:
                file.write(f"LUT_3D_SIZE {GRID}\n{lines}\n")
            self._graph = Graph()
            self._graph.link_nodes(
                self._graph.add_buffer(
                    width=width, height=height, format=av.VideoFormat(self.FORMAT), time_base=Fraction(1, 1000)
                ),
                self._graph.add("lut3d", file=path, interp="tetrahedral"),
                self._graph.add("format", self.FORMAT),
                self._graph.add("buffersink"),
            )
            self._graph.configure()
        finally:
            os.unlink(path)
            os.rmdir(folder)

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        self._graph.push(frame)
        return self._graph.vpull()
