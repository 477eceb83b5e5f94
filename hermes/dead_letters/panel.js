// Lists the dead letters, shows their payloads as text, replays them, and purges them after a question.

import { badge, find, make, markup, say } from "../dom.js";
import { ask, Refused } from "../feed.js";
import * as format from "../format.js";

export const html = markup`
  <div class="heading">
    <h2 id="dead-letters-title">Dead letters</h2>
    <p class="aside" id="letters-total"></p>
  </div>
  <form class="tools" id="letters-filter" hidden>
    <label>Source <select id="letters-source"><option value="">any</option></select></label>
    <label>Reason <input id="letters-reason" type="search" autocomplete="off" spellcheck="false" placeholder="any"></label>
    <button type="button" id="letters-refresh">Refresh</button>
    <span class="stretch"></span>
    <span id="letters-chosen" class="aside"></span>
    <button type="button" id="letters-replay" disabled>Replay selected</button>
    <button type="button" id="letters-purge" class="grave" disabled>Purge selected…</button>
  </form>
  <table class="cards letters" id="letters" role="table" aria-labelledby="dead-letters-title" hidden>
    <thead role="rowgroup">
      <tr role="row">
        <th scope="col" role="columnheader" class="pick"><input type="checkbox" id="letters-all" aria-label="Select all that are shown"></th>
        <th scope="col" role="columnheader" class="number">No.</th>
        <th scope="col" role="columnheader">Refused</th>
        <th scope="col" role="columnheader">Source</th>
        <th scope="col" role="columnheader">Type</th>
        <th scope="col" role="columnheader">Event</th>
        <th scope="col" role="columnheader">Reason</th>
        <th scope="col" role="columnheader"><span class="hidden">Actions</span></th>
      </tr>
    </thead>
  </table>
  <p class="empty" id="letters-empty">Loading …</p>
  <p class="more"><button type="button" id="letters-more" hidden>Show more</button></p>
  <dialog id="ask-dialog" aria-labelledby="ask-title" aria-describedby="ask-words">
    <h2 id="ask-title"></h2>
    <p id="ask-words"></p>
    <p class="buttons">
      <button type="button" id="ask-no">Keep them</button>
      <button type="button" id="ask-yes" class="grave solid">Purge</button>
    </p>
  </dialog>
`;

const PAGE = 50;
let heard = null; // the start of the service and its counts of letters at the last listing

const rows = new Map(); // by number, in the order of the page
const selected = new Set();
let next = null; // the number after which there are more
let wanted = PAGE; // the number of letters that the operator asked to see
let turn = 0; // the newest listing; an answer to an older one comes too late
let busy = false;
let past = 0; // the number of letters since the start

/** Wire the section up. */
export function begin() {
  let timer = 0;
  find("letters-filter").addEventListener("submit", (event) => event.preventDefault());
  find("letters-source").addEventListener("change", again);
  find("letters-reason").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(again, 250);
  });
  find("letters-refresh").addEventListener("click", () => list());
  find("letters-more").addEventListener("click", () => {
    wanted += PAGE;
    list();
  });
  find("letters-all").addEventListener("change", (event) => {
    for (const [number, row] of rows) pick(number, row, event.target.checked);
    tellSelection();
  });
  find("letters-replay").addEventListener("click", () => replay([...selected]));
  find("letters-purge").addEventListener("click", () => purge([...selected]));
}

/** List the letters anew if there are others than at the last status. */
export function render({ started, parts: { dead_letters: { added, evicted } } }) {
  const now = `${started} ${evicted} ${added}`;
  if (now === heard) return;
  heard = now;
  list(added);
}

/** Offer these sources as a filter, beside those that are offered already. */
function nameSources(sources) {
  const select = find("letters-source");
  const offered = new Set([...select.options].map((option) => option.value));
  for (const { part, source } of sources) {
    const value = JSON.stringify([part, source]);
    if (!offered.has(value)) select.append(make("option", { value }, name(part, source)));
  }
}

/** A sink goes by its own name, another source by the name of its part too. */
const name = (part, source) => (part === "events" ? source : `${part}: ${source}`);

function again() {
  wanted = PAGE;
  selected.clear();
  list();
}

/** Ask for the letters and show them. `count` is how many there have been since the start, where that is news. */
async function list(count = past) {
  past = count;
  const mine = ++turn;
  const query = new URLSearchParams({ limit: Math.min(wanted, 1000) });
  if (find("letters-source").value) {
    const [part, source] = JSON.parse(find("letters-source").value);
    query.set("part", part);
    query.set("source", source);
  }
  if (find("letters-reason").value) query.set("reason", find("letters-reason").value);
  try {
    const answer = await (await ask(`/dead-letters?${query}`)).json();
    if (mine === turn) show(answer, query.has("source") || query.has("reason"));
  } catch (error) {
    if (mine === turn && error instanceof Refused) say(find("letters-empty"), error.message);
  }
}

function show({ letters, next: after, total, sources }, filtered) {
  next = after;
  nameSources(sources);
  const kept = new Map(letters.map((letter) => [letter.number, letter]));
  for (const [number, row] of rows) {
    const letter = kept.get(number);
    if (letter !== undefined && row.stamp === stamp(letter)) continue;
    row.body.remove();
    rows.delete(number);
    if (letter === undefined) selected.delete(number);
  }
  const table = find("letters");
  for (const letter of letters) {
    if (!rows.has(letter.number)) rows.set(letter.number, makeRows(letter));
    table.append(rows.get(letter.number).body);
  }
  const empty = find("letters-empty");
  table.hidden = !letters.length;
  empty.hidden = letters.length > 0;
  find("letters-filter").hidden = !total && !filtered;
  find("letters-more").hidden = next === null;
  const gone = past === 1 ? "the one since the start was" : `the ${format.count(past)} since the start were`;
  const none = past ? `No dead letter is left: ${gone} replayed or purged.` : "No dead letters.";
  say(empty, filtered ? "No dead letter matches." : none);
  say(find("letters-total"), total ? `${letters.length < total ? `${format.count(letters.length)} of ` : ""}${format.count(total)}, the oldest first` : "");
  if (!filtered) badge("dead-letters", total ? format.compact(total) : "");
  tellSelection();
}

const stamp = (letter) => `${letter.rejected_at} ${letter.attempts} ${letter.reason}`;

function makeRows(letter) {
  const { number } = letter;
  const box = make("input", { type: "checkbox", "aria-label": `Select dead letter ${number}` });
  const look = make("button", { type: "button", "aria-expanded": "false", "aria-controls": `letter-${number}` }, letter.event ? "Payload" : "Body");
  const send = make("button", { type: "button", "aria-label": `Replay dead letter ${number}` }, "Replay");
  const forget = make("button", { type: "button", class: "grave", "aria-label": `Purge dead letter ${number}` }, "Purge…");
  const cell = (label, kind, ...words) => make("td", { role: "cell", class: kind || undefined, "data-label": label }, ...words);
  const head = make(
    "tr",
    { role: "row" },
    make("td", { role: "cell", class: "pick" }, box),
    cell("No.", "number", String(number)),
    cell("Refused", "when", format.moment(letter.rejected_at)),
    cell("Source", "", name(letter.part, letter.source)),
    ...what(letter, cell),
    cell("Reason", "reason", letter.reason || "no reason was given"),
    make("td", { role: "cell", class: "actions" }, look, send, forget),
  );
  const details = make("td", { role: "cell", colspan: 8 });
  const more = make("tr", { role: "row", class: "details", id: `letter-${number}`, hidden: true }, details);
  const row = { body: make("tbody", { role: "rowgroup" }, head, more), box, stamp: stamp(letter) };
  box.checked = selected.has(number);
  box.addEventListener("change", () => {
    pick(number, row, box.checked);
    tellSelection();
  });
  look.addEventListener("click", () => open(letter, look, more, details));
  send.addEventListener("click", () => replay([number]));
  forget.addEventListener("click", () => purge([number]));
  return row;
}

/** Two cells that tell the letters of a source apart: an event's type and id, or the facts of another part's letter. */
function what({ event, facts }, cell) {
  if (event) return [cell("Type", "", event.type), cell("Event", "id", event.id)];
  const both = cell("Facts", "id", Object.entries(facts ?? {}).map(([title, fact]) => `${title} ${fact}`).join(", "));
  both.setAttribute("colspan", "2");
  return [both];
}

/** Show or hide the payload, which is asked for now and shown byte for byte: to parse it could change its numbers. */
async function open(letter, button, more, details) {
  more.hidden = !more.hidden;
  button.setAttribute("aria-expanded", String(!more.hidden));
  if (more.hidden || details.hasChildNodes()) return;
  const { event } = letter;
  const own = event && [
    ["User", event.user_id],
    ["Timestamp", `${event.timestamp} (${format.date(event.timestamp)}, ${format.time(event.timestamp)})`],
  ];
  const facts = [
    ...(own ?? Object.entries(letter.facts ?? {}).map(([title, fact]) => [title, String(fact)])),
    ["Received", format.moment(letter.received_at)],
    ["Attempts", format.count(letter.attempts)],
  ];
  const list = make("dl", {}, ...facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  const payload = make("pre", { tabindex: "0", "aria-label": `${event ? "Payload" : "Body"} of dead letter ${letter.number}` }, "…");
  details.append(list, payload);
  try {
    const text = await (await ask(`/dead-letters/${letter.number}`)).text();
    if (!event) {
      payload.textContent = letter.body ?? letter.body_base64 ?? text;
      return;
    }
    // The payload ends the event, which ends the letter; a quote inside a string before it would be escaped.
    payload.textContent = text.slice(text.indexOf('"payload":') + '"payload":'.length, -2);
  } catch (error) {
    payload.textContent = error instanceof Refused ? error.message : "The payload cannot be loaded now.";
  }
}

function pick(number, row, chosen) {
  row.box.checked = chosen;
  if (chosen) selected.add(number);
  else selected.delete(number);
}

function tellSelection() {
  const all = find("letters-all");
  all.checked = rows.size > 0 && selected.size === rows.size;
  all.indeterminate = selected.size > 0 && selected.size < rows.size;
  say(find("letters-chosen"), selected.size ? `${format.count(selected.size)} selected` : "");
  find("letters-replay").disabled = find("letters-purge").disabled = busy || !selected.size;
}

async function replay(numbers) {
  await act(async () => {
    const body = JSON.stringify({ numbers });
    const answer = await ask("/dead-letters/replay", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    const { delivered, refused, left, sinks } = await answer.json();
    const stopped = sinks.map((sink) => sink.stopped && `${sink.sink}: ${sink.stopped}`).filter(Boolean);
    const parts = [`${format.count(delivered)} delivered`, refused && `${format.count(refused)} refused again`, left && `${format.count(left)} left`, ...stopped];
    return `Replay: ${parts.filter(Boolean).join(", ")}.`;
  });
}

async function purge(numbers) {
  const words = numbers.length === 1 ? `dead letter ${numbers[0]}` : format.plural(numbers.length, "dead letter");
  if (!(await confirmed(`Purge ${words}?`, numbers.length === 1 ? "The event is removed for good, also from the disk." : "The events are removed for good, also from the disk."))) return;
  await act(async () => {
    const answer = await ask(`/dead-letters?numbers=${numbers.join(",")}`, { method: "DELETE" });
    const { removed } = await answer.json();
    return `${format.plural(removed, "dead letter")} purged.`;
  });
}

/** Run an action on letters, one at a time, show the result, and list the letters again. */
async function act(what) {
  if (busy) return;
  busy = true;
  tellSelection();
  let words;
  try {
    words = await what();
    selected.clear();
  } catch (error) {
    words = error instanceof Refused ? `The action failed: ${error.message}.` : "The action failed: Hermes does not answer.";
  }
  busy = false;
  announce(words);
  await list();
}

let fade = 0;

function announce(words) {
  clearTimeout(fade);
  say(find("said"), words);
  fade = setTimeout(() => say(find("said"), ""), 8000);
}

/** Ask a question that has to be answered with a button. */
function confirmed(title, words) {
  const dialog = find("ask-dialog");
  const one = title.startsWith("Purge dead letter");
  say(find("ask-title"), title);
  say(find("ask-words"), words);
  say(find("ask-no"), one ? "Keep it" : "Keep them");
  return new Promise((resolve) => {
    find("ask-no").onclick = () => dialog.close("no");
    find("ask-yes").onclick = () => dialog.close("yes");
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.returnValue = "no";
    dialog.showModal();
    find("ask-no").focus();
  });
}
