// Makes and finds elements. Every text of the service becomes text on the page, and never markup.

export const find = (id) => document.getElementById(id);

/** An element with these attributes and children; a child that is no node becomes text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The nodes of a literal piece of HTML. Takes no values, so that a text of the service never becomes markup. */
export function markup(strings, ...values) {
  if (values.length) throw new TypeError("markup takes no values: make() and say() do");
  return [...new DOMParser().parseFromString(strings[0], "text/html").body.childNodes];
}

/** Show a number beside a panel's name at the top of the page; an empty text hides it. */
export function badge(panel, text) {
  const place = find(`nav-${panel}`);
  place.hidden = !text;
  say(place, text);
}

/** An element of SVG with these attributes. */
export function draw(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Set the text of an element if the text is new: a screen reader announces each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Fill a <dl> with pairs of words; without pairs, with the one line `none`. */
export function fillList(list, pairs, none) {
  const wanted = pairs.length ? pairs : [[none, ""]];
  const same = list.children.length === wanted.length && [...list.children].every((row, n) => row.dataset.name === wanted[n][0]);
  if (!same) {
    list.replaceChildren(...wanted.map(([name]) => {
      const row = make("div", { class: pairs.length ? undefined : "none" }, make("dt", {}, name), make("dd"));
      row.dataset.name = name;
      return row;
    }));
  }
  wanted.forEach(([, text], n) => say(list.children[n].lastChild, text));
}
