// Words of the document as elements.

import { make } from "./dom.js";

/** What stands in backticks becomes code. */
export const inline = (text) => text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));

/** Paragraphs, which an empty line parts. */
export const prose = (text) => (text ? text.split("\n\n").map((paragraph) => make("p", {}, ...inline(paragraph))) : []);
