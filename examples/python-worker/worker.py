#!/usr/bin/env python3
"""A Longshore worker, written from docs/protocol.md alone. README.md says how to run it, and what it does without."""
import argparse, contextlib, hashlib, hmac, json, logging, os, pathlib, random, re, secrets, socket, ssl, time, urllib.parse
from msgpack import packb as pack, unpackb as unpack
from websockets.sync.client import connect as websocket

PING, PONG, REQUEST, REPLY, REPLY_ERROR, CANCEL, NOTIFY, OPEN, DATA, CREDIT, FINISH, RESET, GOODBYE = range(1, 14)
LIMIT = {PING: 8, PONG: 8, CANCEL: 0, OPEN: 65536, DATA: 65536, CREDIT: 4, FINISH: 0, RESET: 4096, GOODBYE: 4096}
MESSAGE_LIMIT, SILENCE, VERSIONS, RELEASE = 2097152, 10, [1, 2], "python-0.1"
PORT, log, now = {"tcp": 8140, "tls": 8139, "ws": 8180, "wss": 8143}, logging.getLogger("worker"), time.monotonic
number, sized = lambda data: int.from_bytes(data, "big"), lambda data: len(data).to_bytes(4, "big") + data
mac = lambda key, data: hmac.digest(key, data, "sha256")
protected = lambda uri: ";transport=tls" in uri or ";transport=wss" in uri
failure = lambda code, message: {"code": code, "message": message, "outcome": "not_done"}

class Failed(Exception):
    """Code and message of a failure that one side tells the other."""

class Go(Exception):
    """The session leads elsewhere: the URIs, and the node id that is wanted there."""

def ulid():
    bits = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[bits >> shift & 31] for shift in range(125, -1, -5))

class Link:
    """Bytes in order: those of a TCP or TLS connection, or of a WebSocket's messages."""
    def __init__(self, uri, trust, opened):
        to, parts = urllib.parse.urlsplit(uri.split(";")[0]), dict(part.split("=", 1) for part in uri.split(";")[1:])
        self.uri, self.buffer, self.heard, self.ws = uri, b"", now(), parts["transport"] in ("ws", "wss")
        self.wire = socket.create_connection((to.hostname, to.port or PORT[parts["transport"]]), timeout=5)
        if protected(uri): self.wire = trust.wrap_socket(self.wire, server_hostname=to.hostname)
        if self.ws:  # inside the TLS that is there already
            self.wire = websocket(f"ws://{to.netloc}{parts.get('path', '/longshore')}", sock=self.wire, proxy=None,
                                  compression=None, max_size=262144, open_timeout=5, close_timeout=2)
        self.wire = opened.enter_context(self.wire)  # closed when the session is over

    def send(self, data):
        if not self.ws: self.wire.settimeout(SILENCE)
        for at in range(0, len(data), 65536):  # a WebSocket's message has its limit
            (self.wire.send if self.ws else self.wire.sendall)(data[at:at + 65536])

    def need(self, count, until):
        """Waits for the next `count` bytes, and leaves them where they are."""
        while len(self.buffer) < count:
            wait = max(until - now(), 0.001)
            if not self.ws: self.wire.settimeout(wait)
            data = self.wire.recv(wait if self.ws else 65536)
            if isinstance(data, str) or not (data or self.ws): raise EOFError("the connection has ended")
            self.buffer, self.heard = self.buffer + data, now()
        return self.buffer[:count]

    def take(self, head, length, until):
        """What stands behind the head; until all of it is there, nothing is taken."""
        whole, self.buffer = self.need(head + length, until), self.buffer[head + length:]
        return whole[head:]

class Worker:
    """What it is and holds, and its one session. A single thread: it does nothing that takes long."""
    def __init__(self, options):
        vars(self).update(vars(options), salted={}, tasks={}, boot=ulid())
        self.secret, self.file = pathlib.Path(self.secret_file).read_bytes().rstrip(b"\r\n"), pathlib.Path(self.state_file)
        self.trust, self.folder = ssl.create_default_context(cafile=self.ca_file), pathlib.Path(self.state_file + ".archives")
        self.folder.mkdir(exist_ok=True)
        self.state = {"node": ulid(), "cluster_id": None, "epoch": 0}
        self.keep(**json.loads(self.file.read_text()) if self.file.exists() else {})

    def keep(self, **what):
        self.state.update(what)
        with open(self.state_file + ".new", "w") as file:
            print(json.dumps(self.state), file=file, flush=True)
            os.fsync(file.fileno())
        os.replace(file.name, self.file)

    def obey(self, epoch):
        if epoch < self.state["epoch"]: raise Failed("stale_epoch", f"epoch {epoch} is over, {self.state['epoch']} was obeyed")
        if epoch > self.state["epoch"]: self.keep(epoch=epoch)

    def live(self):
        bound = 0.2
        while True:
            goals, owner, hops, self.asked, self.driven = self.uris, None, 0, 0, None
            while goals and hops <= 4:
                try:
                    with contextlib.ExitStack() as opened:
                        self.link = Link(goals[0], self.trust, opened)
                        self.prove(owner, now() + 5)
                        self.drive()
                except Go as go: (goals, owner), hops = go.args, hops + 1
                except Exception as why:
                    log.warning("%s: %s", goals[0], why or repr(why))
                    goals = [] if self.driven else goals[1:]
            bound = 0.2 if self.driven and now() - self.driven > 10 else min(bound * 2, 10)
            time.sleep(self.asked + random.uniform(0, bound))

    def hear(self, wanted, until):
        if (length := number(self.link.need(4, until))) > 4096: raise ValueError("a handshake message is too long")
        message = unpack(body := self.link.take(4, length, until))
        self.asked = message.get("reject", {}).get("retry_after_ms", 0) / 1000
        if wanted not in message: raise PermissionError(f"{message} came instead of the {wanted}")
        return body, message[wanted]

    def prove(self, owner, until):
        """The handshake as dialler."""
        me, nonce = self.state, secrets.token_bytes(32)
        hello = pack({"hello": {"versions": VERSIONS, "node": me["node"], "role": "worker", "peer_role": "control",
                                "cluster": self.cluster, "cluster_id": me["cluster_id"], "credential": self.credential,
                                "binding": "none", "nonce": nonce, "release": RELEASE}})
        self.link.send(sized(hello))
        challenge, it = self.hear("challenge", until)
        right = {"version": VERSIONS[0] <= it["version"] <= VERSIONS[1], "cluster": it["cluster"] == self.cluster,
                 "node": it["node"] != me["node"] and owner in (None, it["node"]), "role": it["role"] == "control",
                 "cluster_id": it["cluster_id"] == me["cluster_id"] or None in (it["cluster_id"], me["cluster_id"]),
                 "nonce": len(it["nonce"]) == 32 and it["nonce"] != nonce, "salt": 8 <= len(it["salt"]) <= 64,
                 "iterations": 4096 <= it["iterations"] <= 5000000}
        if not all(right.values()): raise PermissionError(f"not as expected: {[what for what in right if not right[what]]}")
        if (key := (it["salt"], it["iterations"])) not in self.salted:
            self.salted = {key: hashlib.pbkdf2_hmac("sha256", self.secret, *key)}
        client, server = mac(self.salted[key], b"Client Key"), mac(self.salted[key], b"Server Key")
        signed = lambda by: b"".join(map(sized, (b"longshore-v1", by, hello, challenge, b"")))
        signature = mac(hashlib.sha256(client).digest(), signed(b"dialler proves"))
        self.link.send(sized(pack({"proof": {"proof": bytes(a ^ b for a, b in zip(client, signature))}})))
        proof, self.cluster_id = self.hear("welcome", until)[1]["proof"], it["cluster_id"]
        if not hmac.compare_digest(proof, mac(server, signed(b"acceptor proves"))): raise PermissionError("a wrong proof")

    def drive(self):
        """The session, up to its end, which is always an exception."""
        self.last, self.incoming, self.due, self.driven, ping, late = -1, {}, float("inf"), None, 0, now() + SILENCE
        self.request({"attach": {"name": self.name, "boot": self.boot, "labels": self.labels, "release": RELEASE,
                                 "runtimes": self.runtimes.split(), "epoch": self.state["epoch"],
                                 "published": [], "report": self.report()}})
        while True:
            if now() > (self.link.heard + SILENCE if self.driven else late): raise EOFError("the other side is silent")
            if now() >= ping:
                ping = now() + 5
                self.frame(PING, 0, secrets.token_bytes(8))
            if now() >= self.due:
                self.due = now() + 10
                self.request({"report": self.report()})
            try:
                head = self.link.need(9, until := min(ping, self.due))
                kind, id, length = head[0], number(head[1:5]), number(head[5:])
                if not PING <= kind <= GOODBYE or length > LIMIT.get(kind, MESSAGE_LIMIT): raise EOFError("a bad frame")
                payload = self.link.take(9, length, until)
            except TimeoutError: continue
            self.take(kind, id, payload)

    def frame(self, kind, id, payload=b""):
        self.link.send(bytes([kind]) + id.to_bytes(4, "big") + sized(payload))

    def request(self, message):
        self.last, head = (self.last + 2) % 2**32, pack({"timeout_ms": SILENCE * 1000})
        self.frame(REQUEST, self.last, len(head).to_bytes(2, "big") + head + pack(message))

    def report(self):
        return {"state": "ready", "tasks": [*self.tasks.values()],
                "archives": [path.name for path in self.folder.iterdir() if not path.suffix]}

    def take(self, kind, id, payload):
        if kind == PING: self.frame(PONG, 0, payload)
        elif kind == REPLY_ERROR: raise EOFError(f"refused: {unpack(payload)['message']}")
        elif kind == REPLY and not self.driven: self.message(id, unpack(payload))
        elif kind == RESET: self.incoming.pop(id, None)
        elif kind in (REQUEST, OPEN, NOTIFY):
            try:
                reply = self.message(id, unpack(payload[2 + number(payload[:2]):] if kind == REQUEST else payload))
                if kind == REQUEST: self.frame(REPLY, id, reply)
            except Failed as why:
                if kind != NOTIFY: self.frame(REPLY_ERROR if kind == REQUEST else RESET, id, pack(failure(*why.args)))
        elif kind == DATA and id in self.incoming:
            for consume in (self.incoming[id][1].write, self.incoming[id][2].update): consume(payload)
            self.frame(CREDIT, id, len(payload).to_bytes(4, "big"))
        elif kind == FINISH and id in self.incoming:
            it, file, found = self.incoming.pop(id)
            with file: size = file.tell()
            self.due, right = 0, (found.hexdigest(), size) == (it["digest"], it["size"])
            if right: os.replace(file.name, self.path(it["digest"]))
            self.frame(DATA, id, pack("ok" if right else {"failed": failure("corrupt", f"{size} other bytes came")}))
            self.frame(FINISH, id)
        elif kind == GOODBYE:
            self.asked = ((it := unpack(payload))["retry_after_ms"] or 0) / 1000
            log.warning("goodbye: %s", it["reason"]["message"])
            self.go(it.get("go_to", []), None)

    def go(self, addresses, owner):
        raise Go([uri for uri in addresses if protected(uri) >= protected(self.link.uri)], owner)

    def path(self, digest):
        if not re.fullmatch("[0-9a-f]{64}", digest): raise Failed("invalid", "that is no digest")
        return self.folder / digest

    def message(self, id, message):
        match message:
            case {"accepted": it}:
                self.obey(it["epoch"])
                self.keep(cluster_id=self.cluster_id)
                self.driven, self.due = now(), 0
                log.info("driven by %s, epoch %d", it["owner_name"], it["epoch"])
            case {"elsewhere": it} | {"moved": it}: self.go(it["addresses"], it["owner"])
            case {"wait": it}:
                self.asked = it["retry_after_ms"] / 1000
                raise EOFError(f"asked to wait: {it['reason']}")
            case {"request": {"class": "echo", "body": body}}: return pack(body)
            case {"relay": {"class": "echo", "body": body}}: return body
            case {"outcome": _}: return pack("unknown")  # this worker keeps none
            case {"request": {"class": name}} | {"relay": {"class": name}}: raise Failed("not_found", f"there is no job class {name} here")
            case {"archive": {"epoch": epoch, "digest": digest} as it}:
                self.obey(epoch)
                self.incoming[id] = it, open(self.path(digest).with_suffix(".part"), "wb"), hashlib.sha256()
            case {"order": {"epoch": epoch, "order": order}}: self.order(epoch, order)
            case _: raise Failed("unsupported", "this worker does not know that")
        return b""

    def order(self, epoch, order):
        self.obey(epoch)
        self.due = 0  # reports at once
        match order:
            case {"start": {"task": task, "revision": revision}}:
                if task in self.tasks and self.tasks[task]["revision"] >= revision: return  # a repeat
                self.tasks[task] = {"task": task, "revision": revision, "state": "failed", "restarts": 0, "exit_code": None,
                                    "since_ms": int(time.time() * 1000), "message": "this worker runs no tasks"}
            case {"stop": {"task": task}}: self.tasks.pop(task, None)
            case {"drop_archives": {"digests": digests}}:
                for digest in digests: self.path(digest).unlink(missing_ok=True)
            case _: raise Failed("unsupported", "this worker does not know that order")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Longshore worker in Python.")
    parser.add_argument("uris", nargs="+", help="'longshore://HOST[:PORT];transport=tcp|tls|ws|wss', in the order to try")
    for name in ("cluster", "secret-file", "state-file"): parser.add_argument("--" + name, required=True)
    for name, usual in {"credential": "worker", "name": "python", "labels": "", "runtimes": "", "ca-file": None}.items():
        parser.add_argument("--" + name, default=usual)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Worker(parser.parse_args()).live()
