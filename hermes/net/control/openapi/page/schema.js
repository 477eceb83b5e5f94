// Describes a JSON Schema: the kind of a value, and the members of an object as a list that can be unfolded.

import { make } from "./dom.js";
import { prose } from "./prose.js";

/** The schema to which a reference within the document leads. */
export function resolve(root, schema) {
  if (!schema?.$ref) return schema ?? {};
  return schema.$ref.slice(2).split("/").reduce((found, name) => found[name], root);
}

/** The name of a schema that is one of the document's components. */
const nameOf = (schema) => schema?.$ref?.split("/").at(-1);

/** The kind of value, in a word or two. */
export function kind(root, schema) {
  const name = nameOf(schema);
  if (name) return name;
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((each) => kind(root, each)).sort((a, b) => a.length - b.length).join(" or ");
  if (schema.enum) return schema.enum.filter((each) => each !== "").map((each) => JSON.stringify(each)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `array of ${kind(root, schema.items ?? {})}`;
  if (schema.type === "object" && schema.additionalProperties && !schema.properties) {
    return `object of ${kind(root, schema.additionalProperties)}`;
  }
  return schema.type ? (schema.format === "date-time" ? "date and time" : String(schema.type)) : "any value";
}

/** The rules beyond the kind. */
export function rules(schema) {
  const all = [schema, ...(schema.anyOf ?? [])];
  // A bound above JavaScript's whole numbers says nothing to a reader.
  const pick = (name) => all.map((each) => each[name]).find((each) => each !== undefined && !(each > Number.MAX_SAFE_INTEGER));
  const range = (low, high, unit) => {
    const [from, to] = [pick(low), pick(high)];
    if (from === undefined && to === undefined) return [];
    if (from === undefined) return [`at most ${to}${unit}`];
    if (to === undefined) return from === 1 && unit ? ["not empty"] : [`at least ${from}${unit}`];
    return [`${from} to ${to}${unit}`];
  };
  const above = pick("exclusiveMinimum");
  const found = [
    ...(above === undefined ? [] : [`above ${above}`]),
    ...range("minimum", "maximum", ""),
    ...range("minLength", "maxLength", " characters"),
    ...range("minItems", "maxItems", " items"),
  ];
  const pattern = pick("pattern");
  if (pattern !== undefined && !pattern.includes("\0")) found.push(`matches ${pattern}`);
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found;
}

/** The schemas of objects that a schema leads to at once: itself, its items, its alternatives. */
function objects(root, schema) {
  const found = resolve(root, schema);
  if (found.properties) return [found];
  const inside = [...(found.anyOf ?? found.oneOf ?? []), ...(found.items ? [found.items] : [])];
  if (typeof found.additionalProperties === "object") inside.push(found.additionalProperties);
  return inside.flatMap((each) => objects(root, each));
}

/** A list of the members of an object; a member that is an object can be unfolded. `path` keeps cycles out. */
function members(root, schema, path) {
  const list = make("dl", { class: "members" });
  for (const [name, member] of Object.entries(schema.properties)) {
    const needed = schema.required?.includes(name);
    const facts = [kind(root, member), ...rules(member)];
    const row = make(
      "div",
      {},
      make("dt", {}, make("code", {}, name), needed ? make("span", { class: "needed" }, "required") : ""),
      make("dd", {}, make("span", { class: "kind" }, facts.join(", "))),
    );
    const words = member.description;
    if (words) row.lastChild.append(...prose(words));
    const inner = unfold(root, member, path);
    if (inner) row.lastChild.append(inner);
    list.append(row);
  }
  return list;
}

function unfold(root, schema, path) {
  const inside = [...new Set(objects(root, schema))].filter((each) => !path.includes(each));
  if (!inside.length) return null;
  return make("details", {}, make("summary", {}, "Members"), ...inside.map((each) => members(root, each, [...path, each])));
}

/** Describe a body: one line, and the members of its objects. */
export function describeBody(root, schema) {
  if (!schema) return [make("p", { class: "aside" }, "Any bytes.")];
  const seen = [...new Set(objects(root, schema))];
  const head = make("p", { class: "kind" }, [kind(root, schema), ...rules(schema)].join(", "));
  const words = schema.description ?? resolve(root, schema).description ?? (seen.length === 1 ? seen[0].description : "");
  return [head, ...(words ? prose(words) : []), ...seen.map((each) => {
    const list = members(root, each, [each]);
    return seen.length > 1 ? make("div", {}, make("h5", {}, each.title ?? "Object"), list) : list;
  })];
}
