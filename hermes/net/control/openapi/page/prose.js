// Turns the document's texts into elements.

import { make } from "./dom.js";

/** A text whose parts in backticks become code. */
export const inline = (text) => text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));

/** Paragraphs, separated by empty lines. */
export const prose = (text) => (text ? text.split("\n\n").map((paragraph) => make("p", {}, ...inline(paragraph))) : []);
