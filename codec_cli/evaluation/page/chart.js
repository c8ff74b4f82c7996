"use strict";
// The rate-distortion curves.

const SERIES_DASHES = ["2 4", "6 4", "2 3 7 3", "9 3", "1 3", "4 2 1 2"];

class Chart {
  constructor() {
    this.svg = byId("chart");
    this.hidden = new Set();
    this.at = null;
    const metrics = data.metrics.filter((metric) => this.isKnown(metric.key));
    setOptions(byId("metric"), (metrics.length ? metrics : data.metrics).map((m) => [m.key, m.name]), undefined);
    byId("metric").selectedIndex = 0;
    const images = [...new Set(data.results.map((row) => row[0]))];
    const mean = [["mean", images.length === 1 ? "Mean of 1" : `Mean of all ${images.length}`]];
    setOptions(byId("scope"), mean.concat(images.map((image, i) => [String(i), labelOf(image)])), "mean");
    this.images = images;
    byId("published-option").hidden = !data.published.length;
    for (const id of ["metric", "scope", "log", "published"]) {
      byId(id).addEventListener("change", () => this.draw());
    }
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.show(null));
    this.svg.addEventListener("blur", () => this.show(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  isKnown(key) {
    const column = data.columns.indexOf(key);
    return data.results.some((row) => row[column] !== null);
  }

  get metric() {
    return data.metrics.find((metric) => metric.key === byId("metric").value);
  }

  /** The curves in question, hidden ones too: measured first, then published (over the mean only). */
  curves() {
    const isMean = byId("scope").value === "mean";
    const columns = isMean ? data.mean_columns : data.columns;
    const image = this.images[Number(byId("scope").value)];
    const rows = isMean ? data.means : data.results.filter((row) => row[0] === image);
    const [codec, setting, bytes, bpp, value] = ["codec", "setting", "bytes", "bpp", this.metric.key].map((name) =>
      columns.indexOf(name),
    );
    const present = new Set(rows.map((row) => row[codec]));
    const measured = data.codecs.map((one, index) => ({
      ...one,
      index,
      id: `codec ${one.name}`,
      points: rows
        .filter((row) => row[codec] === one.name && row[value] !== null)
        .map((row) => ({ x: row[bpp], y: row[value], setting: row[setting], bytes: row[bytes] }))
        .sort((a, b) => a.x - b.x),
    }));
    const published = !isMean || !byId("published").checked ? [] : data.published;
    const others = published.map((series, index) => ({
      name: `${series.label}, published`,
      label: series.label,
      letter: String.fromCharCode(97 + (index % 26)),
      index,
      id: `published ${index}`,
      published: true,
      points: (series[this.metric.key] ?? [])
        .map((y, i) => ({ x: series.bpp[i], y }))
        .sort((a, b) => a.x - b.x),
    }));
    return [...measured.filter((one) => present.has(one.name)), ...others.filter((series) => series.points.length)];
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    const all = this.curves();
    this.legend(all);
    this.table(all);
    this.visible = all.filter((curve) => !this.hidden.has(curve.id) && curve.points.length);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const measured = this.visible.filter((curve) => !curve.published);
    this.svg.setAttribute("aria-label", `${this.metric.name} over bits per pixel; arrow keys read the points`);
    this.at = null;
    this.show(null);
    if (!measured.length) {
      this.visible = [];
      const empty = all.some((curve) => curve.points.length) ? "No curve chosen" : `${this.metric.name}: ${NOT_DEFINED}`;
      this.svg.replaceChildren(
        makeSvg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "empty" }, empty),
      );
      return;
    }
    this.scale(width, height, measured);
    const focus = makeSvg("g", { id: "focus" });
    this.svg.replaceChildren(...this.axes(width, height), this.lines(), focus);
  }

  /** Sets up this.x and this.y, from values to pixels, over what was measured. */
  scale(width, height, measured) {
    const log = byId("log").checked;
    this.box = { left: width < 500 ? 44 : 56, right: width - 14, top: 26, bottom: height - 44 };
    const xs = measured.flatMap((curve) => curve.points.map((point) => point.x));
    const [low, high] = log ? [Math.min(...xs) / 1.08, Math.max(...xs) * 1.08] : [0, Math.max(...xs) * 1.03];
    const inside = this.visible.flatMap((curve) => curve.points.filter((p) => p.x >= low && p.x <= high));
    const ys = inside.map((point) => point.y);
    const room = (Math.max(...ys) - Math.min(...ys)) * 0.06 || Math.abs(ys[0]) * 0.05 || 1;
    const [bottom, top] = [Math.min(...ys) - room, Math.max(...ys) + room];
    const along = log ? (x) => Math.log(x / low) / Math.log(high / low) : (x) => (x - low) / (high - low);
    this.x = (x) => this.box.left + along(x) * (this.box.right - this.box.left);
    this.y = (y) => this.box.bottom - ((y - bottom) / (top - bottom)) * (this.box.bottom - this.box.top);
    this.xTicks = log ? logTicks(low, high) : ticks(low, high, width < 500 ? 4 : 7);
    this.yTicks = ticks(bottom, top, 6);
  }

  axes(width, height) {
    const { left, right, top, bottom } = this.box;
    const parts = [];
    const digits = (values) => Math.max(0, ...values.map((v) => (String(v).split(".")[1] ?? "").length));
    for (const y of this.yTicks) {
      parts.push(makeSvg("line", { class: "grid", x1: left, x2: right, y1: this.y(y), y2: this.y(y) }));
      const text = y.toFixed(digits(this.yTicks));
      parts.push(makeSvg("text", { x: left - 8, y: this.y(y) + 4, "text-anchor": "end" }, text));
    }
    for (const x of this.xTicks) {
      parts.push(makeSvg("line", { class: "tick", x1: this.x(x), x2: this.x(x), y1: bottom, y2: bottom + 5 }));
      parts.push(makeSvg("text", { x: this.x(x), y: bottom + 19, "text-anchor": "middle" }, String(x)));
    }
    parts.push(makeSvg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    const better = this.metric.higher ? "↑ higher is better" : "↓ lower is better";
    parts.push(
      makeSvg("text", { class: "title", x: 0, y: 12 }, `${this.metric.name}   `,
        makeSvg("tspan", { class: "soft" }, better)),
      makeSvg("text", { class: "title", x: right, y: height - 4, "text-anchor": "end" }, "bits per pixel"),
      makeSvg("clipPath", { id: "plot" },
        makeSvg("rect", { x: left, y: top - 8, width: right - left + 8, height: bottom - top + 8 })),
    );
    return parts;
  }

  lines() {
    const group = makeSvg("g", { "clip-path": "url(#plot)" });
    // Ours last: on top.
    const order = (curve) => (curve.published ? 0 : curve.ours ? 2 : 1);
    for (const curve of [...this.visible].sort((a, b) => order(a) - order(b))) {
      const points = curve.points.map((p) => `${this.x(p.x).toFixed(1)},${this.y(p.y).toFixed(1)}`).join(" ");
      const kind = curve.published ? "published" : `c${curve.index % 7}${curve.ours ? " ours" : ""}`;
      const dash = curve.published ? SERIES_DASHES[curve.index % SERIES_DASHES.length] : null;
      const parts = makeSvg("g", { class: `curve ${kind}`, "data-curve": curve.name },
        makeSvg("polyline", { points, "stroke-dasharray": dash }));
      for (const p of curve.published ? [] : curve.points) {
        const place = `translate(${this.x(p.x).toFixed(1)} ${this.y(p.y).toFixed(1)})`;
        parts.append(makeSvg("path", { d: markPath(curve.index, curve.ours ? 4.6 : 3.8), transform: place }));
      }
      group.append(parts);
    }
    group.append(...this.letters());
    return group;
  }

  /** The letters of published curves, which the legend explains: at their right ends, clear of other lines. */
  letters() {
    const taken = this.visible.flatMap((curve) => this.traced(curve));
    const texts = [];
    for (const curve of this.visible.filter((one) => one.published)) {
      const ends = this.traced(curve).filter(({ right }) => right > this.box.left && right < this.box.right);
      const spots = ends.reverse().flatMap(({ right, y }, i) => [
        ...(i ? [] : [{ left: right + 3, right: right + 12, y, room: 12 }]),
        { left: right - 6, right: right + 3, y: y - 10, room: 12 },
        { left: right - 3, right: right + 6, y: y + 11, room: 12 },
      ]);
      const isClear = (box) => taken.every((other) =>
        box.right < other.left || box.left > other.right || Math.abs(box.y - other.y) > other.room);
      const spot = spots.find((box) => box.y > this.box.top - 8 && isClear(box)) ?? spots[0];
      if (!spot) continue;
      taken.push(spot);
      texts.push(makeSvg("text", { class: "series", x: spot.left + 1, y: spot.y + 4 }, curve.letter));
    }
    return texts;
  }

  /** Small boxes along a curve, every few pixels, from left to right. */
  traced(curve) {
    return curve.points.slice(1).flatMap((p, i) => {
      const [x1, y1, x2, y2] = [this.x(curve.points[i].x), this.y(curve.points[i].y), this.x(p.x), this.y(p.y)];
      const count = Math.max(1, Math.ceil(Math.hypot(x2 - x1, y2 - y1) / 6));
      return Array.from({ length: count }, (_, k) => {
        const [x, y] = [x1 + ((x2 - x1) * k) / count, y1 + ((y2 - y1) * k) / count];
        return { left: x - 2, right: x + 2, y, room: 7 };
      });
    });
  }

  legend(all) {
    const [measured, published] = [byId("legend"), byId("published-legend").lastElementChild];
    byId("published-legend").hidden = !all.some((curve) => curve.published);
    for (const [group, curves] of [
      [measured, all.filter((curve) => !curve.published)],
      [published, all.filter((curve) => curve.published)],
    ]) {
      group.replaceChildren(...curves.map((curve, i) => {
        const button = this.legendButton(curve);
        button.addEventListener("click", () => {
          if (!this.hidden.delete(curve.id)) this.hidden.add(curve.id);
          this.draw();
          group.children[i].focus();
        });
        return button;
      }));
    }
  }

  legendButton(curve) {
    const sample = makeSvg("svg", { class: "mark wide", viewBox: "-14 -8 28 16", "aria-hidden": "true" });
    const dash = curve.published ? SERIES_DASHES[curve.index % SERIES_DASHES.length] : null;
    sample.append(makeSvg("line", { x1: -14, x2: 14, y1: 0, y2: 0, stroke: "currentColor", "stroke-width": 2,
      "stroke-dasharray": dash }));
    if (!curve.published) sample.append(makeSvg("path", { d: markPath(curve.index, 5), fill: "currentColor" }));
    sample.classList.add(curve.published ? "grey" : `c${curve.index % 7}`);
    const text = (curve.label ?? curve.name) + (curve.points.length ? "" : ` (${NOT_DEFINED})`);
    const letter = curve.letter ? [make("b", {}, curve.letter)] : [];
    return make("button", { type: "button", "aria-pressed": String(!this.hidden.has(curve.id)) }, sample, ...letter, text);
  }

  table(all) {
    const head = ["Codec", "Setting", "Bits per pixel", this.metric.name];
    const rows = all.flatMap((curve) => curve.points.map((p) => [curve, p]));
    byId("figures").replaceChildren(
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows.map(([curve, p]) => make("tr", {},
        make("th", { scope: "row" }, curve.name), make("td", {}, p.setting === undefined ? "–" : String(p.setting)),
        make("td", {}, format(p.x, 3)), make("td", {}, format(p.y, this.metric.digits))))),
    );
  }

  /** Shows the point nearest to the pointer. */
  point(event) {
    const box = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let nearest = 48;
    (this.visible ?? []).forEach((curve, c) => curve.points.forEach((p, i) => {
      const distance = Math.hypot(this.x(p.x) - x, this.y(p.y) - y) + (curve.published ? 6 : 0);
      if (distance < nearest && this.x(p.x) <= this.box.right + 4) [best, nearest] = [[c, i], distance];
    }));
    this.show(best);
  }

  key(event) {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || !this.visible?.length || !this.x) return;
    event.preventDefault();
    const [c, i] = this.at ?? [0, -1];
    const curve = (c + step[0] + this.visible.length) % this.visible.length;
    this.show([curve, clamp(i + step[1], 0, this.visible[curve].points.length - 1)]);
  }

  show(at) {
    this.at = at;
    const tip = byId("tip");
    const focus = byId("focus");
    focus?.replaceChildren();
    tip.hidden = !at;
    if (!at) {
      byId("readout").textContent = "";
      return;
    }
    const curve = this.visible[at[0]];
    const p = curve.points[at[1]];
    const [x, y] = [this.x(p.x), this.y(p.y)];
    focus.append(
      makeSvg("line", { class: "hair", x1: x, x2: x, y1: y, y2: this.box.bottom }),
      makeSvg("circle", { class: "ring", cx: x, cy: y, r: 8 }),
    );
    const facts = [`${this.metric.name} ${format(p.y, this.metric.digits)}`, `${format(p.x, 3)} bits per pixel`];
    if (p.setting !== undefined) facts.push(`setting ${p.setting}, ${grouped(p.bytes)} bytes`);
    tip.replaceChildren(make("b", {}, curve.name), ...facts.map((text) => make("span", {}, text)));
    const width = this.svg.getBoundingClientRect().width;
    tip.style.left = `${clamp(x + 14, 0, width - tip.offsetWidth)}px`;
    tip.style.top = `${y + 16 + tip.offsetHeight > this.box.bottom ? y - tip.offsetHeight - 12 : y + 16}px`;
    byId("readout").textContent = `${curve.name}: ${facts.join(", ")}`;
  }
}

/** Round values within a range, about as many as wanted. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const values = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) values.push(Number((i * step).toPrecision(6)));
  return values;
}

function logTicks(low, high) {
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    values.push(...[1, 2, 5].map((m) => Number((m * 10 ** power).toPrecision(6))));
  }
  return values.filter((value) => value >= low && value <= high);
}
