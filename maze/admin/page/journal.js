// The tables of the journal, the feed, the processes, and clients that come back.
"use strict";

const known = (value, write) => value === null ? "–" : write(value);

function fillTable(id, pairs) {
  byId(id).querySelector("tbody").replaceChildren(...pairs.map((texts) => {
    const row = document.createElement("tr");
    for (const text of texts) row.insertCell().textContent = text;
    return row;
  }));
}

// The processes of a server that has several, and the edges of an ingest that runs alone.

function fillRows(id, rows) {
  byId(id).querySelector("tbody").replaceChildren(...rows.map(([texts, numbers]) => {
    const row = document.createElement("tr");
    for (const text of texts) row.insertCell().textContent = text;
    for (const text of numbers) {
      const cell = row.insertCell();
      cell.className = "number";
      cell.textContent = text;
    }
    return row;
  }));
}

const behind = (events) => known(events, (number) => several(number, "event", "events"));
const stateOf = ({ state, is_connected: isConnected }) =>
  state === "ready" && isConnected === false ? "no feed" : state || "does not answer";

function showProcesses(processes) {
  show("processes", processes.length > 0);
  fillRows("processes", processes.map((process) => [[process.name, stateOf(process)], [
    known(process.sessions, whole),
    known(process.deliveries, (rate) => `${count(rate)} per second`),
    behind(process.lag_events),
    known(process.memory_bytes, bytes),
    whole(process.restarts),
  ]]));
}

function showFeed({ feed, processes }) {
  const edges = (feed && feed.edges) || [];
  show("edges", edges.length > 0 && !processes);
  fillRows("edges", edges.map((edge) => [[edge.name, edge.address], [
    edge.position, behind(edge.lag_events), bytes(edge.sent_bytes),
  ]]));
  show("feed", feed !== null);
  if (feed !== null) fillTable("feed", feed.edges ? rowsOfIngest(feed) : rowsOfEdge(feed));
}

const rowsOfIngest = ({ edges, edges_dropped: dropped, sent_bytes: sent }) => [
  ["edges that follow", whole(edges.length)],
  ["edges dropped", whole(dropped)],
  ["sent from memory", bytes(sent.ring)],
  ["sent from the file", bytes(sent.file)],
  ["snapshots sent", bytes(sent.snapshot)],
];

const rowsOfEdge = (feed) => [
  ["from", feed.address],
  ["state", feed.is_connected ? "connected" : "not connected"],
  ["journal ends at", known(feed.position, String)],
  ["behind", behind(feed.lag_events)],
  ["last answer", known(feed.answer_seconds, (age) => `${seconds(age)} ago`)],
  ["times disconnected", whole(feed.losses)],
];

function showJournal({ journal, rates }) {
  show("journal", journal !== null);
  if (journal === null) return;
  const { commit_seconds: took, lease, tail } = journal;
  fillTable("journal", [
    ["committed up to", known(journal.position, String)],
    ["commits", `${count(rates["1s"].commits)} per second`],
    ["median time of a commit", seconds(took.p50)],
    ["99 % of commits within", seconds(took.p99)],
    ["events kept", known(journal.events_kept, whole)],
    [lease ? "memory in Redis" : "file in use", known(journal.used_bytes, bytes)],
    ["newest snapshot", journal.snapshot_position || "none"],
    ...(lease ? rowsOfLease(lease) : []),
    ...(tail ? rowsOfTail(tail) : []),
  ]);
  say("trouble", journal.trouble || "");
  show("trouble", Boolean(journal.trouble));
}

const rowsOfLease = (lease) => lease.is_held
  ? [["lease", `held, renewed ${seconds(lease.renewed_seconds)} ago`], ["fence", String(lease.fence)]]
  : [["lease", "held by another process"]];

const rowsOfTail = (tail) => [
  ["Redis may still lose", `${bytes(tail.bytes)} (limit ${bytes(tail.limit_bytes)})`],
  ["appended again", `${several(tail.batches_again, "batch", "batches")} after ${several(tail.gaps, "loss", "losses")}`],
];

function showResumes(resumes) {
  const outcomes = Object.entries(resumes.outcomes).filter(([, number]) => number);
  show("resumes", resumes.resuming > 0 || outcomes.length > 0);
  fillTable("resumes", [
    ["resuming now", whole(resumes.resuming)],
    ...outcomes.map(([outcome, number]) => [outcome, whole(number)]),
    ["events in memory", `${whole(resumes.recent_events)} (${bytes(resumes.recent_bytes)})`],
  ]);
}
