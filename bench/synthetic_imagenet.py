#!/usr/bin/env python3
"""Makes a folder of images in ImageNet's layout: photos' odd sizes and formats, with classes that can be learnt.

    pip install pillow
    bench/synthetic_imagenet.py FOLDER --classes 20 --train 100 --val 10

A class has a colour and stripes of an angle and a width; places, sizes, noise and lightness are each image's own. Some images are grey, CMYK,
progressive or PNG, and some broken: cut off, empty, text, or of absurd size. What is made follows from the arguments alone (and Pillow's version);
what is broken is listed in FOLDER/broken.txt. Needs Pillow 10 or later.
"""

import argparse
import colorsys
import io
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw


def stripes(rng: random.Random, size: tuple[int, int], number: int, classes: int) -> Image.Image:
    """An image of a class."""
    width, height = size
    hue = (number / classes + rng.gauss(0, 0.01)) % 1
    light, dark = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 0.9), value))
        for value in (rng.uniform(0.75, 1), rng.uniform(0.2, 0.5))
    )
    image = Image.new("RGB", size, light)
    draw = ImageDraw.Draw(image)
    angle = math.pi * ((number * 7 % classes) / classes + rng.gauss(0, 0.02))
    period = min(size) / (4 + number % 5 * 2) * rng.uniform(0.9, 1.1)
    across, along = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    reach = math.hypot(width, height)
    offset = rng.uniform(0, period)
    for index in range(-math.ceil(reach / period), math.ceil(reach / period) + 1):
        middle = [size[axis] / 2 + (index * period + offset) * across[axis] for axis in (0, 1)]
        ends = [tuple(middle[axis] + side * reach * along[axis] for axis in (0, 1)) for side in (-1, 1)]
        draw.line(ends, fill=dark, width=max(1, round(period / 2)))
    coarse = (max(1, width // 3), max(1, height // 3))
    noise = Image.frombytes("L", coarse, rng.randbytes(coarse[0] * coarse[1])).resize(size, Image.Resampling.BILINEAR)
    return Image.blend(image, noise.convert("RGB"), rng.uniform(0.1, 0.35))


def encoded(rng: random.Random, image: Image.Image, arguments: argparse.Namespace) -> tuple[bytes, str]:
    """The image in one of the formats there are, and its extension."""
    kind = rng.random()
    if kind < arguments.grey:
        image = image.convert("L")
    elif kind < arguments.grey + arguments.cmyk:
        image = image.convert("CMYK")
    elif kind < arguments.grey + arguments.cmyk + arguments.png:
        return saved(image, "PNG"), "png"
    options = {"quality": rng.randint(70, 95), "progressive": rng.random() < 0.1}
    return saved(image, "JPEG", **options), rng.choice(["JPEG", "jpg"])


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def broken(rng: random.Random) -> bytes:
    """A file that is no image."""
    image = saved(Image.new("RGB", (200, 150), (90, 120, 30)), "JPEG")
    frame = image.index(b"\xff\xc0") + 5
    return rng.choice(
        [
            b"",
            b"this is not an image\n",
            image[: rng.randint(10, len(image) - 10)],
            image[:frame] + b"\xff\xff\xff\xff" + image[frame + 4 :],
        ]
    )


def write_part(folder: Path, part: str, images: int, arguments: argparse.Namespace) -> list[str]:
    """Writes the images of one part, and tells which of them are broken."""
    names = []
    for number in range(arguments.classes):
        within = folder / part / f"n{number:08}"
        within.mkdir(parents=True)
        for index in range(images):
            # Of each image's own, so that the first ones stay the same where more are made.
            rng = random.Random(f"{arguments.seed}/{part}/{number}/{index}")
            low, high = (math.log(side) for side in (arguments.smallest, arguments.largest))
            size = tuple(round(math.exp(rng.uniform(low, high))) for _ in "wh")
            if rng.random() < arguments.broken:
                content, extension = broken(rng), "JPEG"
                names.append(f"{part}/{within.name}/{index:06}.{extension}")
            else:
                content, extension = encoded(rng, stripes(rng, size, number, arguments.classes), arguments)
            (within / f"{index:06}.{extension}").write_bytes(content)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="must not be there yet")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--train", type=int, default=100, help="images of each class to train on")
    parser.add_argument("--val", type=int, default=10, help="images of each class to measure on")
    parser.add_argument("--smallest", type=int, default=150, help="least width and height")
    parser.add_argument("--largest", type=int, default=640, help="largest width and height")
    parser.add_argument("--grey", type=float, default=0.02, help="fraction of greyscale JPEGs")
    parser.add_argument("--cmyk", type=float, default=0.02, help="fraction of CMYK JPEGs")
    parser.add_argument("--png", type=float, default=0.02, help="fraction of PNGs")
    parser.add_argument("--broken", type=float, default=0.01, help="fraction of broken files")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"{arguments.folder} is there already: name another folder, or remove it")
    if not (0 < arguments.smallest <= arguments.largest and arguments.classes > 0 and arguments.train > 0 and arguments.val > 0):
        sys.exit("sizes and counts must be at least 1, and --smallest at most --largest")
    names = write_part(arguments.folder, "train", arguments.train, arguments)
    names += write_part(arguments.folder, "val", arguments.val, arguments)
    (arguments.folder / "broken.txt").write_text("".join(f"{name}\n" for name in names))
    print(f"{arguments.classes * (arguments.train + arguments.val)} files, {len(names)} of them broken, in {arguments.folder}")


if __name__ == "__main__":
    main()
