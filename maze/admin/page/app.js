// The live page: displays the events of /api/events.
"use strict";

const SILENCE_MS = 5000; // reconnect after this long without a status; one is due every second
const RETRY_MS = 1000;
const NOTICE_MS = 8000; // how long a passing notice stays
const GAP_SECONDS = 2; // shorter gaps are normal
const IS_TOKEN = /^[\x21-\x7e]+$/;

// Notices: a standing one is shown while its cause lasts, a passing one for NOTICE_MS.
// A screen reader announces a new notice, not every change of a number in it.

let standing = {}; // text by kind
let passing = "";
let passingTimer = 0;

function showNotices() {
  const texts = [passing, ...Object.values(standing)].filter((text) => text);
  say("notice", texts.join(" "));
  show("notice", texts.length > 0);
}

function stand(notices) {
  const isNew = Object.keys(notices).some((kind) => !(kind in standing));
  standing = notices;
  if (isNew) say("spoken", Object.values(notices).join(" "));
  showNotices();
}

function tell(text) {
  passing = text;
  say("spoken", text);
  showNotices();
  clearTimeout(passingTimer);
  passingTimer = setTimeout(() => { passing = ""; say("spoken", ""); showNotices(); }, NOTICE_MS);
}

// Status values.

let lastStatus = null;
let cpuBefore = null;
let restartedAt = null;

function showStatus(status) {
  if (lastStatus && lastStatus.started_at !== status.started_at) {
    cpuBefore = null;
    restartedAt = status.started_at;
    forgetClients();
  }
  showState(status);
  showTiles(status);
  showOrder(status.order);
  showProcesses(status.processes || []);
  showClients(status.clients, status.sessions.connected);
  showJournal(status);
  showFeed(status);
  showResumes(status.resumes);
  showRejects(status);
  showWarnings(status.warnings);
  if (status.point) addPoint(status.point);
  lastStatus = status;
}

const isGap = ({ order }) => order.missing_sequence !== null && order.missing_seconds > GAP_SECONDS;

const trouble = ({ journal, feed }) => (journal && journal.trouble) || (feed && feed.trouble) || null;
const troubled = ({ role }) => (role === "edge" ? "feed" : "journal");

function showState(status) {
  const isStuck = status.state === "ready" && !status.is_ready;
  const hasGap = status.state === "ready" && isGap(status);
  byId("state").dataset.state = status.is_ready && !hasGap ? "ready" : "warn";
  say("state", trouble(status) ? `${troubled(status)} unavailable` : isStuck ? "stuck" : hasGap ? "gap" : status.state);
  say("about", `version ${status.version}, ${status.core} core, up ${duration(status.uptime_seconds)}`);
  byId("main").classList.remove("stale");
  stand(noticesOf(status));
}

function noticesOf(status) {
  const notices = {};
  const { order, router, limits } = status;
  if (restartedAt && status.uptime_seconds < 60) notices.restart = `The server restarted at ${moment(restartedAt * 1000)} UTC; its counters began again at zero.`;
  if (status.state === "draining") notices.draining = "The server is stopping: clients still receive what is queued for them.";
  if (status.state === "standby") notices.standby = "This server is a standby: another process writes the journal. It accepts no connections until it takes over.";
  if (status.state === "replaying") notices.replaying = "The server is reading its journal; it accepts no connections yet.";
  if (trouble(status)) notices["trouble " + trouble(status)] = status.role === "edge"
    ? `Feed: ${trouble(status)}. No event is routed until the ingest can be reached again.`
    : `Journal: ${trouble(status)}. No event is routed until the journal can be written again.`;
  if (status.feed && status.feed.is_held_up) notices.held = "Nothing is written at present: an edge still needs what is to be removed from the journal.";
  if (router.stuck_seconds > 2) notices.stuck = `The router has routed nothing for ${seconds(Math.floor(router.stuck_seconds))}, although events are ready and neither a client nor the journal holds it up.`;
  if (isGap(status)) {
    notices["gap " + order.missing_sequence] = `Event ${order.missing_sequence} has been missing for ${seconds(Math.floor(order.missing_seconds))} and blocks routing:`
      + ` ${several(order.waiting_events, "event waits", "events wait")} behind it (limit ${whole(limits["reorder-limit"])}).`;
  }
  if (status.state !== "ready") return notices;
  const { received, routed } = status.rates["10s"];
  if (!status.sources.connected.length && status.role !== "edge") notices.sources = "No event source is connected.";
  else if (!received && !routed && !isGap(status) && !trouble(status)) notices.events = "No events are arriving.";
  return notices;
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
  const ready = order.ready_events ? ` ${several(order.ready_events, "event is", "events are")} ready to be routed.` : "";
  say("next", `The next event is number ${order.next_sequence}.${ready}`);
  say("missing", order.missing_sequence === null ? "No event is missing."
    : `Event ${order.missing_sequence} has been missing for ${seconds(order.missing_seconds)}; ${several(order.waiting_events, "event waits", "events wait")} behind it.`);
}

// Rejects and warnings.

function showRejects(status) {
  const counts = [
    ...Object.entries(status.events.rejected).map(([reason, number]) => ["event", reason, number]),
    ...Object.entries(status.sessions.handshakes_rejected).map(([reason, number]) => ["client", reason, number]),
    ...Object.entries(status.sessions.refused).map(([reason, number]) => ["client", reason, number]),
    ...Object.entries(status.sources.handshakes_rejected).map(([reason, number]) => ["source", reason, number]),
    ["source", "refused", status.sources.refused],
    ...Object.entries((status.feed && status.feed.handshakes_rejected) || {}).map(([reason, number]) => ["edge", reason, number]),
  ].filter(([, , number]) => number);
  byId("rejects").tBodies[0].replaceChildren(...counts.map(([what, reason, number]) => {
    const row = document.createElement("tr");
    row.dataset.reason = `${what} ${reason}`;
    for (const text of [what, reason.replaceAll("_", " "), whole(number)]) row.insertCell().textContent = text;
    return row;
  }));
  show("no-rejects", counts.length === 0);
}

// The list of connected sources arrives in Python's notation.
const unlisted = (value) => String(value).replace(/[[\]']/g, "");

let warningsShown = "";

function showWarnings(lines) {
  const text = JSON.stringify(lines);
  if (text === warningsShown) return; // keeps the scroll position and the selection
  warningsShown = text;
  byId("warnings").replaceChildren(...[...lines].reverse().map((line) => {
    const { timestamp, level, event, ...values } = line;
    const item = document.createElement("li");
    item.className = level;
    const name = document.createElement("b");
    name.textContent = event.replaceAll("_", " ");
    const rest = Object.entries(values).map(([key, value]) => `${key}=${key === "connected" ? unlisted(value) : value}`).join(" ");
    item.append(timestamp ? moment(timestamp) + " " : "", name, " " + rest);
    return item;
  }));
  show("no-warnings", lines.length === 0);
}

// The event stream and the token.

const authorization = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
};

let stream = null; // the AbortController of the open stream
let retryTimer = 0;

function stop() {
  clearTimeout(retryTimer);
  if (stream) stream.abort();
  stream = null;
}

async function watch() {
  stop();
  const mine = new AbortController();
  stream = mine;
  let timer = 0;
  const wait = () => { clearTimeout(timer); timer = setTimeout(() => mine.abort(), SILENCE_MS); };
  let why = "";
  try {
    wait();
    const answer = await fetch("api/events", { headers: authorization(), signal: mine.signal, cache: "no-store" });
    if (answer.status === 401) return askForToken();
    if (answer.ok) await read(answer.body, wait);
    else why = (await answer.json()).error;
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof TypeError)) console.error(error);
  } finally {
    clearTimeout(timer);
  }
  if (stream === mine) lost(why);
}

async function read(body, wait) {
  show("token-form", false);
  show("main", true);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    wait();
    const events = (text + value).split("\n\n");
    text = events.pop();
    events.forEach(take);
  }
}

function take(text) {
  const [, name, data] = text.match(/^event: (\w+)\ndata: (.*)$/s);
  if (name === "history") { points = parse(data); drawCharts(); }
  if (name === "status") showStatus(parse(data));
}

function lost(why) {
  byId("state").dataset.state = "bad";
  say("state", "no response");
  byId("main").classList.add("stale");
  lockClients();
  stand({ lost: (why ? `The server refused: ${why}.` : "The server does not respond.") + " The values shown are old; retrying every second." });
  retryTimer = setTimeout(watch, RETRY_MS);
}

// A browser opens at most six connections to a server; hidden pages must not hold them.
function watchWhileSeen() {
  if (!document.hidden) { watch(); return; }
  stop();
  lockClients();
  byId("state").dataset.state = "unknown";
  say("state", "paused");
}

function askForToken() {
  stop();
  const isWrong = sessionStorage.getItem("token") !== null;
  sessionStorage.removeItem("token");
  byId("state").dataset.state = "unknown";
  say("state", "token needed");
  closeDialog();
  stand(isWrong ? { token: "Wrong admin token." } : {});
  show("token-form", true);
  show("main", false);
  byId("token").focus();
}

function takeToken(event) {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  if (!IS_TOKEN.test(token)) {
    stand({ characters: "A token consists of ASCII characters without spaces." });
    return;
  }
  sessionStorage.setItem("token", token);
  stand({});
  watch();
}

// Colour theme.

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
byId("token-form").addEventListener("submit", takeToken);
document.addEventListener("visibilitychange", watchWhileSeen);
if (!IS_TOKEN.test(sessionStorage.getItem("token"))) sessionStorage.removeItem("token");
show("no-charts", !window.Dygraph);
showTheme();
watchWhileSeen();
