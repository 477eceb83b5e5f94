// The page: reads the document and shows its operations, each with its parameters, bodies, answers and a curl.

import { addCopy } from "./copy.js";
import { toCurl } from "./curl.js";
import { find, make, say } from "./dom.js";
import { inline, prose } from "./prose.js";
import { describeBody, kind, resolve, rules } from "./schema.js";

function code(text, label) {
  const block = make("div", { class: "code" }, make("pre", { tabindex: "0", "aria-label": label }, text));
  addCopy(block, () => block.querySelector("pre").textContent);
  return block;
}

const show = (value) => (typeof value === "string" ? value.trimEnd() : JSON.stringify(value, null, 2));

function parametersOf(root, operation) {
  const given = operation.parameters ?? [];
  if (!given.length) return [];
  const rows = given.map((each) => make(
    "div",
    {},
    make("dt", {}, make("code", {}, each.name), make("span", { class: "place" }, each.in), each.required ? make("span", { class: "needed" }, "required") : ""),
    make("dd", {}, make("span", { class: "kind" }, [kind(root, each.schema), ...rules(each.schema)].join(", ")), ...prose(each.description ?? "")),
  ));
  return [make("h4", {}, "Parameters"), make("dl", { class: "members" }, ...rows)];
}

/**
 * Describe a body, with a tab for each media type if there are several. `choose(media, example)` is called for the shown
 * tab, and shows the first example; without `choose` all examples are shown here.
 */
function contents(root, content, name, choose) {
  const media = Object.entries(content);
  const panel = make("div", { class: "panel" });
  const open = ([type, each]) => {
    const examples = Object.values(each.examples ?? {});
    panel.replaceChildren(
      ...examples.slice(choose ? 1 : 0).flatMap((example) => [make("p", { class: "caption" }, example.summary), code(show(example.value), example.summary)]),
      ...describeBody(root, each.schema),
    );
    choose?.(type, examples[0]?.value);
  };
  open(media[0]);
  if (media.length === 1) return make("div", {}, make("p", { class: "media" }, make("code", {}, media[0][0])), panel);
  const buttons = media.map((each, place) => {
    const input = make("input", { type: "radio", name, id: `${name}-${place}`, checked: place === 0 });
    input.addEventListener("change", () => open(each));
    return make("label", { for: `${name}-${place}` }, input, make("code", {}, each[0]));
  });
  return make("div", {}, make("fieldset", { class: "choice" }, make("legend", { class: "hidden" }, "Media type"), ...buttons), panel);
}

function answersOf(root, operation, id) {
  const [shared, owned] = [[], []];
  for (const [status, given] of Object.entries(operation.responses)) (given.$ref ? shared : owned).push([status, resolve(root, given)]);
  const show = ([status, answer]) => {
    const own = Object.entries(answer.headers ?? {}).filter(([name]) => name !== "X-Request-Id");
    const head = [make("code", { class: `status s${status[0]}` }, status), make("span", {}, ...inline(answer.description))];
    if (!answer.content && !own.length) return make("div", { class: "answer" }, make("p", { class: "line" }, ...head));
    const headers = own.map(([name, header]) => make("p", { class: "header" }, make("code", {}, name), " ", ...inline(header.description ?? "")));
    const details = make("details", { class: "answer" }, make("summary", { class: "line" }, ...head));
    details.addEventListener("toggle", () => {
      if (details.childElementCount > 1) return; // made when it is first opened
      details.append(make("div", { class: "inside" }, ...headers, ...(answer.content ? [contents(root, answer.content, `${id}-${status}`)] : [])));
    });
    return details;
  };
  const rest = shared.length ? [make(
    "details",
    { class: "answer" },
    make("summary", { class: "line" }, make("code", { class: "status" }, "…"), make("span", { class: "aside" }, `${shared.map(([status]) => status).join(", ")}: as any request`)),
    ...shared.map(show),
  )] : [];
  return [make("h4", {}, "Answers"), make("div", { class: "answers" }, ...owned.map(show), ...rest)];
}

function secured(operation) {
  const given = operation.security ?? [];
  if (!given.length) return [];
  if (given.some((each) => Object.keys(each).length === 0)) return []; // no key is configured
  return [make("span", { class: "tag", title: "As Authorization: Bearer, as X-API-Key, or as Authorization: Basic" }, "key")];
}

function operationOf(root, path, method, operation) {
  const id = operation.operationId;
  const command = make("div", { class: "command" });
  const draw = (media, example) => command.replaceChildren(code(toCurl(location.origin, method, path, operation, media, example), "curl"));
  draw();
  const head = [
    make(
      "h3",
      {},
      make("a", { href: `#${id}`, class: "route" }, make("span", { class: `method ${method.toLowerCase()}` }, method), make("code", {}, ...breakable(path))),
      ...secured(operation),
    ),
    make("p", { class: "summary" }, operation.summary),
  ];
  const same = operation["x-same-as"];
  if (same) {
    const other = root.paths[same][method.toLowerCase()].operationId;
    return make("article", { class: "operation same", id }, ...head, make("p", { class: "aside" }, "Same as ", make("a", { href: `#${other}` }, make("code", {}, same)), "."));
  }
  const body = operation.requestBody;
  const parts = body ? [make("h4", {}, "Body", body.required ? "" : make("span", { class: "place" }, "optional")), contents(root, body.content, `${id}-body`, draw)] : [];
  return make(
    "article",
    { class: "operation", id },
    ...head,
    make("div", { class: "halves" },
      make("div", { class: "told" }, ...prose(operation.description), ...parts, ...parametersOf(root, operation)),
      make("div", { class: "seen" }, command, ...answersOf(root, operation, id)),
    ),
  );
}

/** A path that may break after its slashes. */
const breakable = (path) => path.split(/(?<=\/)/).flatMap((part) => [part, make("wbr")]);

function draw(root) {
  document.title = root.info.title;
  say(find("version"), root.info.version);
  say(find("title"), root.info.title);
  find("words").replaceChildren(...prose(root.info.description));
  const all = Object.entries(root.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => [path, method.toUpperCase(), operation]));
  for (const tag of root.tags) {
    const own = all.filter(([, , operation]) => operation.tags.includes(tag.name));
    const slug = `group-${tag.name.toLowerCase().replace(/\W+/g, "-")}`;
    find("groups").append(make("li", {}, make("a", { href: `#${slug}` }, tag.name)));
    find("contents").append(
      make("p", {}, make("a", { href: `#${slug}` }, tag.name)),
      make("ul", {}, ...own.map(([path, method, operation]) => make(
        "li",
        {},
        make("a", { href: `#${operation.operationId}` }, make("span", { class: `method ${method.toLowerCase()}` }, method === "DELETE" ? "DEL" : method), make("span", {}, ...breakable(path))),
      ))),
    );
    find("main").append(make(
      "section",
      { id: slug, "aria-labelledby": `${slug}-title` },
      make("h2", { id: `${slug}-title` }, tag.name),
      ...prose(tag.description ?? "").map((each) => (each.classList.add("aside"), each)),
      ...own.map(([path, method, operation]) => operationOf(root, path, method, operation)),
    ));
  }
  find("waiting").hidden = true;
  find("intro").hidden = false;
  follow();
}

/** Mark the operation that is read in the contents, and scroll to the one in the address, which exists only now. */
function follow() {
  const links = new Map([...find("contents").querySelectorAll("li a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      find("contents").querySelector("[aria-current]")?.removeAttribute("aria-current");
      const link = links.get(entry.target.id);
      link.setAttribute("aria-current", "true");
      if (find("contents").offsetParent) link.scrollIntoView({ block: "nearest" });
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const operation of document.querySelectorAll(".operation")) seen.observe(operation);
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json was answered with ${response.status}`);
  draw(await response.json());
} catch (error) {
  say(find("waiting"), `The document cannot be shown: ${error.message}. Load the page again.`);
}
