// The slowest clients, and how one of them is disconnected.
"use strict";

const SHOWN_ROWS = 10; // as many as a status has
const AIM_MS = 3000; // so long after a mouse or a key was last used on them, the rows stay where they are
const REQUEST_MS = 5000;

const rowsOf = new Map(); // by session, all of one run of the server
let aimedAt = -Infinity;
let asked = null; // the client that the dialog is about

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
  say("clients-note", most ? `${clients.length} of ${whole(connected)}; those with the most bytes waiting come first.`
    : `Nothing waits for any client; ${clients.length} of ${whole(connected)} are shown.`);
  show("clients-note", rowsOf.size > 0);
  show("clients", rowsOf.size > 0);
  show("no-clients", rowsOf.size === 0);
}

// Of a button that is gone, or moved, or disabled, the focus would fall to the start of the page.
function keepFocus(focused) {
  if (!focused) return;
  if (!focused.isConnected || focused.disabled) byId("clients-title").focus({ preventScroll: true });
  else if (document.activeElement !== focused) focused.focus({ preventScroll: true });
}

// Session numbers begin anew with each run: a row of the last one would be about somebody else.
function forgetClients() {
  if (closeDialog()) tell("The server was started anew; nobody was disconnected.");
  const focused = focusedClient();
  clientsBody.replaceChildren();
  rowsOf.clear();
  keepFocus(focused);
}

// Nobody can be disconnected while the server does not answer.
function lockClients() {
  const focused = focusedClient();
  for (const row of rowsOf.values()) buttonOf(row).disabled = true;
  byId("confirm-yes").disabled = true;
  keepFocus(focused);
}

// What does not change while a session lasts is written here.
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
  const lost = client.queued_bytes ? ` ${bytes(client.queued_bytes)} that wait for it are lost.` : "";
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
  tell(answer.ok ? `${name} was disconnected.` : `${name} had left already.`);
  if (!row || row.client.client !== client.client) return;
  const focused = focusedClient();
  row.classList.add("closed");
  buttonOf(row).disabled = true;
  keepFocus(focused);
}

async function post(address) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new DOMException("no answer", "TimeoutError")), REQUEST_MS);
  try {
    const answer = await fetch(address, { method: "POST", headers: authorization(), signal: late.signal });
    return { ok: answer.ok, status: answer.status, why: `the server answered ${answer.status}` };
  } catch (error) {
    const isLate = error.name === "TimeoutError";
    return { ok: false, status: 0, why: isLate ? `no answer came within ${REQUEST_MS / 1000} s` : "the server does not answer" };
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
