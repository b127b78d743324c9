"""Stands in until include/local/catalog does."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Catalog:
    domain_id = "dzd_data0platform"

    def __init__(self):
        self.items, self.by_token, self.requests, self.faults = [], {}, [], []
        self.process_as, self.counts = "SUCCESS", {}

    def fault(
        self, operation, *, code="InternalServerException", status=500, times=10**9, delay=0.0, drop=False, after=0
    ):
        self.faults.append(
            {
                "op": operation,
                "code": code,
                "status": status,
                "times": times,
                "delay": delay,
                "drop": drop,
                "after": after,
            }
        )

    def reset(self):
        self.items, self.by_token, self.requests, self.faults = [], {}, [], []
        self.counts, self.process_as = {}, "SUCCESS"

    def forget(self):
        self.items, self.by_token = [], {}

    def asked(self, operation):
        return self.counts.get(operation, 0)

    def wait_until_asked(self, operation, times):
        deadline = time.monotonic() + 30
        while self.asked(operation) < times:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def clear(self):
        self.faults.clear()

    def due(self, operation):
        self.counts[operation] = self.asked(operation) + 1
        for fault in self.faults:
            if fault["after"] >= self.asked(operation):
                continue
            if fault["op"] == operation and fault["times"] > 0:
                fault["times"] -= 1
                return fault
        return None


@contextmanager
def serve():  # noqa: C901
    state = Catalog()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, document, status=200, headers=()):
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_one(self, operation, act):
            fault = state.due(operation)
            if fault and fault["delay"]:
                time.sleep(fault["delay"])
            if fault and fault["code"] and not fault["drop"] and fault["status"]:
                return self.answer({"message": fault["code"]}, fault["status"], [("x-amzn-ErrorType", fault["code"])])
            answer = act()
            if fault and fault["drop"]:
                self.close_connection = True
                return None
            return self.answer(*answer)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            token = self.headers["Client-Token"]

            def act():
                event = json.loads(body)
                state.requests.append((token, body))
                if token in state.by_token:
                    kept = state.by_token[token]
                    if kept["body"] != body:
                        return {"message": "conflict"}, 409, [("x-amzn-ErrorType", "ConflictException")]
                    return ({"id": kept["id"], "domainId": state.domain_id},)
                item = {
                    "id": f"{len(state.items):014}",
                    "event": event,
                    "body": body,
                    "status": state.process_as,
                    "time": datetime.fromisoformat(event["eventTime"]).timestamp(),
                }
                state.items.append(item)
                state.by_token[token] = item
                return ({"id": item["id"], "domainId": state.domain_id},)

            self.handle_one("PostLineageEvent", act)

        def do_GET(self):
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            if one := re.search(r"/events/(\w+)$", parts.path):

                def act():
                    item = next((i for i in state.items if i["id"] == one[1]), None)
                    if item is None:
                        return {"message": "none"}, 404, [("x-amzn-ErrorType", "ResourceNotFoundException")]
                    return (
                        {},
                        200,
                        [("Id", item["id"]), ("Processing-Status", item["status"]), ("Domain-Id", state.domain_id)],
                    )

                return self.handle_one("GetLineageEvent", act)

            def act():
                def moment(name):
                    return datetime.fromisoformat(query[name]).timestamp()

                found = [i for i in state.items if moment("timestampAfter") <= i["time"] <= moment("timestampBefore")]
                at, size = int(query.get("nextToken", 0)), int(query["maxResults"])
                items = [
                    {
                        "id": i["id"],
                        "domainId": state.domain_id,
                        "processingStatus": i["status"],
                        "eventTime": i["time"],
                        "eventSummary": {
                            "openLineageRunEventSummary": {
                                "eventType": i["event"]["eventType"],
                                "runId": i["event"]["run"]["runId"],
                            }
                        },
                    }
                    for i in found[at : at + size]
                ]
                more = {"nextToken": str(at + size)} if at + size < len(found) else {}
                return ({"items": items, **more},)

            return self.handle_one("ListLineageEvents", act)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
