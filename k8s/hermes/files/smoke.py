"""The pod of `helm test`: post one event to the release, as a client would, and fail unless the answer is 202.

URL and EVENT_TYPE say where and what; API_KEYS_FILE, where keys are wanted, has the keys. The certificate is not
verified, for it is made out to the name that clients use. Standard library only: `python -c` runs it in the image.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

headers = {"Content-Type": "application/json"}
if path := os.environ.get("API_KEYS_FILE"):
    headers["X-API-Key"] = Path(path).read_text(encoding="utf-8").split(",")[0].strip()
event = {
    "id": f"helm-test-{time.time_ns()}",
    "user_id": "helm-test",
    "type": os.environ["EVENT_TYPE"],
    "timestamp": int(time.time()),
}
request = urllib.request.Request(os.environ["URL"] + "/events", json.dumps(event).encode(), headers)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    with urllib.request.urlopen(request, timeout=30, context=context) as response:
        status, answer = response.status, response.read().decode()
except urllib.error.HTTPError as error:
    status, answer = error.code, error.read().decode()
except urllib.error.URLError as error:
    sys.exit(f"{request.full_url}: {error.reason}")
print(status, answer)
sys.exit(status != 202)
