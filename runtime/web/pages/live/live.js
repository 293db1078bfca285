// The live page: the picture, and the numbers of the stream once a second.
const at = id => document.getElementById(id);
const STATES = {
  waiting: ["waiting", "Waiting for the first frame …"], streaming: ["live", ""],
  stalled: ["stalled", "No new frame for some seconds."], ended: ["ended", "The stream has ended."],
  lost: ["no connection", "No answer from the stream. Trying again …"],
};
const HISTORY_MS = 10_000;
const VIDEO_TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
let events = null, retry = 0, state = "", chosen = false, shaped = false, recording = null, historyAt = 0;

history.replaceState(null, "", location.pathname); // a token there has become a cookie

function url(path, query = {}) {
  return path + "?" + new URLSearchParams(query);
}

function look() {  // the page as the switch says
  const view = at("beside").checked ? "side-by-side" : "output";
  at("frame").className = view;
  document.body.classList.toggle("wide-page", at("beside").checked);
  at("snapshot").href = url("snapshot.png", { view });
  return view;
}

function show() {  // a new address makes the browser drop the old stream
  const view = look();
  if (!paused()) at("picture").src = url("stream.mjpg", { view, t: Date.now() });
}

function shape() {  // the frame as the engine's pictures are, which the first one tells
  const { naturalWidth: width, naturalHeight: height } = at("picture");
  if (shaped || !width) return;
  shaped = true;
  at("frame").style.setProperty("--one", width / height / (at("beside").checked ? 2 : 1));
}

function put(id, value, unit = "", digits = 0) {
  const known = value !== null && value !== undefined && value !== "";
  at(id).textContent = known ? (typeof value === "number" ? value.toFixed(digits) : value) : "–";
  if (known && unit) at(id).append(Object.assign(document.createElement("small"), { textContent: " " + unit }));
  return known;
}

function enter(next) {
  if (next === state) return;
  const running = state === "streaming" || state === "stalled" || state === "waiting";
  const runs = next !== "ended" && next !== "lost";
  if (runs && !running) {
    shaped = false;
    show();
  } else if (!running) look();
  // what has ended stays so until another stream answers here
  if (next === "lost" && state === "ended") return;
  state = next;
  at("state").className = state;
  [at("state").textContent, at("message").textContent] = STATES[state];
  at("numbers").classList.toggle("old", !runs);
  for (const id of ["beside", "pause", "record"]) at(id).disabled = !runs;
  if (state === "ended" && !at("picture").naturalWidth) at("picture").src = at("snapshot").href; // who comes late sees the last
  if (!runs) stopRecording();
}

function seconds(count) {  // as a clock: 1:02:03
  const [hours, minutes, rest] = [count / 3600, count / 60 % 60, count % 60].map(Math.floor);
  return (hours ? [hours, String(minutes).padStart(2, "0")] : [minutes]).concat(String(rest).padStart(2, "0")).join(":");
}

function explain({ state, frame_age_s: age, outage }) {  // why there is no picture, since when, and the next try
  if (state !== "stalled" && state !== "waiting") return "";
  if (!outage) return state === "stalled" ? `No new frame for ${seconds(age)}.` : STATES.waiting[1];
  const next = outage.next_try_s === null ? "Trying now …" : `Next try in ${Math.ceil(outage.next_try_s)} s.`;
  return `${outage.why}, for ${seconds(outage.since_s)}. ${next}`;
}

function update(now) {
  if (!chosen) at("beside").checked = now.view === "side-by-side";
  chosen = true;
  enter(now.state);
  shape();
  at("snapshot").setAttribute("aria-disabled", String(!now.frames));
  const why = explain(now);
  if (why) at("message").textContent = why;
  at("source").textContent = now.source;
  at("all").hidden = !(now.among > 1);
  document.title = (now.source ? now.source + " – " : "") + "pix2pix-edge";
  put("fps", now.fps, "fps", 1);
  put("frames", now.frames.toLocaleString());
  put("p50", now.latency_p50_ms, "ms", now.latency_p50_ms < 10 ? 1 : 0);
  put("p95", now.latency_p95_ms, "ms", now.latency_p95_ms < 10 ? 1 : 0);
  put("uptime", typeof now.uptime_s === "number" ? seconds(now.uptime_s) : null);
  put("viewers", now.viewers);
  const causes = Object.entries(now.dropped).filter(([, count]) => count);
  const total = causes.reduce((sum, [, count]) => sum + count, 0);
  // the space inside a cause does not break
  put("dropped", total.toLocaleString(),
    causes.map(([cause, count]) => `${count.toLocaleString()}\u00a0${cause.replaceAll(" ", "\u00a0")}`).join(", "));
  put("engine", [now.engine, now.device].filter(Boolean).join(", "));
  put("precision", now.precision);
  at("temperature").parentNode.hidden = !put("temperature", now.temperature_c, "°C");
  at("power").parentNode.hidden = !put("power", now.watts, "W", 1);
  if (performance.now() > historyAt) drawHistory();
}

async function drawHistory() {
  historyAt = performance.now() + HISTORY_MS;
  const answer = await fetch("history.json").catch(() => null);
  if (!answer?.ok) return;
  const past = await answer.json();
  line("rate", past.fps, 38, value => `${value.toFixed(1)} fps`);
  line("latency", past.latency_ms, 79, value => `${value.toFixed(value < 10 ? 1 : 0)} ms`);
}

function line(name, values, bottom, written) {  // from the bottom, which is 0, to the highest value, which stands above
  const top = Math.max(...values.map(value => value ?? 0));
  let path = "", open = false;
  values.forEach((value, i) => {
    if (value !== null) path += `${open ? "L" : "M"}${(i / (values.length - 1) * 240).toFixed(1)} ${(bottom - 36 * value / top).toFixed(1)}h0`;
    open = value !== null;
  });
  at(`${name}-line`).setAttribute("d", top ? path : "");
  at(`${name}-top`).textContent = top ? `max ${written(top)}` : "";
}

function connect() {
  clearTimeout(retry);
  disconnect();
  events = new EventSource("events");
  events.onmessage = message => update(JSON.parse(message.data));
  events.onerror = async () => {
    disconnect();
    enter("lost");
    retry = setTimeout(connect, 2000);
    const answer = await fetch("history.json", { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) location.reload(); // another token holds now: the page asks for it
    if (!answer) at("snapshot").setAttribute("aria-disabled", "true");
  };
}

function disconnect() {
  if (events) events.close();
  events = null;
}

const paused = () => at("pause").getAttribute("aria-pressed") === "true";

function pause() {
  const stops = !paused(), { naturalWidth: width, naturalHeight: height } = at("picture");
  at("pause").setAttribute("aria-pressed", String(stops));
  at("pause").textContent = stops ? "Go on" : "Pause";
  if (stops && width) {
    Object.assign(at("still"), { width, height }).getContext("2d").drawImage(at("picture"), 0, 0);
    at("picture").removeAttribute("src"); // what is not shown is not sent
    stopRecording();
  }
  at("still").hidden = !stops;
  if (!stops) show();
}

function record() {
  if (recording) return stopRecording();
  const { naturalWidth: width, naturalHeight: height } = at("picture");
  const type = VIDEO_TYPES.find(one => globalThis.MediaRecorder?.isTypeSupported(one));
  if (!width || !type) {
    at("message").textContent = type ? "There is no picture to record yet." : "This browser cannot record.";
    return void setTimeout(() => at("message").textContent = STATES[state][1], 4000);
  }
  const canvas = Object.assign(document.createElement("canvas"), { width, height }), parts = [];
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: type });
  const paint = () => {
    if (at("picture").naturalWidth) canvas.getContext("2d").drawImage(at("picture"), 0, 0, width, height);
    recording.frame = requestAnimationFrame(paint);
  };
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    const name = `${at("source").textContent || "stream"}.${type.includes("mp4") ? "mp4" : "webm"}`;
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob(parts, { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  recording = { recorder, frame: 0, since: performance.now() };
  recorder.start(1000);
  paint();
  at("record").setAttribute("aria-pressed", "true");
  at("record").textContent = "Stop";
}

function stopRecording() {
  if (!recording) return;
  cancelAnimationFrame(recording.frame);
  recording.recorder.stop();
  recording = null;
  at("record").setAttribute("aria-pressed", "false");
  at("record").textContent = "Record";
}

document.addEventListener("visibilitychange", () => {  // a page that nobody sees costs nothing
  clearTimeout(retry);
  if (document.hidden && !recording) {
    disconnect();
    if (state !== "ended") at("picture").removeAttribute("src");
  } else if (!document.hidden && !events) {
    if (state !== "ended") state = "";
    connect();
  }
});
at("beside").onchange = () => {
  stopRecording(); // its picture has another shape now
  if (paused()) pause();
  else show();
};
at("picture").onload = shape;
at("picture").onerror = () => at("picture").removeAttribute("src"); // nothing is better than the sign of a broken picture
at("pause").onclick = pause;
at("record").onclick = record;
at("full").onclick = () => document.fullscreenElement ? document.exitFullscreen() : at("stage").requestFullscreen();
connect();
