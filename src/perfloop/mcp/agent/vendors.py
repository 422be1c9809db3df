"""Models behind the vendors' own client libraries: Anthropic's Messages API and the chat-completions API that many serve."""

from __future__ import annotations

import json
import os
from typing import Any

from perfloop.errors import CannotMeasure, UsageError
from perfloop.mcp.agent.talk import Call, Model, Reply, ToolText, Turn

TIMEOUT_S, RETRIES_MAX = 120.0, 3
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
WITHOUT_KEY = (
    "perfloop improve needs no model: it finds causes by rules and experiments, applies what is safe, proves it, keeps or undoes it, and writes the report"
)


def connect(vendor: str, model: str, base_url: str) -> Model:
    """The model; ``UsageError`` without a key, or without the library."""
    key = os.environ.get(KEYS[vendor], "")
    if not key:
        raise UsageError(
            f"no key for {vendor}",
            why=f"the environment variable {KEYS[vendor]} is not set",
            fix=f"export {KEYS[vendor]}=…, or run perfloop improve",
            hint=WITHOUT_KEY,
        )
    if not model:
        raise UsageError("no model is named", fix="--model NAME, as the vendor calls it")
    try:
        return Anthropic(key, model, base_url) if vendor == "anthropic" else OpenAi(key, model, base_url)
    except ModuleNotFoundError as error:
        raise UsageError(f"the library {error.name} is not installed", fix="pip install 'perfloop[agent]'") from None


class Anthropic:
    """Anthropic's Messages API."""

    def __init__(self, key: str, model: str, base_url: str) -> None:
        import anthropic

        self.name, self._library = model, anthropic
        self._client = anthropic.Anthropic(api_key=key, base_url=base_url or None, timeout=TIMEOUT_S, max_retries=RETRIES_MAX)

    def answer(self, system: str, turns: list[Turn], tools: list[ToolText], tokens_max: int) -> Reply:
        """The next reply; rate limits and lost connections are tried again by the library, at most three times."""
        offered: Any = [{"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in tools]
        messages: Any = [message for turn in turns for message in self._messages(turn)]
        try:
            said = self._client.messages.create(model=self.name, max_tokens=tokens_max, system=system, messages=messages, tools=offered)
        except self._library.AnthropicError as error:
            raise _silent("anthropic", error) from None
        texts = [block.text for block in said.content if block.type == "text"]
        calls = tuple(
            Call(block.id, block.name, dict(block.input) if isinstance(block.input, dict) else None, str(block.input))
            for block in said.content
            if block.type == "tool_use"
        )
        return Reply(
            text="\n".join(texts),
            calls=calls,
            tokens_in=said.usage.input_tokens,
            tokens_out=said.usage.output_tokens,
            refused=said.stop_reason == "refusal",
            cut=said.stop_reason == "max_tokens",
        )

    @staticmethod
    def _messages(turn: Turn) -> list[dict[str, Any]]:
        if turn.reply is not None:
            blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.reply.text}] if turn.reply.text else []
            blocks += [{"type": "tool_use", "id": call.id, "name": call.tool, "input": call.arguments or {}} for call in turn.reply.calls]
            return [{"role": "assistant", "content": blocks}] if blocks else []
        if turn.results:
            content = [{"type": "tool_result", "tool_use_id": one.call.id, "content": one.text, "is_error": one.failed} for one in turn.results]
            return [{"role": "user", "content": content}]
        return [{"role": "user", "content": turn.text}]


class OpenAi:
    """The chat-completions API."""

    def __init__(self, key: str, model: str, base_url: str) -> None:
        import openai

        self.name, self._library = model, openai
        self._client = openai.OpenAI(api_key=key, base_url=base_url or None, timeout=TIMEOUT_S, max_retries=RETRIES_MAX)

    def answer(self, system: str, turns: list[Turn], tools: list[ToolText], tokens_max: int) -> Reply:
        """The next reply; rate limits and lost connections are tried again by the library, at most three times."""
        offered: Any = [{"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema}} for tool in tools]
        messages: Any = [{"role": "system", "content": system}, *(message for turn in turns for message in self._messages(turn))]
        try:
            said = self._client.chat.completions.create(model=self.name, messages=messages, tools=offered, max_completion_tokens=tokens_max)
        except self._library.OpenAIError as error:
            raise _silent("openai", error) from None
        if not said.choices:
            raise CannotMeasure(f"the model {self.name} sent no answer", why="its reply has no choices", fix="try again, or name another model")
        choice = said.choices[0]
        calls = tuple(_function_call(call) for call in choice.message.tool_calls or () if call.type == "function")
        return Reply(
            text=choice.message.content or choice.message.refusal or "",
            calls=calls,
            tokens_in=said.usage.prompt_tokens if said.usage else 0,
            tokens_out=said.usage.completion_tokens if said.usage else 0,
            refused=bool(choice.message.refusal) or choice.finish_reason == "content_filter",
            cut=choice.finish_reason == "length",
        )

    @staticmethod
    def _messages(turn: Turn) -> list[dict[str, Any]]:
        if turn.reply is not None:
            said: dict[str, Any] = {"role": "assistant", "content": turn.reply.text or None}
            calls = [{"id": call.id, "type": "function", "function": {"name": call.tool, "arguments": call.raw or "{}"}} for call in turn.reply.calls]
            return [said | ({"tool_calls": calls} if calls else {})]
        if turn.results:
            return [{"role": "tool", "tool_call_id": one.call.id, "content": f"error: {one.text}" if one.failed else one.text} for one in turn.results]
        return [{"role": "user", "content": turn.text}]


def _function_call(call: Any) -> Call:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except ValueError:
        arguments = None
    return Call(call.id, call.function.name, arguments if isinstance(arguments, dict) else None, call.function.arguments or "")


def _silent(vendor: str, error: Exception) -> CannotMeasure:
    """The library's own words, without what they may quote of the request."""
    status = getattr(error, "status_code", None)
    return CannotMeasure(
        f"{vendor} does not answer: {type(error).__name__}",
        why=f"status {status}" if status else "no answer came in time, or the connection broke",
        fix="check the key, the model's name and the vendor's status; what was measured is stored",
    )
