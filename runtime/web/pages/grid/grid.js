// The grid: all pictures over one connection, and the numbers of all once a second.
const at = id => document.getElementById(id);
const WORDS = { waiting: "waiting", streaming: "live", stalled: "stalled", ended: "ended", lost: "no connection" };
const BOUNDARY = "--frame\r\n";
const panes = new Map();
let events = null, pictures = null, retry = 0;

history.replaceState(null, "", location.pathname); // a token there has become a cookie

function pane(name) {
  if (!panes.has(name)) {
    const card = at("pane").content.cloneNode(true).querySelector("a");
    card.href = encodeURIComponent(name) + "/";
    card.querySelector(".name").textContent = name;
    card.querySelector("canvas").setAttribute("aria-label", `the translated picture of ${name}, live`);
    at("grid").append(card);
    panes.set(name, card);
  }
  return panes.get(name);
}

function enter(card, state) {
  card.classList.toggle("old", state !== "streaming");
  Object.assign(card.querySelector(".state"), { className: `state ${state}`, textContent: WORDS[state] });
}

function update(all) {
  let rate = 0;
  for (const [name, now] of Object.entries(all)) {
    const card = pane(name), lost = Object.values(now.dropped).reduce((sum, count) => sum + count, 0);
    const put = (part, text) => card.querySelector("." + part).textContent = text;
    enter(card, now.state);
    card.title = now.outage?.why ?? "";
    put("fps", now.state === "streaming" && now.fps !== null ? `${now.fps.toFixed(1)} fps` : "–");
    put("age", now.latency_p95_ms !== null ? `p95 ${now.latency_p95_ms.toFixed(now.latency_p95_ms < 10 ? 1 : 0)} ms` : "");
    put("lost", `${lost.toLocaleString()} dropped`);
    if (now.state === "streaming") rate += now.fps ?? 0;
    at("engine").textContent = [now.engine, now.precision].filter(Boolean).join(", ");
  }
  const live = Object.values(all).filter(now => now.state === "streaming").length;
  at("sum").textContent = `${live} of ${panes.size} live, ${rate.toFixed(1)} fps`;
}

async function draw(name, jpeg) {
  const image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })), canvas = pane(name).querySelector("canvas");
  Object.assign(canvas, { width: image.width, height: image.height }).getContext("2d").drawImage(image, 0, 0);
  image.close();
}

async function show(signal) {  // read the multipart stream: headers, Content-Length bytes, the next boundary
  const reader = (await fetch("pictures", { signal })).body.getReader();
  let held = new Uint8Array(0), body = null, start = BOUNDARY.length;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const more = new Uint8Array(held.length + value.length);
    more.set(held);
    more.set(value, held.length);
    held = more;
    for (;;) {
      if (!body) {
        const text = new TextDecoder("latin1").decode(held.subarray(start, start + 1000)), end = text.indexOf("\r\n\r\n");
        if (end < 0) break;
        const head = Object.fromEntries(text.slice(0, end).split("\r\n").map(line => line.split(": ")));
        body = { name: head["X-Source"], from: start + end + 4, length: Number(head["Content-Length"]) };
      }
      const next = body.from + body.length + 2 + BOUNDARY.length;
      if (held.length < next) break;
      draw(body.name, held.slice(body.from, body.from + body.length)).catch(() => {});
      held = held.slice(next);
      [body, start] = [null, 0];
    }
  }
}

function connect() {
  clearTimeout(retry);
  disconnect();
  pictures = new AbortController();
  show(pictures.signal).catch(() => {});
  events = new EventSource("status");
  events.onmessage = message => {
    const all = JSON.parse(message.data);
    update(all);
    if (Object.values(all).every(now => now.state === "ended")) disconnect();
  };
  events.onerror = async () => {
    disconnect();
    for (const card of panes.values()) enter(card, "lost");
    at("sum").textContent = "no connection";
    retry = setTimeout(connect, 2000);
    const answer = await fetch("status", { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) location.reload(); // another token holds now: the page asks for it
  };
}

function disconnect() {
  events?.close();
  pictures?.abort();
  [events, pictures] = [null, null];
}

document.addEventListener("visibilitychange", () => {  // a page that nobody sees costs nothing
  clearTimeout(retry);
  if (document.hidden) disconnect();
  else if (!events) connect();
});
connect();
