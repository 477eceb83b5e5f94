// The table of the sinks. Each sink has a row of numbers, and a row of notes if the sink has trouble.

import { find, make, markup, say } from "../dom.js";
import * as format from "../format.js";

export const html = markup`
  <h2 id="sinks-title">Sinks</h2>
  <table class="cards" role="table" aria-labelledby="sinks-title">
    <thead role="rowgroup">
      <tr role="row">
        <th scope="col" role="columnheader">Sink</th>
        <th scope="col" role="columnheader">Breaker</th>
        <th scope="col" role="columnheader" class="number">Delivered</th>
        <th scope="col" role="columnheader" class="number">A second</th>
        <th scope="col" role="columnheader" class="number">Backlog</th>
        <th scope="col" role="columnheader" class="number">Lag</th>
        <th scope="col" role="columnheader" class="number">Dead-lettered</th>
        <th scope="col" role="columnheader" class="number">Dropped</th>
        <th scope="col" role="columnheader" class="number">Retries</th>
      </tr>
    </thead>
  </table>
`;

const COLUMNS = [
  ["Breaker", ""],
  ["Delivered", "number"],
  ["A second", "number"],
  ["Backlog", "number"],
  ["Lag", "number"],
  ["Dead-lettered", "number"],
  ["Dropped", "number"],
  ["Retries", "number"],
];
const LATE = 10; // seconds of lag that are worth a look
const groups = new Map();

/** Show the sinks of a status. */
export function render(status) {
  for (const sink of status.parts.events.sinks) {
    if (!groups.has(sink.name)) {
      groups.set(sink.name, makeGroup(sink));
      find("sinks").querySelector("table").append(groups.get(sink.name).body);
    }
    update(groups.get(sink.name), sink, status.now);
  }
}

function makeGroup(sink) {
  const name = make("th", { scope: "row", role: "rowheader" }, make("span", { class: "name" }, sink.name));
  name.append(sink.required ? make("span", { class: "tag" }, "required") : "");
  const cells = COLUMNS.map(([label, kind]) => make("td", { role: "cell", class: kind || undefined, "data-label": label }));
  const words = make("td", { role: "cell", colspan: COLUMNS.length + 1 });
  const note = make("tr", { class: "note", role: "row", hidden: true }, words);
  cells[0].append(make("span", { class: "dot", "aria-hidden": "true" }), make("span"));
  return { body: make("tbody", { role: "rowgroup" }, make("tr", { role: "row" }, name, ...cells), note), cells, note, words };
}

function update({ body, cells, note, words }, sink, now) {
  const dropped = sum(Object.values(sink.dropped));
  body.dataset.breaker = sink.breaker;
  say(cells[0].lastChild, breaker(sink));
  say(cells[1], format.count(sink.delivered));
  say(cells[2], format.rate(sink.rate));
  say(cells[3], format.count(sink.in_flight));
  say(cells[4], sink.lag === null ? "not known yet" : sink.lag < 0.1 ? "0 s" : format.duration(sink.lag));
  say(cells[5], format.count(sink.dead_lettered));
  say(cells[6], format.count(dropped));
  say(cells[7], format.count(sink.retries));
  cells[4].classList.toggle("late", sink.lag > LATE);
  cells[5].classList.toggle("bad", sink.dead_lettered > 0);
  cells[6].classList.toggle("bad", dropped > 0);
  const lines = trouble(sink, now);
  note.hidden = !lines.length;
  if (words.children.length !== lines.length) words.replaceChildren(...lines.map(() => make("p")));
  lines.forEach((line, n) => say(words.children[n], line));
}

function breaker(sink) {
  if (sink.breaker === "closed") return "closed";
  if (sink.breaker === "half_open") return "half-open, on trial";
  return sink.opens_in > 0 ? `open, tries again in ${format.duration(Math.ceil(sink.opens_in))}` : "open, tries with the next batch";
}

/** The notes about a sink's trouble, one line each. */
function trouble(sink, now) {
  const lines = [];
  if (sink.failed_at !== null) lines.push(`Last error, ${format.ago(now - sink.failed_at)}: ${sink.failure || "no reason given"}`);
  if (sink.on_disk) lines.push(`Behind: ${format.plural(sink.on_disk, "event")} of the backlog ${sink.on_disk === 1 ? "is" : "are"} only in the journal.`);
  const dropped = Object.entries(sink.dropped).map(([reason, count]) => `${reason} ${format.count(count)}`);
  if (dropped.length) lines.push(`Dropped: ${dropped.join(" · ")}`);
  if (sink.held) lines.push(`Held: ${format.plural(sink.held, "event")}, because the sink refuses every event for one reason.`);
  if (sink.evicted) lines.push(`Lost: ${format.plural(sink.evicted, "dead letter")} had to make room for newer ones.`);
  const refused = Object.entries(sink.refusals).sort(([, a], [, b]) => b - a).slice(0, 5).map(([reason, count]) => `${reason} (${format.count(count)})`);
  if (refused.length) lines.push(`Refused for good: ${refused.join(" · ")}`);
  return lines;
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
