// The latest rejected events: single ones of a request, or a whole request, with the reason that the client was told.

import { find, make, markup, say } from "../dom.js";
import { ask, Refused } from "../feed.js";
import * as format from "../format.js";

export const html = markup`
  <div class="heading">
    <h2 id="rejections-title">Rejected events</h2>
    <p class="aside" id="rejections-total"></p>
  </div>
  <table class="cards rejections" id="rejections-table" role="table" aria-labelledby="rejections-title" hidden>
    <thead role="rowgroup">
      <tr role="row">
        <th scope="col" role="columnheader">When</th>
        <th scope="col" role="columnheader">Path</th>
        <th scope="col" role="columnheader" class="number">Status</th>
        <th scope="col" role="columnheader">Place</th>
        <th scope="col" role="columnheader">Reason</th>
        <th scope="col" role="columnheader">Client, request</th>
      </tr>
    </thead>
  </table>
  <p class="empty" id="rejections-empty">Loading …</p>
`;

const MOST = 50; // rows that are shown, the newest first
let known = null; // how many events had been rejected when they were listed last

/** List the rejected events anew if more were rejected since the last status. */
export async function render({ parts: { events } }) {
  const rejected = Object.values(events.rejected).reduce((total, number) => total + number, 0);
  if (rejected === known) return;
  known = rejected;
  try {
    show(await (await ask("/rejected")).json());
  } catch (error) {
    known = null; // the next second asks again
    if (error instanceof Refused) say(find("rejections-empty"), error.message);
  }
}

function show({ rejected, total }) {
  const latest = rejected.slice(-MOST).reverse();
  const table = find("rejections-table");
  table.hidden = !latest.length;
  find("rejections-empty").hidden = latest.length > 0;
  const others = known ? " Requests that may be sent again, or had no key, are counted below, by reason." : "";
  say(find("rejections-empty"), `No event was invalid.${others}`);
  say(find("rejections-total"), latest.length ? `the latest ${format.count(latest.length)} of ${format.count(total)}, the newest first` : "");
  for (const body of [...table.tBodies]) body.remove();
  table.append(...latest.map(row));
}

function row(entry) {
  const cell = (label, kind, ...words) => make("td", { role: "cell", class: kind || undefined, "data-label": label }, ...words);
  const cells = [
    cell("When", "when", format.moment(entry.at)),
    cell("Path", "id", entry.route),
    cell("Status", "number", String(entry.status)),
    cell("Place", "", entry.index === null ? "the whole request" : `index ${format.count(entry.index)} of its request`),
    cell("Reason", "reason", entry.reason),
    cell("Client, request", "id", [entry.client, entry.request_id].filter(Boolean).join(", ")),
  ];
  return make("tbody", { role: "rowgroup" }, make("tr", { role: "row" }, ...cells));
}
