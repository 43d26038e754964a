"""A comparison on pictures of one's own, PATH/{train,test}/CLASS/*.

Run: python examples/own_image_folder.py [PATH]
Without a PATH it first makes a folder of colour pictures of unlike sizes: circles, squares, and
squares with round corners, which are easily taken for either.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fmnist_aug import compare


def make_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 30)):
        for shape in ("circle", "square", "rounded"):
            (folder / split / shape).mkdir(parents=True)
            for number in range(count):
                side = int(rng.integers(24, 48))
                picture = Image.new("RGB", (side + 8, side), tuple(rng.integers(0, 100, 3)))
                draw = ImageDraw.Draw(picture)
                size = int(rng.integers(side // 2, side - 4))
                x, y = (int(rng.integers(0, side - size)) for _ in range(2))
                box, colour = (x, y, x + size, y + size), tuple(rng.integers(150, 255, 3))
                radius = {"circle": size / 2, "square": 0, "rounded": size / 4}[shape]
                draw.rounded_rectangle(box, radius, fill=colour)
                picture.save(folder / split / shape / f"{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path, nargs="?")
    path: Path | None = parser.parse_args().path
    with tempfile.TemporaryDirectory() as made:
        folder = path or Path(made)
        if path is None:
            make_pictures(folder)
        # the pictures are made anew each time, so there is nothing to go on with
        found = compare(
            folder,
            preset="smoke",
            epochs=6,
            flip=True,
            out=Path("runs/own-pictures"),
            resume=path is not None,
        )
    print(found.plan.to_table())
    for arm, figures in found.results["arms"].items():
        print(f"{arm}: {figures['mean']:.1%} of the test pictures right")
    for item in found.results["contrasts"]:
        print(f"{item['a']} against {item['b']}: {item['verdict']}")
    print(f"report: {found.folder / 'report.html'}")


if __name__ == "__main__":
    main()
