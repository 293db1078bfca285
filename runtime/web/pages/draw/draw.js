// The page to draw on: asks what there is, and opens the model that is chosen.

import { Bars } from "./bars.js";
import { Easel, at, tell } from "./easel.js";
import { fetchBlob } from "./pictures.js";

history.replaceState(null, "", location.pathname); // a token there has become a cookie

let easel = null;

async function choose(settings, index) {
  easel?.close();
  const model = settings.models[index];
  const { Engine } = await import(model.file ? "./local.js" : "./remote.js");
  easel = new Easel(model, new Engine(model));
  new Bars(easel);
  await easel.open();
}

async function start() {
  const settings = JSON.parse(await (await fetchBlob("model.json")).text());
  at("choice").hidden = settings.models.length < 2;
  at("model").replaceChildren(...settings.models.map(({ name }, index) => new Option(name, index)));
  at("model").addEventListener("change", () => choose(settings, Number(at("model").value)));
  if (settings.models[0].file) navigator.serviceWorker?.register("service-worker.js"); // there is no server to ask
  await choose(settings, 0);
}

start().catch(error => tell(error.message));
