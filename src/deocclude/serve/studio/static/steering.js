// Changes of people on the server, each with its undoing: prompts, visible masks, people that are added or removed.

import * as api from "./api.js";
import { decode, encode, newCanvas, noPrompts, Person } from "./people.js";
import { changed, history, inTurn, state } from "./state.js";

export const BRUSH_COLOURS = { front: "#ffab4d", keep: "#6cc6ff", background: "#e39bff", visible: "#8ff08a" };

let report = () => {};
/** Register a function for errors and one for finished steps. */
export function watchSteering(handler) {
  report = handler;
}

// A person keeps its handle while its number changes, as it does when a removal is undone.
const handles = new Map();
function handleOf(number) {
  if (!handles.has(number)) handles.set(number, { number });
  return handles.get(number);
}
function renumber(handle, number) {
  handle.number = number;
  handles.set(number, handle);
}

const accepted = new WeakMap(); // by handle: the prompts that the server has
const acceptedOf = (handle) => accepted.get(handle) ?? noPrompts();

/** Forget everything of the former photo. */
export function forget() {
  handles.clear();
  brushes.clear();
}

/** Take over what an answer of the server says. */
export async function applyChange(change) {
  const fresh = await Promise.all(change.changed.map((view) => Person.of(view, state.people.get(view.number)?.prompts)));
  for (const person of fresh) state.people.set(person.number, person);
  state.order = change.back_to_front;
  for (const number of [...state.people.keys()]) if (!state.order.includes(number)) state.people.delete(number);
  state.people = new Map([...state.people].sort(([a], [b]) => a - b));
  state.timings = change.timings;
  state.former = change.state; // the server's token of everyone as they are now
  if (state.selected !== null && !state.people.has(state.selected)) state.selected = null;
  state.version = (state.version ?? 0) + 1; // layers and downloads are of this one
  changed();
}

async function timed(label, act) {
  const start = performance.now();
  const done = await act();
  await new Promise(requestAnimationFrame); // the changed picture is drawn
  report({ label, seconds: (performance.now() - start) / 1000 });
  return done;
}

/** What undoing returns to: the server's state, each person's number and the prompts that the server has. */
const snapshot = () => ({
  former: state.former,
  numbers: [...new Set(handles.values())].map((handle) => [handle, handle.number]),
  prompts: [...state.people.keys()].map((number) => [number, acceptedOf(handleOf(number))]),
});

async function restore({ former, numbers, prompts }) {
  await applyChange(await api.restore(state.photo.id, former));
  handles.clear();
  for (const [handle, number] of numbers) renumber(handle, number);
  for (const [number, given] of prompts) {
    accepted.set(handleOf(number), given);
    state.people.get(number).prompts = given;
  }
}

/** Add a step to the history. It returns to the server's states; where one is no longer kept, `undo` or `redo` does again what leads there. */
function remember(label, before, { undo, redo }) {
  const after = snapshot();
  const exactly = (kept, name, otherwise) => async () => {
    try {
      await timed(name, () => restore(kept));
    } catch (error) {
      if (error.status !== 410) throw error;
      await otherwise();
    }
  };
  history.push({ label, undo: exactly(before, "Undone", undo), redo: exactly(after, "Redone", redo) });
}

function setOnServer(handle, prompts) {
  return timed(`Person ${handle.number} redrawn`, async () => {
    await applyChange(await api.complete(state.photo.id, handle.number, prompts));
    accepted.set(handle, prompts);
    const person = state.people.get(handle.number);
    if (person) person.prompts = prompts;
  });
}

const wanted = new Map(); // by handle: the newest prompts that are not sent yet

/** Give a person other prompts. Of several in a row only the newest are sent. */
export function setPrompts(number, prompts, label) {
  const handle = handleOf(number);
  state.people.get(number).prompts = prompts;
  wanted.set(handle, prompts);
  changed();
  return inTurn(async () => {
    if (!wanted.has(handle)) return;
    const kept = snapshot();
    const [before, after] = [acceptedOf(handle), wanted.get(handle)];
    wanted.delete(handle);
    try {
      await setOnServer(handle, after);
    } catch (error) {
      const person = state.people.get(handle.number);
      if (person && !wanted.has(handle)) person.prompts = before;
      changed();
      return report({ error });
    }
    const newer = wanted.get(handle);
    if (newer) state.people.get(handle.number).prompts = newer;
    remember(label, kept, { undo: () => setOnServer(handle, before), redo: () => setOnServer(handle, after) });
  });
}

/** Change one key of the selected person's prompts. */
export function changePrompts(person, part, label) {
  return setPrompts(person.number, { ...person.prompts, ...part }, label);
}

const visiblePixels = (person) => {
  let count = 0;
  for (let i = 0; i < person.maps.length; i += 4) if (person.maps[i] === 255) count++;
  return count;
};

/** Visible masks of people other than `except` that a change took pixels from, as they were before. */
async function robbed(before, except) {
  const found = [];
  for (const [number, person] of before) {
    const now = state.people.get(number);
    if (number !== except && now && now !== person && visiblePixels(now) < visiblePixels(person)) {
      found.push([handleOf(number), await encode(person.visibleMask(state.photo))]);
    }
  }
  return found;
}

async function giveBack(masks) {
  for (const [handle, mask] of masks) await applyChange(await api.replaceVisible(state.photo.id, handle.number, { mask }));
}

/** Do something on the server in turn; errors are reported. */
function change(act) {
  return inTurn(async () => {
    try {
      return await act();
    } catch (error) {
      report({ error });
      return undefined;
    }
  });
}

async function addOnServer(area, handle) {
  return timed("Person added", async () => {
    const answer = await api.addPerson(state.photo.id, area);
    await applyChange(answer);
    if (handle) renumber(handle, answer.number);
    return answer.number;
  });
}

async function removeOnServer(handle) {
  await applyChange(await api.removePerson(state.photo.id, handle.number));
  accepted.delete(handle);
}

/** Add a person by {box_xyxy} or {mask}. */
export function addPerson(area) {
  return change(async () => {
    const [kept, before] = [snapshot(), new Map(state.people)];
    const number = await addOnServer(area, null);
    const handle = handleOf(number);
    state.selected = number;
    const masks = await robbed(before, number);
    const undo = async () => {
      await removeOnServer(handle);
      await giveBack(masks);
    };
    remember("add a person", kept, { undo, redo: () => addOnServer(area, handle) });
  });
}

/** Take a person out. */
export function removePerson(number) {
  return change(async () => {
    const handle = handleOf(number);
    const person = state.people.get(number);
    const mask = await encode(person.visibleMask(state.photo));
    const { prompts } = person;
    const kept = snapshot();
    await removeOnServer(handle);
    report({ label: `Person ${number} removed` });
    const undo = async () => {
      await addOnServer({ mask }, handle);
      if (JSON.stringify(prompts) !== JSON.stringify(noPrompts())) await setOnServer(handle, prompts);
      state.selected = handle.number;
    };
    remember("remove a person", kept, { undo, redo: () => removeOnServer(handle) });
  });
}

/** Give a person another visible mask, base64 PNG. */
export function replaceVisible(number, mask) {
  return change(async () => {
    const handle = handleOf(number);
    const [kept, before] = [snapshot(), new Map(state.people)];
    const former = await encode(before.get(number).visibleMask(state.photo));
    const put = (area) =>
      timed(`Person ${handle.number} redrawn`, async () => applyChange(await api.replaceVisible(state.photo.id, handle.number, area)));
    await put({ mask });
    const masks = await robbed(before, number);
    const undo = async () => {
      await put({ mask: former });
      await giveBack(masks);
    };
    remember("paint the visible part", kept, { undo, redo: () => put({ mask }) });
  });
}

// Painted masks, in their colour: of a prompt's PNG, or being painted.
const brushes = new Map(); // by "number kind": {source, canvas}

/** The painted mask of a person as a canvas of the photo's size; null while there is none, or while it is read. */
export function brushCanvas(person, kind) {
  const key = `${person.number} ${kind}`;
  const source = person.prompts[kind];
  const kept = brushes.get(key);
  if (kept && (kept.painting || kept.source === source)) return kept.canvas;
  if (source === null) return null;
  brushes.set(key, { source, canvas: null });
  readMask(source, BRUSH_COLOURS[kind]).then((canvas) => {
    brushes.set(key, { source, canvas });
    changed();
  });
  return null;
}

/** The canvas to paint on; `finishPainting` ends it. */
export function startPainting(person, kind) {
  const started = kind === "visible" ? tinted(person.visibleMask(state.photo), BRUSH_COLOURS.visible) : brushCanvas(person, kind);
  const canvas = started ?? newCanvas(state.photo.width, state.photo.height);
  brushes.set(`${person.number} ${kind}`, { source: null, canvas, painting: true });
  return canvas;
}

/** The canvas that is being painted on, if it is. */
export const paintedCanvas = (person, kind) => brushes.get(`${person.number} ${kind}`)?.canvas ?? null;

/** Send what was painted. */
export async function finishPainting(person, kind) {
  const key = `${person.number} ${kind}`;
  const { canvas } = brushes.get(key);
  const mask = isEmpty(canvas) ? null : await encode(canvas);
  if (kind === "visible") {
    if (mask === null) report({ error: new Error("Something of the person must be visible: paint it, or remove the person.") });
    else await replaceVisible(person.number, mask);
    brushes.delete(key);
    return changed();
  }
  brushes.set(key, { source: mask, canvas });
  const now = state.people.get(person.number);
  if (now) await changePrompts(now, { [kind]: mask }, `paint “${kind}”`);
}

function isEmpty(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] > 127) return false;
  return true;
}

export function dropPainting(person, kind) {
  brushes.delete(`${person.number} ${kind}`);
  changed();
}

/** A canvas with its opaque pixels in a colour. */
function tinted(canvas, colour) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
  return canvas;
}

/** A mask of base64 PNG in a colour: of its alpha, or of its brightness where all of it is opaque. */
async function readMask(base64, colour) {
  const image = await decode(base64);
  const canvas = newCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = pixels.data;
  let opaque = true;
  for (let i = 3; opaque && i < values.length; i += 4) opaque = values[i] === 255;
  if (opaque) {
    for (let i = 0; i < values.length; i += 4) values[i + 3] = values[i];
    context.putImageData(pixels, 0, 0);
  }
  return tinted(canvas, colour);
}
