"""Reduce line drawings to 256 colors, so that PNG files of the documentation stay small.

python research/shrink_figures.py docs/images/*.png

Files of images with many colors are not for this; write these as JPEG.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

COLORS = 256


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        with Image.open(path) as image:
            if image.mode != "P":
                image.convert("RGB").quantize(COLORS).save(path, optimize=True)


if __name__ == "__main__":
    main()
