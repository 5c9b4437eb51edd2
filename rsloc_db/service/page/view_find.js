// Drop an image, and watch its way.

import { ask, badge, el, field, moment, seconds, select, verdictWords, write } from "./common.js";
import * as map from "./map.js";

const STAGES = [
  ["read", "Read the image", "size of its pixels, nothing of where it is"],
  ["retrieve", "Look for tiles that resemble it", "patches of the image against the gallery"],
  ["cliques", "Find where patches agree", "votes that fit together by more than chance"],
  ["verify", "Compare candidate places", "the whole image against the gallery there"],
  ["refine", "Measure place and error", "block by block"],
];
const UPLOAD = "M12 16V4m0 0L7 9m5-5 5 5M4 15v3a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-3";
const previews = new Map();

export async function find(context) {
  const [galleries, jobs] = await Promise.all([ask("/api/galleries"), ask("/api/jobs")]);
  const ready = galleries.filter((g) => g.status === "ready");
  map.showGalleries(ready);
  map.fitGalleries(ready);
  const form = options(ready);
  const said = el("div", { role: "alert" });
  const send = async (file) => {
    said.replaceChildren(el("p", { class: "soft" }, `Sending ${file.name} …`));
    try {
      const sent = await write("POST", "/api/jobs", form.data(file));
      previews.set(sent.id, URL.createObjectURL(file));
      location.hash = `#/jobs/${sent.id}`;
    } catch (error) {
      said.replaceChildren(el("p", { class: "error" }, error.message));
    }
  };
  context.show(
    el("h1", {}, "Where was this image taken?"),
    el("p", { class: "soft" }, ready.length
      ? `It is searched in ${ready.length === 1 ? `gallery ${ready[0].name}` : `${ready.length} galleries`} and answered with a place and its error, or with “not here”.`
      : "There is no gallery to search yet: rsloc-db ingest adds one."),
    dropZone(send),
    said,
    form.element,
    jobs.length > 0 && el("h2", {}, "Since the service was started"),
    jobs.length > 0 && recent(jobs),
  );
}

function dropZone(send) {
  const input = el("input", { type: "file", accept: ".png,.jpg,.jpeg,.tif,.tiff,.webp,.jp2", onchange: () => input.files[0] && send(input.files[0]) });
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ d: UPLOAD, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" })) line.setAttribute(key, value);
  icon.append(line);
  const zone = el("label", { class: "drop" }, icon, el("strong", {}, "Drop an image here"), el("span", { class: "soft" }, "or choose one: PNG, JPEG, TIFF, WebP, JPEG 2000"), input);
  for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.remove("over"); });
  zone.addEventListener("drop", (event) => event.dataTransfer.files[0] && send(event.dataTransfer.files[0]));
  return zone;
}

function options(galleries) {
  const size = el("input", { type: "number", name: "size", min: "0", step: "any", placeholder: "e.g. 3.3" });
  const sizeField = field("Metres a pixel", size);
  const kind = select([["", "as the file says, or unknown"], ["gsd", "metres a pixel"], ["level", "zoom level"]], "", () => {
    sizeField.hidden = !kind.value;
    sizeField.firstChild.textContent = kind.value === "level" ? "Zoom level" : "Metres a pixel";
    pixelsField.hidden = kind.value !== "level";
  });
  const pixels = select([["", "in Web Mercator"], ["ground", "on the ground"], ["degrees", "in degrees"]]);
  const pixelsField = field("A pixel is a step", pixels);
  const factor = select([["", "a few per cent"], ["1.25", "a quarter"], ["1.5", "a half"], ["2", "twice as large or small"]]);
  const rotation = select([["north_up", "north is up"], ["free", "not known (takes longer)"]]);
  const gallery = select([["", "all"], ...galleries.map((g) => [g.name, g.name])]);
  sizeField.hidden = pixelsField.hidden = true;
  const element = el("details", {}, el("summary", {}, "What is known of the image"), el("div", { class: "fields" },
    field("Size of a pixel", kind), sizeField, pixelsField, field("That may be wrong by", factor), field("Its turn", rotation), field("Gallery", gallery)));
  const data = (file) => {
    const form = new FormData();
    const given = { [kind.value]: kind.value && size.value, pixels: kind.value === "level" && pixels.value, gsd_factor: factor.value, rotation: rotation.value, gallery: gallery.value };
    for (const [key, value] of Object.entries(given)) if (key && value) form.append(key, value);
    form.append("file", file);
    return form;
  };
  return { element, data };
}

function recent(jobs) {
  return el("div", { class: "cards" }, jobs.slice(0, 8).map((job) => el("a", { class: "card", href: job.query ? `#/runs/${job.run}/${job.query}` : `#/jobs/${job.id}` },
    el("div", { class: "row" }, job.verdict ? badge(job.verdict, verdictWords(job.verdict)) : badge(job.state), el("span", {}, job.name)),
    el("div", { class: "soft small" }, moment(job.created_at), job.reason ? ` · ${job.reason}` : ""))));
}

export async function job(context, id) {
  const galleries = (await ask("/api/galleries")).filter((g) => g.status === "ready");
  map.showGalleries(galleries);
  map.fitGalleries(galleries);
  let timer;
  let said = "";
  context.onLeave(() => clearTimeout(timer));
  const follow = async () => {
    const now = await ask(`/api/jobs/${id}`);
    if (!context.isHere()) return;
    if (now.query) {
      location.replace(`#/runs/${now.run}/${now.query}`);
      return;
    }
    const text = JSON.stringify(now);
    // drawn anew only where something has changed, so that the focus stays on the button
    if (text !== said) context.show(...progress(now));
    said = text;
    if (now.state === "waiting" || now.state === "running") timer = setTimeout(follow, 400);
  };
  await follow();
}

function progress(job) {
  const over = job.state === "failed" || job.state === "cancelled";
  const stop = el("button", { onclick: async () => { stop.disabled = true; await write("DELETE", `/api/jobs/${job.id}`); } }, "Cancel");
  return [
    el("h1", {}, job.name),
    previews.has(job.id) && el("img", { class: "preview", src: previews.get(job.id), alt: "The image that was sent" }),
    over && el("div", { class: `answer ${job.state}` }, el("div", { class: "verdict" }, job.state === "failed" ? "Failed" : "Cancelled"), el("p", {}, job.reason)),
    job.state === "waiting" && el("p", {}, job.ahead ? `${job.ahead} before it …` : "About to begin …"),
    !over && steps(job),
    over ? el("a", { class: "button", href: "#/" }, "Try another image") : stop,
  ];
}

function steps(job) {
  const spent = {};
  for (const { name, seconds: s } of job.stages) spent[name] = (spent[name] ?? 0) + s;
  // where nothing stands out all of the gallery is searched: the stages begin again
  const again = job.stages.filter(({ name }) => name === "refine").length > 0;
  const last = job.stages.at(-1)?.name;
  const next = last ? (STAGES.findIndex(([name]) => name === last) + 1) % STAGES.length || 1 : 0;
  return el("ol", { class: "steps" }, STAGES.map(([name, title, what], i) => el("li", { class: job.state === "running" && i === next ? "now" : name in spent && (!again || i < next) ? "done" : null },
    el("span", {}, again && i === 1 ? "Look everywhere" : title, el("small", {}, what)),
    el("span", { class: "soft number" }, name in spent ? seconds(spent[name]) : ""))));
}
