// The charts: the points of /api/events, drawn by dygraphs.
"use strict";

const KEPT_POINTS = 180;

const CHARTS = [
  { id: "events", fields: ["received", "routed"], labels: ["received", "routed"], write: count, axis: short, least: 10 },
  { id: "deliveries", fields: ["deliveries"], labels: ["deliveries"], write: count, axis: short, least: 10 },
  { id: "latency", fields: ["p50", "p90", "p99"], labels: ["median", "90 %", "99 %"], write: seconds, axis: seconds, least: 1e-3 },
  { id: "queue", fields: ["queue_bytes"], labels: ["queued"], write: bytes, axis: shortBytes, least: 1024, isBinary: true },
];
// The page writes its own legends: dygraphs' legend sets style attributes, which the CSP forbids.
if (window.Dygraph) Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);
const graphs = new Map();
let points = [];

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { series: ["--first", "--second", "--third"].map(colour), grid: colour("--grid"), line: colour("--line") };
}

function rows(chart) {
  return points.map((point) => [new Date(point.time * 1000), ...chart.fields.map((name) => point[name])]);
}

function addPoint(point) {
  const last = points[points.length - 1];
  if (last && point.time === last.time) return;
  const isSetBack = last && point.time < last.time; // the server's clock: times must ascend
  points = isSetBack ? [point] : [...points, point].slice(-KEPT_POINTS);
  drawCharts();
}

function drawCharts() {
  if (!window.Dygraph || !points.length) return;
  const ink = colours();
  const now = points[points.length - 1].time * 1000;
  const span = Math.min(Math.max(now - points[0].time * 1000, 60000), KEPT_POINTS * 1000);
  const shared = { gridLineColor: ink.grid, axisLineColor: ink.line, dateWindow: [now - span, now] };
  for (const chart of CHARTS) {
    const top = Math.max(chart.least, ...points.flatMap((point) => chart.fields.map((name) => point[name] || 0)));
    const options = { ...shared, valueRange: [0, top * 1.08], colors: ink.series.slice(0, chart.fields.length), file: rows(chart) };
    const graph = graphs.get(chart.id);
    if (graph) graph.updateOptions(options);
    else graphs.set(chart.id, newGraph(chart, options));
    if (!chart.isPointed) writeLegend(chart, points[points.length - 1]);
  }
}

function newGraph(chart, { file, ...options }) {
  return new Dygraph(byId(chart.id + "-chart"), file, {
    ...options,
    labels: ["time", ...chart.labels],
    strokeWidth: 2,
    series: { received: { strokeWidth: 6 } }, // wider, because the routed line often covers it
    labelsUTC: true, // ticks at whole minutes in every time zone
    labelsKMG2: Boolean(chart.isBinary), // ticks at powers of two
    highlightCircleSize: 4,
    interactionModel: {}, // no zoom, so that a finger scrolls the page
    rightGap: 8,
    axes: {
      x: { axisLabelFormatter: clock, pixelsPerLabel: 90, axisLabelWidth: 70 },
      y: { axisLabelFormatter: chart.axis, axisLabelWidth: 62, pixelsPerLabel: 32 },
    },
    highlightCallback: (_, time) => {
      chart.isPointed = true;
      writeLegend(chart, points.find((point) => point.time * 1000 === time), true);
    },
    unhighlightCallback: () => {
      chart.isPointed = false;
      writeLegend(chart, points[points.length - 1]);
    },
  });
}

function writeLegend(chart, point, isPast = false) {
  if (!point) return;
  const parts = chart.fields.map((name, index) => {
    const part = document.createElement("span");
    part.className = "s" + index;
    const value = point[name] === null ? "–" : chart.write(point[name]);
    part.textContent = chart.fields.length > 1 ? `${chart.labels[index]} ${value}` : value;
    return part;
  });
  byId(chart.id + "-legend").replaceChildren(...(isPast ? [`${clock(point.time * 1000)} UTC`] : []), ...parts);
}
