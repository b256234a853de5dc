"""Layers: the photo, the background without people, then each person whole. `python examples/layers.py [FOLDER]`"""

import sys

import deocclude
from deocclude.evaluation.demo_scene import make_crossing

out = sys.argv[1] if len(sys.argv) > 1 else "examples-out"
photo, scenes = make_crossing()

result = deocclude.load("base")(photo, masks=[scene.visible for scene in scenes])
for number, layer in enumerate(result.layers()):  # bottom to top
    height, width = layer.pixels.shape[:2]
    print(f"{layer.name}: {width} x {height} px at {layer.left_top}")
    deocclude.save_image(layer.pixels, f"{out}/layers.{number}.png")
result.save(out, what=("layers",), stem="layers")  # layers.deoccluded.ora, for GIMP 3 or Krita
