// The page: opening a photo, the people, the tabs and their panels.

import * as api from "./api.js";
import { View } from "./canvas.js";
import { connectLayers, drawLayers, forgetLayers, layerTool, openLayers, save, watchLayers } from "./layers.js";
import { colourOf, decode, hasPrompts, newCanvas, noPrompts } from "./people.js";
import { dividerX, drawPhoto } from "./scene.js";
import { changed, history, inTurn, onChange, selectedPerson, state } from "./state.js";
import { applyChange, changePrompts, forget, removePerson, setPrompts, watchSteering } from "./steering.js";
import { currentTool, drawPrompts, TOOLS } from "./tools.js";

const element = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
const TABS = ["view", "steer", "layers"];

// ---- Messages ----

function showError(error) {
  if (!(error instanceof Error)) error = new Error(String(error));
  say("");
  element("error-text").textContent = sentence(error.message);
  element("error").hidden = false;
  if (error.status === 404 && state.photo) leavePhoto();
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
const hideError = () => { element("error").hidden = true; };
const say = (text) => { element("status").textContent = text; };

let answers = 0;
function report({ error, note, label, seconds }) {
  if (error) return showError(error);
  if (note !== undefined) return say(note);
  hideError();
  answers += 1;
  element("canvas").dataset.answers = answers;
  if (seconds !== undefined) element("canvas").dataset.answerMs = Math.round(1000 * seconds);
  say(seconds === undefined ? `${label}.` : `${label} in ${seconds.toFixed(2)} s.`);
}
watchSteering(report);
watchLayers(report);

api.watchProgress((position) => {
  element("canvas").toggleAttribute("aria-busy", position !== null);
  if (position === null) return;
  const text = position === 0 ? "Working …" : `Waiting: number ${position} in the queue …`;
  say(text);
  element("veil-text").textContent = position === 0 ? "Finding people …" : text;
});

api.watchToken(() => new Promise((resolve) => {
  const dialog = element("token");
  element("token-text").value = "";
  dialog.returnValue = "";
  dialog.onclose = () => resolve(dialog.returnValue === "use" ? element("token-text").value.trim() : null);
  dialog.showModal();
}));

element("token-cancel").addEventListener("click", () => element("token").close());

const safely = (act) => async (...given) => {
  try {
    return await act(...given);
  } catch (error) {
    return showError(error);
  }
};

// ---- Opening a photo ----

async function openPhoto(request, name) {
  hideError();
  element("veil-text").textContent = "Finding people …";
  element("veil").hidden = false;
  try {
    const answer = await request();
    const image = await createImageBitmap(await api.photoImage(answer.id));
    if (state.photo) api.close(state.photo.id);
    forget();
    forgetLayers();
    history.clear();
    Object.assign(state, { photo: { ...answer, image, name }, people: new Map(), selected: null, compare: 100, tool: "select" });
    element("compare").value = 100;
    await applyChange(answer);
    state.selected = mostHidden();
    element("photo-name").textContent = name;
    for (const [id, shown] of [["start", false], ["work", true], ["bar-actions", true]]) element(id).hidden = !shown;
    const count = state.people.size;
    chooseTab(count ? "view" : "steer");
    if (!count) state.tool = "box";
    say(count ? `${count} ${count === 1 ? "person" : "people"} found in ${(answer.timings.total ?? 0).toFixed(2)} s.` : "Nobody was found: drag a box around a person.");
    view.fit();
    element("canvas").focus({ preventScroll: true, focusVisible: false });
  } finally {
    element("veil").hidden = true;
  }
}

function mostHidden() {
  const people = [...state.people.values()].sort((a, b) => b.hiddenFraction - a.hiddenFraction);
  return people[0]?.number ?? null;
}

function leavePhoto() {
  if (state.photo) api.close(state.photo.id);
  state.photo = null;
  state.people = new Map();
  history.clear();
  element("photo-name").textContent = "";
  for (const [id, shown] of [["start", true], ["work", false], ["bar-actions", false]]) element(id).hidden = !shown;
  element("choose").focus();
}

const openFile = safely(async (file) => {
  if (!file) return;
  const limit = state.about?.max_bytes ?? Infinity;
  if (file.size > limit) throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; at most ${Math.floor(limit / 1e6)} MB are accepted.`);
  await openPhoto(() => api.upload(file, file.name), file.name);
});

function connectOpening() {
  const input = element("file");
  element("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";
    openFile(file);
  });
  element("another").addEventListener("click", leavePhoto);
  element("error-close").addEventListener("click", hideError);
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    element("drop").classList.add("over");
  });
  window.addEventListener("dragleave", () => element("drop").classList.remove("over"));
  window.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    element("drop").classList.remove("over");
    openFile(event.dataTransfer.files[0]);
  });
  window.addEventListener("paste", (event) => openFile([...(event.clipboardData?.files ?? [])][0]));
  window.addEventListener("pagehide", () => state.photo && api.close(state.photo.id));
}

function showSamples() {
  const buttons = state.about.samples.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = `<img alt="" src="${api.sampleUrl(name)}"><span></span>`;
    button.lastChild.textContent = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
    button.addEventListener("click", safely(() => openPhoto(() => api.openSample(name), `${name}.jpg`)));
    return button;
  });
  element("samples").replaceChildren(...buttons);
  element("limits").textContent = `At most ${Math.floor(state.about.max_bytes / 1e6)} MB and ${state.about.max_pixels / 1e6} megapixels.`;
}

// ---- People and tabs ----

function showPeople() {
  const list = element("people");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.number : null;
  const buttons = [...state.people.values()].map((person) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.number = person.number;
    button.setAttribute("aria-pressed", String(person.number === state.selected));
    button.setAttribute("aria-label", `Person ${person.number}, ${percent(person.hiddenFraction)} hidden`);
    button.style.setProperty("--person", colourOf(person.number));
    button.innerHTML = '<span class="number"></span><span></span>';
    button.firstChild.textContent = person.number;
    button.lastChild.textContent = `${percent(person.hiddenFraction)} hidden`;
    button.addEventListener("click", () => choose(person.number));
    return button;
  });
  if (buttons.length > 1) {
    const all = document.createElement("button");
    all.type = "button";
    all.className = "all";
    all.dataset.number = "all";
    all.textContent = "Everyone";
    all.setAttribute("aria-pressed", String(state.selected === null));
    all.addEventListener("click", () => choose(null));
    buttons.push(all);
  }
  list.replaceChildren(...buttons);
  if (focused) list.querySelector(`[data-number="${focused}"]`)?.focus();
}

function choose(number) {
  state.selected = number;
  changed();
  if (state.tab === "layers") safely(openLayers)();
}

function chooseTab(name) {
  state.tab = name;
  hideError();
  for (const each of TABS) {
    const tab = element(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    element(`panel-${each}`).hidden = each !== name;
  }
  element("compare-bar").hidden = name === "layers";
  say("");
  if (name === "layers") loadLayers();
  changed();
}

const loadLayers = safely(() => inTurn(openLayers));

function connectTabs() {
  for (const [index, name] of TABS.entries()) {
    const tab = element(`tab-${name}`);
    tab.addEventListener("click", () => chooseTab(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = TABS[(index + step + TABS.length) % TABS.length];
      chooseTab(next);
      element(`tab-${next}`).focus();
    });
  }
}

// ---- Look ----

function fillFacts(list, facts) {
  list.replaceChildren(...facts.flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}

const LEFT_ALONE = { low: "no: too small", unlikely: "no: probably nothing is in front" };
const STEPS = { find: "Read the photo, find people", complete: "Complete masks", recover: "Recover appearance", total: "Together" };

function showLook() {
  const person = selectedPerson();
  fillFacts(element("facts"), person
    ? [
        ["Hidden share", percent(person.hiddenFraction)],
        ["Probability that something is hidden", percent(person.hiddenProbability)],
        ["Score", percent(person.score)],
        ...(person.truncatedBy.length ? [["Cut by the photo’s edge", person.truncatedBy.join(", ")]] : []),
        ...(person.leftAlone ? [["Completed", LEFT_ALONE[person.leftAlone] ?? "no"]] : []),
      ]
    : [["People", String(state.people.size)]]);
  fillFacts(element("timings"), Object.entries(STEPS).filter(([name]) => state.timings[name] > 0).map(([name, step]) => [step, state.timings[name].toFixed(2)]));
  const legend = element("legend");
  legend.hidden = !state.show.parsing;
  element("ramp").hidden = !state.show.uncertainty;
  if (!legend.childElementCount && state.about) {
    legend.replaceChildren(...state.about.parsing_names.slice(1).map((name, index) => {
      const item = document.createElement("li");
      const swatch = document.createElement("i");
      swatch.style.background = `rgb(${state.about.parsing_palette[index + 1].join(" ")})`;
      item.append(swatch, name.replace("_", " "));
      return item;
    }));
  }
}

function connectLook() {
  for (const name of ["outline", "hatch", "parsing", "uncertainty"]) {
    element(`show-${name}`).addEventListener("change", (event) => {
      state.show[name] = event.target.checked;
      changed();
    });
  }
  element("compare").addEventListener("input", (event) => {
    state.compare = Number(event.target.value);
    changed();
  });
}

// ---- Steer ----

function connectSteer() {
  const buttons = TOOLS.map((tool) => {
    const button = document.createElement("button");
    button.type = "button";
    button.id = `tool-${tool.id}`;
    button.setAttribute("role", "radio");
    button.innerHTML = `<svg aria-hidden="true"><use href="/studio/static/icons.svg#${tool.id}"></use></svg><span></span>`;
    button.lastChild.textContent = tool.label;
    button.addEventListener("click", () => chooseTool(tool.id));
    return button;
  });
  element("tools").replaceChildren(...buttons);
  element("tools").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const index = TOOLS.findIndex(({ id }) => id === state.tool);
    const next = TOOLS[(index + step + TOOLS.length) % TOOLS.length];
    chooseTool(next.id);
    element(`tool-${next.id}`).focus();
  });
  element("brush-size").addEventListener("input", (event) => {
    state.brushPx = brushPx(Number(event.target.value));
    changed();
  });
  element("brush-erase").addEventListener("change", (event) => { state.erases = event.target.checked; });
  element("clear-prompts").addEventListener("click", () => {
    const person = selectedPerson();
    if (person && hasPrompts(person.prompts)) setPrompts(person.number, noPrompts(), "clear prompts");
  });
  element("remove-person").addEventListener("click", () => state.selected !== null && removePerson(state.selected));
  element("other").addEventListener("click", safely(showHypotheses));
}

/** Brush sizes are of the screen at the photo's whole view: the same slider suits small and large photos. */
const brushPx = (value) => Math.max(1, (value * Math.max(state.photo?.width ?? 700, state.photo?.height ?? 700)) / 700);

function chooseTool(id) {
  state.tool = id;
  state.erases = element("brush-erase").checked;
  state.brushPx = brushPx(Number(element("brush-size").value));
  if (currentTool().needsPerson && state.selected === null) state.selected = mostHidden();
  if (id === "pose") safely(showPoses)();
  changed();
}

function showSteer() {
  const person = selectedPerson();
  for (const tool of TOOLS) {
    const button = element(`tool-${tool.id}`);
    const chosen = tool.id === state.tool;
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    button.disabled = Boolean(tool.needsPerson) && state.people.size === 0;
  }
  const tool = currentTool();
  element("tool-help").textContent = tool.help;
  element("brush").hidden = !tool.isBrush;
  element("poses").hidden = state.tool !== "pose";
  for (const button of element("poses").children) button.setAttribute("aria-pressed", String(Number(button.dataset.pose) === person?.prompts.pose));
  element("clear-prompts").disabled = !person || !hasPrompts(person.prompts);
  element("remove-person").disabled = element("other").disabled = !person;
  // completions were computed with the prompts of then
  if (!element("hypotheses").hidden && !offered.includes(offer(person))) element("hypotheses").hidden = true;
}

async function showPoses() {
  const list = element("poses");
  if (list.childElementCount) return;
  const sheet = await createImageBitmap(await api.poseSheet());
  const side = sheet.height;
  const buttons = Array.from({ length: state.about.poses }, (_, index) => {
    const button = document.createElement("button");
    const canvas = newCanvas(side, side);
    canvas.getContext("2d").drawImage(sheet, -index * side, 0);
    button.type = "button";
    button.dataset.pose = index + 1;
    button.setAttribute("aria-label", `Typical pose ${index + 1}`);
    button.append(canvas);
    button.addEventListener("click", () => {
      const person = selectedPerson();
      if (person) changePrompts(person, { pose: person.prompts.pose === index + 1 ? null : index + 1 }, "typical pose");
    });
    return button;
  });
  list.replaceChildren(...buttons);
  changed();
}

const offer = (person) => person && `${person.number} ${JSON.stringify(person.prompts)}`;
let offered = []; // the person's prompts for which the shown completions hold

async function showHypotheses() {
  const person = selectedPerson();
  say("Looking for other completions …");
  const found = await inTurn(() => api.hypotheses(state.photo.id, person.number));
  const masks = await Promise.all(found.map((one) => decode(one.mask)));
  const buttons = found.map((one, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(person.thumbnail(state.photo.image, masks[index], one.region_xyxy, 220), percent(one.probability));
    button.setAttribute("aria-label", `Completion ${index + 1}, probability ${percent(one.probability)}`);
    button.addEventListener("click", () => {
      if (!state.people.has(person.number)) return;
      setPrompts(person.number, one.prompts, "another completion");
    });
    return button;
  });
  offered = [offer(person), ...found.map((one) => offer({ number: person.number, prompts: one.prompts }))];
  element("hypotheses").replaceChildren(...buttons);
  element("hypotheses").hidden = buttons.length === 0;
  say(`${found.length} completions, the most probable first.`);
}

// ---- Undo, downloads, drawing ----

function connectHistory() {
  const act = (name) => safely(async () => {
    await inTurn(() => history[name]());
    if (state.tab === "layers") await openLayers();
  });
  const [undo, redo] = [act("undo"), act("redo")];
  element("undo").addEventListener("click", undo);
  element("redo").addEventListener("click", redo);
  window.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !state.photo || event.target.matches('input[type="number"]')) return;
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      (key === "y" || event.shiftKey ? redo : undo)();
    }
  });
}

function showHistory() {
  const { undo, redo } = history.next;
  for (const [id, label, keys] of [["undo", undo, "Ctrl+Z"], ["redo", redo, "Ctrl+Shift+Z"]]) {
    const button = element(id);
    button.disabled = label === undefined;
    const verb = id === "undo" ? "Undo" : "Redo";
    button.title = label === undefined ? `${verb} (${keys})` : `${verb}: ${label} (${keys})`;
  }
}

/** Paths of the files of the photo, by the button that saves them; null where there is none. */
function downloadPaths() {
  const person = selectedPerson();
  return {
    rgba: person && `people/${person.number}/rgba.png`, hidden: person?.patch ? `people/${person.number}/hidden.png` : null,
    recovered: "recovered.png", masks: "masks.zip", json: "result.json",
  };
}

function showDownloads() {
  for (const [name, path] of Object.entries(downloadPaths())) element(`download-${name}`).disabled = !path;
}

function connectDownloads() {
  for (const name of ["rgba", "hidden", "recovered", "masks", "json"]) {
    element(`download-${name}`).addEventListener("click", safely(async () => {
      const file = await api.download(state.photo.id, downloadPaths()[name]);
      save(file.content, file.name);
    }));
  }
}

const activeTool = () => {
  if (state.tab === "layers") return layerTool;
  return state.tab === "steer" ? currentTool() : lookTool;
};

/** In "Look" a drag near the divider moves it; otherwise as the tool that selects. */
const lookTool = {
  drags: false,
  down(at, view) {
    const near = state.compare > 0 && state.compare < 100 && Math.abs(at[0] - dividerX()) < view.px(16);
    this.divides = near;
    if (!near) TOOLS[0].down(at);
  },
  move(at, view) {
    if (!this.divides) return TOOLS[0].move(at, view);
    state.compare = Math.min(100, Math.max(0, (100 * at[0]) / state.photo.width));
    element("compare").value = state.compare;
    changed();
  },
  up(at, view) {
    if (!this.divides) TOOLS[0].up(at, view);
    this.divides = false;
  },
};

let held = null; // the tool of the press that is under way
const view = new View(
  element("canvas"),
  (context, drawn) => {
    if (state.tab === "layers") return drawLayers(context, drawn);
    drawPhoto(context, drawn, state.tab === "steer");
    if (state.tab === "steer") drawPrompts(context, drawn);
  },
  {
    down(at) {
      const tool = activeTool();
      if (tool.needsPerson && !selectedPerson()) return;
      held = tool;
      held.down(at, view);
    },
    move: (at) => held?.move(at, view),
    up(at) {
      const tool = held;
      held = null;
      tool?.up(at, view);
    },
    cancel() {
      held?.cancel?.();
      held = null;
      changed();
    },
    hover(at) {
      const tool = activeTool();
      if (!tool.isBrush) return;
      tool.hovered = at;
      changed();
    },
    drags: () => Boolean(held?.drags),
    key: (step, fine) => state.tab === "layers" && layerTool.key(step, fine),
  },
);
for (const [id, act] of [["zoom-in", () => view.zoom(1.25)], ["zoom-out", () => view.zoom(0.8)], ["zoom-fit", () => view.fit()]]) {
  element(id).addEventListener("click", act);
}

onChange(() => {
  if (!state.photo) return;
  showPeople();
  showLook();
  showSteer();
  showHistory();
  showDownloads();
  view.draw();
});

connectOpening();
connectTabs();
connectLook();
connectSteer();
connectLayers();
connectHistory();
connectDownloads();
safely(async () => {
  state.about = await api.about();
  showSamples();
})();
