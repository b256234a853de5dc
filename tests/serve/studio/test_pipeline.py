"""The studio over a real pipeline with tiny networks."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from deocclude.pipeline import load
from deocclude.serve.studio.routes import router
from deocclude.serve.studio.studio import Studio

API = "/studio/api"


def png_base64(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def client(finding_weights_dir: Path) -> TestClient:
    app = FastAPI()
    app.state.studio = Studio.of_pipeline(load(device="cpu", weights_dir=finding_weights_dir, threads=1))
    app.include_router(router)
    return TestClient(app)


def test_photo_is_opened_steered_and_taken_apart(client: TestClient, person) -> None:
    assert client.get(f"{API}/about").status_code == 200
    photo = client.post(f"{API}/photos?name=a.png", content=base64.b64decode(png_base64(person.photo))).json()
    number = photo["changed"][0]["number"]
    url = f"{API}/photos/{photo['id']}"
    assert photo["timings"]["total"] >= photo["timings"]["recover"] > 0
    everything = np.ones(person.photo.shape[:2], bool)
    changed = client.put(f"{url}/people/{number}/prompts", json={"keep": png_base64(everything)}).json()["changed"]
    assert [one["hidden_fraction"] for one in changed] == [0]
    assert client.put(f"{url}/people/{number}/prompts", json={}).json()["changed"] == photo["changed"][:1]
    visible = png_base64(person.visible)
    replaced = client.put(f"{url}/people/{number}/visible", json={"mask": visible}).json()
    assert replaced["changed"][0]["patch"] is not None
    back = client.put(f"{url}/state", json={"state": photo["state"]}).json()
    assert back["changed"] and all(one in photo["changed"] for one in back["changed"]), "exactly as found"
    again = client.put(f"{url}/state", json={"state": replaced["state"]}).json()
    assert all(one in again["changed"] for one in replaced["changed"])
    refused = client.put(f"{url}/people/{number}/prompts", json={"points": [[300, 240]]})
    assert refused.status_code == 422
    assert "head" in refused.json()["error"]["message"], "these networks have none"
    added = client.post(f"{url}/people", json={"box_xyxy": [500, 300, 560, 400]}).json()
    assert added["number"] not in (None, number)
    left = client.delete(f"{url}/people/{added['number']}").json()["back_to_front"]
    assert sorted(left) == [one["number"] for one in photo["changed"]]
