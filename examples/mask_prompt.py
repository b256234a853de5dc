"""A mask of the visible part as prompt, the most accurate way. `python examples/mask_prompt.py [FOLDER]`"""

import sys

import deocclude
from deocclude.evaluation.demo_scene import make_scene

out = sys.argv[1] if len(sys.argv) > 1 else "examples-out"
scene = make_scene()  # a portrait behind a drawn plant; scene.visible is (H, W) bool
# From files: photo = "photo.jpg", mask = deocclude.load_mask("person.png").

result = deocclude.load("base")(scene.photo, masks=[scene.visible])
person = result.people[0]
hidden_px = int(person.invisible_mask.sum())
print(f"{person.hidden_fraction:.0%} of the body is hidden: {hidden_px} pixels recovered")
deocclude.save_image(result.content, f"{out}/mask_prompt.content.png")
deocclude.save_image(person.amodal_mask, f"{out}/mask_prompt.amodal.png")
