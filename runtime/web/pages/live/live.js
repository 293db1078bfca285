// The live page: the picture, and the numbers of the stream once a second.
const at = id => document.getElementById(id);
history.replaceState(null, "", location.pathname); // a token there has become a cookie
const STATES = {
  waiting: ["waiting", "Waiting for the first frame …"], streaming: ["live", ""],
  stalled: ["stalled", "No new frame for some seconds."], ended: ["ended", "The stream has ended."],
  lost: ["no connection", "No answer from the stream. Trying again …"],
};
let events = null, retry = 0, state = "", chosen = false;

function url(path, query = {}) {
  return path + "?" + new URLSearchParams(query);
}

function show() {  // the picture as the switch says; a new address makes the browser drop the old stream
  const view = at("beside").checked ? "side-by-side" : "output";
  at("frame").className = view;
  at("snapshot").href = url("snapshot.png", { view });
  at("picture").src = url("stream.mjpg", { view, t: Date.now() });
}

function put(id, value, unit = "", digits = 0) {
  const known = value !== null && value !== "";
  at(id).textContent = known ? (typeof value === "number" ? value.toFixed(digits) : value) : "–";
  if (known && unit) at(id).append(Object.assign(document.createElement("small"), { textContent: " " + unit }));
  return known;
}

function enter(next) {
  if (next === state) return;
  const running = state === "streaming" || state === "stalled" || state === "waiting";
  const runs = next !== "ended" && next !== "lost";
  if (runs && !running) show();
  // what has ended stays so until another stream answers here
  if (next === "lost" && state === "ended") return;
  state = next;
  at("state").className = state;
  [at("state").textContent, at("message").textContent] = STATES[state];
  at("beside").disabled = !runs;
  at("snapshot").setAttribute("aria-disabled", String(!["streaming", "stalled"].includes(state)));
}

function update(now) {
  if (!chosen) at("beside").checked = now.view === "side-by-side";
  chosen = true;
  enter(now.state);
  at("source").textContent = now.source;
  document.title = (now.source ? now.source + " – " : "") + "pix2pix-edge";
  put("fps", now.fps, "fps", 1);
  put("frames", now.frames.toLocaleString());
  put("p50", now.latency_p50_ms, "ms", now.latency_p50_ms < 10 ? 1 : 0);
  put("p95", now.latency_p95_ms, "ms", now.latency_p95_ms < 10 ? 1 : 0);
  const causes = Object.entries(now.dropped).filter(([, count]) => count);
  const total = causes.reduce((sum, [, count]) => sum + count, 0);
  // the space inside a cause does not break
  put("dropped", total.toLocaleString(),
    causes.map(([cause, count]) => `${count.toLocaleString()}\u00a0${cause.replaceAll(" ", "\u00a0")}`).join(", "));
  put("engine", [now.engine, now.device].filter(Boolean).join(", "));
  put("precision", now.precision);
  at("temperature").parentNode.hidden = !put("temperature", now.temperature_c, "°C");
  at("power").parentNode.hidden = !put("power", now.watts, "W", 1);
}

function connect() {
  clearTimeout(retry);
  disconnect();
  events = new EventSource("events");
  events.onmessage = message => update(JSON.parse(message.data));
  events.onerror = () => {
    disconnect();
    enter("lost");
    retry = setTimeout(connect, 2000);
  };
}

function disconnect() {
  if (events) events.close();
  events = null;
}

document.addEventListener("visibilitychange", () => {  // a page that nobody sees costs nothing
  clearTimeout(retry);
  if (document.hidden) {
    disconnect();
    if (state !== "ended") at("picture").removeAttribute("src");
  } else {
    if (state !== "ended") state = "";
    connect();
  }
});
at("beside").onchange = show;
connect();
