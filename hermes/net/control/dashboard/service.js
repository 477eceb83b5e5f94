// The service: the facts of its process.

import { fillList, find, markup } from "../dom.js";
import * as format from "../format.js";

export const html = markup`
  <h2 id="service-title">Service</h2>
  <dl class="list" id="process"></dl>
`;

/** Show the process. */
export function render(status) {
  fillList(find("process"), [
    ["Version", status.version],
    ["Up", format.duration(Math.max(1, Math.floor(status.now - status.started)))],
    ["Durability", status.durability],
    ["Connections", format.count(status.connections)],
    ["Memory", status.memory === null ? "not known" : format.size(status.memory)],
    ["Delay of the run loop", format.duration(Math.max(0, status.loop_lag))],
  ]);
}
