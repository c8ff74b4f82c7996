"use strict";
// What is on the stage, the table of its figures, and the state in the address.

const ORIGINAL = "original";
const MODES = {
  slide: "Drag the line; zoomed in, drag to move. Wheel, pinch or double click zooms.",
  beside: "Drag to move, wheel or pinch to zoom: both together.",
  all: "Drag to move, wheel or pinch to zoom: all together.",
  difference: "What differs between left and right, amplified; black is equal.",
};

class Viewer {
  constructor() {
    const rivals = data.comparisons[0].rates[0]?.slice(1) ?? [];
    const ours = data.comparisons[0].rates[0]?.[0];
    this.state = {
      image: 0,
      rate: 0,
      left: rivals[0]?.codec ?? ORIGINAL,
      right: ours?.codec ?? ORIGINAL,
      mode: data.view,
    };
    this.stage = new Stage(() => this.remember());
    this.fill();
    this.read();
    addEventListener("hashchange", () => this.read());
  }

  get comparison() {
    return data.comparisons[this.state.image];
  }

  get shown() {
    return this.comparison.rates[this.state.rate] ?? [];
  }

  /** The controls that stay, and what they do. */
  fill() {
    const count = data.comparisons.length;
    setOptions(byId("image"), data.comparisons.map((one, i) => [String(i), labelOf(one.image)]), "0");
    byId("image").addEventListener("change", (event) => this.go({ image: Number(event.target.value) }));
    byId("previous").addEventListener("click", () => this.go({ image: (this.state.image + count - 1) % count }));
    byId("next").addEventListener("click", () => this.go({ image: (this.state.image + 1) % count }));
    byId("previous").disabled = byId("next").disabled = count < 2;
    byId("strip").hidden = count < 2;
    byId("strip").replaceChildren(...data.comparisons.map((one, i) => {
      const label = labelOf(one.image);
      const thumbnail = make("img", { src: one.thumbnail, alt: label, loading: "lazy", height: 56,
        width: Math.max(14, Math.min(168, Math.round((56 * one.width) / one.height))) });
      const button = make("button", { type: "button", title: label }, thumbnail);
      button.addEventListener("click", () => this.go({ image: i }));
      return button;
    }));
    for (const side of ["left", "right"]) {
      byId(side).addEventListener("change", (event) => this.go({ [side]: event.target.value }));
    }
    byId("swap").addEventListener("click", () => this.go({ left: this.state.right, right: this.state.left }));
    byId("modes").addEventListener("click", (event) => {
      const mode = event.target.closest("button")?.dataset.mode;
      if (mode) this.go({ mode });
    });
    byId("amplify").addEventListener("input", (event) => {
      this.stage.amplify = Number(event.target.value);
      this.draw();
    });
  }

  go(changes) {
    Object.assign(this.state, changes);
    this.draw();
    this.remember();
  }

  draw() {
    const { state, comparison } = this;
    state.rate = clamp(state.rate, 0, Math.max(0, comparison.rates.length - 1));
    const names = [ORIGINAL, ...this.shown.map((one) => one.codec)];
    if (!names.includes(state.left)) state.left = ORIGINAL;
    if (!names.includes(state.right)) state.right = names[1] ?? ORIGINAL;
    byId("image").value = String(state.image);
    this.drawRates();
    const options = names.map((name) => [name, name === ORIGINAL ? "Original" : name]);
    setOptions(byId("left"), options, state.left);
    setOptions(byId("right"), options, state.right);
    press(byId("modes"), (button) => button.dataset.mode === state.mode);
    [...byId("strip").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === state.image)));
    byId("hint").textContent = MODES[state.mode];
    const isDifference = state.mode === "difference";
    byId("amplify-option").hidden = !isDifference;
    byId("amplified").textContent = `${this.stage.amplify}×`;
    const tag = byId("difference-tag");
    tag.hidden = !isDifference;
    const [left, right] = [state.left, state.right].map((name) => this.picture(name));
    tag.textContent = `| ${left.label} − ${right.label} | × ${this.stage.amplify}`;
    const pictures = state.mode === "all" ? names.map((name) => this.picture(name)) : [left, right];
    this.stage.show(pictures, { width: comparison.width, height: comparison.height }, state.mode);
    this.drawTable();
    byId("image-notes").replaceChildren(...comparison.notes.map((note) => make("p", { class: "fine" }, note)));
    this.preload();
  }

  picture(name) {
    if (name === ORIGINAL) return { src: this.comparison.original, label: "Original" };
    const one = this.shown.find(({ codec }) => codec === name);
    return { src: one.file, label: name, detail: kilobytes(one.bytes) };
  }

  drawRates() {
    const buttons = this.comparison.rates.map((rate, i) => {
      const text = [make("b", {}, `${format(rate[0].bpp, 2)} bpp`), make("small", {}, kilobytes(rate[0].bytes))];
      const button = make("button", { type: "button", "aria-pressed": String(i === this.state.rate) }, ...text);
      button.addEventListener("click", () => {
        this.go({ rate: i });
        byId("rates").children[i].focus();
      });
      return button;
    });
    byId("rates").replaceChildren(...buttons);
  }

  drawTable() {
    const [ours] = this.shown;
    if (!ours) return;
    const metrics = data.metrics.filter(({ key }) => this.shown.some((one) => key in one.metrics));
    const known = (key) => this.shown.map((one) => one.metrics[key]).filter((v) => v !== null && v !== undefined);
    const best = new Map(metrics.map(({ key, higher }) => [key, (higher ? Math.max : Math.min)(...known(key))]));
    const head = ["Codec", "Bytes", "Size to ours", "Bits per pixel"];
    const rows = this.shown.map((one) => {
      const percent = (one.bytes / ours.bytes - 1) * 100;
      const far = Math.abs(percent) >= 3;
      const size = one === ours ? "–" : `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(1)} %`;
      const sides = ["left", "right"].filter((side) => this.state[side] === one.codec && this.state.mode !== "all");
      const cells = metrics.map(({ key, digits }) => {
        const value = one.metrics[key];
        const isBest = value !== null && value === best.get(key) && this.shown.length > 1;
        return make("td", { class: isBest ? "best" : null, title: isBest ? "best of these" : null }, format(value, digits));
      });
      return make("tr", { class: one === ours ? "ours" : null },
        make("th", { scope: "row" }, mark(one.codec), one.codec, ...sides.map((side) => make("small", { class: "side" }, side))),
        make("td", {}, grouped(one.bytes)),
        make("td", { class: far ? "warn" : null, title: far ? "its scale has nothing nearer" : null }, size),
        make("td", {}, format(one.bpp, 3)), ...cells, make("td", {}, String(one.setting)));
    });
    const titles = head.concat(metrics.map(({ name, higher }) => `${name} ${higher ? "↑" : "↓"}`), "Setting");
    byId("shown").replaceChildren(
      make("thead", {}, make("tr", {}, ...titles.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows),
    );
  }

  /** Fetches what one is likely to choose next, when there is nothing else to do. */
  preload() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      const sources = [this.comparison.original, ...this.shown.map((one) => one.file)];
      this.preloaded = sources.map((src) => Object.assign(new Image(), { src }));
    }, 400);
  }

  /** Puts the state into the address, a moment later: dragging changes it often. */
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      const { image, rate, left, right, mode } = this.state;
      const words = new URLSearchParams({ image: image + 1, rate: rate + 1, left, right, mode });
      const { zoom, centre, split } = this.stage;
      if (zoom !== null) words.set("at", [zoom, ...centre].map((value) => Number(value.toFixed(2))).join(","));
      if (mode === "slide") words.set("split", Math.round(split));
      const hash = `#${words}`;
      try {
        history.replaceState(null, "", hash);
      } catch {
        location.replace(hash); // some browsers guard the history of files
      }
    }, 200);
  }

  /** Takes the state from the address, as far as it makes sense. */
  read() {
    const words = new URLSearchParams(location.hash.slice(1));
    const number = (name, low, high, otherwise) => {
      const value = words.has(name) ? Number(words.get(name)) : NaN;
      return value >= low && value <= high ? value : otherwise;
    };
    const state = this.state;
    state.image = Math.floor(number("image", 1, data.comparisons.length, state.image + 1)) - 1;
    state.rate = Math.floor(number("rate", 1, this.comparison.rates.length, state.rate + 1)) - 1;
    state.left = words.get("left") ?? state.left;
    state.right = words.get("right") ?? state.right;
    state.mode = Object.hasOwn(MODES, words.get("mode")) ? words.get("mode") : state.mode;
    this.stage.split = number("split", 0, 100, this.stage.split);
    this.draw();
    const at = (words.get("at") ?? "").split(",").map(Number);
    if (at.length === 3 && at.every(Number.isFinite)) {
      [this.stage.zoom, this.stage.centre] = [clamp(at[0], 0.001, MOST_ZOOM), at.slice(1)];
      this.stage.draw();
    }
  }
}
