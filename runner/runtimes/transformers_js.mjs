// Generates with transformers.js: a folder and the format of its graphs. Each line on stdin is a
// batch, {prompts: [ids], n_new}, answered by a line {new: [ids]}. Packages are those of the current
// folder. Rows are padded on the left, and end with end-of-text where they meet one.
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.cwd(), "here"));
const { AutoModelForCausalLM, Tensor, env } = require("@huggingface/transformers");
const [folder, dtype] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), { dtype });
const int64 = (rows) =>
  new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
for await (const line of createInterface({ input: process.stdin })) {
  const { prompts, n_new } = JSON.parse(line);
  const width = Math.max(...prompts.map((ids) => ids.length));
  const padded = (ids, filler, value) => [
    ...Array(width - ids.length).fill(filler),
    ...ids.map(value),
  ];
  const output = await model.generate({
    inputs: int64(prompts.map((ids) => padded(ids, 0, (id) => id))),
    attention_mask: int64(prompts.map((ids) => padded(ids, 0, () => 1))),
    max_new_tokens: n_new,
    do_sample: false,
  });
  console.log(JSON.stringify({ new: output.tolist().map((row) => row.slice(width).map(Number)) }));
}
