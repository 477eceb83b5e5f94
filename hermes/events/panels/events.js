// The flow of events: the rate of the last minutes as a line, and how full the queue and the journal are.

import { find, markup, say } from "../dom.js";
import * as format from "../format.js";

const SECONDS = 120;
const HEIGHT = 40;

export const html = markup`
  <h1 id="events-title" class="hidden">Events</h1>
  <div class="flow">
    <div class="rate">
      <p class="figure"><span class="big" id="rate">–</span> <span class="unit">events a second</span></p>
      <figure class="spark">
        <svg id="spark" viewBox="0 0 119 40" preserveAspectRatio="none" role="img" aria-label="Events a second, the last two minutes">
          <path id="spark-area"></path>
          <path id="spark-line"></path>
        </svg>
        <figcaption><span>2 minutes ago</span><span id="spark-peak"></span><span>now</span></figcaption>
      </figure>
    </div>
    <dl class="facts">
      <div><dt>Received</dt><dd id="received">–</dd></div>
      <div><dt>Rejected</dt><dd id="rejected">–</dd></div>
      <div><dt>Requests, median <span class="sep">and</span> 99th</dt><dd id="latency">–</dd></div>
      <div>
        <dt id="queue-label">Queue</dt>
        <dd id="queue">–</dd>
        <dd class="gauge" id="queue-gauge" role="meter" aria-labelledby="queue-label" aria-valuemin="0" aria-valuemax="100" aria-valuenow="0"><span></span></dd>
      </div>
      <div id="journal-fact">
        <dt id="journal-label">Journal</dt>
        <dd id="journal">–</dd>
        <dd class="gauge" id="journal-gauge" role="meter" aria-labelledby="journal-label" aria-valuemin="0" aria-valuemax="100" aria-valuenow="0"><span></span></dd>
        <dd class="trouble" id="journal-trouble" hidden></dd>
      </div>
    </dl>
  </div>
`;

/** Show the flow. */
export function render({ requests, parts: { events } }) {
  const { queue, journal } = events;
  document.title = `${format.rate(events.rate)}/s · Hermes`;
  say(find("rate"), format.rate(events.rate));
  drawSpark(events.history);
  say(find("received"), format.count(events.received));
  const rejected = sum(Object.values(events.rejected));
  say(find("rejected"), format.count(rejected));
  find("rejected").classList.toggle("bad", rejected > 0);
  say(find("latency"), requests.p50 === null ? "none in the last minute" : `${format.duration(requests.p50)} · ${format.duration(requests.p99)}`);
  say(find("queue"), `${format.count(queue.events)} of ${format.count(queue.capacity)}`);
  fill(find("queue-gauge"), Math.max(queue.events / queue.capacity, queue.bytes / queue.capacity_bytes));
  find("journal-fact").hidden = journal === null;
  if (journal === null) return;
  say(find("journal"), `${format.size(journal.bytes)} of ${format.size(journal.capacity)}`);
  fill(find("journal-gauge"), journal.bytes / journal.capacity);
  find("journal-trouble").hidden = journal.failing === null;
  say(find("journal-trouble"), journal.failing === null ? "" : `Cannot be written: ${journal.failing}`);
}

function fill(gauge, share) {
  const percent = Math.min(100, share * 100);
  gauge.setAttribute("aria-valuenow", percent.toFixed(0));
  gauge.dataset.level = percent > 90 ? "full" : percent > 70 ? "high" : "";
  gauge.firstElementChild.style.width = `${percent}%`;
}

/** Draw the rates of the last seconds, the newest at the right edge. */
function drawSpark(history) {
  const top = Math.max(1, ...history);
  const left = SECONDS - history.length;
  const points = history.map((value, n) => `${left + n} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(2)}`);
  const line = points.length ? `M${points.join("L")}` : "";
  find("spark-line").setAttribute("d", line);
  find("spark-area").setAttribute("d", line && `${line}L${SECONDS - 1} ${HEIGHT}L${left} ${HEIGHT}Z`);
  say(find("spark-peak"), history.length ? `peak ${format.rate(Math.max(...history))}` : "");
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
