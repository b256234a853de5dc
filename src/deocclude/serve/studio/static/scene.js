// Drawing of the photo with its people: recovered parts, outlines, hatching, body parts, uncertainty, numbers.

import { colourOf } from "./people.js";
import { selectedPerson, state } from "./state.js";

/** The people to draw overlays of: the selected one, or everyone. */
export const shownPeople = () => {
  const one = selectedPerson();
  return one ? [one] : [...state.people.values()];
};

/** Draw the photo and what is shown of its people. */
export function drawPhoto(context, view, steering) {
  const { photo, show, compare } = state;
  context.drawImage(photo.image, 0, 0, photo.width, photo.height);
  context.save();
  context.beginPath();
  context.rect(0, 0, (photo.width * compare) / 100, photo.height);
  context.clip();
  drawRecovered(context);
  context.restore();
  const period = Math.max(6, view.px(11));
  for (const person of shownPeople()) {
    if (show.parsing) context.drawImage(person.parsing(state.about.parsing_palette), person.left, person.top);
    if (show.uncertainty) context.drawImage(person.uncertainty, person.left, person.top);
    if (show.hatch) context.drawImage(person.hatch(period), person.left, person.top);
  }
  for (const person of state.people.values()) {
    const chosen = person.number === state.selected;
    if (show.outline || steering) drawOutline(context, view, person, chosen);
  }
  for (const person of state.people.values()) drawNumber(context, view, person);
  if (compare > 0 && compare < 100) drawDivider(context, view);
}

/** The recovered part of the selected person, or of everyone: nearer people stay in front of those behind. */
function drawRecovered(context) {
  const one = selectedPerson();
  if (one) {
    if (one.patch) context.drawImage(one.patch, one.patchLeft, one.patchTop);
    return;
  }
  for (const number of state.order) {
    const person = state.people.get(number);
    if (!person) continue;
    if (person.patch) context.drawImage(person.patch, person.patchLeft, person.patchTop);
    context.drawImage(person.seen(state.photo.image), person.left, person.top);
  }
}

function drawOutline(context, view, person, chosen) {
  context.lineJoin = context.lineCap = "round";
  context.strokeStyle = "rgb(10 14 24 / 70%)";
  context.lineWidth = view.px(chosen ? 4.5 : 3);
  context.stroke(person.outline);
  context.strokeStyle = colourOf(person.number);
  context.lineWidth = view.px(chosen ? 2.5 : 1.4);
  context.stroke(person.outline);
}

function drawNumber(context, view, person) {
  const chosen = person.number === state.selected;
  const radius = view.px(chosen ? 13 : 11);
  const [x0, y0, x1] = person.box;
  const x = (x0 + x1) / 2;
  const y = Math.max(radius + view.px(3), y0 - radius - view.px(6));
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colourOf(person.number);
  context.fill();
  context.lineWidth = view.px(2);
  context.strokeStyle = chosen ? "#ffffff" : "rgb(10 14 24 / 75%)";
  context.stroke();
  context.fillStyle = "#10131a";
  context.font = `700 ${view.px(chosen ? 14 : 12)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(String(person.number), x, y + view.px(0.5));
}

export const dividerX = () => (state.photo.width * state.compare) / 100;

function drawDivider(context, view) {
  const x = dividerX();
  const middle = state.photo.height / 2;
  context.lineWidth = view.px(4);
  context.strokeStyle = "rgb(10 14 24 / 55%)";
  line(context, x, 0, x, state.photo.height);
  context.lineWidth = view.px(2);
  context.strokeStyle = "#ffffff";
  line(context, x, 0, x, state.photo.height);
  context.beginPath();
  context.arc(x, middle, view.px(14), 0, 2 * Math.PI);
  context.fillStyle = "#ffffff";
  context.fill();
  context.strokeStyle = "#2557d6";
  for (const way of [-1, 1]) {
    context.beginPath();
    context.moveTo(x + way * view.px(3.5), middle - view.px(4.5));
    context.lineTo(x + way * view.px(8), middle);
    context.lineTo(x + way * view.px(3.5), middle + view.px(4.5));
    context.stroke();
  }
}

export function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** The nearest person whose visible part, or else whole body, is at a pixel. */
export function personAt([x, y]) {
  const near = [...state.order].reverse().map((number) => state.people.get(number)).filter(Boolean);
  return near.find((one) => one.maskAt(x, y) === 255) ?? near.find((one) => one.maskAt(x, y) > 0) ?? null;
}
