"use strict";
// What the other scripts share. Text from outside only ever becomes text nodes and attributes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const NOT_DEFINED = "not defined";
const SVG = "http://www.w3.org/2000/svg";

/** A new element with attributes and children (strings become text). */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Replaces the options of a select by [value, text] pairs. */
function setOptions(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

/** Marks one button of a group as pressed. */
function press(group, isPressed) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(isPressed(button)));
  }
}

function format(value, digits) {
  return value === null || value === undefined ? NOT_DEFINED : value.toFixed(digits).replace("-", "−");
}

const grouped = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");

function kilobytes(bytes) {
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(bytes < 100000 ? 1 : 0)} kB`;
}

const labelOf = (image) => data.labels[image] ?? image;
const codecIndex = new Map(data.codecs.map((codec, index) => [codec.name, index]));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The outline of a codec's marker around the origin: shapes differ, so that colour is not needed. */
function markPath(index, r) {
  const d = r * 1.15;
  const thin = r * 0.38;
  const plus = `M${-d} ${-thin}H${-thin}V${-d}H${thin}V${-thin}H${d}V${thin}H${thin}V${d}H${-thin}V${thin}H${-d}Z`;
  return [
    `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    `M${-0.9 * r} ${-0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}Z`,
    `M0 ${-d}L${d} ${0.85 * r}H${-d}Z`,
    `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
    `M0 ${d}L${d} ${-0.85 * r}H${-d}Z`,
    plus,
    `M${-1.3 * r} ${-0.6 * r}h${2.6 * r}v${1.2 * r}h${-2.6 * r}Z`,
  ][index % 7];
}

/** A small picture of a codec's marker. */
function mark(name, svg = makeSvg("svg", { class: "mark", "aria-hidden": "true" })) {
  const index = codecIndex.get(name) ?? 0;
  svg.classList.add(`c${index % 7}`);
  svg.setAttribute("viewBox", "-8 -8 16 16");
  svg.replaceChildren(makeSvg("path", { d: markPath(index, 5), fill: "currentColor" }));
  return svg;
}
