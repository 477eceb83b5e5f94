// Sends requests with the admin key, and follows the live feed, again after a loss of the connection.

import { find } from "./dom.js";

const KEY = "hermes-admin-key";
const SILENCE = 5000; // milliseconds without data after which the connection counts as lost
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const LOST = "The connection to Hermes is lost.";

/** The service refused a request. The message is the service's own. */
export class Refused extends Error {}

/** Send a request to the service, with the key if one is known. If the service refuses the key, ask the operator. */
export async function ask(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers, cache: "no-store" });
    if (response.status === 401) {
      await askForKey(key);
      continue;
    }
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      throw new Refused(problem.detail || `${path} was answered with ${response.status}`);
    }
    return response;
  }
}

let asking = null;

/** Wait for a key that is not `rejected`. All callers wait for the same dialog. */
function askForKey(rejected) {
  if (sessionStorage.getItem(KEY) !== rejected) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    const dialog = find("key-dialog");
    const input = find("key");
    if (rejected !== null) find("key-words").textContent = "That key is not in ADMIN_KEYS. Try another one.";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    find("key-form").onsubmit = (event) => {
      event.preventDefault();
      if (!/^[\x21-\x7e]+$/.test(input.value)) {
        find("key-words").textContent = "A key has only ASCII characters, and no spaces.";
        return;
      }
      sessionStorage.setItem(KEY, input.value);
      input.value = "";
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.showModal();
    input.focus();
  });
  return asking;
}

/**
 * Follow /live for ever. `hear(status)` gets each status. `tell(state, words, seconds)` gets the state of the connection,
 * "live", "waiting" or "lost", and the seconds until the next attempt. Returns a function that tries at once.
 */
export function watch(hear, tell) {
  let hurry = () => {};
  const loop = async () => {
    let pause = FIRST_PAUSE;
    let words = LOST; // kept while nobody answers: "Hermes has been stopped" is still the reason then
    for (;;) {
      try {
        words = await follow((status) => {
          pause = FIRST_PAUSE;
          words = LOST;
          tell("live");
          hear(status);
        });
      } catch (error) {
        if (error instanceof Refused) words = `Hermes says: ${error.message}.`;
      }
      const seconds = pause * (0.75 + Math.random() / 2) / 1000;
      tell("lost", words, seconds);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, seconds * 1000);
        hurry = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      tell("waiting");
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  };
  loop();
  return () => hurry();
}

/** Read one stream to its end; return the reason of the end. */
async function follow(hear) {
  const cut = new AbortController();
  let timer = 0;
  const expect = () => {
    clearTimeout(timer);
    timer = setTimeout(() => cut.abort(), SILENCE);
  };
  try {
    const response = await ask("/live", { signal: cut.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      expect();
      const { value, done } = await reader.read();
      if (done) return LOST;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const fields = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (fields.event === "end") return "Hermes has been stopped.";
        if (fields.event === "status") hear(JSON.parse(fields.data));
      }
    }
  } finally {
    clearTimeout(timer);
    cut.abort();
  }
}

function parse(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
  }
  return fields;
}
