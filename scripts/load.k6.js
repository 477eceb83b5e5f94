// Load for Hermes with k6: k6 run scripts/load.k6.js
//
//   BASE_URL  http://127.0.0.1:8080    RATE      requests/s at the top, 500
//   EVENTS    events a request, 1;     RAMP      how long the rise takes, 10s
//             from 2 on as NDJSON      DURATION  how long the top is held, 30s
//   API_KEY   sent as X-API-Key        P99_MS    the p99 latency that is still fine, 200
//
// The schedule is open: requests are due whether or not the last one was answered, so a stall shows in the latency.
// Exit code 99: a threshold was crossed; 108: Hermes was not ready. Aim it at your own machines only.

import http from "k6/http";
import exec from "k6/execution";
import { check } from "k6";
import { Counter } from "k6/metrics";

const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:8080").replace(/\/$/, "");
const RATE = Number(__ENV.RATE || 500);
const EVENTS = Number(__ENV.EVENTS || 1);
const RAMP = __ENV.RAMP || "10s";
const DURATION = __ENV.DURATION || "30s";
const P99_MS = Number(__ENV.P99_MS || 200);

const TYPES = ["trip_started", "song_played", "ad_clicked", "location_update"];
const TITLES = ["Alive", "Heroes", "Hurt", "Jolene", "Respect"];
const RUN = Date.now().toString(36); // ids of two runs never meet

const eventsAccepted = new Counter("events_accepted");
const eventsRefused = new Counter("events_refused"); // by a 503: send them again later

export const options = {
  scenarios: {
    events: {
      executor: "ramping-arrival-rate",
      startRate: Math.max(1, Math.round(RATE / 10)),
      timeUnit: "1s",
      preAllocatedVUs: 50,
      maxVUs: 500,
      stages: [
        { target: RATE, duration: RAMP },
        { target: RATE, duration: DURATION },
        { target: 0, duration: "2s" },
      ],
      gracefulStop: "5s",
    },
  },
  thresholds: {
    checks: ["rate>0.999"],
    http_req_failed: ["rate<0.001"],
    http_req_duration: [`p(99)<${P99_MS}`],
    dropped_iterations: ["count<1"], // k6 itself kept to the schedule
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "p(99.9)", "max"],
};

const HEADERS = { "Content-Type": EVENTS > 1 ? "application/x-ndjson" : "application/json" };
if (__ENV.API_KEY) HEADERS["X-API-Key"] = __ENV.API_KEY;

function makeEvent(index) {
  const number = exec.scenario.iterationInTest;
  return JSON.stringify({
    id: `k6-${RUN}-${number}-${index}`,
    user_id: `user-${number % 10000}`,
    type: TYPES[(number + index) % TYPES.length],
    timestamp: Math.floor(Date.now() / 1000),
    payload: { title: TITLES[number % TITLES.length], seconds: 30 + (number % 270) },
  });
}

export function setup() {
  const ready = http.get(`${BASE_URL}/ready`);
  if (ready.status !== 200) exec.test.abort(`${BASE_URL}/ready answered ${ready.status || ready.error}; is Hermes up?`);
}

export default function () {
  const lines = Array.from({ length: EVENTS }, (_, index) => makeEvent(index));
  const response = http.post(`${BASE_URL}/events`, lines.join("\n"), { headers: HEADERS });
  const taken = check(response, {
    "202, every event accepted": (r) => r.status === 202 && r.json("accepted") === EVENTS && !r.json("rejected"),
  });
  if (taken) eventsAccepted.add(EVENTS);
  else if (response.status === 503) eventsRefused.add(EVENTS);
}
