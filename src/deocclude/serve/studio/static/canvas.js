// The view of the photo: zoom and pan, pointers and a pointer for the keyboard, and the drawing of what the tabs show.

import { state } from "./state.js";

const KEY_STEP = 10;

export class View {
  /** canvas: the element. draw: of (context, view), in photo pixels. handler: of {down, move, up, hover} in photo pixels. */
  constructor(canvas, draw, handler) {
    Object.assign(this, { canvas, handler, scale: 1, offsetX: 0, offsetY: 0, fits: true, keyPointer: null, pressed: false });
    this.drawScene = draw;
    this.pointers = new Map();
    new ResizeObserver(() => this.#resized()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => this.handler.hover(null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#leaveKeys());
  }

  /** Photo pixels of a pointer's event. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.toPhoto(event.clientX - box.left, event.clientY - box.top);
  }

  toPhoto(x, y) {
    return [(x - this.offsetX) / this.scale, (y - this.offsetY) / this.scale];
  }

  /** Photo pixels as long as so many pixels of the screen. */
  px(screen) {
    return screen / this.scale;
  }

  fit() {
    if (!state.photo) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const margin = Math.min(28, 0.04 * Math.min(width, height));
    this.scale = Math.min((width - 2 * margin) / state.photo.width, (height - 2 * margin) / state.photo.height);
    this.offsetX = (width - this.scale * state.photo.width) / 2;
    this.offsetY = (height - this.scale * state.photo.height) / 2;
    this.fits = true;
    this.draw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(40, Math.max(0.02, this.scale * factor));
    this.offsetX = x - ((x - this.offsetX) * scale) / this.scale;
    this.offsetY = y - ((y - this.offsetY) * scale) / this.scale;
    this.scale = scale;
    this.fits = false;
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const ratio = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!state.photo) return;
    context.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.offsetX, ratio * this.offsetY);
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    this.drawScene(context, this);
    if (this.keyPointer) this.#drawKeyPointer(context);
  }

  #drawKeyPointer(context) {
    const [x, y] = this.keyPointer;
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = this.px(width);
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * this.px(4), y + dy * this.px(4));
        context.lineTo(x + dx * this.px(14), y + dy * this.px(14));
      }
      context.stroke();
    }
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.fits) this.fit();
    else this.draw();
  }

  #down(event) {
    if (!state.photo) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.keyPointer = null;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size === 2) {
      if (this.pressed) this.handler.cancel();
      this.pressed = false;
    } else if (event.button === 1) this.panning = true;
    else if (event.button === 0 && this.pointers.size === 1) {
      this.pressed = true;
      this.handler.down(this.at(event));
    }
  }

  #moved(event) {
    const former = this.pointers.get(event.pointerId);
    if (former) this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (former && this.pointers.size === 2) return this.#pinch(event, former);
    if (former && this.panning) return this.#pan(event.clientX - former[0], event.clientY - former[1]);
    if (!this.pressed) return this.handler.hover(this.at(event));
    for (const each of event.getCoalescedEvents?.() ?? [event]) this.handler.move(this.at(each));
    this.handler.move(this.at(event));
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.panning = false;
    if (!this.pressed) return;
    this.pressed = false;
    if (event.type === "pointercancel") this.handler.cancel();
    else this.handler.up(this.at(event));
  }

  #pan(dx, dy) {
    this.offsetX += dx;
    this.offsetY += dy;
    this.fits = false;
    this.draw();
  }

  /** Two fingers zoom and move. */
  #pinch(event, former) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    const now = [event.clientX, event.clientY];
    const box = this.canvas.getBoundingClientRect();
    this.#pan((now[0] - former[0]) / 2, (now[1] - former[1]) / 2);
    this.zoom(distance(now, other) / Math.max(1, distance(former, other)), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
  }

  #wheel(event) {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    if (event.shiftKey && !event.ctrlKey) return this.#pan(-event.deltaY, -event.deltaX);
    this.zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
  }

  #key(event) {
    if (!state.photo || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      if (!this.handler.key?.(step, event.shiftKey)) this.#moveKeyPointer(step, event.shiftKey ? 1 : KEY_STEP);
    } else if (event.key === "Enter" || event.key === " ") this.#pressKeyPointer();
    else if (event.key === "Escape") this.#leaveKeys();
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  #moveKeyPointer([dx, dy], length) {
    const { width, height } = state.photo;
    const [x, y] = this.keyPointer ?? [width / 2, height / 2];
    this.keyPointer = [Math.min(width, Math.max(0, x + dx * length)), Math.min(height, Math.max(0, y + dy * length))];
    if (this.pressed) this.handler.move(this.keyPointer);
    else this.handler.hover(this.keyPointer);
    this.draw();
  }

  #pressKeyPointer() {
    if (!this.keyPointer) return this.#moveKeyPointer([0, 0], 0);
    this.pressed = !this.pressed;
    if (this.pressed) this.handler.down(this.keyPointer);
    // a click ends at once unless the tool draws a stroke or drags something
    if (!this.pressed || !this.handler.drags()) {
      this.pressed = false;
      this.handler.up(this.keyPointer);
    }
  }

  #leaveKeys() {
    if (this.pressed && this.keyPointer) {
      this.pressed = false;
      this.handler.cancel();
    }
    this.keyPointer = null;
    this.draw();
  }
}
