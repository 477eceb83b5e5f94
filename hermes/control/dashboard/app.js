// The page: hears the status every second and puts each part of it in its place.

import { drawBars, drawSpark, makeBarsWalkable } from "./chart.js";
import { beginDeadLetters, list, nameSinks } from "./dead_letters.js";
import { fillList, find, say } from "./dom.js";
import { watch } from "./feed.js";
import * as format from "./format.js";
import { showRejections } from "./rejections.js";
import { showSinks } from "./sinks.js";

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
let letters = null; // how many events had become dead letters, or made room, when they were listed last

function show(status) {
  showEvents(status);
  showSinks(status);
  drawBars(status.aggregates);
  showService(status);
  nameSinks(status.sinks.map((sink) => sink.name));
  const now = `${status.started} ${status.evicted} ${sum(status.sinks.map((sink) => sink.dead_lettered))}`;
  if (now !== letters) {
    letters = now;
    list(sum(status.sinks.map((sink) => sink.dead_lettered)));
  }
  showRejections(sum(Object.values(status.rejected)));
  document.title = `${format.rate(status.rate)}/s · Hermes`;
}

function showEvents(status) {
  const { queue, journal, requests } = status;
  say(find("rate"), format.rate(status.rate));
  drawSpark(status.history);
  say(find("received"), format.count(status.received));
  const rejected = sum(Object.values(status.rejected));
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

function showService(status) {
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

// The connection

const WORDS = { live: "Live", waiting: "Connecting", lost: "Not connected", draining: "Stopping" };

function tell(state, words = "", seconds = 0) {
  find("pulse").dataset.state = state;
  say(find("pulse-words"), WORDS[state]);
  document.body.classList.toggle("stale", state === "lost");
  if (state === "waiting") return;
  find("banner").hidden = state !== "lost";
  say(find("banner-words"), state === "lost" ? `${words} Trying again in ${format.duration(Math.max(1, Math.round(seconds)))}. The numbers are those from before.` : "");
}

makeBarsWalkable();
beginDeadLetters();
const hurry = watch((status) => {
  show(status);
  if (status.draining) tell("draining");
}, tell);
find("banner-button").addEventListener("click", hurry);
