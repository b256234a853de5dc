// A person as the server sends it, ready to draw: masks as arrays, outlines as paths, overlays as small canvases.

const COLOURS = ["#4cc2ff", "#ffb347", "#7ddc7a", "#ff8fb1", "#c7a6ff", "#ffe066", "#6fe3d1", "#ff9d7a"];

export const colourOf = (number) => COLOURS[(number - 1) % COLOURS.length];
export const noPrompts = () => ({ extent_xyxy: null, points: [], not_points: [], joints: {}, pose: null, hypothesis: null, front: null, keep: null, background: null });
export const hasPrompts = (prompts) => JSON.stringify(prompts) !== JSON.stringify(noPrompts());

/** A canvas of a size. */
export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  return canvas;
}

/** A decoded picture of base64 PNG. */
export async function decode(base64) {
  const image = new Image();
  image.src = `data:image/png;base64,${base64}`;
  await image.decode();
  return image;
}

/** Base64 of a canvas as PNG. */
export function encode(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob === null) return reject(new Error("The mask is too large for this browser."));
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    }, "image/png");
  });
}

/** The borders of a mask as one path in photo pixels: a line for every run of pixel edges. */
function outlinePath(inside, width, height, left, top) {
  const path = new Path2D();
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside(y * width + x);
  for (let y = 0; y <= height; y++) {
    let start = -1;
    for (let x = 0; x <= width; x++) {
      const edge = x < width && at(x, y) !== at(x, y - 1);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) {
        path.moveTo(left + start, top + y);
        path.lineTo(left + x, top + y);
        start = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    let start = -1;
    for (let y = 0; y <= height; y++) {
      const edge = y < height && at(x, y) !== at(x - 1, y);
      if (edge && start < 0) start = y;
      if (!edge && start >= 0) {
        path.moveTo(left + x, top + start);
        path.lineTo(left + x, top + y);
        start = -1;
      }
    }
  }
  return path;
}

export class Person {
  /** Read what the server sent; `prompts` are those that the user has given so far. */
  static async of(view, prompts = noPrompts()) {
    const person = new Person();
    Object.assign(person, {
      number: view.number, prompts, score: view.score, hiddenFraction: view.hidden_fraction,
      hiddenProbability: view.hidden_probability, box: view.box_xyxy, truncatedBy: view.truncated_by, leftAlone: view.left_alone,
    });
    [person.left, person.top] = view.region_xyxy;
    [person.patchLeft, person.patchTop] = view.patch_xyxy;
    const [maps, patch] = await Promise.all([decode(view.maps), view.patch ? decode(view.patch) : null]);
    person.patch = patch;
    person.width = maps.naturalWidth;
    person.height = maps.naturalHeight;
    const canvas = newCanvas(person.width, person.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(maps, 0, 0);
    person.maps = context.getImageData(0, 0, person.width, person.height).data; // mask, parsing, probability, 255
    person.cache = {};
    return person;
  }

  get #size() {
    return this.width * this.height;
  }

  /** 255 visible, 128 invisible, 0 no part of the person, at a pixel of the photo. */
  maskAt(x, y) {
    const column = Math.floor(x) - this.left;
    const row = Math.floor(y) - this.top;
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return 0;
    return this.maps[4 * (row * this.width + column)];
  }

  #once(name, make) {
    return (this.cache[name] ??= make());
  }

  get outline() {
    return this.#once("outline", () => outlinePath((i) => this.maps[4 * i] > 0, this.width, this.height, this.left, this.top));
  }

  /** Draw a colour for each pixel of the region. colour: of an index, [red, green, blue, alpha]. */
  #painted(colour) {
    const canvas = newCanvas(this.width, this.height);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.width, this.height);
    for (let i = 0; i < this.#size; i++) {
      const value = colour(i);
      if (value !== null) pixels.data.set(value, 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  parsing(palette) {
    return this.#once("parsing", () => this.#painted((i) => (this.maps[4 * i] ? [...palette[this.maps[4 * i + 1]], 175] : null)));
  }

  /** Diagonal stripes over the invisible part. period: in photo pixels. */
  hatch(period) {
    const wide = Math.max(4, Math.round(period));
    return this.#once(`hatch${wide}`, () =>
      this.#painted((i) => {
        if (this.maps[4 * i] !== 128) return null;
        const stripe = ((i % this.width) + Math.floor(i / this.width) + this.left + this.top) % wide;
        return stripe < wide / 3 ? [255, 255, 255, 215] : [20, 24, 40, 85];
      }),
    );
  }

  /** Where the model is unsure: strongest at a probability of one half. */
  get uncertainty() {
    return this.#once("uncertainty", () =>
      this.#painted((i) => {
        const probability = this.maps[4 * i + 2] / 255;
        const unsure = 4 * probability * (1 - probability);
        if (unsure < 0.06) return null;
        return [255 - 26 * unsure, 200 * (1 - unsure), 60 * unsure, 60 + 180 * unsure];
      }),
    );
  }

  /** The visible pixels as a mask, and as a canvas of the photo's size in a colour. */
  get visibleCanvas() {
    return this.#once("visible", () => this.#painted((i) => (this.maps[4 * i] === 255 ? [255, 255, 255, 255] : null)));
  }

  /** The visible pixels of the photo. */
  seen(image) {
    return this.#once("seen", () => {
      const canvas = newCanvas(this.width, this.height);
      const context = canvas.getContext("2d");
      context.drawImage(this.visibleCanvas, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.drawImage(image, -this.left, -this.top);
      return canvas;
    });
  }

  /** The visible mask as a canvas of the photo's size, to paint on. */
  visibleMask(photo) {
    const canvas = newCanvas(photo.width, photo.height);
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(this.visibleCanvas, this.left, this.top);
    return canvas;
  }

  /** The person with its recovered part, as a thumbnail of a height. */
  thumbnail(image, mask, region, heightPx) {
    const [x0, y0, x1, y1] = region;
    const scale = heightPx / (y1 - y0);
    const canvas = newCanvas(Math.round((x1 - x0) * scale), heightPx);
    const context = canvas.getContext("2d");
    context.drawImage(mask, 0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#ff8a3d";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    context.drawImage(this.seen(image), (this.left - x0) * scale, (this.top - y0) * scale, this.width * scale, this.height * scale);
    return canvas;
  }
}
