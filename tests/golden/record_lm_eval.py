"""Records what lm-evaluation-harness finds, for `test_lm_eval.py` and `benchmarks/agreement.py`.

Run by hand, in an environment with `lm-eval[hf]` 0.4.13 and without a network:
`HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 python tests/golden/record_lm_eval.py`.

It needs nothing of ours: a model directory in Hugging Face's layout, and the files of
`tests/golden/lm_eval/`. Tasks are the harness' own, with other data.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.hellaswag import utils as hellaswag
from lm_eval.tasks.wikitext import preprocess_wikitext as wikitext

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "lm_eval"
GOLDEN = Path(__file__).parent / "lm_eval.json"
DTYPES = ("float64", "float32")


def metrics(*names):
    return {"metric_list": [{"metric": name} for name in names]}


TASKS = {
    "lambada": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
        **metrics("perplexity", "acc"),
    },
    "hellaswag": {
        "output_type": "multiple_choice",
        "process_docs": hellaswag.process_docs,
        "doc_to_text": "{{query}}",
        "doc_to_target": "{{label}}",
        "doc_to_choice": "choices",
        **metrics("acc", "acc_norm"),
    },
    "blimp": {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        **metrics("acc", "acc_norm"),
    },
    "questions": {
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        **metrics("acc", "acc_norm"),
    },
    "wikitext": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": wikitext.wikitext_detokenizer,
        "process_results": wikitext.process_results,
        **metrics("word_perplexity", "byte_perplexity", "bits_per_byte"),
    },
}


def rows(name, data):
    return [json.loads(line) for line in (data / f"{name}.jsonl").read_text("utf-8").splitlines()]


def requests(kind, arguments):
    return [Instance(kind, {}, arguments=one, idx=n) for n, one in enumerate(arguments)]


def each_pair(lm, data):
    """Log-likelihood and whether it is greedy; null where the harness fails.

    One by one: of requests that share tokens but end their contexts in different places, it takes
    scores from the wrong place (0.4.13).
    """
    found = []
    for row in rows("pairs", data):
        try:
            pair = (row["context"], row["continuation"])
            found += lm.loglikelihood(requests("loglikelihood", [pair]), disable_tqdm=True)
        except (AssertionError, IndexError):
            found.append(None)
    return found


def observe(model, data, dtype):
    """Figures of all tasks, and what single requests get."""
    lm = HFLM(pretrained=str(model), dtype=dtype, device="cpu", batch_size=4)
    tasks = [
        {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data / f"{name}.jsonl")}},
            "test_split": "test",
            "num_fewshot": 0,
            **task,
        }
        for name, task in TASKS.items()
    ]
    found = lm_eval.simple_evaluate(model=lm, tasks=tasks, log_samples=False)["results"]
    figures = {
        name: {
            metric.removesuffix(",none"): value if isinstance(value, float) else None
            for metric, value in sorted(of_task.items())
            if metric.endswith(",none")
        }
        for name, of_task in found.items()
    }
    texts = [(row["text"],) for row in rows("texts", data)]
    return {
        "figures": figures,
        "pairs": each_pair(lm, data),
        "texts": lm.loglikelihood_rolling(requests("loglikelihood_rolling", texts)),
    }


def cleaned(data):
    """What the harness makes of each text before it asks."""
    return [
        {
            "hellaswag": hellaswag.preprocess(row["text"]),
            "wikitext": wikitext.wikitext_detokenizer({"page": row["text"]}),
        }
        for row in rows("markup", data)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "reference" / "demo")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=GOLDEN)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES)
    options = parser.parse_args()
    observed = {dtype: observe(options.model, options.data, dtype) for dtype in options.dtypes}
    observed |= {"lm_eval": lm_eval.__version__, "cleaned": cleaned(options.data)}
    options.output.write_text(json.dumps(observed, indent=1) + "\n")


if __name__ == "__main__":
    main()
