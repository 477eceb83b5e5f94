// The service: its process, and how many events were received by type and refused by reason.

import { fillList, find, markup } from "../dom.js";
import * as format from "../format.js";

export const html = markup`
  <h2 id="service-title">Service</h2>
  <div class="columns">
    <div>
      <h3>Process</h3>
      <dl class="list" id="process"></dl>
    </div>
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

/** Show the process and the counts. */
export function render(status) {
  fillList(find("process"), [
    ["Version", status.version],
    ["Up", format.duration(Math.max(1, Math.floor(status.now - status.started)))],
    ["Durability", status.durability],
    ["Connections", format.count(status.connections)],
    ["Memory", status.memory === null ? "not known" : format.size(status.memory)],
    ["Delay of the run loop", format.duration(Math.max(0, status.loop_lag))],
  ]);
  const ranked = (counts) => Object.entries(counts).sort(([, a], [, b]) => b - a).map(([name, count]) => [name, format.count(count)]);
  fillList(find("by-type"), ranked(status.by_type), "None yet.");
  fillList(find("by-reason"), ranked(status.rejected), "No event was refused.");
}
