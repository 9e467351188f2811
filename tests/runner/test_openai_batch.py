"""OpenAI's batch format: requests as that API takes them, responses as its own package reads."""

import json

import pytest

from runner.openai_batch import NEUTRAL, READ, fault_of, request_of, response_line
from runner.places import Place
from runner.reader import open_source
from runner.records import Completion, FinishReason, Reject, Request

BODY = {"model": "m", "prompt": "one", "temperature": 0}
ANSWER = Completion(" two", [7, 8], 3, FinishReason.STOP, -0.5)


def line(**changes):
    found = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": BODY, **changes}
    return {key: value for key, value in found.items() if value is not ...}


def body(**changes):
    return line(body={key: v for key, v in {**BODY, **changes}.items() if v is not ...})


def respond(found, result=None, row=5):
    raw = json.dumps(found).encode()
    result = request_of(row, "in:6", found) if result is None else result
    return json.loads(response_line(row, raw, found, result))


FINE = [
    ({}, ("one", None, None)),
    ({"prompt": [1, 2]}, ([1, 2], None, None)),
    ({"prompt": ["one"]}, ("one", None, None)),
    ({"prompt": [[1, 2]]}, ([1, 2], None, None)),
    ({"prompt": ""}, ("", None, None)),
    ({"prompt": None}, ("", None, None)),
    ({"max_tokens": 0}, ("one", 0, None)),
    ({"max_tokens": 7}, ("one", 7, None)),
    ({"max_tokens": None}, ("one", None, None)),
    ({"stop": None}, ("one", None, None)),
    ({"stop": "."}, ("one", None, (".",))),
    ({"stop": [".", "\n", "x", "y"]}, ("one", None, (".", "\n", "x", "y"))),
    ({"temperature": 0.0}, ("one", None, None)),
    ({"n": 1, "best_of": 1, "echo": False, "stream": False}, ("one", None, None)),
    ({"logprobs": None, "suffix": None, "logit_bias": {}}, ("one", None, None)),
    ({"frequency_penalty": 0, "presence_penalty": 0.0, "top_p": 0.1}, ("one", None, None)),
    ({"top_p": 1, "seed": -3, "user": "", "stream_options": None}, ("one", None, None)),
    (dict.fromkeys(NEUTRAL), ("one", None, None)),
]


@pytest.mark.parametrize(("changes", "expected"), FINE)
def test_what_greedy_decoding_does(changes, expected):
    row = request_of(5, "in:6", body(**changes))
    assert row == Request(5, "in:6", *expected)


BAD_BODIES = [
    ({"temperature": ...}, "temperature", "absent, which means 1; expected 0: the likeliest"),
    ({"temperature": None}, "temperature", "absent, which means 1"),
    ({"temperature": 0.7}, "temperature", "is 0.7; expected 0"),
    ({"temperature": False}, "temperature", "is False"),
    ({"temperature": float("nan")}, "temperature", "is nan"),
    ({"model": ...}, "model", "no 'model' in the body"),
    ({"model": None}, "model", "is null; expected a string"),
    ({"prompt": ...}, "prompt", "no 'prompt' in the body"),
    ({"prompt": 5}, "prompt", "is 5; expected a string or a list of token ids"),
    ({"prompt": []}, "prompt", "holds 0 prompts; expected one"),
    ({"prompt": ["a", "b"]}, "prompt", "holds 2 prompts; expected one. Write a line for each"),
    ({"prompt": [[1], [2]]}, "prompt", "holds 2 prompts"),
    ({"prompt": [1, True]}, "prompt", "holds True at 1"),
    ({"prompt": [["a"]]}, "prompt", "holds 'a' at 0"),
    ({"max_tokens": -1}, "max_tokens", "'max_tokens' is -1; expected a whole number"),
    ({"max_tokens": 1.5}, "max_tokens", "is 1.5"),
    ({"max_tokens": True}, "max_tokens", "is True"),
    ({"max_tokens": 2**63}, "max_tokens", "expected a whole number, 0 to 2**63 - 1"),
    ({"stop": ""}, "stop", "expected a string, or a list of 1 to 4, none of them empty"),
    ({"stop": []}, "stop", "a list of 1 to 4"),
    ({"stop": list("abcde")}, "stop", "a list of 1 to 4"),
    ({"stop": ["a", 1]}, "stop", "is 1"),
    ({"stop": "\ud800"}, "stop", "is '\\ud800'"),
    ({"n": 2}, "n", "is 2; expected 1"),
    ({"n": True}, "n", "is True"),
    ({"best_of": 5}, "best_of", "expected 1"),
    ({"echo": True}, "echo", "expected false"),
    ({"echo": 0}, "echo", "expected false"),
    ({"stream": True}, "stream", "expected false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "expected null"),
    ({"logprobs": 0}, "logprobs", "expected null"),
    ({"suffix": "x"}, "suffix", "expected null"),
    ({"logit_bias": {"50256": -100}}, "logit_bias", "expected null or {}"),
    ({"frequency_penalty": 0.1}, "frequency_penalty", "expected 0"),
    ({"presence_penalty": -1}, "presence_penalty", "expected 0"),
    ({"top_p": 0}, "top_p", "above 0"),
    ({"top_p": 1.1}, "top_p", "at most 1"),
    ({"seed": 1.0}, "seed", "a whole number"),
    ({"user": 3}, "user", "a string"),
    ({"messages": []}, "messages", "messages: not supported in a completion's body"),
    ({"top_k": 1, "min_p": 0}, "top_k", "top_k, min_p: not supported"),
]
BAD_LINES = [
    ({"custom_id": ...}, "custom_id", "no 'custom_id'; expected one"),
    ({"custom_id": 3}, "custom_id", "is 3; expected a string"),
    ({"method": "GET"}, "method", "is 'GET'; expected POST"),
    ({"method": ...}, "method", "no 'method'"),
    ({"url": "/v1/chat/completions"}, "url", "chat and embeddings are not supported"),
    ({"body": ...}, "body", "no 'body'"),
    ({"body": [1]}, "body", "is [1]; expected an object"),
    ({"priority": 1}, "priority", "priority: not supported in a request line"),
]
BAD = [(body(**changes), *rest) for changes, *rest in BAD_BODIES]
BAD += [(line(**changes), *rest) for changes, *rest in BAD_LINES]


@pytest.mark.parametrize(("found", "param", "said"), BAD)
def test_what_is_not_supported_is_an_error_that_says_so(found, param, said):
    row = request_of(5, "in:6", found)
    assert isinstance(row, Reject)
    assert said in row.reason
    response = respond(found)
    assert response["error"] is None
    assert response["response"]["status_code"] == 400
    error = response["response"]["body"]["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"] == row.reason
    assert isinstance(error["code"], str)
    assert response["custom_id"] == (None if param == "custom_id" else "a")


def test_every_parameter_of_that_api_is_known():
    """Whatever its package can send is taken or refused for a reason of its own."""
    params = pytest.importorskip("openai.types.completion_create_params")
    known = {"model", "prompt", "temperature", *READ, *NEUTRAL}
    assert set(params.CompletionCreateParamsBase.__annotations__) | {"stream"} <= known
    for name in READ + tuple(NEUTRAL):
        fault = fault_of(body(**{name: {"what": object}}))
        assert (fault.param, "not supported" in fault.reason) == (name, False)


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH])
def test_responses_are_what_the_package_reads(reason):
    openai = pytest.importorskip("openai")
    answer = Completion("é\n", [7, 8], 3, reason, -0.5)
    response = respond(body(model="some/model"), answer)
    assert response.keys() == {"id", "custom_id", "response", "error"}
    assert response["response"].keys() == {"status_code", "request_id", "body"}
    assert (response["response"]["status_code"], response["error"]) == (200, None)
    found = openai.types.Completion.model_validate(response["response"]["body"], strict=True)
    assert found.model_extra == {}
    assert (found.model, found.created, found.object) == ("some/model", 0, "text_completion")
    (choice,) = found.choices
    assert choice.model_extra == {}
    assert (choice.text, choice.index, choice.finish_reason) == ("é\n", 0, reason.value)
    assert choice.logprobs is None
    assert found.usage.to_dict() == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
    }


def test_identifiers_follow_from_the_row_and_its_content():
    first, again = respond(line(), ANSWER), respond(line(), ANSWER)
    assert first == again
    others = [respond(line(), ANSWER, row=6), respond(body(seed=1), ANSWER)]
    for other in others:
        assert other["id"] != first["id"]
        assert other["response"]["request_id"] != first["response"]["request_id"]
        assert other["response"]["body"]["id"] != first["response"]["body"]["id"]


def test_a_row_that_failed_later():
    response = respond(line(), Reject(5, "in:6", "300 tokens; expected at most 255"))
    error = response["response"]["body"]["error"]
    assert (error["message"], error["param"]) == ("300 tokens; expected at most 255", None)


def test_a_name_that_is_no_text_comes_back():
    response = respond(line(custom_id="\ud800"), ANSWER)
    assert response["custom_id"] == "\ud800"


def test_lines_of_a_file(tmp_path):
    deep = {"a": 1}
    for _ in range(900):
        deep = [deep]
    rows = [line(), body(prompt=deep), body(stop="."), {}]
    texts = [json.dumps(row) for row in rows]
    texts[2:2] = ["", "nonsense", "[1]"]
    (tmp_path / "in.jsonl").write_text("\n".join(texts))
    place = Place.local(tmp_path / "in.jsonl", "in.jsonl")
    source = open_source([place], "in.jsonl", "prompt", None, typed=False, requests=True)
    (chunk,) = source.chunks([range(source.n_rows)])
    wheres = [f"in.jsonl:{n}" for n in (1, 2, 4, 5, 6, 7)]
    assert [row.where for row in chunk.rows] == wheres
    kinds = [Request, Reject, Reject, Reject, Request, Reject]
    assert [type(row) for row in chunk.rows] == kinds
    results = [ANSWER if isinstance(row, Request) else row for row in chunk.rows]
    found = [json.loads(text) for text in chunk.response_lines(results)]
    assert [f["response"]["status_code"] for f in found] == [200, 400, 400, 400, 200, 400]
    assert [f["custom_id"] for f in found] == ["a", "a", None, None, "a", None]
    assert "not JSON" in found[2]["response"]["body"]["error"]["message"]
    # The same lines, whichever rows were asked for together.
    parts = source.chunks([range(n, n + 1) for n in range(6)])
    again = [part.response_lines([r])[0] for part, r in zip(parts, results, strict=True)]
    assert again == chunk.response_lines(results)
