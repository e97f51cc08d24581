"""Screenshot of a report for the documentation, by a headless Chromium.

python research/report_screenshot.py demo/report.html
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1000, 1250  # pixels


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="report.html")
    parser.add_argument("--out", type=Path, default=Path("docs/images/report.png"))
    parser.add_argument("--browser", default="chromium", help="its command")
    options = parser.parse_args()
    words = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        f"--window-size={WIDTH},{HEIGHT}",
        f"--screenshot={options.out.resolve()}",
        options.report.resolve().as_uri(),
    ]
    subprocess.run([options.browser, *words], check=True)
    with Image.open(options.out) as image:
        image.convert("RGB").quantize(256).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
