// The shell: loads the panels that the server lists, and gives each the status of every second.
//
// A panel is a module with `html`, the content of its section. It may have `begin()`, called once when the content is on
// the page, and `render(status)`, called with each status.

import { find, make, say } from "./dom.js";
import { watch } from "./feed.js";
import * as format from "./format.js";

/** Load the module of a section and put its content there. A panel that cannot be loaded leaves the others alone. */
async function load(section) {
  try {
    const panel = await import(section.dataset.module);
    section.append(...panel.html);
    panel.begin?.();
    return panel;
  } catch (error) {
    console.error(error);
    section.append(make("p", { class: "empty" }, "This panel could not be loaded. Reload the page."));
    return {};
  }
}

function show(status) {
  for (const panel of panels) {
    try {
      panel.render?.(status);
    } catch (error) {
      console.error(error); // the other panels still show the status
    }
  }
}

// The connection

const WORDS = { live: "Live", waiting: "Connecting", lost: "Not connected", draining: "Stopping" };

function tell(state, words = "", seconds = 0) {
  find("pulse").dataset.state = state;
  say(find("pulse-words"), WORDS[state]);
  document.body.classList.toggle("stale", state === "lost");
  if (state === "waiting") return;
  find("banner").hidden = state !== "lost";
  say(find("banner-words"), state === "lost" ? `${words} Trying again in ${format.duration(Math.max(1, Math.round(seconds)))}. The numbers are old.` : "");
}

const panels = await Promise.all([...document.querySelectorAll("section[data-module]")].map(load));
const hurry = watch((status) => {
  show(status);
  if (status.draining) tell("draining");
}, tell);
find("banner-button").addEventListener("click", hurry);
