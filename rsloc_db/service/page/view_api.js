// What programs can ask for, from the service's own OpenAPI document.

import { ask, el, table } from "./common.js";

const TITLES = { galleries: "Galleries", runs: "Runs", localizations: "Localizations", jobs: "Jobs", features: "OGC API Features", service: "Service" };

export async function api(context) {
  const document = await ask("/api/openapi.json");
  const here = location.origin;
  const calls = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, call]) => ({ path, method: method.toUpperCase(), ...call })));
  const part = (tag) => [
    el("h2", {}, TITLES[tag] ?? tag),
    table([
      { title: "", class: "nowrap", cell: (c) => el("code", {}, c.method) },
      { title: "Address", class: "name", cell: (c) => c.method === "GET" && !c.path.includes("{") ? el("a", { href: c.path }, el("code", {}, c.path)) : el("code", {}, c.path) },
      { title: "", cell: (c) => c.description?.split(/(?<=[.])\s/)[0] ?? c.summary },
    ], calls.filter((c) => (c.tags ?? ["service"])[0] === tag)),
  ];
  context.show(
    el("h1", {}, "API"),
    el("p", {}, "All that this page shows is JSON as well; ", el("a", { href: "/api/openapi.json" }, "the OpenAPI document"), " says it in full."),
    el("h2", {}, "An image from the command line"),
    el("pre", {}, `curl -F file=@scene.tif ${here}/api/jobs\ncurl ${here}/api/jobs/ID`),
    el("h2", {}, "QGIS"),
    el("p", {}, "Layer › Add Layer › Add WFS / OGC API Features Layer, new connection with the address"),
    el("pre", {}, `${here}/ogc`),
    el("p", {}, "and for a gallery's tiles an XYZ connection with"),
    el("pre", {}, `${here}/api/galleries/NAME/map/{z}/{x}/{y}`),
    ...Object.keys(TITLES).flatMap(part),
  );
}
