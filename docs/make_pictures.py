"""Makes the pictures of curves, batch and confusion in docs/pictures/.

    python3 -m docs.make_pictures

They show the training of `make demo`, in the folder demo; the demo runs first if that
folder is missing. Chromium, without a window, draws the pages that `plot` writes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

PROJECT = Path(__file__).parents[1]
PICTURES = PROJECT / "docs" / "pictures"
MAX_BYTES = 150_000

# An epoch whose network still confuses some classes, and a batch to show.
_CONFUSED_EPOCH = 5
_BATCH = ["--epoch=3", "--batch=17"]

# Pixels of Chromium's window: all curves, and the classes up to the confusion matrix.
_CURVES_SIZE, _CLASSES_SIZE = (1040, 1600), (720, 1190)


def find_browser() -> str:
    """The command that starts Chromium.

    Raises:
        SystemExit: There is none.
    """
    for name in "chromium", "chromium-browser", "google-chrome":
        if command := shutil.which(name):
            return command
    raise SystemExit("make_pictures: Chromium is not found (install chromium)")


def draw_page(page: Path, size: tuple[int, int]) -> Image.Image:
    """A page in a window of a size in pixels, without the empty part below."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
        flags = ["--headless", "--disable-gpu", "--hide-scrollbars", *sandbox]
        subprocess.run(
            [
                *(find_browser(), *flags, f"--window-size={size[0]},{size[1]}"),
                *(f"--screenshot={picture}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
        )
        with Image.open(picture) as image:
            return without_margin_below(image.convert("RGB"))


def without_margin_below(image: Image.Image, margin: int = 16) -> Image.Image:
    """An image without the rows at its end that have one colour, but for a margin."""
    background = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, background).getbbox()
    bottom = min(image.height, box[3] + margin) if box else image.height
    return image.crop((0, 0, image.width, bottom))


def save_small(image: Image.Image, path: Path) -> None:
    """Saves an image as WebP, lossless if it then has at most MAX_BYTES."""
    image.save(path, lossless=True, method=6)
    for quality in range(90, 0, -10):
        if path.stat().st_size <= MAX_BYTES:
            return
        image.save(path, quality=quality, method=6)


def make_pictures(demo: Path) -> dict[str, Image.Image]:
    """The pictures by their file names, from the folder of a finished demo."""
    config = f"--config={demo / 'config.txt'}"

    def run(*arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "resnet50", *arguments]
        subprocess.run(command, check=True, cwd=demo, env=environment)

    of_run = ["evaluate", config, "--run_folder=demo"]
    run(*of_run, "--epoch_start=0", "--epoch_end=16")
    run("plot", config, "demo")
    run(*of_run, f"--epoch={_CONFUSED_EPOCH}")
    run("plot", config, "demo", "--classes")
    run("preview", config, *_BATCH)
    pages = demo / "saved_models" / "demo"
    with Image.open(demo / "preview_3_17.png") as preview:
        return {
            "curves.webp": draw_page(pages / "curves.html", _CURVES_SIZE),
            "classes.webp": draw_page(pages / "classes.html", _CLASSES_SIZE),
            "preview.webp": preview.convert("RGB"),
        }


def main() -> None:
    """Runs the demo if needed, and makes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default="demo", help="default: demo")
    demo = parser.parse_args().folder.absolute()
    find_browser()
    if not demo.exists():
        command = [sys.executable, "-m", "resnet50", "demo", f"--folder={demo}"]
        subprocess.run(command, check=True, cwd=PROJECT)
    for name, image in make_pictures(demo).items():
        save_small(image, PICTURES / name)
        print(f"{PICTURES / name}: {(PICTURES / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
