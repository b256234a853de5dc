"""OpenRaster files in real GIMP 3 and Krita: what the editors show, and what is left after they save the file again.

    python benchmarks/open_in_editors.py photo.deoccluded.ora [MORE.ora ...]

Debian 13 has both: `apt install gimp krita`, and `xvfb` for Krita where there is no display. Each editor opens the
file, exports what it shows as PNG, and saves it as OpenRaster again. Both are compared with the file's mergedimage.png:
pixels that differ by more than one level, and the largest difference of 255. A missing editor is named and left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.imaging.arrays import ImageU8
from deocclude.io.openraster import Layer, composite

_TIMEOUT_S = 300
_GIMP = """
from gi.repository import Gimp, Gio
source, shown, again = (Gio.File.new_for_path(path) for path in {paths!r})
image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, source)
Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, again, None)
image.merge_visible_layers(Gimp.MergeType.CLIP_TO_IMAGE)
Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, shown, None)
"""


def by_gimp(command: str, source: Path, shown: Path, again: Path) -> None:
    """Open `source` in GIMP 3, export it to `shown` (PNG), and save it to `again` (OpenRaster)."""
    code = _GIMP.format(paths=[str(path) for path in (source, shown, again)])
    call = [command, "-i", "--quit", "--batch-interpreter", "python-fu-eval", "-b", code]
    subprocess.run(call, check=True, timeout=_TIMEOUT_S, capture_output=True)


def by_krita(command: str, source: Path, shown: Path, again: Path) -> None:
    """The same in Krita, on a virtual display where there is none."""
    display = [] if os.environ.get("DISPLAY") else ["xvfb-run", "-a"]
    for target in (shown, again):
        call = [*display, command, "--nosplash", "--export", "--export-filename", str(target), str(source)]
        subprocess.run(call, check=True, timeout=_TIMEOUT_S, capture_output=True)


def installed() -> dict[str, Callable[[Path, Path, Path], None]]:
    """The editors that can be run, by name and version. Prints which are missing."""
    found: dict[str, Callable[[Path, Path, Path], None]] = {}
    gimp, krita = shutil.which("gimp-console"), shutil.which("krita")
    if gimp is None:
        print("GIMP is not installed (no gimp-console): left out")
    elif " 3." not in (version := _version([gimp, "--version"])):
        print(f"{version} is no GIMP 3: left out")
    else:
        found[version.replace("GNU Image Manipulation Program version", "GIMP")] = lambda *paths: by_gimp(gimp, *paths)
    if krita is None:
        print("Krita is not installed: left out")
    elif not os.environ.get("DISPLAY") and shutil.which("xvfb-run") is None:
        print("Krita needs a display, and there is neither one nor xvfb-run: left out")
    else:
        found["Krita"] = lambda *paths: by_krita(krita, *paths)
    return found


def _version(call: list[str]) -> str:
    done = subprocess.run(call, check=True, timeout=_TIMEOUT_S, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[0]


def read_png(archive: zipfile.ZipFile, name: str) -> ImageU8:
    """A picture of an archive as (H, W, 4) uint8."""
    return np.asarray(Image.open(archive.open(name)).convert("RGBA"))


def layers_of(path: Path) -> ImageU8:
    """(H, W, 4) uint8: the composite of a file's layers, without a look at mergedimage.png."""
    with zipfile.ZipFile(path) as archive:
        image = ET.fromstring(archive.read("stack.xml"))
        layers = [
            Layer(row.get("name", ""), read_png(archive, row.get("src", "")), (_whole(row, "x"), _whole(row, "y")))
            for row in reversed(list(image.iter("layer")))
        ]
    merged = composite(layers, (_whole(image, "h"), _whole(image, "w")))
    return np.asarray(Image.fromarray(merged).convert("RGBA"))


def _whole(row: ET.Element, name: str) -> int:
    return int(row.get(name, "0"))


def compare(found: ImageU8, expected: ImageU8) -> str:
    """Cells of the table: pixels that differ by more than one level, and the largest difference.

    Args:
        found: (H, W, 4) uint8; the colour of a transparent pixel does not count.
        expected: (H, W, 4) uint8.
    """
    if found.shape != expected.shape:
        return f"size {found.shape[1]}x{found.shape[0]} instead of {expected.shape[1]}x{expected.shape[0]} | "
    seen = [np.where(pixels[..., 3:] > 0, pixels, 0).astype(np.int16) for pixels in (found, expected)]
    difference = np.abs(seen[0] - seen[1]).max(axis=2)
    return f"{np.count_nonzero(difference > 1)} | {difference.max()}"


def main() -> None:
    """Print one row for each file, editor and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    files: list[Path] = parser.parse_args().files
    editors = installed()
    if not editors:
        raise SystemExit("no editor to open the files with")
    print("| file | editor | compared with mergedimage.png | differing pixels | largest difference |")
    print("|---|---|---|---|---|")
    for path in files:
        with zipfile.ZipFile(path) as archive:
            expected = read_png(archive, "mergedimage.png")
        print(f"| {path} | Pillow | the layers | {compare(layers_of(path), expected)} |")
        for name, open_in in editors.items():
            with tempfile.TemporaryDirectory() as folder:
                shown, again = Path(folder) / "shown.png", Path(folder) / "again.ora"
                open_in(path.resolve(), shown, again)
                view = np.asarray(Image.open(shown).convert("RGBA"))
                print(f"| {path} | {name} | the editor's view | {compare(view, expected)} |")
                print(f"| {path} | {name} | the layers, saved again | {compare(layers_of(again), expected)} |")


if __name__ == "__main__":
    main()
