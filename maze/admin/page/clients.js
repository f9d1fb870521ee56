// The table of the slowest clients, and the dialog that disconnects one.
"use strict";

const SHOWN_ROWS = 10; // the number of clients in a status
const AIM_MS = 3000; // rows keep their places for this long after the last mouse or key event on them
const REQUEST_MS = 5000;

const rowsOf = new Map(); // row by session number; all of one run of the server
let aimedAt = -Infinity;
let asked = null; // the client shown in the dialog

const clientsBody = byId("clients").tBodies[0];
const buttonOf = (row) => row.querySelector("button");
const focusedClient = () => clientsBody.contains(document.activeElement) ? document.activeElement : null;

function showClients(clients, connected) {
  const focused = focusedClient();
  const isHeld = byId("confirm").open || performance.now() - aimedAt < AIM_MS;
  const present = new Set(clients.map((client) => client.session));
  for (const [session, row] of rowsOf) {
    if (present.has(session)) continue;
    if (isHeld) { row.classList.add("absent"); buttonOf(row).disabled = true; continue; }
    row.remove();
    rowsOf.delete(session);
  }
  clients.forEach((client, place) => {
    let row = rowsOf.get(client.session);
    if (!row && isHeld && rowsOf.size >= SHOWN_ROWS) return;
    if (!row) { row = newRow(client); rowsOf.set(client.session, row); clientsBody.append(row); }
    row.classList.remove("absent", "closed");
    buttonOf(row).disabled = false;
    writeRow(row, client);
    if (!isHeld && clientsBody.rows[place] !== row) clientsBody.insertBefore(row, clientsBody.rows[place]);
  });
  byId("confirm-yes").disabled = false;
  keepFocus(focused);
  const most = clients.length && clients[0].queued_bytes;
  say("clients-note", most ? `Showing ${clients.length} of ${whole(connected)}, longest queue first.`
    : `No client has queued bytes; showing ${clients.length} of ${whole(connected)}.`);
  show("clients-note", rowsOf.size > 0);
  show("clients", rowsOf.size > 0);
  show("no-clients", rowsOf.size === 0);
}

// A focused button that is removed, moved or disabled would lose the focus to the start of the page.
function keepFocus(focused) {
  if (!focused) return;
  if (!focused.isConnected || focused.disabled) byId("clients-title").focus({ preventScroll: true });
  else if (document.activeElement !== focused) focused.focus({ preventScroll: true });
}

// Session numbers restart with the server, so an old row would name another client's session.
function forgetClients() {
  if (closeDialog()) tell("The server restarted; no client was disconnected.");
  const focused = focusedClient();
  clientsBody.replaceChildren();
  rowsOf.clear();
  keepFocus(focused);
}

// Disable disconnecting while the server does not respond.
function lockClients() {
  const focused = focusedClient();
  for (const row of rowsOf.values()) buttonOf(row).disabled = true;
  byId("confirm-yes").disabled = true;
  keepFocus(focused);
}

// Writes the cells that do not change during a session.
function newRow(client) {
  const row = document.createElement("tr");
  row.dataset.session = client.session;
  for (const name of ["user", "client", "queued number", "c-sent number", "c-age number", "act"]) {
    const cell = row.insertCell();
    cell.className = name;
  }
  const port = document.createElement("span");
  const [, host, number] = client.client.match(/^(.*?)(:\d+)?$/);
  port.textContent = number || "";
  row.cells[0].textContent = client.user;
  row.cells[1].append(`${client.session} from ${host}`, port);
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
  row.cells[2].textContent = bytes(client.queued_bytes);
  row.cells[3].textContent = bytes(client.sent_bytes);
  row.cells[4].textContent = duration(client.connected_seconds);
}

function askToDisconnect(client) {
  asked = client;
  const lost = client.queued_bytes ? ` ${bytes(client.queued_bytes)} queued for it will be lost.` : "";
  say("confirm-text", `Disconnect user ${client.user} (connection ${client.session}, ${client.client})?${lost}`);
  byId("confirm").showModal();
}

function closeDialog() {
  const wasOpen = byId("confirm").open;
  byId("confirm").close();
  return wasOpen;
}

async function disconnect(client) {
  const name = `User ${client.user} (connection ${client.session})`;
  const answer = await post(`api/clients/${client.session}/disconnect`);
  const row = rowsOf.get(client.session);
  if (!answer.ok && answer.status !== 404) {
    tell(`${name} could not be disconnected: ${answer.why}.`);
    return;
  }
  tell(answer.ok ? `${name} was disconnected.` : `${name} had already left.`);
  if (!row || row.client.client !== client.client) return;
  const focused = focusedClient();
  row.classList.add("closed");
  buttonOf(row).disabled = true;
  keepFocus(focused);
}

async function post(address) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new DOMException("no response", "TimeoutError")), REQUEST_MS);
  try {
    const answer = await fetch(address, { method: "POST", headers: authorization(), signal: late.signal });
    return { ok: answer.ok, status: answer.status, why: `the server answered with status ${answer.status}` };
  } catch (error) {
    const isLate = error.name === "TimeoutError";
    return { ok: false, status: 0, why: isLate ? `no response within ${REQUEST_MS / 1000} s` : "the server does not respond" };
  } finally {
    clearTimeout(timer);
  }
}

const aim = () => { aimedAt = performance.now(); };
clientsBody.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") aim(); });
clientsBody.addEventListener("pointerdown", aim);
clientsBody.addEventListener("focusin", aim);
clientsBody.addEventListener("keydown", aim);
byId("confirm-no").addEventListener("click", closeDialog);
byId("confirm-yes").addEventListener("click", () => { closeDialog(); disconnect(asked); });
