// How many events were received by type and refused by reason.

import { fillList, find, markup } from "../dom.js";
import * as format from "../format.js";

export const html = markup`
  <h2 id="counts-title">Counts</h2>
  <div class="columns">
    <div>
      <h3>Received by type</h3>
      <dl class="list" id="by-type"></dl>
    </div>
    <div>
      <h3>Rejected by reason</h3>
      <dl class="list" id="by-reason"></dl>
    </div>
  </div>
`;

/** Show the counts. */
export function render({ parts: { events } }) {
  const ranked = (counts) => Object.entries(counts).sort(([, a], [, b]) => b - a).map(([name, count]) => [name, format.count(count)]);
  fillList(find("by-type"), ranked(events.by_type), "None yet.");
  fillList(find("by-reason"), ranked(events.rejected), "No event was refused.");
}
