"""Lines of OpenAI's batch format: requests for completions in, responses out.

A request that asks for what greedy decoding does not do is refused, never answered otherwise.

References
----------
https://platform.openai.com/docs/api-reference/batch and .../completions
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from .messages import is_unicode, shown, shown_names
from .records import Completion, Reject, Request
from .rows import MAX_NEW_TOKENS, make_row

METHOD = "POST"
URL = "/v1/completions"
MOST_STOPS = 4  # of one request, in that API
BAD_REQUEST = 400


class Fault(NamedTuple):
    """What is wrong with a request, in the parts that an error of that API has."""

    param: str | None
    code: str
    reason: str


def request_of(row: int, where: str, found: dict[str, Any]) -> Request | Reject:
    """The row that a request line asks for.

    Parameters
    ----------
    row : int
        Its place in the input, from 0.
    where : str
        File and line, for messages.
    found : dict
        The line.
    """
    if fault := fault_of(found):
        return Reject(row, where, fault.reason)
    body = found["body"]
    stop = body.get("stop")
    stops = (stop,) if isinstance(stop, str) else None if stop is None else tuple(stop)
    return Request(row, where, _prompt(body["prompt"]), body.get("max_tokens"), stops)


def fault_of(found: dict[str, Any]) -> Fault | None:
    """What a request line asks for that cannot be given; None where it can."""
    line = {"custom_id": str, "method": str, "url": str, "body": dict}
    for name, kind in line.items():
        if name not in found:
            return Fault(name, "missing_required_parameter", f"no {name!r}; expected one")
        if not isinstance(found[name], kind):
            expected = "a string" if kind is str else "an object"
            return _bad(name, found[name], expected, code="invalid_type")
    if unknown := [name for name in found if name not in line]:
        return _unknown(unknown, "a request line")
    if found["method"] != METHOD:
        return _bad("method", found["method"], METHOD)
    if found["url"] != URL:
        return _bad("url", found["url"], f"{URL}; chat and embeddings are not supported")
    return _body_fault(found["body"])


def response_line(
    row: int, line: bytes, found: dict[str, Any] | None, result: Completion | Reject
) -> bytes:
    """What a row got, as a line of the output file, without a newline.

    The same row of the same content has the same identifiers in every run, and no time.

    Parameters
    ----------
    row : int
        Its place in the input, from 0.
    line : bytes
        The request.
    found : dict or None
        What is on the line; None where that is no JSON object.
    result : Completion or Reject
        What became of it.
    """
    name = hashlib.sha256(b"%d %b" % (row, line)).hexdigest()[:32]
    custom_id = (found or {}).get("custom_id")
    if isinstance(result, Reject):
        status, body = BAD_REQUEST, _error(found, result)
    else:
        status, body = 200, _body(name, found, result)
    response = {
        "id": f"batch_req_{name}",
        "custom_id": custom_id if isinstance(custom_id, str) else None,
        "response": {"status_code": status, "request_id": name, "body": body},
        "error": None,
    }
    try:
        return json.dumps(response, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate in custom_id or model
        return json.dumps(response).encode()


def _body(name: str, found: dict[str, Any] | None, result: Completion) -> dict[str, Any]:
    assert found is not None, "a line that is no request has no completion"
    choice = {
        "text": result.text,
        "index": 0,
        "logprobs": None,
        "finish_reason": result.finish_reason.value,
    }
    return {
        "id": f"cmpl-{name}",
        "object": "text_completion",
        "created": 0,
        "model": found["body"]["model"],
        "choices": [choice],
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": len(result.ids),
            "total_tokens": result.prompt_tokens + len(result.ids),
        },
    }


def _error(found: dict[str, Any] | None, reject: Reject) -> dict[str, Any]:
    fault = None if found is None else fault_of(found)
    return {
        "error": {
            "message": reject.reason,
            "type": "invalid_request_error",
            "param": fault.param if fault else None,
            "code": fault.code if fault else None,
        }
    }


# The body of a request.


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What changes nothing when the likeliest token is always chosen: its test, and what is expected.
NEUTRAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda v: _is_number(v) and v == 1, "1: greedy decoding has one answer"),
    "best_of": (lambda v: _is_number(v) and v == 1, "1: greedy decoding has one answer"),
    "echo": (lambda v: v is False, "false"),
    "stream": (lambda v: v is False, "false"),
    "stream_options": (lambda _: False, "null"),
    "logprobs": (lambda _: False, "null: they are not given in this format"),
    "suffix": (lambda _: False, "null"),
    "logit_bias": (lambda v: v == {}, "null or {}"),
    "frequency_penalty": (lambda v: _is_number(v) and v == 0, "0"),
    "presence_penalty": (lambda v: _is_number(v) and v == 0, "0"),
    "top_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0, at most 1"),
    "seed": (lambda v: type(v) is int, "a whole number"),
    "user": (lambda v: isinstance(v, str), "a string"),
}
READ = ("model", "prompt", "max_tokens", "stop", "temperature")


def _body_fault(body: dict[str, Any]) -> Fault | None:
    if unknown := [name for name in body if name not in NEUTRAL and name not in READ]:
        return _unknown(unknown, "a completion's body")
    for name in ("model", "prompt"):
        if name not in body:
            return Fault(name, "missing_required_parameter", f"no {name!r} in the body")
    if not isinstance(body["model"], str):
        return _bad("model", body["model"], "a string", code="invalid_type")
    found = _prompt_fault(body["prompt"]) or _limit_fault(body.get("max_tokens"))
    found = found or _stop_fault(body.get("stop")) or _temperature_fault(body)
    for name, (is_fine, expected) in NEUTRAL.items():
        value = body.get(name)
        if found is None and value is not None and not is_fine(value):
            return _bad(name, value, expected)
    return found


def _prompt(prompt: Any) -> Any:
    """One prompt, also where it is the only one of a list."""
    if prompt is None:  # in that API: as if from the beginning of a new document
        return ""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        return prompt[0]
    return prompt


def _prompt_fault(found: Any) -> Fault | None:
    several = isinstance(found, list) and len(found) > 1 and isinstance(found[0], (str, list))
    if several or found == []:
        reason = f"'prompt' holds {len(found)} prompts; expected one. Write a line for each"
        return Fault("prompt", "unsupported_value", reason)
    row = make_row(0, "", "prompt", _prompt(found), None)
    return Fault("prompt", "invalid_type", row.reason) if isinstance(row, Reject) else None


def _limit_fault(limit: Any) -> Fault | None:
    row = make_row(0, "", "prompt", "", limit)
    if isinstance(row, Request):
        return None
    reason = row.reason.replace(MAX_NEW_TOKENS, "max_tokens", 1)
    return Fault("max_tokens", "invalid_value", reason)


def _stop_fault(stop: Any) -> Fault | None:
    stops = [stop] if isinstance(stop, str) else stop
    expected = f"a string, or a list of 1 to {MOST_STOPS}, none of them empty"
    if stops is None:
        return None
    if not isinstance(stops, list) or not 1 <= len(stops) <= MOST_STOPS:
        return _bad("stop", stop, expected, code="invalid_value")
    bad = [text for text in stops if not isinstance(text, str) or not text or not is_unicode(text)]
    return _bad("stop", bad[0], expected, code="invalid_value") if bad else None


def _temperature_fault(body: dict[str, Any]) -> Fault | None:
    value = body.get("temperature")
    if _is_number(value) and value == 0:
        return None
    said = "absent, which means 1" if value is None else shown(value)
    reason = f"'temperature' is {said}; expected 0: the likeliest token is always chosen"
    return Fault("temperature", "unsupported_value", reason)


def _bad(name: str, value: Any, expected: str, code: str = "unsupported_value") -> Fault:
    return Fault(name, code, f"{name!r} is {shown(value)}; expected {expected}")


def _unknown(names: list[str], where: str) -> Fault:
    reason = f"{shown_names(names)}: not supported in {where}"
    return Fault(names[0], "unsupported_parameter", reason)
