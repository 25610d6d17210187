"""Make a short clip of a person: a pan and zoom over scikit-image's public-domain photograph of the astronaut Eileen Collins (NASA).

`make_demo_clip.py PATH [FRAMES]`
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

RATE, WIDTH, HEIGHT = 30, 640, 480


def main(path: Path, frames: int) -> None:
    photograph = data.astronaut()
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for index in range(frames):
            swing = np.sin(2 * np.pi * index / 90)
            scale = 0.95 + 0.15 * swing
            move = np.array([[scale, 0, 320 - scale * (230 + 60 * swing)], [0, scale, 245 - scale * 256]])
            picture = cv2.warpAffine(photograph, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 90)
