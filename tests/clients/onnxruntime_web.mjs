// onnxruntime-web (WebAssembly): FOLDER, then on stdin [{ids, n_new}] -> on stdout [{new}].
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as ort from "onnxruntime-web";

const folder = process.argv[2];
const bytes = (name) => new Uint8Array(readFileSync(join(folder, name)));
const int64 = (numbers) =>
  new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
const { n_embd, n_head, vocab_size } = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(bytes("onnx/model.onnx"), {
  externalData: [{ path: "model.onnx_data", data: bytes("onnx/model.onnx_data") }],
});
const found = [];
for (let { ids, n_new } of JSON.parse(readFileSync(0, "utf8"))) {
  const empty = () => new ort.Tensor("float32", new Float32Array(0), [1, n_head, 0, n_embd / n_head]);
  let past = Object.fromEntries(session.inputNames.slice(3).map((name) => [name, empty()]));
  const chosen = [];
  for (let start = 0; chosen.length < n_new; ) {
    const end = start + ids.length;
    const outputs = await session.run({
      input_ids: int64(ids),
      attention_mask: int64(Array(end).fill(1)),
      position_ids: int64(ids.map((_, n) => start + n)),
      ...past,
    });
    const last = outputs.logits.data.slice(-vocab_size);
    ids = [last.indexOf(last.reduce((a, b) => Math.max(a, b)))];
    chosen.push(...ids);
    start = end;
    for (const name in past) past[name] = outputs[name.replace("past_key_values", "present")];
  }
  found.push({ new: chosen });
}
console.log(JSON.stringify(found));
