// The counts of events by type and minute: stacked bars, and the same as a table.

import { draw, find, make, markup, say } from "../dom.js";
import * as format from "../format.js";

const BARS_HEIGHT = 180;
const STEP = 10; // of a bar, in units of the drawing
const GAP = 2;

export const html = markup`
  <div class="heading">
    <h2 id="aggregates-title">Events by type and minute</h2>
    <p class="aside" id="aggregates-span"></p>
  </div>
  <div id="aggregates-shown" hidden>
    <ul class="legend" id="legend" aria-label="Types"></ul>
    <figure class="bars">
      <p class="scale" id="scale" aria-hidden="true"></p>
      <svg id="bars" role="img" tabindex="0" aria-describedby="bars-words" aria-label="Events by type and minute. The arrow keys walk through the minutes."></svg>
      <figcaption id="bars-axis" aria-hidden="true"></figcaption>
    </figure>
    <p class="aside words" id="bars-words" aria-live="polite"></p>
    <details>
      <summary>The same as a table</summary>
      <div class="scrolls" tabindex="0" role="region" aria-label="Events by type and minute, as a table">
        <table id="bars-table"></table>
      </div>
    </details>
  </div>
  <p class="empty" id="aggregates-empty">No events yet. An event is shown here after a second.</p>
  <p class="aside" id="aggregates-elsewhere" hidden></p>
`;

let shown = null; // the aggregates on the page, as they came
let chosen = null; // the minute that is described and marked; null: the whole window

/** Draw the counts, unless they are drawn already. */
export function render({ parts: { events: { aggregates } } }) {
  const text = JSON.stringify(aggregates);
  if (shown?.text === text) return;
  const total = sum(aggregates.counts.map(sum));
  find("aggregates-shown").hidden = !total;
  find("aggregates-empty").hidden = total > 0;
  const { elsewhere } = aggregates;
  say(find("aggregates-empty"), elsewhere ? "No event has a timestamp of the last hour." : "No events yet. An event is shown here after a second.");
  find("aggregates-elsewhere").hidden = !elsewhere;
  say(find("aggregates-elsewhere"), elsewhere ? `${format.plural(elsewhere, "event")} with a timestamp outside the last hour, not shown.` : "");
  const moved = shown === null ? 0 : aggregates.first - shown.aggregates.first;
  if (chosen !== null) chosen = chosen - moved >= 0 && chosen - moved < width(aggregates) ? chosen - moved : null;
  shown = { text, aggregates };
  say(find("aggregates-span"), total ? "the last hour, by the events’ own timestamps" : "");
  if (!total) return;
  drawLegend(aggregates);
  drawStacks(aggregates);
  drawTable(aggregates);
  describe();
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const width = (aggregates) => aggregates.counts[0]?.length ?? 0;
const totals = (aggregates) => aggregates.counts[0].map((_, n) => sum(aggregates.counts.map((row) => row[n])));
const colour = (aggregates, n) => (aggregates.types[n] === "(other)" ? "other" : `c${n}`);
const at = (aggregates, n) => (aggregates.first + n) * 60;

function drawLegend(aggregates) {
  const items = aggregates.types.map((type, n) => {
    const swatch = make("span", { class: `swatch ${colour(aggregates, n)}`, "aria-hidden": "true" });
    return make("li", {}, swatch, make("span", { class: "name" }, type), make("span", { class: "number" }, format.compact(sum(aggregates.counts[n]))));
  });
  find("legend").replaceChildren(...items);
}

function drawStacks(aggregates) {
  const bars = find("bars");
  const sums = totals(aggregates);
  const top = niceTop(Math.max(...sums));
  bars.setAttribute("viewBox", `0 0 ${sums.length * STEP} ${BARS_HEIGHT}`);
  bars.setAttribute("preserveAspectRatio", "none");
  const parts = [draw("line", { class: "grid", x1: 0, x2: sums.length * STEP, y1: BARS_HEIGHT / 2, y2: BARS_HEIGHT / 2 })];
  sums.forEach((total, minute) => {
    const group = draw("g", { class: "minute" });
    group.append(draw("rect", { class: "field", x: minute * STEP, y: 0, width: STEP, height: BARS_HEIGHT }));
    let y = BARS_HEIGHT;
    aggregates.counts.forEach((row, n) => {
      const height = (row[minute] / top) * BARS_HEIGHT;
      if (!height) return;
      y -= height;
      group.append(draw("rect", { class: colour(aggregates, n), x: minute * STEP + GAP / 2, y, width: STEP - GAP, height }));
    });
    parts.push(group);
  });
  bars.replaceChildren(...parts);
  say(find("scale"), format.compact(top));
  const last = sums.length - 1;
  find("bars-axis").replaceChildren(...[0, Math.round(last / 2), last].map((n) => make("span", {}, format.minute(at(aggregates, n)))));
}

/** The top of the scale: the smallest of 1, 2, 5, 10, 20, … that is at least the largest bar. */
function niceTop(largest) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, largest)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= largest);
}

function drawTable(aggregates) {
  const sums = totals(aggregates);
  const head = make("tr", {}, make("th", { scope: "col" }, "Minute"), ...aggregates.types.map((type) => make("th", { scope: "col", class: "number type" }, type)), make("th", { scope: "col", class: "number" }, "All"));
  const rows = sums.map((total, n) => [total, n]).filter(([total]) => total).reverse();
  const body = rows.map(([total, n]) => make("tr", {}, make("th", { scope: "row" }, format.minute(at(aggregates, n))), ...aggregates.counts.map((row) => make("td", { class: "number" }, format.count(row[n]))), make("td", { class: "number" }, format.count(total))));
  find("bars-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

/** Describe the chosen minute, or the whole window. */
function describe() {
  const { aggregates } = shown;
  const groups = find("bars").querySelectorAll(".minute");
  groups.forEach((group, n) => group.classList.toggle("chosen", n === chosen));
  const of = (row) => (chosen === null ? sum(row) : row[chosen]);
  const parts = aggregates.types.map((type, n) => [type, of(aggregates.counts[n])]).filter(([, number]) => number);
  const when = chosen === null ? "In the whole hour" : format.minute(at(aggregates, chosen));
  const total = format.plural(sum(parts.map(([, number]) => number)), "event");
  const each = chosen === null ? "" : parts.map(([type, number]) => `${type} ${format.count(number)}`).join(" · ");
  say(find("bars-words"), `${when}: ${total}${each && ` (${each})`}`);
}

function choose(minute) {
  if (shown === null || minute === chosen) return;
  chosen = minute;
  describe();
}

/** Let mouse and arrow keys choose a minute. */
export function begin() {
  const bars = find("bars");
  bars.addEventListener("pointermove", (event) => {
    const box = bars.getBoundingClientRect();
    const minute = Math.floor(((event.clientX - box.left) / box.width) * width(shown.aggregates));
    choose(Math.min(Math.max(minute, 0), width(shown.aggregates) - 1));
  });
  bars.addEventListener("pointerleave", () => choose(null));
  bars.addEventListener("blur", () => choose(null));
  bars.addEventListener("keydown", (event) => {
    const last = width(shown.aggregates) - 1;
    const from = chosen ?? last + 1;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to === null ? null : Math.min(Math.max(to, 0), last));
  });
}
