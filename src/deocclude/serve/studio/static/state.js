// What the page knows: the open photo, its people, what is chosen and shown, and what can be undone.

export const state = {
  about: null,
  photo: null, // {id, name, width, height, image}
  people: new Map(), // Person by number
  order: [], // numbers, the furthest first
  timings: {},
  selected: null, // number; null: everyone
  tab: "view",
  tool: "select",
  brushPx: 24,
  erases: false,
  compare: 100, // percent of the photo's width that shows the recovered photo
  show: { outline: true, hatch: false, parsing: false, uncertainty: false },
};

const listeners = new Set();
let planned = false;

/** Call a function after every change, at most once a frame. */
export function onChange(listener) {
  listeners.add(listener);
}

/** Say that the state changed. */
export function changed() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    for (const listener of listeners) listener();
  });
}

export const selectedPerson = () => (state.selected === null ? null : (state.people.get(state.selected) ?? null));

/** Steps that can be undone: {label, undo, redo}, both functions that may take time. */
class History {
  #done = [];
  #undone = [];

  push(step) {
    this.#done.push(step);
    if (this.#done.length > 100) this.#done.shift();
    this.#undone = [];
    changed();
  }

  clear() {
    this.#done = [];
    this.#undone = [];
    changed();
  }

  get next() {
    return { undo: this.#done.at(-1)?.label, redo: this.#undone.at(-1)?.label };
  }

  undo = () => this.#move("undo", () => [this.#done, this.#undone]);
  redo = () => this.#move("redo", () => [this.#undone, this.#done]);

  /** Take the last step from one list to the other; it stays where it is if that fails. */
  async #move(way, lists) {
    const step = lists()[0].pop();
    if (step === undefined) return;
    try {
      await step[way]();
      lists()[1].push(step);
    } catch (error) {
      lists()[0].push(step);
      throw error;
    } finally {
      changed();
    }
  }
}

export const history = new History();

/** Do one thing after another: the next begins when the former has ended, well or badly. */
let last = Promise.resolve();
export function inTurn(job) {
  const own = last.then(job, job);
  last = own.catch(() => {});
  return own;
}
