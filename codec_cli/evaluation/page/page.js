"use strict";
// Start: shows the sections that there is something for.

for (const svg of document.querySelectorAll("svg[data-codec]")) mark(svg.dataset.codec, svg);

if (data.results.length) {
  byId("curves").hidden = false;
  new Chart().draw();
}
if (data.comparisons.length) {
  byId("pictures").hidden = false;
  new Viewer();
}
