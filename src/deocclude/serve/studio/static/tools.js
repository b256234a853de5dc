// The tools of the tab "Steer": what a press, a drag and a release of the pointer do, and what each draws.

import { colourOf } from "./people.js";
import { line, personAt } from "./scene.js";
import { changed, selectedPerson, state } from "./state.js";
import { addPerson, BRUSH_COLOURS, brushCanvas, changePrompts, dropPainting, finishPainting, paintedCanvas, startPainting } from "./steering.js";

const REACH_PX = 14; // of the screen: how near a handle is hit
const CLICK_PX = 5;

// Where joints lie in the box of an upright body, as fractions; left is the person's own left.
const JOINT_PLACES = {
  nose: [0.5, 0.07], left_shoulder: [0.7, 0.19], right_shoulder: [0.3, 0.19], left_elbow: [0.8, 0.34], right_elbow: [0.2, 0.34],
  left_wrist: [0.84, 0.48], right_wrist: [0.16, 0.48], left_hip: [0.62, 0.5], right_hip: [0.38, 0.5],
  left_knee: [0.62, 0.73], right_knee: [0.38, 0.73], left_ankle: [0.62, 0.95], right_ankle: [0.38, 0.95],
};
const LIMBS = [
  ["left_shoulder", "left_elbow"], ["left_elbow", "left_wrist"], ["right_shoulder", "right_elbow"], ["right_elbow", "right_wrist"],
  ["left_hip", "left_knee"], ["left_knee", "left_ankle"], ["right_hip", "right_knee"], ["right_knee", "right_ankle"],
  ["left_shoulder", "right_shoulder"], ["left_hip", "right_hip"], ["left_shoulder", "left_hip"], ["right_shoulder", "right_hip"],
];

const distance = ([x0, y0], [x1, y1]) => Math.hypot(x1 - x0, y1 - y0);
const round = (value) => Math.round(value * 10) / 10;
const inside = ([x, y]) => [Math.min(state.photo.width, Math.max(0, x)), Math.min(state.photo.height, Math.max(0, y))];

/** Click selects; a drag moves the view. */
const select = {
  id: "select", label: "Select", help: "Click a person to select it. Drag to move the photo.", drags: false,
  down(at) {
    this.start = at;
    this.moved = false;
  },
  move(at, view) {
    const far = distance(at, this.start) * view.scale;
    if (!this.moved && far < CLICK_PX) return;
    this.moved = true;
    view.offsetX += (at[0] - this.start[0]) * view.scale;
    view.offsetY += (at[1] - this.start[1]) * view.scale;
    view.fits = false;
    view.draw();
  },
  up(at) {
    if (this.moved) return;
    const person = personAt(at);
    if (person) state.selected = person.number;
    changed();
  },
};

const box = {
  id: "box", label: "Add by box", help: "Drag a box around the visible part of somebody who was missed.", drags: true,
  down(at) {
    this.from = this.to = inside(at);
  },
  move(at) {
    this.to = inside(at);
    changed();
  },
  up(at) {
    const edges = boxOf(this.from, inside(at));
    this.from = null;
    changed();
    if (edges[2] - edges[0] >= 4 && edges[3] - edges[1] >= 4) addPerson({ box_xyxy: edges });
  },
  cancel() {
    this.from = null;
  },
  draw(context, view) {
    if (this.from) drawBox(context, view, boxOf(this.from, this.to), "#ffffff", [6, 4]);
  },
};

const boxOf = ([x0, y0], [x1, y1]) => [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map(round);

/** A brush that paints a mask of the selected person. */
function brush(kind, label, help) {
  return {
    id: kind, label, help, drags: true, isBrush: true, needsPerson: true,
    down(at) {
      this.person = selectedPerson();
      this.canvas = startPainting(this.person, kind);
      this.last = at;
      this.move(at);
    },
    move(at) {
      const context = this.canvas.getContext("2d");
      context.globalCompositeOperation = state.erases ? "destination-out" : "source-over";
      context.strokeStyle = BRUSH_COLOURS[kind];
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = state.brushPx;
      line(context, ...this.last, at[0] + 0.01, at[1]);
      context.globalCompositeOperation = "source-over";
      this.last = at;
      changed();
    },
    up() {
      finishPainting(this.person, kind);
    },
    cancel() {
      dropPainting(this.person, kind);
    },
    draw(context, view) {
      const person = selectedPerson();
      const painted = person && kind === "visible" ? (paintedCanvas(person, kind) ?? person) : null;
      if (painted === person && person) {
        context.globalAlpha = 0.4;
        context.drawImage(tintedVisible(person), person.left, person.top);
      } else if (painted) {
        context.globalAlpha = 0.5;
        context.drawImage(painted, 0, 0);
      }
      context.globalAlpha = 1;
      if (this.hovered) drawRing(context, view, this.hovered, state.brushPx / 2);
    },
  };
}

function tintedVisible(person) {
  return (person.cache.tintedVisible ??= (() => {
    const canvas = document.createElement("canvas");
    canvas.width = person.width;
    canvas.height = person.height;
    const context = canvas.getContext("2d");
    context.drawImage(person.visibleCanvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = BRUSH_COLOURS.visible;
    context.fillRect(0, 0, canvas.width, canvas.height);
    return canvas;
  })());
}

const extent = {
  id: "extent", label: "Extent", help: "Drag an edge to where the whole body ends, hidden parts included: “the feet end here”.", drags: true, needsPerson: true,
  edges: () => selectedPerson().prompts.extent_xyxy ?? [...selectedPerson().box],
  down(at, view) {
    const [x0, y0, x1, y1] = (this.now = [...this.edges()]);
    const reach = view.px(REACH_PX);
    const near = (value, edge) => Math.abs(value - edge) < reach;
    const between = (value, low, high) => value > low - reach && value < high + reach;
    this.held = [];
    if (between(at[1], y0, y1)) {
      if (near(at[0], x0) && Math.abs(at[0] - x0) <= Math.abs(at[0] - x1)) this.held.push(0);
      else if (near(at[0], x1)) this.held.push(2);
    }
    if (between(at[0], x0, x1)) {
      if (near(at[1], y0) && Math.abs(at[1] - y0) <= Math.abs(at[1] - y1)) this.held.push(1);
      else if (near(at[1], y1)) this.held.push(3);
    }
    this.from = at;
  },
  move(at) {
    if (this.held.length === 0) this.now = boxOf(this.from, at);
    for (const edge of this.held) this.now[edge] = round(at[edge % 2]);
    changed();
  },
  up() {
    const [x0, y0, x1, y1] = this.now;
    const edges = boxOf([x0, y0], [x1, y1]);
    this.now = null;
    changed();
    const person = selectedPerson();
    const same = JSON.stringify(edges) === JSON.stringify(this.edges());
    if (!same && edges[2] - edges[0] >= 4 && edges[3] - edges[1] >= 4) changePrompts(person, { extent_xyxy: edges }, "extent");
  },
  cancel() {
    this.now = null;
  },
  draw(context, view) {
    const person = selectedPerson();
    if (!person) return;
    const edges = this.now ?? this.edges();
    drawBox(context, view, edges, "#ffe066", this.now || person.prompts.extent_xyxy ? [] : [6, 5]);
    const [x0, y0, x1, y1] = edges;
    for (const x of [x0, (x0 + x1) / 2, x1]) for (const y of [y0, (y0 + y1) / 2, y1]) if (x !== (x0 + x1) / 2 || y !== (y0 + y1) / 2) drawHandle(context, view, [x, y]);
  },
};

/** A tool for points; a click on a point takes it away. */
function points(key, id, label, help) {
  return {
    id, label, help, drags: false, needsPerson: true,
    down() {},
    move() {},
    up(at, view) {
      const person = selectedPerson();
      const kept = person.prompts[key].filter((point) => distance(point, at) > view.px(10));
      const next = kept.length < person.prompts[key].length ? kept : [...kept, inside(at).map(round)];
      changePrompts(person, { [key]: next }, label.toLowerCase());
    },
  };
}

const joints = {
  id: "joints", label: "Joints", help: "Drag a joint to where it is. Only joints that you dragged count; a click on one gives it back.", drags: true, needsPerson: true,
  places() {
    const person = selectedPerson();
    const [x0, y0, x1, y1] = person.prompts.extent_xyxy ?? person.box;
    const found = {};
    for (const [name, [u, v]] of Object.entries(JOINT_PLACES)) found[name] = { at: [x0 + u * (x1 - x0), y0 + v * (y1 - y0)], given: false };
    for (const [name, at] of Object.entries(person.prompts.joints)) found[name] = { at, given: true };
    if (this.held && this.moved) found[this.held] = { at: this.now, given: true };
    return found;
  },
  down(at, view) {
    const near = Object.entries(this.places()).map(([name, { at: place }]) => [distance(place, at), name]).sort((a, b) => a[0] - b[0])[0];
    this.held = near[0] < view.px(2 * REACH_PX) ? near[1] : null;
    [this.from, this.now, this.moved] = [at, at, false];
  },
  move(at, view) {
    if (!this.held) return;
    this.moved ||= distance(at, this.from) * view.scale >= CLICK_PX;
    this.now = inside(at).map(round);
    changed();
  },
  up() {
    const [name, now, moved] = [this.held, this.now, this.moved];
    this.held = null;
    changed();
    const person = selectedPerson();
    if (!name || !person) return;
    const next = { ...person.prompts.joints };
    if (moved) next[name] = now;
    else if (name in next) delete next[name];
    else return;
    changePrompts(person, { joints: next }, name.replace("_", " "));
  },
  cancel() {
    this.held = null;
  },
  draw(context, view) {
    if (!selectedPerson()) return;
    const places = this.places();
    for (const [colour, wide] of [["rgb(10 14 24 / 65%)", 4], ["#ffffff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = view.px(wide);
      context.globalAlpha = 0.8;
      for (const [a, b] of LIMBS) line(context, ...places[a].at, ...places[b].at);
    }
    context.globalAlpha = 1;
    for (const [name, { at, given }] of Object.entries(places)) {
      context.beginPath();
      context.arc(...at, view.px(name === this.held ? 9 : 6.5), 0, 2 * Math.PI);
      context.fillStyle = given ? "#ffe066" : "rgb(255 255 255 / 75%)";
      context.fill();
      context.lineWidth = view.px(1.5);
      context.strokeStyle = "#10131a";
      context.stroke();
    }
    if (this.held) drawLabel(context, view, this.held.replace("_", " "), places[this.held].at);
  },
};

const pose = { ...select, id: "pose", label: "Pose", help: "Choose the typical pose that is nearest to the person's.", needsPerson: true };

export const TOOLS = [
  select,
  box,
  brush("visible", "Visible part", "Paint what is seen of the person; erase what belongs to somebody or something else."),
  brush("front", "In front", "Paint what stands in front of the person: hidden parts are completed only there."),
  brush("keep", "Keep", "Paint what is never repainted."),
  brush("background", "Background", "Paint what is no part of the person, neither visible nor hidden."),
  extent,
  points("points", "point", "Belongs", "Click where the hidden body is. Click a point again to take it away."),
  points("not_points", "notpoint", "Not there", "Click where the body is not. Click a point again to take it away."),
  joints,
  pose,
];

export const currentTool = () => TOOLS.find(({ id }) => id === state.tool);

/** Draw the prompts of the selected person, and the tool. */
export function drawPrompts(context, view) {
  const person = selectedPerson();
  if (person) {
    for (const kind of ["front", "keep", "background"]) {
      const canvas = brushCanvas(person, kind);
      if (!canvas) continue;
      context.globalAlpha = state.tool === kind ? 0.6 : 0.35;
      context.drawImage(canvas, 0, 0);
      context.globalAlpha = 1;
    }
    if (person.prompts.extent_xyxy && state.tool !== "extent") drawBox(context, view, person.prompts.extent_xyxy, "#ffe066", []);
    for (const point of person.prompts.points) drawPoint(context, view, point, "#7ddc7a", "+");
    for (const point of person.prompts.not_points) drawPoint(context, view, point, "#ff9a9a", "−");
    if (state.tool !== "joints") for (const point of Object.values(person.prompts.joints)) drawPoint(context, view, point, "#ffe066", "");
  }
  currentTool().draw?.(context, view);
}

function drawBox(context, view, [x0, y0, x1, y1], colour, dash) {
  context.lineWidth = view.px(4);
  context.strokeStyle = "rgb(10 14 24 / 55%)";
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = view.px(2);
  context.strokeStyle = colour;
  context.setLineDash(dash.map((length) => view.px(length)));
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

function drawHandle(context, view, [x, y]) {
  const side = view.px(10);
  context.fillStyle = "#ffffff";
  context.strokeStyle = "#10131a";
  context.lineWidth = view.px(1.5);
  context.fillRect(x - side / 2, y - side / 2, side, side);
  context.strokeRect(x - side / 2, y - side / 2, side, side);
}

function drawPoint(context, view, at, colour, sign) {
  context.beginPath();
  context.arc(...at, view.px(8), 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = view.px(1.5);
  context.strokeStyle = "#10131a";
  context.stroke();
  context.fillStyle = "#10131a";
  context.font = `700 ${view.px(14)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(sign, at[0], at[1] + view.px(1));
}

function drawRing(context, view, [x, y], radius) {
  for (const [colour, wide] of [["rgb(10 14 24 / 70%)", 3], ["#ffffff", 1.5]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = view.px(wide);
    context.strokeStyle = colour;
    context.stroke();
  }
}

function drawLabel(context, view, text, [x, y]) {
  context.font = `600 ${view.px(13)}px system-ui, sans-serif`;
  const width = context.measureText(text).width + view.px(14);
  context.fillStyle = "rgb(10 14 24 / 85%)";
  context.fillRect(x + view.px(12), y - view.px(12), width, view.px(24));
  context.fillStyle = colourOf(6);
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(text, x + view.px(19), y + view.px(0.5));
}
