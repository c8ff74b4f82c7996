"use strict";
// The pictures: laid over each other or side by side, with one zoom and one place for all of them.

const MOST_ZOOM = 32;
const PIXELATED_FROM = 2;
const STEPS = [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, MOST_ZOOM];

class Stage {
  /** @param changed Called after the user moved, zoomed or dragged. */
  constructor(changed) {
    this.changed = changed;
    this.element = byId("stage");
    this.layers = byId("layers");
    this.divider = byId("divider");
    this.panes = [];
    this.size = { width: 1, height: 1 };
    this.mode = "slide";
    this.split = 50;
    this.amplify = 8;
    this.zoom = null; // null: fit
    this.centre = null; // in pixels of the image; null: its middle
    this.pointers = new Map();
    this.scrolled = 0;
    this.listen();
    new ResizeObserver(() => this.layout()).observe(this.element);
  }

  /** Shows pictures {src, label, detail} of one size. The same place stays in view. */
  show(pictures, size, mode) {
    if (size.width !== this.size.width || size.height !== this.size.height) this.centre = null;
    this.size = size;
    this.mode = mode;
    while (this.panes.length < pictures.length) {
      const image = make("img", { alt: "", draggable: "false" });
      const tag = make("div", { class: "tag" });
      this.panes.push({ pane: make("div", { class: "pane" }, image, tag), image, tag });
    }
    this.panes.length = pictures.length;
    this.layers.replaceChildren(...this.panes.map(({ pane }) => pane));
    pictures.forEach(({ src, label, detail }, i) => {
      const { image, tag } = this.panes[i];
      if (image.getAttribute("src") !== src) image.src = src;
      image.alt = label;
      image.width = size.width;
      image.height = size.height;
      tag.replaceChildren(make("b", {}, label), ...(detail ? [make("span", {}, detail)] : []));
    });
    this.element.dataset.mode = mode;
    this.layout();
  }

  /** Whether the panes lie over each other. */
  get isLaid() {
    return this.mode === "slide" || this.mode === "difference";
  }

  layout() {
    if (!this.panes.length) return;
    const { clientWidth: width, clientHeight: height } = this.element;
    const gap = 2;
    const count = this.isLaid ? 1 : this.panes.length;
    // As many columns as show the pictures largest.
    let best = null;
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const [w, h] = [(width - gap * (columns - 1)) / columns, (height - gap * (rows - 1)) / rows];
      const fit = Math.min(w / this.size.width, h / this.size.height);
      if (!best || fit > best.fit) best = { columns, w, h, fit };
    }
    this.pane = best;
    this.panes.forEach(({ pane, tag }, i) => {
      const place = this.isLaid ? 0 : i;
      pane.style.left = `${(place % best.columns) * (best.w + gap)}px`;
      pane.style.top = `${Math.floor(place / best.columns) * (best.h + gap)}px`;
      pane.style.width = `${best.w}px`;
      pane.style.height = `${best.h}px`;
      tag.classList.toggle("right", this.mode === "slide" && i === 1);
    });
    this.draw();
  }

  get scale() {
    return this.zoom ?? this.pane.fit;
  }

  draw() {
    if (!this.pane) return;
    const { w, h, fit } = this.pane;
    const { width, height } = this.size;
    if (this.zoom !== null && this.zoom <= fit) this.zoom = null;
    const scale = this.scale;
    const middle = (size, room, at) => (size * scale <= room ? size / 2 : clamp(at, room / 2 / scale, size - room / 2 / scale));
    const centre = this.centre ?? [width / 2, height / 2];
    this.centre = [middle(width, w, centre[0]), middle(height, h, centre[1])];
    const [x, y] = [w / 2 - this.centre[0] * scale, h / 2 - this.centre[1] * scale];
    this.panes.forEach(({ pane, image }, i) => {
      image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      pane.style.clipPath = this.mode === "slide" && i === 1 ? `inset(0 0 0 ${this.split}%)` : "";
    });
    this.layers.style.filter = this.mode === "difference" ? `brightness(${this.amplify})` : "";
    this.element.classList.toggle("pixelated", scale >= PIXELATED_FROM);
    this.element.classList.toggle("fits", this.zoom === null);
    this.divider.hidden = this.mode !== "slide";
    this.divider.style.left = `${this.split}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(this.split)));
    this.divider.setAttribute("aria-valuetext", `${Math.round(this.split)} % left`);
    const percent = scale * 100;
    byId("zoom").textContent = `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
    byId("zoom-out").disabled = this.zoom === null;
    byId("zoom-in").disabled = scale >= this.most;
  }

  get most() {
    return Math.max(MOST_ZOOM, this.pane.fit);
  }

  /** Zooms so that the point under (x, y), pixels within the pane, stays there; without a point, the middle. */
  zoomTo(scale, x = this.pane.w / 2, y = this.pane.h / 2) {
    const wanted = clamp(scale, this.pane.fit, this.most);
    const [dx, dy] = [x - this.pane.w / 2, y - this.pane.h / 2];
    const factor = 1 / this.scale - 1 / wanted;
    this.centre = [this.centre[0] + dx * factor, this.centre[1] + dy * factor];
    this.zoom = wanted;
    this.draw();
    this.changed();
  }

  step(direction) {
    const scale = this.scale;
    const next = direction > 0 ? STEPS.find((s) => s > scale * 1.01) : STEPS.findLast((s) => s < scale * 0.99);
    this.zoomTo(next ?? (direction > 0 ? MOST_ZOOM : 0));
  }

  pan(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] - dy / this.scale];
    this.draw();
    this.changed();
  }

  splitAt(percent) {
    this.split = clamp(percent, 0, 100);
    this.draw();
    this.changed();
  }

  /** Where an event is: within the stage's width (%), and within the pane under it (pixels). */
  where(event) {
    const box = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - this.element.clientLeft, event.clientY - box.top - this.element.clientTop];
    const inPane = (at, size) => (this.isLaid ? at : at % (size + 2));
    return { percent: (x / this.element.clientWidth) * 100, x: inPane(x, this.pane.w), y: inPane(y, this.pane.h) };
  }

  listen() {
    this.element.addEventListener("pointerdown", (event) => this.down(event));
    this.element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    this.element.addEventListener("dblclick", (event) => {
      const { x, y } = this.where(event);
      this.zoomTo(this.zoom === null ? Math.max(4, this.pane.fit * 4) : 0, x, y);
    });
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    window.addEventListener("scroll", () => (this.scrolled = performance.now()), { passive: true });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.divider.addEventListener("keydown", (event) => this.dividerKey(event));
    byId("zoom-in").addEventListener("click", () => this.step(1));
    byId("zoom-out").addEventListener("click", () => this.step(-1));
    byId("zoom-fit").addEventListener("click", () => this.zoomTo(0));
    byId("zoom-one").addEventListener("click", () => this.zoomTo(1));
    byId("zoom-most").addEventListener("click", () => this.zoomTo(this.most));
  }

  down(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    const onDivider = this.divider.contains(event.target);
    if (!onDivider) event.preventDefault(); // no selecting, no dragging of the image
    (onDivider ? this.divider : this.element).focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    // While all of the picture is in view there is nothing to pan: the divider follows from anywhere.
    this.dividing = !this.pointers.size && this.mode === "slide" && (onDivider || this.zoom === null);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.dividing) this.splitAt(this.where(event).percent);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const spread = (at) => Math.hypot(at.x - other.x, at.y - other.y) || 1;
      const middle = this.where({ clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
      this.zoomTo((this.scale * spread(now)) / spread(before), middle.x, middle.y);
    } else if (this.dividing) {
      this.splitAt(this.where(event).percent);
    } else {
      this.pan(now.x - before.x, now.y - before.y);
    }
    this.pointers.set(event.pointerId, now);
  }

  wheel(event) {
    // A page that is being scrolled goes on scrolling over the pictures; so does one with nothing to zoom out of.
    const scrolling = performance.now() - this.scrolled < 250;
    if (!event.ctrlKey && (scrolling || (this.zoom === null && event.deltaY > 0))) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const { x, y } = this.where(event);
    this.zoomTo(this.scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  }

  key(event) {
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = 48;
    const actions = {
      "+": () => this.step(1), "=": () => this.step(1), "-": () => this.step(-1),
      0: () => this.zoomTo(0), 1: () => this.zoomTo(1),
      ArrowLeft: () => this.pan(far, 0), ArrowRight: () => this.pan(-far, 0),
      ArrowUp: () => this.pan(0, far), ArrowDown: () => this.pan(0, -far),
    };
    if (!(event.key in actions) || (this.zoom === null && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    actions[event.key]();
  }

  dividerKey(event) {
    const small = event.shiftKey ? 10 : 1;
    const to = {
      ArrowLeft: this.split - small, ArrowDown: this.split - small, PageDown: this.split - 10, Home: 0,
      ArrowRight: this.split + small, ArrowUp: this.split + small, PageUp: this.split + 10, End: 100,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.splitAt(to);
  }
}
