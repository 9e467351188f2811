// transformers.js: FOLDER, then on stdin [{text, n_new}] -> on stdout [{ids, new}]. Stops at
// end-of-text.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { AutoModelForCausalLM, AutoTokenizer, env } from "@huggingface/transformers";

const folder = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), { dtype: "fp32" });
const found = [];
for (const { text, n_new } of JSON.parse(readFileSync(0, "utf8"))) {
  const inputs = tokenizer(text);
  const ids = Array.from(inputs.input_ids.data, Number);
  const output = await model.generate({ ...inputs, max_new_tokens: n_new, do_sample: false });
  found.push({ ids, new: output.tolist()[0].slice(ids.length).map(Number) });
}
console.log(JSON.stringify(found));
