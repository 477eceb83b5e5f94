// Lists topics and groups of the broker, says why a group gets nothing, pauses it, looks at messages and stores one.

import { badge, find, make, markup, say } from "../dom.js";
import { ask, Refused } from "../feed.js";
import * as format from "../format.js";

export const html = markup`
  <div class="heading">
    <h2 id="broker-title">Broker</h2>
    <p class="aside" id="broker-total"></p>
  </div>
  <table class="cards topics" id="broker-topics" role="table" aria-labelledby="broker-title" hidden>
    <thead role="rowgroup">
      <tr role="row">
        <th scope="col" role="columnheader">Topic</th>
        <th scope="col" role="columnheader" class="number">Messages</th>
        <th scope="col" role="columnheader" class="number">Later</th>
        <th scope="col" role="columnheader" class="number">Groups</th>
        <th scope="col" role="columnheader"><span class="hidden">Actions</span></th>
      </tr>
    </thead>
  </table>
  <p class="empty" id="broker-empty">Loading …</p>
  <div id="broker-topic" hidden>
    <h3 id="broker-topic-name"></h3>
    <table class="cards topics" id="broker-groups" role="table" aria-labelledby="broker-topic-name">
      <thead role="rowgroup">
        <tr role="row">
          <th scope="col" role="columnheader">Group</th>
          <th scope="col" role="columnheader" class="number">Lag</th>
          <th scope="col" role="columnheader" class="number">Leased</th>
          <th scope="col" role="columnheader" class="number">Delayed</th>
          <th scope="col" role="columnheader" class="number">Behind</th>
          <th scope="col" role="columnheader">Why</th>
          <th scope="col" role="columnheader"><span class="hidden">Actions</span></th>
        </tr>
      </thead>
    </table>
    <form class="tools" id="broker-publish">
      <label>Message <input id="broker-message" autocomplete="off" spellcheck="false" placeholder='{"order": 17}'></label>
      <button type="submit">Store</button>
      <button type="button" id="broker-peek">Look at the oldest</button>
    </form>
    <pre id="broker-peeked" hidden></pre>
  </div>
`;

const EVERY = 3000; // milliseconds between two looks at the topics
const MOST = 100; // topics, and groups of a topic, that are listed

let chosen = null; // the name of the topic that is shown
let turn = 0; // the newest listing; an answer to an older one comes too late
let looked = 0; // when the topics were last asked for

const cell = (label, kind, ...words) => make("td", { role: "cell", class: kind || undefined, "data-label": label }, ...words);
const path = (topic, group) => `/topics/${encodeURIComponent(topic)}${group === undefined ? "" : `/groups/${encodeURIComponent(group)}`}`;

/** Wire the section up. */
export function begin() {
  find("broker-publish").addEventListener("submit", (event) => {
    event.preventDefault();
    publish();
  });
  find("broker-peek").addEventListener("click", () => peek());
}

/** Ask for the topics now and then, while the page is looked at. */
export function render() {
  if (document.hidden || Date.now() - looked < EVERY) return;
  looked = Date.now();
  list();
}

async function list() {
  const mine = ++turn;
  try {
    const { topics, total } = await (await ask(`/topics?limit=${MOST}`)).json();
    const groups = chosen !== null && topics.some(({ topic }) => topic === chosen) ? await readGroups(chosen) : null;
    if (mine === turn) show(topics, total, groups);
  } catch (error) {
    if (mine === turn && error instanceof Refused) say(find("broker-empty"), error.message);
  }
}

/** The groups of a topic, each with the sentence that says why it gets nothing. */
async function readGroups(topic) {
  const { groups } = await (await ask(`${path(topic)}/groups?limit=${MOST}`)).json();
  return Promise.all(
    groups.map(async (group) => ({ ...group, why: (await (await ask(path(topic, group.group))).json()).why })),
  );
}

function show(topics, total, groups) {
  find("broker-topics").hidden = !topics.length;
  find("broker-empty").hidden = topics.length > 0;
  say(find("broker-empty"), "No topic. A produce makes one.");
  const shown = topics.length < total ? `${format.count(topics.length)} of ${format.count(total)} topics` : `${format.count(total)} ${total === 1 ? "topic" : "topics"}`;
  say(find("broker-total"), total ? shown : "");
  badge("broker", "");
  fill("broker-topics", topics.map(makeTopic));
  find("broker-topic").hidden = groups === null;
  if (groups === null) return;
  say(find("broker-topic-name"), chosen);
  fill("broker-groups", groups.map(makeGroup));
}

/** Let a table have these rows, unless it has them already: a button that is about to be pressed stays. */
function fill(table, rows) {
  const body = make("tbody", { role: "rowgroup" }, ...rows);
  const now = find(table).tBodies[0];
  if (now === undefined) find(table).append(body);
  else if (!now.isEqualNode(body)) now.replaceWith(body);
}

function makeTopic({ topic, messages, scheduled, groups }) {
  const open = make("button", { type: "button", "aria-pressed": String(topic === chosen) }, "Show");
  open.addEventListener("click", () => {
    chosen = topic === chosen ? null : topic;
    find("broker-peeked").hidden = true;
    list();
  });
  return make(
    "tr",
    { role: "row" },
    cell("Topic", "id", topic),
    cell("Messages", "number", format.count(messages)),
    cell("Later", "number", format.count(scheduled)),
    cell("Groups", "number", format.count(groups)),
    make("td", { role: "cell", class: "actions" }, open),
  );
}

function makeGroup({ group, lag, leased, delayed, behind, paused, why }) {
  const turnTo = make("button", { type: "button" }, paused ? "Resume" : "Pause");
  turnTo.addEventListener("click", () => set(group, { paused: !paused }));
  return make(
    "tr",
    { role: "row" },
    cell("Group", "id", group),
    cell("Lag", "number", format.count(lag)),
    cell("Leased", "number", format.count(leased)),
    cell("Delayed", "number", format.count(delayed)),
    cell("Behind", "number", format.count(behind)),
    cell("Why", "reason", why),
    make("td", { role: "cell", class: "actions" }, turnTo),
  );
}

/** Do something with the chosen topic, and show the outcome or the service's own words. */
async function change(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.message);
  }
  list();
}

const set = (group, settings) =>
  change(() => ask(path(chosen, group), { method: "PATCH", body: JSON.stringify(settings) }));

const publish = () =>
  change(async () => {
    const words = find("broker-message").value;
    await ask(`${path(chosen)}/messages`, { method: "POST", body: JSON.stringify(isJson(words) ? { payload: JSON.parse(words) } : { text: words }) });
    find("broker-message").value = "";
  });

const peek = () =>
  change(async () => {
    const { messages } = await (await ask(`${path(chosen)}/messages?limit=5`)).json();
    tell(messages.map(({ offset, payload, text, base64 }) => `${offset}  ${text ?? base64 ?? JSON.stringify(payload)}`).join("\n") || "There is no message.");
  });

function tell(words) {
  find("broker-peeked").hidden = false;
  say(find("broker-peeked"), words);
}

function isJson(words) {
  try {
    JSON.parse(words);
    return true;
  } catch {
    return false;
  }
}
