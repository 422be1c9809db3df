"""A server on loopback that speaks the two vendors' published wire formats and plays scripted replies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Played:
    """The script, and what was asked. A step is a reply, an HTTP status (``{"status": 429}``), or ``{"silence_s": 3}``."""

    def __init__(self, script: list[dict[str, Any]]) -> None:
        self.script, self.asked = list(script), []
        self.url = ""


def anthropic_reply(step: dict[str, Any]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": step["text"]}] if step.get("text") else []
    content += [{"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": given} for i, (name, given) in enumerate(step.get("calls", ()))]
    stop = "refusal" if step.get("refused") else "tool_use" if step.get("calls") else "end_turn"
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test", "content": content, "stop_reason": stop, "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 20},
    }  # fmt: skip


def openai_reply(step: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.get("text"), "refusal": step.get("text") if step.get("refused") else None}
    if step.get("calls"):
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)}}
            for i, (name, given) in enumerate(step["calls"])
        ]
    finish = "tool_calls" if step.get("calls") else "stop"
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "test", "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }  # fmt: skip


@contextmanager
def vendor(script: list[dict[str, Any]]) -> Iterator[Played]:
    played = Played(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            played.asked.append(body)
            step = played.script.pop(0)
            if "silence_s" in step:
                time.sleep(step["silence_s"])
                return self.close_connection_now()
            if "status" in step:
                return self._send(step["status"], {"error": {"type": "rate_limit_error", "message": "slow down"}})
            return self._send(200, anthropic_reply(step) if self.path.endswith("/messages") else openai_reply(step))

        def close_connection_now(self) -> None:
            self.close_connection = True

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
