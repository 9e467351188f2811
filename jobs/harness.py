"""EleutherAI's lm-evaluation-harness, with our engine as its model.

`python -m jobs.harness run --model picobatch --model_args pretrained=124M --tasks TASKS` is the
harness' own command, which then knows the model by that name. In Python the model is handed over:
`simple_evaluate(model=PicobatchLM("124M"), tasks=TASKS)`.

How texts become tokens and windows is left to the harness, so that its rules are followed to the
letter. All requests of all tasks come in one call: what runs with what is the engine's business.
"""

import sys
from collections.abc import Sequence
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from reference import PicobatchError, __version__, load_model
from runner.engine import is_large
from runner.engine_scorer import EngineScorer
from runner.errors import InputError, SettingsError
from runner.int8 import in_int8
from runner.messages import printable, shown, shown_names
from runner.records import Reject
from runner.settings import DTYPES, available_threads

from .generator import EngineGenerator
from .language_model import LanguageModel, TextScore, Unscorable

# What a task may ask of generation: the rest would change what is generated, or be passed over.
GENERATION = {"until", "max_gen_toks", "do_sample", "temperature"}
MAX_GEN_TOKS = 256  # where a task names no limit: the harness' default


@register_model("picobatch")
class PicobatchLM(TemplateLM):
    """GPT-2 in onnxruntime, as a model of lm-evaluation-harness.

    Parameters
    ----------
    pretrained : str
        `demo`, a published name such as `124M`, or a model directory.
    dtype : str
        `float32`, or `int8`: matrices, keys and values in 8 bits.
    threads : int, optional
        Threads of one model call; by default all cores.
    batch_size, max_batch_size, device : optional
        Taken because the harness hands them over, and passed over: the engine finds the size of
        its batches, on which no result depends, and runs on the CPU.

    Raises
    ------
    PicobatchError
        Where there is no such model, or a setting is none.
    """

    def __init__(
        self,
        pretrained: str = "demo",
        dtype: str = "float32",
        threads: int | None = None,
        batch_size: int | str | None = None,  # noqa: ARG002
        max_batch_size: int | None = None,  # noqa: ARG002
        device: str | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise SettingsError(
                f"dtype is {shown(dtype)}; expected one of {', '.join(DTYPES)}. Change it in "
                "--model_args."
            )
        self._asked = str(pretrained)
        self._dtype = dtype
        model = load_model(self._asked)
        computed = in_int8(model) if dtype == "int8" else model
        scorer = EngineScorer(computed, threads or available_threads(), self._advance)
        self._model = LanguageModel(computed, scorer)
        # Nothing is compared with the reference here: `runner eval` does that.
        self._generator = EngineGenerator(computed, threads=threads, check_rows=0)
        if is_large(computed.params):  # each has a copy of the weights
            scorer.make_room = self._generator.release
            self._generator.make_room = scorer.release

    @property
    def eot_token_id(self) -> int:
        """End-of-text, which also stands before a text where the model names no other token."""
        if (eos_id := self._model.tokenizer.eos_id) is None:
            raise InputError(
                f"{self._asked}: its vocabulary has no end-of-text; expected one, as a text's "
                "first token is scored after it. Name it in the model's tokenizer files."
            )
        return eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text."""
        bos_id = self._model.tokenizer.bos_id
        return self.eot_token_id if bos_id is None else bos_id

    @property
    def max_length(self) -> int:
        """Tokens that the model can look at: n_ctx."""
        return self._model.n_ctx

    @property
    def tokenizer_name(self) -> str:
        """What tells requests that the harness keeps in a cache from another model's."""
        return f"picobatch-{self._model.tokenizer.sha256}"

    def get_model_info(self) -> dict[str, Any]:
        """What the harness notes of the model beside its results."""
        return {
            "model_dtype": self._dtype,
            "model_sha": self._model.model.weights_sha256,
            "picobatch_version": __version__,
        }

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Refuse: there is no such template."""
        raise SettingsError(
            f"{self._asked}: has no chat template; expected a run without one. Leave "
            "--apply_chat_template out."
        )

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,  # noqa: ARG002
        **_: Any,
    ) -> list[int]:
        """Token ids of a text; end-of-text written out in it is the token, as in transformers.

        GPT-2 puts no token of its own around a text, so there is none to add.
        """
        return self._model.tokenizer.encode(string, allow_special=True)

    def tok_decode(self, tokens: int | Sequence[int], **_: Any) -> str:
        """The text of token ids."""
        return self._model.tokenizer.decode([tokens] if isinstance(tokens, int) else tokens)

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, each by itself, in windows of n_ctx."""
        texts = [request.args[0] for request in requests]
        windows = [
            (number, make_disjoint_window(window))
            for number, text in enumerate(texts)
            for window in get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length, context_len=1
            )
        ]
        scores = self._scores([window for _, window in windows], disable_tqdm)
        totals = [0.0] * len(texts)
        for (number, _), score in zip(windows, scores, strict=True):
            assert isinstance(score, TextScore)  # a window is never too long
            totals[number] += score.loglikelihood
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[str]:
        """What the model goes on with, up to a stop text.

        Raises
        ------
        SettingsError
            Where a task asks for anything but the greedy choice.
        """
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(self._limits(request.args[1]), []).append(number)
        texts = [""] * len(requests)
        for (max_gen_toks, until), numbers in alike.items():
            room = self.max_length - max_gen_toks
            prompts = [self.tok_encode(requests[n].args[0])[-room:] for n in numbers]
            found = self._generator.complete(prompts, max_gen_toks, until)
            for n, result in zip(numbers, found, strict=True):
                if isinstance(result, Reject):
                    raise InputError(f"{shown(requests[n].args[0])}: {result.reason}.")
                texts[n] = result.text
                self.cache_hook.add_partial("generate_until", requests[n].args, result.text)
        return texts

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of continuations, and whether each is the model's own choice."""
        answers = []
        scores = self._scores([(ids, tokens) for _, ids, tokens in requests], disable_tqdm)
        for (texts, _, _), score in zip(requests, scores, strict=True):
            if isinstance(score, Unscorable):
                context, continuation = map(shown, texts)
                raise InputError(
                    f"context {context}, continuation {continuation}: {score.reason}, as the "
                    "harness has no score for it. Change the task's data."
                )
            answers.append((score.loglikelihood, score.is_greedy))
            self.cache_hook.add_partial("loglikelihood", texts, answers[-1])
        return answers

    def _scores(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], disable_tqdm: bool
    ) -> list[TextScore | Unscorable]:
        """All in one call, as the engine looks for what requests share."""
        with tqdm(total=len(pairs), desc="scored by picobatch", disable=disable_tqdm) as self._bar:
            return self._model.loglikelihood_tokens(pairs)

    def _advance(self, done: int) -> None:
        self._bar.update(done)

    def _limits(self, asked: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
        """What a request wants: new tokens at most, and the texts that end them."""
        limits = normalize_gen_kwargs(asked, MAX_GEN_TOKS)
        if limits["do_sample"]:
            raise SettingsError(
                f"generation_kwargs: do_sample is {shown(asked.get('do_sample'))}, temperature "
                f"{shown(asked.get('temperature'))}; expected the greedy choice, which is what "
                "the engine makes. Set do_sample=false,temperature=0 in the task or in "
                "--gen_kwargs."
            )
        if others := sorted(limits.keys() - GENERATION):
            raise SettingsError(
                f"generation_kwargs: has {shown_names(others)}; expected "
                f"{shown_names(sorted(GENERATION))}, and no others. Leave it out of the task."
            )
        if not 0 <= limits["max_gen_toks"] < self.max_length:
            raise SettingsError(
                f"generation_kwargs: max_gen_toks is {limits['max_gen_toks']}; "
                f"expected less than n_ctx = {self.max_length}, so that a prompt has room. Set it "
                "in the task or in --gen_kwargs."
            )
        return limits["max_gen_toks"], tuple(text for text in limits["until"] if text)


def main() -> None:
    """The harness' own command, with our model known to it."""
    try:
        cli_evaluate()
    except PicobatchError as e:
        sys.exit(f"Error: {printable(str(e))}")


if __name__ == "__main__":
    main()
