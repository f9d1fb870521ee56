// Parsing and formatting of values.
"use strict";

const byId = (id) => document.getElementById(id);
const show = (id, visible) => { byId(id).hidden = !visible; };
const say = (id, text) => {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text; // avoids a repeated announcement by screen readers
};

// User ids and sequence numbers may exceed 2^53, which JSON.parse would round: such numbers become
// strings. TOKENS matches strings whole, so that digits inside a string are left alone.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
const exactly = (token) => /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token;
const parse = (json) => JSON.parse(json.replace(TOKENS, exactly));

const round = (value) => value < 10 && value % 1 ? value.toFixed(1) : String(Math.round(value));
const scaled = (value, step, units) => {
  value = Number(value);
  let index = 0;
  while (value >= step * 0.9995 && index < units.length - 1) { value /= step; index += 1; }
  return index ? value.toFixed(value < 100 ? 1 : 0) + units[index] : round(value) + units[0];
};
const count = (value) => value < 10000 ? Math.round(value).toLocaleString("en") : scaled(value, 1000, ["", "k", "M", "G", "T"]);
const short = (value) => scaled(value, 1000, ["", "k", "M", "G", "T"]).replace(".0", "");
const whole = (value) => value.toLocaleString("en");
const several = (value, one, more) => value === 1 ? `1 ${one}` : `${whole(value)} ${more}`;
const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
const shortBytes = (value) => bytes(value).replace(".0", "");
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

// Times are UTC, as in the log, in every time zone.
const clock = (time) => new Date(time).toISOString().slice(11, 19);
const moment = (time) => {
  const day = new Date(time).toISOString().slice(0, 10);
  return (day === new Date().toISOString().slice(0, 10) ? "" : day + " ") + clock(time);
};
