// The tab "Layers": whole people over a background; moved, scaled, ordered, hidden, and saved as arranged.

import * as api from "./api.js";
import { colourOf, newCanvas } from "./people.js";
import { changed, history, state } from "./state.js";

const element = (id) => document.getElementById(id);

let layers = []; // back to front: {number, image, width, height, x, y, scale, hidden, homeX, homeY}
let filled = null; // the filled background; null while the server fills it
let filling = Promise.resolve(); // ends when it is there
let background = { kind: "filled", colour: "#f2efe8", picture: null };
let loaded = null; // "photo version" of what is loaded
let chosen = null; // number
let report = () => {};

export function watchLayers(handler) {
  report = handler;
}

export function forgetLayers() {
  [layers, filled, loaded, chosen] = [[], null, null, null];
  background = { kind: "filled", colour: "#f2efe8", picture: null };
  document.querySelector('input[name="background"][value="filled"]').checked = true;
}

const snapshot = () => ({ layers: layers.map((layer) => ({ ...layer })), background: { ...background } });

function restore(kept) {
  const images = new Map(layers.map((layer) => [layer.number, layer]));
  // pixels may be newer than the arrangement, people may have come or gone
  const known = kept.layers.filter(({ number }) => images.has(number)).map((layer) => ({ ...layer, image: images.get(layer.number).image }));
  const others = layers.filter(({ number }) => !known.some((one) => one.number === number));
  layers = [...known, ...others];
  background = { ...kept.background };
  document.querySelector(`input[name="background"][value="${background.kind}"]`).checked = true;
  fillPanel();
  changed();
}

/** Change the arrangement in a way that can be undone. */
function arrange(label, act) {
  const before = snapshot();
  act();
  remember(label, before);
}

function remember(label, before) {
  const after = snapshot();
  history.push({ label, undo: async () => restore(before), redo: async () => restore(after) });
  fillPanel();
  changed();
}

/** Fetch the layers where people changed since; places that the user gave stay. */
export async function openLayers() {
  const version = `${state.photo.id} ${state.version}`;
  if (loaded === version) return fillPanel();
  const { id } = state.photo;
  const described = (await api.layers(id)).slice(1); // the first is the background
  const images = await Promise.all(described.map(async ({ number }) => createImageBitmap(await api.layerImage(id, number))));
  if (state.photo?.id !== id) return;
  filling = fetchBackground(id, version);
  const former = new Map(layers.map((layer) => [layer.number, layer]));
  const fresh = described.map((layer, index) => {
    const kept = former.get(layer.number);
    const place = { x: layer.left, y: layer.top, homeX: layer.left, homeY: layer.top, scale: 1, hidden: false };
    if (kept) {
      // the layer's own corner may have moved: what the user moved it by stays
      place.x = layer.left + (kept.x - kept.homeX) + (layer.left - kept.homeX) * (kept.scale - 1);
      place.y = layer.top + (kept.y - kept.homeY) + (layer.top - kept.homeY) * (kept.scale - 1);
      Object.assign(place, { scale: kept.scale, hidden: kept.hidden });
    }
    return { number: layer.number, width: layer.width, height: layer.height, image: images[index], ...place };
  });
  const places = new Map(layers.map((layer, index) => [layer.number, index]));
  if (fresh.length > 0 && fresh.every((layer) => places.has(layer.number))) fresh.sort((a, b) => places.get(a.number) - places.get(b.number));
  layers = fresh;
  loaded = version;
  chosen = state.selected ?? layers.at(-1)?.number ?? null;
  fillPanel();
  changed();
}

/** Fetch the filled background; the former one, or the photo, is shown until it comes. */
async function fetchBackground(id, version) {
  report({ note: "Filling the background …" });
  try {
    const image = await createImageBitmap(await api.layerImage(id, 0));
    if (loaded !== version) return;
    filled = image;
    report({ note: "Drag a person to move it, a corner to scale it." });
    changed();
  } catch (error) {
    report({ error });
  }
}

const layerOf = (number) => layers.find((layer) => layer.number === number);

/** Draw the arrangement. */
export function drawLayers(context, view) {
  const { width, height } = state.photo;
  drawArrangement(context);
  context.strokeStyle = "rgb(120 130 150 / 60%)";
  context.lineWidth = view.px(1);
  context.strokeRect(0, 0, width, height);
  const layer = layerOf(chosen);
  if (!layer || layer.hidden) return;
  const [w, h] = [layer.width * layer.scale, layer.height * layer.scale];
  context.strokeStyle = "#ffffff";
  context.lineWidth = view.px(3);
  context.strokeRect(layer.x, layer.y, w, h);
  context.strokeStyle = "#2557d6";
  context.lineWidth = view.px(1.5);
  context.strokeRect(layer.x, layer.y, w, h);
  const side = view.px(12);
  for (const [x, y] of corners(layer)) {
    context.fillStyle = "#ffffff";
    context.fillRect(x - side / 2, y - side / 2, side, side);
    context.strokeRect(x - side / 2, y - side / 2, side, side);
  }
}

function drawArrangement(context) {
  const { width, height } = state.photo;
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  if (background.kind === "colour") {
    context.fillStyle = background.colour;
    context.fillRect(0, 0, width, height);
  } else if (background.kind === "picture" && background.picture) {
    const { picture } = background;
    const scale = Math.max(width / picture.width, height / picture.height);
    context.drawImage(picture, (width - picture.width * scale) / 2, (height - picture.height * scale) / 2, picture.width * scale, picture.height * scale);
  } else context.drawImage(filled ?? state.photo.image, 0, 0);
  for (const layer of layers) {
    if (!layer.hidden) context.drawImage(layer.image, layer.x, layer.y, layer.width * layer.scale, layer.height * layer.scale);
  }
  context.restore();
}

const corners = ({ x, y, width, height, scale }) => [[x, y], [x + width * scale, y], [x, y + height * scale], [x + width * scale, y + height * scale]];

/** Whether a layer has a pixel there. */
function covers(layer, [x, y]) {
  const column = Math.floor((x - layer.x) / layer.scale);
  const row = Math.floor((y - layer.y) / layer.scale);
  if (column < 0 || row < 0 || column >= layer.width || row >= layer.height) return false;
  const canvas = newCanvas(1, 1);
  const context = canvas.getContext("2d");
  context.drawImage(layer.image, -column, -row);
  return context.getImageData(0, 0, 1, 1).data[3] > 20;
}

/** Drags move a layer, and a corner scales it around the opposite one. */
export const layerTool = {
  drags: true,
  down(at, view) {
    this.before = snapshot();
    this.moved = false;
    const current = layerOf(chosen);
    this.corner = current && !current.hidden ? corners(current).findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) < view.px(14)) : -1;
    if (this.corner < 0) {
      const hit = [...layers].reverse().find((layer) => !layer.hidden && covers(layer, at));
      if (hit) choose(hit.number);
      this.layer = hit ?? null;
    } else this.layer = current;
    this.from = at;
    if (this.layer) this.start = { ...this.layer };
  },
  move(at) {
    if (!this.layer) return;
    this.moved = true;
    const { start, layer } = this;
    if (this.corner < 0) {
      layer.x = Math.round(start.x + at[0] - this.from[0]);
      layer.y = Math.round(start.y + at[1] - this.from[1]);
    } else {
      const fixed = corners(start)[3 - this.corner];
      const length = Math.hypot(start.width, start.height) * start.scale;
      const scale = (start.scale * Math.hypot(at[0] - fixed[0], at[1] - fixed[1])) / Math.max(1, length);
      layer.scale = Math.min(3, Math.max(0.1, scale));
      layer.x = this.corner % 2 === 0 ? fixed[0] - layer.width * layer.scale : fixed[0];
      layer.y = this.corner < 2 ? fixed[1] - layer.height * layer.scale : fixed[1];
    }
    showPlace();
    changed();
  },
  up() {
    if (this.layer && this.moved) remember(this.corner < 0 ? "move a layer" : "scale a layer", this.before);
    this.layer = null;
  },
  cancel() {
    if (this.layer) restore(this.before);
    this.layer = null;
  },
  key([dx, dy], fine) {
    const layer = layerOf(chosen);
    if (!layer || layer.hidden) return false;
    const length = fine ? 1 : 10;
    arrange("move a layer", () => {
      layer.x += dx * length;
      layer.y += dy * length;
    });
    return true;
  },
};

function choose(number) {
  chosen = number;
  state.selected = number;
  fillPanel();
  changed();
}

function shift(number, by) {
  const from = layers.findIndex((layer) => layer.number === number);
  const to = from + by;
  if (to < 0 || to >= layers.length) return;
  arrange("reorder layers", () => layers.splice(to, 0, ...layers.splice(from, 1)));
}

function moveBefore(number, target) {
  if (number === target) return;
  arrange("reorder layers", () => {
    const [layer] = layers.splice(layers.findIndex((one) => one.number === number), 1);
    const to = layers.findIndex((one) => one.number === target);
    layers.splice(to + 1, 0, layer); // before it in the list is in front of it
  });
}

function iconButton(icon, label, act, disabled = false) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "tool";
  button.disabled = disabled;
  button.setAttribute("aria-label", label);
  button.title = label;
  button.innerHTML = `<svg aria-hidden="true"><use href="/studio/static/icons.svg#${icon}"></use></svg>`;
  button.addEventListener("click", act);
  return button;
}

function row(layer, index) {
  const item = document.createElement("li");
  item.draggable = true;
  item.dataset.number = layer.number;
  item.classList.toggle("chosen", layer.number === chosen);
  item.style.setProperty("--person", colourOf(layer.number));
  const name = document.createElement("button");
  name.type = "button";
  name.className = "name";
  name.setAttribute("aria-pressed", String(layer.number === chosen));
  const badge = document.createElement("span");
  badge.className = "number";
  badge.textContent = layer.number;
  name.append(badge, ` Person ${layer.number}`);
  name.addEventListener("click", () => choose(layer.number));
  const hide = iconButton(layer.hidden ? "concealed" : "shown", `${layer.hidden ? "Show" : "Hide"} person ${layer.number}`, () =>
    arrange(layer.hidden ? "show a layer" : "hide a layer", () => { layerOf(layer.number).hidden = !layer.hidden; }));
  const up = iconButton("up", `Person ${layer.number} forward`, () => shift(layer.number, 1), index === layers.length - 1);
  const down = iconButton("down", `Person ${layer.number} backward`, () => shift(layer.number, -1), index === 0);
  item.append(name, hide, up, down);
  item.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/x-layer", String(layer.number)));
  item.addEventListener("dragover", (event) => {
    event.preventDefault();
    item.classList.add("over");
  });
  item.addEventListener("dragleave", () => item.classList.remove("over"));
  item.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const number = Number(event.dataTransfer.getData("text/x-layer"));
    if (layerOf(number)) moveBefore(number, layer.number);
  });
  return item;
}

function fillPanel() {
  const list = element("layer-list");
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  const rows = layers.map(row).reverse();
  const ground = document.createElement("li");
  ground.className = "fixed";
  ground.textContent = "Background";
  list.replaceChildren(...rows, ground);
  if (focused) [...list.querySelectorAll("button")].find((button) => button.getAttribute("aria-label") === focused)?.focus();
  showPlace();
}

function showPlace() {
  const layer = layerOf(chosen);
  element("layer-place").hidden = !layer;
  if (!layer) return;
  element("layer-scale").value = Math.round(100 * layer.scale);
  element("layer-scale-out").textContent = `${Math.round(100 * layer.scale)} %`;
  element("layer-x").value = Math.round(layer.x);
  element("layer-y").value = Math.round(layer.y);
}

/** Scale around the middle of the layer's lower edge, where a person stands. */
function rescale(layer, scale) {
  const [footX, footY] = [layer.x + (layer.width * layer.scale) / 2, layer.y + layer.height * layer.scale];
  Object.assign(layer, { scale, x: footX - (layer.width * scale) / 2, y: footY - layer.height * scale });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const stem = () => state.photo.name.replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "_") || "photo";

async function saveComposed() {
  await filling;
  const canvas = newCanvas(state.photo.width, state.photo.height);
  drawArrangement(canvas.getContext("2d"));
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(save(blob, `${stem()}.composed.png`)), "image/png"));
}

async function pictureBase64(picture) {
  const canvas = newCanvas(picture.width, picture.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/jpeg", 0.95).split(",")[1];
}

async function saveOra() {
  const people = layers.map(({ number, x, y, scale, hidden }) => ({ number, left_top: [x, y], scale, hidden }));
  const sent = { people, split: element("split-layers").checked };
  if (background.kind === "colour") sent.colour = background.colour;
  if (background.kind === "picture" && background.picture) sent.picture = await pictureBase64(background.picture);
  save(await api.arrangedOra(state.photo.id, sent), `${stem()}.layers.ora`);
}

async function takePicture(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: the browser cannot read this as a picture.`);
  }
  arrange("change the background", () => {
    background = { ...background, kind: "picture", picture };
    document.querySelector('input[name="background"][value="picture"]').checked = true;
  });
}

const safely = (act) => async (event) => {
  try {
    await act(event);
  } catch (error) {
    report({ error });
  }
};

/** Connect the panel's controls. */
export function connectLayers() {
  let before = null;
  const scale = element("layer-scale");
  scale.addEventListener("input", () => {
    before ??= snapshot();
    rescale(layerOf(chosen), scale.value / 100);
    showPlace();
    changed();
  });
  scale.addEventListener("change", () => {
    if (before) remember("scale a layer", before);
    before = null;
  });
  for (const [id, key] of [["layer-x", "x"], ["layer-y", "y"]]) {
    element(id).addEventListener("change", (event) => {
      const value = Number(event.target.value);
      if (Number.isFinite(value)) arrange("move a layer", () => { layerOf(chosen)[key] = value; });
    });
  }
  element("layer-reset").addEventListener("click", () => arrange("reset a layer", () => {
    const layer = layerOf(chosen);
    Object.assign(layer, { x: layer.homeX, y: layer.homeY, scale: 1, hidden: false });
  }));
  for (const radio of document.querySelectorAll('input[name="background"]')) {
    radio.addEventListener("change", () => {
      if (radio.value === "picture" && !background.picture) element("background-file").click();
      arrange("change the background", () => { background = { ...background, kind: radio.value }; });
    });
  }
  element("background-colour").addEventListener("input", (event) => {
    document.querySelector('input[name="background"][value="colour"]').checked = true;
    background = { ...background, kind: "colour", colour: event.target.value };
    changed();
  });
  element("background-choose").addEventListener("click", () => element("background-file").click());
  element("background-file").addEventListener("change", safely(async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) await takePicture(file);
  }));
  element("download-composed").addEventListener("click", safely(saveComposed));
  element("download-ora").addEventListener("click", safely(saveOra));
}
