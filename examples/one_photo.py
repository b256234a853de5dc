"""One photo, no prompt: people are found, and each hidden part is recovered. `python examples/one_photo.py [FOLDER]`"""

import sys

import deocclude
from deocclude.evaluation.demo_scene import make_crossing

out = sys.argv[1] if len(sys.argv) > 1 else "examples-out"
photo, _ = make_crossing()  # two people crossing; a path to a photo of your own works as well

pipe = deocclude.load("base")
result = pipe(photo, min_score=0.46)  # the default, 0.22, takes the rims of two helmets for people here
for person in result.people:
    print(f"person {person.id}: {person.hidden_fraction:.0%} hidden, score {person.score:.2f}, box {person.box_xyxy}")
for pair in result.order:
    print(f"person {pair.front} hides part of person {pair.behind}")
result.save(out, what=("content", "overlay", "rgba"), stem="one_photo")
