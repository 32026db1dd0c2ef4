// Shows what the controller tells: /status, /api/v1/history and its summary, told by /api/v1/events when to look again.
// Names of jobs and repositories come from people nobody here knows: they are only ever set as text.

const LOOK_AGAIN = 10_000; // what changes without an event: ages of polls, limits
const SUM_AGAIN = 60_000;
const GATHER = 100; // many events at once are one look
const SILENCE = 40_000; // the stream says something each 15 s
const LAST_JOBS = 15;

const $ = (id) => document.getElementById(id);
let status; // the last /status
let entries = []; // the last of /api/v1/history
let summary; // the last summary
let skew = 0; // the controller's clock minus ours
let token = sessionStorage.getItem("token");

const now = () => Date.now() + skew;

function el(tag, attributes = {}, ...children) {
  const element = tag === "svg" || SVG_TAGS.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}
const SVG_TAGS = new Set(["rect", "path", "line", "title"]);

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (ms < 10_000) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

function bytes(count) {
  if (count === undefined || count === null) return "";
  const steps = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (count >= 1024 && step < steps.length - 1) {
    count /= 1024;
    step += 1;
  }
  return `${count < 10 && step > 0 ? count.toFixed(1) : Math.round(count)} ${steps[step]}`;
}

const words = (code) => String(code ?? "").replaceAll("-", " ");
const time = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const moment = (ms) => new Date(ms).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
const since = (ms) => el("time", { "data-since": ms }, span(now() - ms));

// Columns are [title, cell of a row, kind]. A kind is the class of the cell; the first column heads the row.
function table(name, rows, columns, nothing) {
  if (rows.length === 0) return el("p", { class: "nothing" }, nothing);
  const head = columns.map(([title, , kind]) => el("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) => el("tr", {}, ...columns.map(([title, cell, kind], index) => {
    const attributes = { class: kind, "data-name": index === 0 ? undefined : title, scope: index === 0 ? "row" : undefined };
    const content = cell(row);
    return el(index === 0 ? "th" : "td", attributes, ...(Array.isArray(content) ? content : [content ?? ""]));
  })));
  return el("table", { "aria-label": name }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

// A part of the page is replaced only where it says something else: what is selected or focused stays.
function show(id, ...content) {
  const place = $(id);
  const next = el("div", {}, ...content);
  if (place.innerHTML !== next.innerHTML) place.replaceChildren(...next.childNodes);
}

const job = (name, repo) => [name || "no job", el("div", { class: "labels" }, repo)];
const mark = (kind, text) => el("span", { class: `mark ${kind}` }, text);

function phase(container) {
  const kind = { running: "busy", failed: "bad" }[container.phase] ?? "";
  return mark(kind, words(container.phase));
}

function cause(ended) {
  if (ended.cause === "succeeded") return mark("good", "succeeded");
  const harmless = ["cancelled-before-pickup", "taken-by-another-runner", "idle-too-long", "replaced", "job-cancelled"];
  const shown = mark(harmless.includes(ended.cause) ? "" : "bad", words(ended.cause));
  return ended.reason ? [shown, el("div", { class: "labels" }, ended.reason)] : shown;
}

function drawHealth(reasons) {
  show("health", reasons.length === 0
    ? el("p", { class: "well" }, "All is well.")
    : el("ul", { class: "problems" }, ...reasons.map((reason) => el("li", {}, reason))));
}

function draw() {
  const active = status.active_containers;
  const running = active.filter((container) => container.phase === "running");
  document.title = `Runners ${status.host}: ${running.length} running, ${status.queue.length} queued`;
  $("host").textContent = `on ${status.host}`;
  $("version").textContent = `gha-runner-controller ${status.version}`;

  const tile = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const intake = status.drained ? "drained" : status.intake ? "open" : "closed";
  show("tiles",
    tile("jobs running", running.length),
    tile("containers", `${active.length} of ${status.max_concurrent}`),
    tile("queued", status.queue.length),
    tile("intake", intake),
    tile("jobs, last day", summary ? summary.jobs : "…"),
    tile("wait p50, last day", summary ? (summary.waits.count ? span(summary.waits.p50_ms) : "none") : "…"),
    tile("wait p95, last day", summary ? (summary.waits.count ? span(summary.waits.p95_ms) : "none") : "…"));

  for (const name of looks.keys()) {
    if (!active.some((one) => one.name === name)) looks.delete(name);
  }
  const classes = new Map(status.classes.map((one) => [one.name, one]));
  show("now", table("Running now", active, [
    ["Job", (one) => job(one.job_name, one.repo)],
    ["Phase", phase],
    ["For", (one) => since(one.timeline.unit_started_ms ?? one.timeline.recorded_ms ?? status.updated_ms), "number"],
    ["Uses", (one) => uses(one, classes.get(one.class)), "labels"],
    ["Limits", (one) => limits(classes.get(one.class)), "labels"],
    ["Class", (one) => one.class],
    ["Container", (one) => el("code", {}, one.name)],
  ], "Nothing runs."));

  show("queue", table("Queue", status.queue, [
    ["Job", (one) => job(one.name, one.repo)],
    ["Waits for", (one) => one.reason || words(one.waiting), "wide"],
    ["Since", (one) => since(one.visible_ms), "number"],
    ["Class", (one) => one.class ?? "none"],
    ["Labels", (one) => one.labels.join(", "), "labels"],
  ], "Nothing is queued."));

  show("last", table("Last jobs", entries, [
    ["Job", (one) => job(one.job_name, one.repo)],
    ["Ended", cause],
    ["Waited", (one) => duration(one.timeline.queued_ms ?? one.timeline.visible_ms, one.timeline.job_started_ms), "number"],
    ["Ran", (one) => duration(one.timeline.job_started_ms, one.timeline.job_ended_ms ?? one.timeline.ended_ms), "number"],
    ["Memory", (one) => bytes(one.memory_peak), "number"],
    ["At", (one) => time(one.timeline.ended_ms ?? one.concluded_ms), "number"],
    ["Class", (one) => one.class],
  ], "No job has ended yet."));

  show("classes", table("Classes", status.classes, [
    ["Class", (one) => [one.name, el("div", { class: "labels" }, one.labels.join(", "))]],
    ["Containers", (one) => [meter(one.active, one.max_concurrent, `containers of class ${one.name}`), ` ${one.active} of ${one.max_concurrent}`]],
    ["State", classState, "wide"],
    ["Memory each", (one) => bytes(one.memory), "number"],
    ["Runner", (one) => one.runner_version ?? "unknown", "number"],
  ], "No class is configured."));

  show("targets", table("Targets", status.targets, [
    ["Target", (one) => one.repo],
    ["Containers", (one) => [meter(one.active, one.max_concurrent, `containers for ${one.repo}`), ` ${one.active} of ${one.max_concurrent}`]],
    ["State", (one) => (one.last_error ? mark("bad", one.last_error) : one.quarantined
      ? mark("warn", `${one.quarantined} repositories cannot be served`) : mark("good", "served")), "wide"],
    ["Last look", (one) => (one.last_poll_ms ? [since(one.last_poll_ms), " ago"] : "none yet"), "number"],
    ["Calls left", (one) => (one.rate_limit ? `${one.rate_limit.remaining} of ${one.rate_limit.limit}` : "not heard"), "number"],
  ], "No target is configured."));
  tick();
}

// Processors in use: between the last two looks, at first on average since the start.
const looks = new Map();
function processors(one) {
  if (one.cpu_us === undefined || one.cpu_us === null) return undefined;
  const at = Date.now();
  const last = looks.get(one.name) ?? { at: one.timeline.unit_started_ms ?? at, cpu_us: 0 };
  if (last.status !== status && at - last.at >= 1000) {
    looks.set(one.name, { status, at, cpu_us: one.cpu_us, used: Math.max(0, one.cpu_us - last.cpu_us) / (at - last.at) / 1000 });
  }
  return looks.get(one.name)?.used ?? 0;
}

function uses(one, known) {
  const parts = [];
  const used = processors(one);
  const part = (value, most, name, text) => {
    if (parts.length > 0) parts.push(el("br"));
    if (most) parts.push(meter(value, most, `${name} of ${one.name}`), " ");
    parts.push(text);
  };
  if (one.memory) part(one.memory, known?.memory, "memory", bytes(one.memory));
  if (used !== undefined) part(used, known?.cpus, "processors", `${used.toFixed(2)} processors`);
  return parts;
}

function limits(known) {
  const most = [];
  if (known?.cpus) most.push(`${known.cpus} processors`);
  if (known?.memory) most.push(bytes(known.memory));
  if (known?.timeout_seconds) most.push(`${span(known.timeout_seconds * 1000)} at most`);
  return most.join(", ");
}

const nextTry = (breaker) => (breaker.next_try_ms ? `nothing is tried until ${time(breaker.next_try_ms)}` : "one is tried now");

function classState(one) {
  if (one.drained) return mark("warn", "drained");
  if (one.outdated) return mark("bad", "the forge refuses its runner: update the template");
  const breaker = status?.breakers?.find((known) => known.kind === "class" && known.name === one.name);
  if (breaker && breaker.state !== "closed") return mark("bad", `${nextTry(breaker)}: ${breaker.cause}`);
  if (one.boot_failures > 0) return mark("bad", `${one.boot_failures} boots failed in a row`);
  if (one.runner_deprecated_in_days !== undefined && one.runner_deprecated_in_days !== null) {
    return mark("warn", `its runner is served for ${one.runner_deprecated_in_days} more days`);
  }
  return mark("good", one.privileged ? "ready, privileged" : "ready");
}

function meter(value, most, name) {
  return el("meter", { min: 0, max: most || 1, value, "aria-label": name });
}

const duration = (from, to) => (from && to ? span(to - from) : "");

function drawDay() {
  const points = summary.series;
  const step = 100 / points.length;
  const bars = (most, pick, kind) => points.flatMap((point, index) => {
    const height = (pick(point) / most) * 40;
    const shape = { class: `bar ${kind}`, x: index * step, y: 40 - height, width: step * 0.8, height };
    const said = `${time(point.at_ms)}: p50 ${span(point.waits.p50_ms)}, p95 ${span(point.waits.p95_ms)}`;
    return height > 0 ? [el("rect", shape, el("title", {}, said))] : [];
  });
  const slowest = Math.max(1, ...points.map((point) => point.waits.p95_ms));
  const load = Math.max(0, ...points.map((point) => point.load));
  const busiest = Math.max(1, load);
  const line = points.map((point, index) => `L${index * step} ${40 - (point.load / busiest) * 40}`).join("");
  const waits = summary.waits.count
    ? `p50 ${span(summary.waits.p50_ms)}, p95 ${span(summary.waits.p95_ms)}, at most ${span(summary.waits.max_ms)}`
    : "no job started";
  show("day",
    figure("Wait from queued to started", waits, [...bars(slowest, (p) => p.waits.p95_ms, "p95"), ...bars(slowest, (p) => p.waits.p50_ms, "p50")]),
    figure("Jobs at once", load > 0 ? `at most ${load.toPrecision(2)} on average of a quarter of an hour` : "none",
      [el("path", { class: "area", d: `M0 40${line}L100 40Z` })]));
}

function figure(name, said, shapes) {
  const { since_ms, until_ms } = summary.window;
  return el("figure", {},
    el("figcaption", {}, el("span", {}, name), el("span", {}, said)),
    el("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${name}, last day: ${said}` },
      el("line", { class: "base", x1: 0, y1: 40, x2: 100, y2: 40 }), ...shapes),
    el("div", { class: "times", "aria-hidden": "true" }, el("span", {}, moment(since_ms)), el("span", {}, moment(until_ms))));
}

function tick() {
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = span(now() - Number(element.dataset.since));
  }
}

class Refused extends Error {}

async function ask(path, options = {}) {
  const shown = token;
  const headers = shown ? { Authorization: `Bearer ${shown}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", ...options });
  if (answer.status === 401) {
    // An answer to the last token may come after the next was entered.
    if (shown === token) $("token-form").hidden = false;
    throw new Refused("the controller asks for its token");
  }
  if (!answer.ok && path !== "health") throw new Error(`${path}: ${answer.status}`);
  return answer;
}

async function look() {
  status = await (await ask("status")).json();
  draw();
  drawHealth((await (await ask("health")).json()).reasons);
}

async function sum() {
  // Without its history a controller still works: the rest of the page as well.
  const [last, whole] = await Promise.all([
    ask(`api/v1/history?limit=${LAST_JOBS}`).then((answer) => answer.json()),
    ask("api/v1/history/summary?hours=24").then((answer) => answer.json()),
  ]);
  entries = last.entries;
  summary = whole;
  if (status) draw();
  drawDay();
}

function unsummed(error) {
  if (error instanceof Refused) throw error;
  show("day", el("p", { class: "nothing" }, `The history does not answer (${error.message}).`));
}

// Runs `what` a moment after it is asked for, once however often that is, never twice at a time.
function gathered(what) {
  let timer;
  let busy = Promise.resolve();
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      busy = busy.then(what).catch((error) => say("lost", error.message));
    }, GATHER);
  };
}
const lookSoon = gathered(look);
const sumSoon = gathered(() => sum().catch(unsummed));

function say(state, text) {
  const link = $("link");
  link.dataset.state = state;
  if (link.textContent !== text) link.textContent = text;
}

// The stream, by fetch: an EventSource cannot show a token.
async function listen() {
  const cut = new AbortController();
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => cut.abort(), SILENCE);
  };
  try {
    heard();
    const answer = await ask("api/v1/events", { signal: cut.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) happened(part);
    }
  } finally {
    clearTimeout(silence);
  }
}

function happened(part) {
  const field = (name) => part.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const event = field("event");
  if (event === undefined) return; // a comment: the controller is there
  if (event === "ready") {
    skew = JSON.parse(field("data")).at_ms - Date.now();
    say("live", "live");
    sumSoon();
  }
  if (event === "ended") sumSoon();
  lookSoon();
}

async function stay() {
  for (let pause = 1000; ; pause = Math.min(pause * 2, 15_000)) {
    const began = Date.now();
    try {
      await listen();
      say("waiting", "connecting …");
    } catch (error) {
      say("lost", error instanceof Refused ? error.message : "the controller does not answer");
      if (error instanceof Refused) return;
    }
    if (Date.now() - began > 60_000) pause = 1000;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  $("token-form").hidden = true;
  stay();
});
setInterval(() => document.hidden || lookSoon(), LOOK_AGAIN);
setInterval(() => document.hidden || sumSoon(), SUM_AGAIN);
setInterval(tick, 1000);
lookSoon();
stay();
