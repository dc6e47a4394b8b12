// Enhancements of pages that work without them: live parts (server-sent events) and charts (uPlot).
"use strict";
(() => {
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = () => ["--accent", "--second", "--third", "--fourth", "--fifth"].map(ink);

  function draw(box) {
    const { x, series, time, log } = JSON.parse(box.dataset.chart);
    const grid = { stroke: ink("--line"), width: 1 };
    const axis = { stroke: ink("--soft"), grid, ticks: grid };
    box.replaceChildren();
    const options = {
      width: Math.max(260, box.clientWidth),
      height: 220,
      scales: { x: { time: Boolean(time) }, y: { distr: log ? 3 : 1 } },
      axes: [axis, { ...axis, size: 60 }],
      series: [
        {},
        ...series.map((each, place) => ({
          label: each.label,
          stroke: colours()[place % 5],
          width: 2,
          dash: place >= 5 ? [6, 4] : undefined,
          spanGaps: true,
        })),
      ],
    };
    new uPlot(options, [x, ...series.map((each) => each.values)], box);
  }

  function follow(part) {
    const source = new EventSource(part.dataset.live);
    source.onmessage = (event) => {
      part.innerHTML = event.data;
    };
  }

  function start(root) {
    root.querySelectorAll("[data-chart]").forEach(draw);
    root.querySelectorAll("[data-live]").forEach(follow);
  }

  document.addEventListener("DOMContentLoaded", () => start(document));
  document.addEventListener("htmx:afterSwap", (event) => start(event.target));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.querySelectorAll("[data-chart]").forEach(draw),
  );
})();
