"""How fast this checkout is beside another commit of it: medians and their ratio, measured in turn on one machine.

    python benchmarks/against_commit.py COMMIT [--rounds 7]

Four things are timed: one person in an image of one megapixel and ten people in one, warm, with masks given;
`deocclude run` of one person as a whole process; `deocclude --help`. Both checkouts use this Python's packages and
their own weights. What is timed runs in processes that take turns, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.evaluation.demo_scene import make_scene
from deocclude.evaluation.speed import time_in_turn

ROOT = Path(__file__).parents[1]
SIDE_PX = 1000
# A process that recovers what each line names, an image and its masks, and answers with a line. Files are read once.
WARM = """
import functools, json, sys
import numpy as np
from PIL import Image
import deocclude
pipe = deocclude.load(device="cpu")
read = functools.cache(lambda path: np.asarray(Image.open(path)))
for line in sys.stdin:
    image, masks = json.loads(line)
    pipe(read(image), masks=[read(mask) for mask in masks])
    print("done", flush=True)
"""


def write_images(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """The demo's portrait behind its plant at one megapixel, and ten smaller ones side by side; with their masks."""
    scene = make_scene()

    def save(name: str, array: np.ndarray, size_wh: tuple[int, int] | None = None) -> str:
        picture = Image.fromarray(array)
        if size_wh is not None:
            picture = picture.resize(size_wh, Image.Resampling.NEAREST if array.ndim == 2 else Image.Resampling.LANCZOS)
        picture.save(folder / name)
        return str(folder / name)

    mask = scene.visible.astype(np.uint8) * 255
    one = save("one.png", scene.photo, (SIDE_PX, SIDE_PX)), [save("one-mask.png", mask, (SIDE_PX, SIDE_PX))]
    side, masks = SIDE_PX // 4, []
    photo = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    small, small_mask = (Image.open(path).resize((side, side)) for path in (one[0], one[1][0]))
    for number in range(10):
        y, x = side * (number // 4), side * (number % 4)
        photo[y : y + side, x : x + side] = np.asarray(small)
        whole = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        whole[y : y + side, x : x + side] = (np.asarray(small_mask) > 127) * np.uint8(255)
        masks.append(save(f"ten-mask{number}.png", whole))
    return {"one person, 1 MP, warm": one, "ten people, 1 MP, warm": (save("ten.png", photo), masks)}


class Checkout:
    """A checkout whose package is timed."""

    def __init__(self, root: Path) -> None:
        self.environment = os.environ | {"PYTHONPATH": str(root / "src")}
        self._warm = subprocess.Popen(
            [sys.executable, "-c", WARM], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def recover(self, image: tuple[str, list[str]]) -> None:
        """One call in a process that has its networks open."""
        assert self._warm.stdin and self._warm.stdout
        self._warm.stdin.write(json.dumps(image) + "\n")
        self._warm.stdin.flush()
        if self._warm.stdout.readline() != "done\n":
            raise RuntimeError("the process that recovers has ended")

    def run(self, *words: str) -> None:
        """`deocclude WORDS` as a whole process."""
        subprocess.run(
            [sys.executable, "-m", "deocclude", *words], env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def close(self) -> None:
        """End the warm process."""
        self._warm.communicate()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=7, help="timings of each, each after a call that is not timed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, other = Path(temporary), Path(temporary) / "other"
        subprocess.run(["git", "worktree", "add", "--detach", other, arguments.commit], cwd=ROOT, check=True)
        try:
            images = write_images(folder)
            checkouts = {"here": Checkout(ROOT), arguments.commit: Checkout(other)}
            one, (mask,) = images["one person, 1 MP, warm"]
            run = ("run", one, "--mask", mask, "-o", str(folder / "out.png"), "--overwrite", "-q")
            tasks: dict[tuple[str, str], Callable[[], object]] = {}
            for name, checkout in checkouts.items():
                tasks |= {(what, name): partial(checkout.recover, image) for what, image in images.items()}
                tasks["run, whole process", name] = partial(checkout.run, *run)
                tasks["--help", name] = partial(checkout.run, "--help")
            medians = time_in_turn(tasks, arguments.rounds)
            for checkout in checkouts.values():
                checkout.close()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    print(f"| median of {arguments.rounds} | here | {arguments.commit} | ratio |\n|---|---|---|---|")
    for what in dict.fromkeys(what for what, _ in medians):
        here, there = (medians[what, name] for name in checkouts)
        print(f"| {what} | {here:.3f} s | {there:.3f} s | {here / there:.2f} |")


if __name__ == "__main__":
    main()
