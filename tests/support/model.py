"""Plays the service of a model for real agents: orders one command, then says that all is done."""

from __future__ import annotations

import json
from typing import Any

from tests.support.internet import Internet, Server


class Model(Server):
    """The interfaces of OpenAI (responses) and Anthropic (messages), with one line to say."""

    command = "true"

    def reply_to(self, asked: dict[str, Any]) -> bytes | None:
        """The events of an answer; None for what is no question to a model."""
        if asked["method"] != "POST" or not asked["body"].startswith("{"):
            return None
        question = json.loads(asked["body"])
        if "/responses" in asked["path"]:
            return _events(_responses(question, self.command))
        if "/messages" in asked["path"] and question.get("stream"):
            return _events(_messages(question, self.command))
        return None


def model(internet: Internet, name: str, command: str) -> Model:
    """A model that answers as `name` and orders `command`."""
    found = internet.host(name, kind=Model)
    assert isinstance(found, Model)
    found.command = command
    return found


def _events(events: list[dict[str, Any]]) -> bytes:
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def _responses(question: dict[str, Any], command: str) -> list[dict[str, Any]]:
    done = any("output" in str(item.get("type", "")) for item in question.get("input", ()))
    item: dict[str, Any] = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "exec_command",
        "arguments": json.dumps({"cmd": command}),
    }
    if done:
        text = [{"type": "output_text", "text": "All done."}]
        item = {"type": "message", "role": "assistant", "id": "msg_1", "content": text}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": usage}},
    ]


def _messages(question: dict[str, Any], command: str) -> list[dict[str, Any]]:
    contents = [
        m["content"] for m in question.get("messages", ()) if isinstance(m["content"], list)
    ]
    done = any(part.get("type") == "tool_result" for content in contents for part in content)
    has_tool = any(tool.get("name") == "Bash" for tool in question.get("tools", ()))
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": "All done."}
    stop = "end_turn"
    if has_tool and not done:
        block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
        order = {"command": command, "description": "what was asked for"}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(order)}
        stop = "tool_use"
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": question.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    ending = {"stop_reason": stop, "stop_sequence": None}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
