// The live page: shows what /api/events sends, and can disconnect a client.
"use strict";

const KEPT_POINTS = 180;
const SILENCE_MS = 5000; // a status comes every second; after so long without one it is asked anew
const RETRY_MS = 1000;

const byId = (id) => document.getElementById(id);
const show = (id, visible) => { byId(id).hidden = !visible; };
const say = (id, text) => {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text; // else it would be read out again
};

// How values are written.

const round = (value) => value < 10 && value % 1 ? value.toFixed(1) : String(Math.round(value));
const scaled = (value, step, units) => {
  let index = 0;
  while (value >= step * 0.9995 && index < units.length - 1) { value /= step; index += 1; }
  return index ? value.toFixed(value < 100 ? 1 : 0) + units[index] : round(value) + units[0];
};
const count = (value) => value < 10000 ? Math.round(value).toLocaleString("en") : scaled(value, 1000, ["", "k", "M", "G", "T"]);
const short = (value) => scaled(value, 1000, ["", "k", "M", "G", "T"]).replace(".0", "");
const whole = (value) => value.toLocaleString("en");
const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
const seconds = (value) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value < 1e-3) return Math.round(value * 1e6) + " µs";
  if (value < 1) return (value * 1e3).toPrecision(3).replace(/\.?0+$/, (zeros) => zeros.includes(".") ? "" : zeros) + " ms";
  return value < 120 ? round(value) + " s" : duration(value);
};
const duration = (value) => {
  if (value < 60) return Math.floor(value) + " s";
  if (value < 3600) return Math.floor(value / 60) + " min";
  if (value < 86400) return Math.floor(value / 3600) + " h " + Math.floor(value % 3600 / 60) + " min";
  return Math.floor(value / 86400) + " d " + Math.floor(value % 86400 / 3600) + " h";
};
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

// The charts.

const CHARTS = [
  { id: "events", fields: ["received", "routed"], labels: ["received", "routed"], write: count, axis: short, least: 10 },
  { id: "deliveries", fields: ["deliveries"], labels: ["deliveries"], write: count, axis: short, least: 10 },
  { id: "latency", fields: ["p50", "p90", "p99"], labels: ["median", "90 %", "99 %"], write: seconds, axis: seconds, least: 1e-3 },
  { id: "queue", fields: ["queue_bytes"], labels: ["queued"], write: bytes, axis: bytes, least: 1024 },
];
// The library's own legend sets style attributes, which the page's policy forbids; the page has its own.
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
    series: { received: { strokeWidth: 6 } }, // or the line of what is routed would hide it
    highlightCircleSize: 4,
    interactionModel: {}, // no zoom: a finger scrolls the page
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
  byId(chart.id + "-legend").replaceChildren(...(isPast ? [clock(point.time * 1000)] : []), ...parts);
}

// The numbers.

let lastStatus = null;
let cpuBefore = null;

function showStatus(status) {
  const isNew = lastStatus && lastStatus.started_at !== status.started_at;
  if (isNew) cpuBefore = null;
  showState(status, isNew);
  showTiles(status);
  showOrder(status.order);
  showClients(status.clients, status.sessions.connected);
  showRejects(status);
  showWarnings(status.warnings);
  if (status.point && (!points.length || status.point.time > points[points.length - 1].time)) {
    points = [...points, status.point].slice(-KEPT_POINTS);
    drawCharts();
  }
  lastStatus = status;
}

let restartedAt = null;

function showState(status, isNew) {
  const badge = byId("state");
  badge.dataset.state = status.is_ready ? "ready" : "warn";
  say("state", status.state === "ready" && !status.is_ready ? "stuck" : status.state);
  say("about", `version ${status.version}, ${status.core} core, up ${duration(status.uptime_seconds)}`);
  byId("main").classList.remove("stale");
  if (isNew) restartedAt = status.started_at;
  say("notice", noticeOf(status));
  show("notice", byId("notice").textContent !== "");
}

function noticeOf(status) {
  const parts = [];
  if (restartedAt && status.uptime_seconds < 60) parts.push(`The server was started anew at ${clock(restartedAt * 1000)}; counts begin at zero.`);
  if (status.state === "draining") parts.push("The server is stopping: clients get what waits for them.");
  if (status.router.stuck_seconds > 2) parts.push(`The router has waited for ${seconds(Math.floor(status.router.stuck_seconds))} for a client that takes nothing.`);
  if (status.state === "ready" && !status.sources.connected.length) parts.push("No event source is connected.");
  else if (status.state === "ready" && !status.rates["10s"].received && !status.rates["10s"].routed) parts.push("No events are coming.");
  return parts.join(" ");
}

function showTiles(status) {
  const rates = status.rates["1s"];
  say("routed-rate", count(rates.routed));
  say("routed-total", whole(status.events.routed));
  say("deliveries-rate", count(rates.deliveries));
  say("bytes-rate", bytes(rates.delivered_bytes));
  say("latency-p50", seconds(status.latency.p50));
  say("latency-p99", seconds(status.latency.p99));
  say("sessions", whole(status.sessions.connected));
  const sources = status.sources.connected.length;
  say("sources", sources === 1 ? "1 event source" : `${sources} event sources`);
  say("queued", bytes(status.queues.total));
  say("queued-largest", bytes(status.queues.largest));
  say("memory", status.process.memory_bytes === null ? "–" : bytes(status.process.memory_bytes));
  const cpu = { used: status.process.cpu_seconds, at: status.uptime_seconds };
  if (cpuBefore && cpu.at > cpuBefore.at) {
    say("cpu", Math.max(0, 100 * (cpu.used - cpuBefore.used) / (cpu.at - cpuBefore.at)).toFixed(0) + " %");
  }
  cpuBefore = cpu;
}

function showOrder(order) {
  const next = `The next event has number ${order.next_sequence}.`;
  const ready = order.ready_events ? ` ${whole(order.ready_events)} events are ready to be routed.` : "";
  const missing = order.missing_sequence === null ? " Nothing is missing."
    : ` Number ${order.missing_sequence} has been missing for ${seconds(order.missing_seconds)}; ${whole(order.waiting_events)} events wait behind it.`;
  say("order", next + ready + missing);
}

// The clients: a row keeps its place while somebody points at the table, so that nobody hits the wrong one.

const rowsOf = new Map();

function showClients(clients, connected) {
  const body = byId("clients").tBodies[0];
  const isHeld = body.matches(":hover") || body.contains(document.activeElement) || byId("confirm").open;
  const present = new Set(clients.map((client) => client.session));
  for (const [session, row] of rowsOf) {
    if (present.has(session)) continue;
    if (isHeld) { row.classList.add("gone"); row.querySelector("button").disabled = true; continue; }
    row.remove();
    rowsOf.delete(session);
  }
  for (const client of clients) {
    let row = rowsOf.get(client.session);
    if (!row) { row = newRow(client); rowsOf.set(client.session, row); body.append(row); }
    row.classList.remove("gone");
    row.querySelector("button").disabled = false;
    writeRow(row, client);
    if (!isHeld) body.append(row);
  }
  const most = clients.length && clients[0].queued_bytes;
  say("clients-note", most ? `${clients.length} of ${whole(connected)}; those with the most bytes waiting come first.`
    : `Nothing waits for any client; ${clients.length} of ${whole(connected)} are shown.`);
  show("clients-note", rowsOf.size > 0);
  show("clients", rowsOf.size > 0);
  show("no-clients", rowsOf.size === 0);
}

function newRow(client) {
  const row = document.createElement("tr");
  for (const name of ["user", "client", "queued number", "c-sent number", "c-age number", "act"]) {
    const cell = document.createElement("td");
    cell.className = name;
    row.append(cell);
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "danger";
  button.textContent = "Disconnect";
  button.setAttribute("aria-label", `Disconnect user ${client.user}, connection ${client.session}`);
  button.addEventListener("click", () => askToDisconnect(row.client));
  row.lastChild.append(button);
  return row;
}

function writeRow(row, client) {
  row.client = client;
  row.dataset.session = client.session;
  const texts = [client.user, `${client.session} from ${client.client}`, bytes(client.queued_bytes), bytes(client.sent_bytes), duration(client.connected_seconds)];
  texts.forEach((text, index) => { row.cells[index].textContent = text; });
}

function askToDisconnect(client) {
  const lost = client.queued_bytes ? ` ${bytes(client.queued_bytes)} that wait for it are lost.` : "";
  say("confirm-text", `Disconnect user ${client.user} (connection ${client.session}, ${client.client})?${lost}`);
  byId("confirm-yes").onclick = () => { byId("confirm").close(); disconnect(client); };
  byId("confirm").showModal();
}

async function disconnect(client) {
  const answer = await fetch(`api/clients/${client.session}/disconnect`, { method: "POST", headers: authorization() }).catch(() => null);
  const row = rowsOf.get(client.session);
  if (answer && (answer.ok || answer.status === 404) && row) {
    row.classList.add("gone");
    row.querySelector("button").disabled = true;
    if (row.contains(document.activeElement)) document.activeElement.blur();
  } else if (!answer || !answer.ok) {
    say("notice", "The client could not be disconnected.");
    show("notice", true);
  }
}

// Rejects and warnings.

function showRejects(status) {
  const counts = [
    ...Object.entries(status.events.rejected).map(([reason, number]) => ["event", reason, number]),
    ...Object.entries(status.sessions.handshakes_rejected).map(([reason, number]) => ["client", reason, number]),
    ...Object.entries(status.sessions.refused).map(([reason, number]) => ["client", reason, number]),
    ...Object.entries(status.sources.handshakes_rejected).map(([reason, number]) => ["source", reason, number]),
    ["source", "refused", status.sources.refused],
  ].filter(([, , number]) => number);
  byId("rejects").tBodies[0].replaceChildren(...counts.map(([what, reason, number]) => {
    const row = document.createElement("tr");
    row.dataset.reason = `${what} ${reason}`;
    for (const text of [what, reason.replaceAll("_", " "), whole(number)]) row.insertCell().textContent = text;
    return row;
  }));
  show("no-rejects", counts.length === 0);
}

let warningsShown = "";

function showWarnings(lines) {
  const text = JSON.stringify(lines);
  if (text === warningsShown) return; // so that it can be scrolled and marked
  warningsShown = text;
  byId("warnings").replaceChildren(...[...lines].reverse().map((line) => {
    const { timestamp, level, event, ...values } = line;
    const item = document.createElement("li");
    item.className = level;
    const name = document.createElement("b");
    name.textContent = event.replaceAll("_", " ");
    const rest = Object.entries(values).map(([key, value]) => `${key}=${value}`).join(" ");
    item.append(timestamp ? clock(timestamp) + " " : "", name, " " + rest);
    return item;
  }));
  show("no-warnings", lines.length === 0);
}

// The connection.

const authorization = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
};

async function watch() {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), SILENCE_MS);
  try {
    const answer = await fetch("api/events", { headers: authorization(), signal: abort.signal, cache: "no-store" });
    if (answer.status === 401) return askForToken();
    if (!answer.ok) return lost((await answer.json()).error);
    show("token-form", false);
    show("main", true);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return lost("");
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE_MS);
      const events = (text + value).split("\n\n");
      text = events.pop();
      events.forEach(take);
    }
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof TypeError)) console.error(error);
    return lost("");
  } finally {
    clearTimeout(timer);
  }
}

function take(text) {
  const [, name, data] = text.match(/^event: (\w+)\ndata: (.*)$/s);
  if (name === "history") { points = JSON.parse(data); drawCharts(); }
  if (name === "status") showStatus(JSON.parse(data));
}

function lost(why) {
  byId("state").dataset.state = "bad";
  say("state", "no answer");
  byId("main").classList.add("stale");
  say("notice", (why ? `The server says: ${why}.` : "The server does not answer.") + " What is shown is old; trying again every second.");
  show("notice", true);
  setTimeout(watch, RETRY_MS);
}

function askForToken() {
  const isWrong = sessionStorage.getItem("token") !== null;
  sessionStorage.removeItem("token");
  byId("state").dataset.state = "unknown";
  say("state", "token needed");
  say("notice", isWrong ? "That is not this server's admin token." : "");
  show("notice", isWrong);
  show("token-form", true);
  show("main", false);
  byId("token").focus();
}

// Light and dark.

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  say("theme", isDark() ? "Light" : "Dark");
  byId("theme").setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
  drawCharts();
}

if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  watch();
});
show("no-charts", !window.Dygraph);
showTheme();
watch();
