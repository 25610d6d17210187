"""Write one frame of a video as a picture: `frame_of.py VIDEO PICTURE [INDEX]` (the middle frame by default)."""

from __future__ import annotations

import sys

import av


def main(video: str, picture: str, index: int | None) -> None:
    with av.open(f"file:{video}") as container:
        frames = list(container.decode(video=0))
    frames[len(frames) // 2 if index is None else index].to_image().save(picture)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
