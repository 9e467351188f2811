"""Programs that generate by themselves from a folder."""

import importlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from exporter import Package
from exporter.variants import VARIANTS

from .base import Generate, Runtime, python_package
from .node import NodeScript, node_package

PADDING = 0  # any id will do behind a mask


def optimum(package: Package, dtype: str, threads: int) -> Generate:
    """Optimum's `ORTModelForCausalLM` with `generate()`, rows padded on the left."""
    torch = importlib.import_module("torch")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = importlib.import_module("optimum.onnxruntime").ORTModelForCausalLM.from_pretrained(
        package.directory,
        subfolder="onnx",
        file_name=VARIANTS[dtype].file("with_past"),
        use_io_binding=False,
        session_options=options,
    )

    def generate(prompts: Sequence[Sequence[int]], n_new: int) -> list[list[int]]:
        width = max(map(len, prompts))
        padded = torch.full((len(prompts), width), PADDING)
        there = torch.zeros_like(padded)
        for row, ids in enumerate(prompts):
            padded[row, width - len(ids) :], there[row, width - len(ids) :] = torch.tensor(ids), 1
        found = model.generate(
            padded,
            attention_mask=there,
            max_new_tokens=n_new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=PADDING,
        )
        new: list[list[int]] = found[:, width:].tolist()
        return new

    return generate


def onnxruntime_genai(package: Package, dtype: str, threads: int) -> Generate:
    """onnxruntime-genai's `Generator`, rows padded on the right."""
    genai = importlib.import_module("onnxruntime_genai")
    config = genai.Config(str(package.directory))
    options = {"intra_op_num_threads": threads}
    decoder = {
        "filename": f"onnx/{VARIANTS[dtype].file('with_past')}",
        "session_options": options,
    }
    config.overlay(json.dumps({"model": {"decoder": decoder}}))
    model = genai.Model(config)
    eos_id = package.eos_id

    def generate(prompts: Sequence[Sequence[int]], n_new: int) -> list[list[int]]:
        width = max(map(len, prompts))
        padded = np.full((len(prompts), width), eos_id, np.int32)  # which it takes for padding
        for row, ids in enumerate(prompts):
            padded[row, : len(ids)] = ids
        params = genai.GeneratorParams(model)
        params.set_search_options(
            max_length=width + n_new, batch_size=len(prompts), do_sample=False
        )
        generator = genai.Generator(model, params)
        generator.append_tokens(padded)
        new: list[list[int]] = [[] for _ in prompts]
        while not generator.is_done():
            generator.generate_next_token()
            for ids, found in zip(new, generator.get_next_tokens(), strict=True):
                ids.append(int(found))
        return [_up_to_end(ids, eos_id) for ids in new]

    return generate


def transformers_js(package: Package, dtype: str, _: int) -> Generate:
    """transformers.js's `generate()` under Node, rows padded on the left."""
    folder = str(package.directory.absolute())
    ask = NodeScript(
        "transformers_js.mjs", "@huggingface/transformers", folder, VARIANTS[dtype].called
    )
    eos_id = package.eos_id

    def generate(prompts: Sequence[Sequence[int]], n_new: int) -> list[list[int]]:
        new = ask({"prompts": [list(ids) for ids in prompts], "n_new": n_new})["new"]
        return [_up_to_end(ids, eos_id) for ids in new]

    return generate


def _up_to_end(ids: list[int], eos_id: Any) -> list[int]:
    """Without what a program puts behind a row that is finished before others."""
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids


GENERATORS = (
    Runtime(
        "optimum",
        python_package("optimum.onnxruntime", "torch", install="optimum-onnx"),
        generator=optimum,
    ),
    Runtime(
        "onnxruntime-genai",
        python_package("onnxruntime_genai", install="onnxruntime-genai"),
        generator=onnxruntime_genai,
    ),
    Runtime(
        "transformers.js",
        node_package("@huggingface/transformers"),
        generator=transformers_js,
    ),
)
