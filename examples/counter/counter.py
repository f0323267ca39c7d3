#!/usr/bin/env python3
"""Increments one counter that all copies share, by compare-and-set, so often as `increments` says.

The key holds {"value": N, "by": {"node": count}}: the sum, and each node's share of it. A write names the revision that
it was made from, so at most one of several writes from the same state is carried out, however late it arrives. When
nobody can say whether a write was, the next read shows it in this node's share. So this program keeps no state of its own,
may be killed at any time, and counts exactly.
"""

import http.client
import json
import os
import random
import socket
import sys
import time
from urllib.parse import quote

NODE = os.environ["LONGSHORE_NODE"]
ARGS = json.loads(os.environ["LONGSHORE_ARGS"])
GOAL = int(ARGS.get("increments", 100))
KEY = str(ARGS.get("key", "counter"))

# Longer than a worker's own deadline for a request, so that it is the worker who says what became of it.
TIMEOUT_S = 40
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 5.0


class Unavailable(Exception):
    """No answer, or one that does not say what happened. Ask again later."""


class AppSocket(http.client.HTTPConnection):
    """HTTP to the worker over the task's Unix socket."""

    def __init__(self):
        super().__init__("app", timeout=TIMEOUT_S)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.environ["LONGSHORE_SOCKET"])


CONNECTION = AppSocket()


def call(method, key, body=None, headers=None):
    """One request: status, revision and body. Raises Unavailable when its outcome is open or it may succeed later."""
    try:
        CONNECTION.request(method, "/v1/kv/" + quote(key), body=body, headers=headers or {})
        reply = CONNECTION.getresponse()
        content = reply.read()
    except (OSError, http.client.HTTPException) as error:
        CONNECTION.close()
        raise Unavailable(f"{type(error).__name__}: {error}") from error
    if reply.status >= 500 or reply.status in (408, 429):
        raise Unavailable(f"{reply.status} {content.decode(errors='replace')}")
    if reply.status not in (200, 404, 409):
        sys.exit(f"{method} {key}: {reply.status} {content.decode(errors='replace')}")
    return reply.status, reply.headers.get("X-Longshore-Revision"), content


def read():
    """The counter and its revision; an absent key is a counter at 0 without revision."""
    status, revision, content = call("GET", KEY)
    if status == 200:
        return json.loads(content), revision
    return {"value": 0, "by": {}}, None


def increment(counter, revision):
    """Adds one to what was read. The new state, or None when another write came first."""
    by = dict(counter["by"])
    by[NODE] = by.get(NODE, 0) + 1
    new = {"value": counter["value"] + 1, "by": by}
    condition = {"If-Match": revision} if revision else {"If-None-Match": "*"}
    status, revision, _ = call("PUT", KEY, json.dumps(new), condition)
    return (new, revision) if status == 200 else None


def count():
    """Counts to the goal; this node's share at the end."""
    state, lost = None, 0
    while True:
        counter, revision = state or read()
        mine = counter["by"].get(NODE, 0)
        if mine >= GOAL:
            return mine
        state = increment(counter, revision)
        lost = 0 if state else lost + 1
        if lost:
            # Another copy was faster. The more often, the longer the pause at most, so that many copies get through.
            time.sleep(random.uniform(0, min(0.005 * 2**lost, 0.5)))


def patiently(action):
    """Does it until it is done. Safe for any action that begins with a read, or may be repeated."""
    pause = PAUSE_MIN_S
    while True:
        began = time.monotonic()
        try:
            return action()
        except Unavailable as error:
            # What went well for a while ends the row of failures.
            pause = PAUSE_MIN_S if time.monotonic() - began > 2 * PAUSE_MAX_S else min(pause * 2, PAUSE_MAX_S)
            print(f"trying again: {error}", file=sys.stderr, flush=True)
            time.sleep(random.uniform(0, pause))


def main():
    print(f"counting to {GOAL} on {NODE}", flush=True)
    mine = patiently(count)
    patiently(lambda: call("PUT", f"done/{NODE}", str(mine)))
    print(f"done {mine}", flush=True)


if __name__ == "__main__":
    main()
