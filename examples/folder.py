"""A folder of photos, one model for all; a bad file stops nothing. `python examples/folder.py [FOLDER]`"""

import sys
from pathlib import Path

import deocclude
from deocclude.evaluation.demo_scene import make_crossing, make_scene

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-out")
photos = out / "photos"  # a folder of your own works as well
deocclude.save_image(make_scene().photo, photos / "portrait.png")
deocclude.save_image(make_crossing()[0], photos / "crossing.png")

pipe = deocclude.load("base")  # holds nothing of a photo: several threads may share it
for result in pipe.batch(sorted(photos.iterdir()), on_error="yield"):
    if isinstance(result, deocclude.DeoccludeError):
        print(f"skipped: {result}")
        continue
    result.save(out / "recovered")
    print(f"{result.name}: {len(result.people)} people, {result.timings['total']:.2f} s")
