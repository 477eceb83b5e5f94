#!/usr/bin/env bash
# load-vegeta.sh: load for Hermes with vegeta, every event with an id of its own.
#
#   URL       http://127.0.0.1:8080/events     RATE      requests/s, 1000
#   EVENTS    events a request, 1;             DURATION  seconds, 10
#             from 2 on as NDJSON              OUT       folder of the targets and results, a new one in /tmp
#   API_KEY   sent as X-API-Key
#
# The targets are made first, one for each request of the run, so no id is sent twice. Aim it at your own machines only.
set -euo pipefail

URL=${URL:-http://127.0.0.1:8080/events}
RATE=${RATE:-1000}
DURATION=${DURATION:-10}
EVENTS=${EVENTS:-1}
OUT=${OUT:-$(mktemp -d /tmp/hermes-vegeta.XXXXXX)}

for name in RATE DURATION EVENTS; do
    case ${!name} in
    '' | *[!0-9]* | 0) echo "load-vegeta.sh: $name=${!name}: expected a whole number of 1 or more" >&2; exit 2 ;;
    esac
done

make_targets() { # vegeta's JSON format: one target a line, the body in base64
    RUN=$(date +%s) python3 - "$URL" "$((RATE * DURATION))" "$EVENTS" <<'PYTHON'
import base64, json, os, sys, time

url, requests, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
types = ("trip_started", "song_played", "ad_clicked", "location_update")
header = {"Content-Type": ["application/x-ndjson" if events > 1 else "application/json"]}
if os.environ.get("API_KEY"):
    header["X-API-Key"] = [os.environ["API_KEY"]]

def event(number):
    return json.dumps({
        "id": f"vegeta-{os.environ['RUN']}-{number}",
        "user_id": f"user-{number % 10_000}",
        "type": types[number % len(types)],
        "timestamp": int(time.time()),
        "payload": {"seconds": 30 + number % 270},
    })

for request in range(requests):
    body = "\n".join(event(request * events + index) for index in range(events))
    target = {"method": "POST", "url": url, "header": header, "body": base64.b64encode(body.encode()).decode()}
    print(json.dumps(target))
PYTHON
}

mkdir -p "$OUT"
if [ "${1:-}" = --targets-only ]; then
    make_targets >"$OUT/targets.jsonl"
    echo "$OUT/targets.jsonl"
    exit
fi

if ! command -v vegeta >/dev/null; then
    echo "load-vegeta.sh: vegeta is not installed: go install github.com/tsenart/vegeta/v12@latest, or your system's" >&2
    echo "package (brew install vegeta). Without it: scripts/load.k6.js (k6), or \`hermes load\`, which comes along." >&2
    exit 127
fi

echo "Making $((RATE * DURATION)) targets of $EVENTS event(s) in $OUT ..."
make_targets >"$OUT/targets.jsonl"
vegeta attack -format=json -targets="$OUT/targets.jsonl" -rate="$RATE/1s" -duration="${DURATION}s" -timeout=10s \
    >"$OUT/results.bin"
vegeta report "$OUT/results.bin"
vegeta report -type='hist[0,1ms,2ms,5ms,10ms,25ms,50ms,100ms,250ms,1s]' "$OUT/results.bin"
echo "Plot it with: vegeta plot $OUT/results.bin > $OUT/plot.html"
