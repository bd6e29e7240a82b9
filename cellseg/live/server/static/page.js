"use strict";
// Shows a running session: asks for the next picture when the last one is on the screen, and
// connects again by itself when the server was away.

const token = new URLSearchParams(location.search).get("token") || "";
const byId = (id) => document.getElementById(id);
const COLOURS = ["#2dd4bf", "#60a5fa", "#f59e0b", "#f472b6", "#a78bfa", "#a3e635"];
const RETRY_MS = [250, 500, 1000, 2000];
const SAMPLES = 240;
const SILENCE_MS = 6000;

let socket = null;
let layer = "overlay";
let failures = 0;
let history = [];
let state = null;
let lastNewsAt = 0;

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws?token=${encodeURIComponent(token)}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { failures = 0; lastNewsAt = Date.now(); wish(); };
  socket.onmessage = (event) => { lastNewsAt = Date.now(); show(event.data); };
  socket.onclose = lost;
}

function wish() {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ layer }));
}

function lost() {
  byId("picture").parentElement.classList.add("stale");
  setLink("lost", state && state.state === "closed" ? "session ended" : "reconnecting");
  setButtons(false);
  const delay = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  failures += 1;
  setTimeout(connect, delay);
}

// A connection that died without a word: the server answers at least twice a second.
setInterval(() => {
  if (socket && socket.readyState === WebSocket.OPEN && Date.now() - lastNewsAt > SILENCE_MS) {
    socket.close();
  }
}, 1000);

async function show(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const news = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const jpeg = new Uint8Array(buffer, 4 + length);
  if (state && news.elapsed_s < state.elapsed_s) history = []; // another session
  state = news;
  for (const sample of news.history) {
    if (!history.length || sample.t > history[history.length - 1].t) history.push(sample);
  }
  history = history.slice(-SAMPLES);
  if (jpeg.length) await draw(jpeg, news.picture);
  showNumbers(news);
  drawCharts();
  wish();
}

async function draw(jpeg, picture) {
  const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  const canvas = byId("picture");
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.dataset.frame = picture.frame_id;
  byId("empty").hidden = true;
}

function showNumbers(news) {
  byId("picture").parentElement.classList.remove("stale");
  setText("model", news.model);
  setText("engine", news.engine || "engine not started");
  setLink(news.state, news.state === "closed" ? "session ended" : news.state);
  setText("fps", news.fps.toFixed(news.fps < 10 ? 1 : 0));
  for (const name of ["p50", "p95", "p99"]) setText(name, milliseconds(news.latency_ms[name]));
  for (const name of ["sent", "done", "dropped"]) setText(name, String(news[name]));
  const reasons = Object.entries(news.dropped_by_reason).filter(([, count]) => count > 0);
  setText("reasons", reasons.map(([reason, count]) => `${reason} ${count}`).join(" · "));
  showCells(news);
  showFacts(news.frame);
  setButtons(news.state !== "closed");
  byId("snapshot").disabled = !news.frame;
  showScan(news.has_scan);
  setText("toggle", news.state === "paused" ? "Start" : "Stop");
}

// A session that is no scan has no mosaic; whoever looked at one looks at frames then.
function showScan(hasScan) {
  document.querySelector('[data-layer="scan"]').hidden = !hasScan;
  if (!hasScan && layer === "scan") choose("overlay");
}

function showCells(news) {
  const names = Object.keys(news.counts);
  const list = byId("cells");
  if (list.dataset.names !== names.join("\n")) {
    list.dataset.names = names.join("\n");
    list.replaceChildren(...(names.length ? names.map(cellEntry) : [textElement("dt", "This model does not tell cells apart")]));
    byId("count-keys").replaceChildren(...names.map((name, index) => {
      const key = textElement("span", name);
      key.className = "key";
      key.style.color = COLOURS[index % COLOURS.length];
      return key;
    }));
  }
  names.forEach((name, index) => {
    const here = news.frame ? news.frame.counts[name] : 0;
    const [now, total] = list.children[index].querySelectorAll("[data-value]");
    now.textContent = String(here);
    total.textContent = `in frame · ${news.counts[name]} summed over frames`;
  });
}

function cellEntry(name) {
  const entry = document.createElement("div");
  const value = document.createElement("dd");
  const now = document.createElement("span");
  const total = document.createElement("small");
  now.dataset.value = total.dataset.value = "";
  value.append(now, " ", total);
  entry.append(textElement("dt", name), value);
  return entry;
}

function showFacts(frame) {
  if (!frame) return;
  const facts = [`frame ${frame.id}`, `${milliseconds(frame.latency_ms)} ms`];
  if (frame.channel) facts.push(frame.channel);
  if (frame.stage_xyz_um) facts.push(`stage ${frame.stage_xyz_um.map((um) => um.toFixed(1)).join(", ")} µm`);
  facts.push(`focus ${Number(frame.focus.toPrecision(3))}`);
  setText("facts", facts.join(" · "));
}

function drawCharts() {
  drawChart("chart-fps", [history.map((point) => point.fps)]);
  drawChart("chart-latency", ["last_ms", "p50", "p99"].map((name) => history.map((point) => point[name])));
  drawChart("chart-dropped", [history.map((point, index) => rateOfDrops(index))]);
  const names = state ? Object.keys(state.counts) : [];
  drawChart("chart-counts", names.map((name) => history.map((point) => point.counts[name] ?? null)));
}

// Over the last two seconds, or every single drop would be a spike.
function rateOfDrops(index) {
  const [before, point] = [history[Math.max(0, index - 4)], history[index]];
  return index === 0 ? 0 : Math.max(0, (point.dropped - before.dropped) / (point.t - before.t));
}

// One chart: the highest value as its scale, newest at the right.
function drawChart(id, series) {
  const canvas = byId(id);
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const values = series.flat().filter((value) => value !== null);
  const top = roundUp(Math.max(0, ...values) || 1);
  const [left, bottom, room] = [34, height - 4, height - 12];
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const part of [0, 0.5, 1]) {
    const y = bottom - part * room;
    context.fillStyle = "#7b8896";
    context.fillText(values.length ? brief(part * top) : "", left - 6, y);
    context.fillStyle = "#222c38";
    context.fillRect(left, Math.round(y), width - left, 1);
  }
  series.forEach((line, index) => {
    context.strokeStyle = COLOURS[index % COLOURS.length];
    context.lineWidth = 1.6;
    context.lineJoin = "round";
    context.beginPath();
    let isDown = false;
    line.forEach((value, at) => {
      if (value === null) { isDown = false; return; }
      const x = width - 1 - (line.length - 1 - at) * (width - left - 2) / (SAMPLES - 1);
      const y = bottom - Math.min(1, value / top) * room;
      if (isDown) context.lineTo(x, y); else context.moveTo(x, y);
      isDown = true;
    });
    context.stroke();
  });
}

function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

function brief(value) {
  if (value >= 10000) return `${Math.round(value / 1000)}k`;
  return value === 0 || value >= 10 ? String(Math.round(value)) : String(Number(value.toPrecision(2)));
}

function milliseconds(value) {
  return value === null ? "–" : value.toFixed(value < 10 ? 1 : 0);
}

function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function setLink(name, text) {
  byId("link").dataset.state = name;
  setText("link", text);
}

function setButtons(isEnabled) {
  byId("toggle").disabled = byId("snapshot").disabled = !isEnabled;
}

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

byId("toggle").onclick = () => {
  const action = state && state.state === "paused" ? "start" : "stop";
  fetch(`/api/${action}`, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
};

byId("snapshot").onclick = async () => {
  const answer = await fetch(`/api/snapshot.png?layer=${layer}`, { headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = /filename="(.+)"/.exec(answer.headers.get("Content-Disposition"))[1];
  link.click();
  URL.revokeObjectURL(link.href);
};

function choose(name) {
  layer = name;
  for (const each of document.querySelectorAll("[data-layer]")) {
    each.setAttribute("aria-pressed", String(each.dataset.layer === name));
  }
}

for (const button of document.querySelectorAll("[data-layer]")) {
  button.onclick = () => choose(button.dataset.layer);
}

window.addEventListener("resize", drawCharts);
connect();
