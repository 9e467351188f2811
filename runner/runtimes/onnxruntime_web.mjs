// Runs a model in onnxruntime-web (WebAssembly): its file, then those of its weights. Each line on
// stdin is a call, {feeds: {name: {type, dims, file}}, outputs, folder}, answered by a line
// {name: {type, dims, file}}. Packages are those of the current folder.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";

const ort = createRequire(join(process.cwd(), "here"))("onnxruntime-web");
const ARRAYS = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array };
const bytes = (file) => new Uint8Array(readFileSync(file));
const [model, ...weights] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(bytes(model), {
  externalData: weights.map((file) => ({ path: basename(file), data: bytes(file) })),
});
for await (const line of createInterface({ input: process.stdin })) {
  const { feeds, outputs, folder } = JSON.parse(line);
  const tensors = {};
  for (const [name, { type, dims, file }] of Object.entries(feeds))
    tensors[name] = new ort.Tensor(type, new ARRAYS[type](bytes(file).buffer), dims);
  const found = await session.run(tensors, outputs);
  const answer = {};
  for (const [n, name] of outputs.entries()) {
    const { type, dims, data } = found[name];
    const file = join(folder, `out_${n}`);
    writeFileSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    answer[name] = { type, dims, file };
  }
  console.log(JSON.stringify(answer));
}
