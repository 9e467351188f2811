// Loads an exported folder, model/, with transformers.js, and completes what is typed.
const MODEL = "model";
const SUFFIXES = { fp32: "", fp16: "_fp16", q8: "_quantized" }; // of files, by number format
const LIBRARY = "./node_modules/@huggingface/transformers/dist/transformers.min.js";
const RUNTIME = "./node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const { format } = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** An error in words; what stands between backticks is code. */
function show(error) {
  console.error(error);
  const parts = error.message.split("`").map((part, n) => {
    if (n % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
  page.error.replaceChildren(...parts);
  page.error.hidden = false;
  page.error.scrollIntoView({ block: "nearest" });
}

async function look(name, method) {
  const answer = await fetch(`${MODEL}/${name}`, { method });
  if (answer.ok) return answer;
  throw new Error(
    `${MODEL}/${name}: ${answer.status} ${answer.statusText}; expected an exported model. ` +
      `Run \`runner export demo examples/web/${MODEL}\`, then load this page again.`,
  );
}

/** Files are looked for first: without the weights transformers.js waits for ever. */
async function readConfig() {
  const config = await (await look("config.json", "GET")).json();
  const graph = `onnx/model${SUFFIXES[config["transformers.js_config"].dtype]}.onnx`;
  for (const name of ["tokenizer.json", graph, `${graph}_data`]) await look(name, "HEAD");
  return config;
}

async function importLibrary() {
  const library = await import(LIBRARY).catch((error) => {
    throw new Error(
      `transformers.js: ${error.message}; expected the version that package.json names. ` +
        "Run `npm install --ignore-scripts` in examples/web, then load this page again.",
    );
  });
  const { env } = library;
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  env.localModelPath = "./";
  env.useBrowserCache = false; // its keys are paths: another export would not be seen
  const path = (suffix) => new URL(RUNTIME + suffix, import.meta.url).href;
  Object.assign(env.backends.onnx.wasm, {
    wasmPaths: { mjs: path(".mjs"), wasm: path(".wasm") },
    numThreads: 1, // more need headers that a plain server does not send
    proxy: true, // a worker computes, so the page is drawn between tokens
  });
  return library;
}

async function load() {
  const config = await readConfig();
  const library = await importLibrary();
  const tokenizer = await library.AutoTokenizer.from_pretrained(MODEL);
  const model = await library.AutoModelForCausalLM.from_pretrained(MODEL);
  return { config, tokenizer, model, library };
}

/** Token ids of the prompt; an empty one starts from end-of-text. */
function encode({ tokenizer }) {
  return tokenizer(page.prompt.value || (tokenizer.eos_token ?? ""));
}

function countTokens(loaded) {
  const n = encode(loaded).input_ids.dims[1];
  page.count.textContent = `${n} of at most ${loaded.config.n_ctx - 1} tokens`;
  page.count.classList.toggle("over", n >= loaded.config.n_ctx);
}

async function complete(loaded, stopping) {
  const { config, tokenizer, model, library } = loaded;
  const started = performance.now();
  const inputs = encode(loaded);
  const n = inputs.input_ids.dims[1];
  if (n === 0) throw new Error("Prompt: no tokens; expected at least one. Type a beginning.");
  if (n >= config.n_ctx) {
    throw new Error(
      `Prompt: ${n} tokens; expected at most ${config.n_ctx - 1}, so that one can follow within ` +
        `the model's context of ${config.n_ctx}. Shorten the prompt.`,
    );
  }
  const room = config.n_ctx - n;
  const limit = Number(page.limit.value);
  const ids = [];
  let first, last;
  let ended = limit < room ? "the limit" : "the end of the context";
  page.said.textContent = page.prompt.value;
  const streamer = new library.TextStreamer(tokenizer, {
    skip_prompt: true,
    callback_function: () => {}, // holds a word back until the next one; each token is shown here
    token_callback_function: ([id]) => {
      last = performance.now();
      first ??= last;
      if (Number(id) === config.eos_token_id) ended = "end-of-text";
      else ids.push(id);
      const n_steps = ids.length + (ended === "end-of-text");
      page.completion.textContent = decode(tokenizer, ids);
      page.tokens.textContent = ids.length;
      page.first.textContent = `${format(first - started)} ms`;
      if (last > first) page.rate.textContent = format((1000 * (n_steps - 1)) / (last - first));
    },
  });
  await model.generate({
    ...inputs,
    max_new_tokens: Math.min(limit, room),
    streamer,
    stopping_criteria: stopping,
  });
  page.reason.textContent = stopping.interrupted ? "Stop" : ended;
}

/** Text as it is: no space goes missing, and half a character waits for its other half. */
function decode(tokenizer, ids) {
  if (ids.length === 0) return "";
  const text = tokenizer.decode(ids, { clean_up_tokenization_spaces: false });
  return text.replace(/\uFFFD+$/, "");
}

function running(yes) {
  page.completion.setAttribute("aria-busy", yes);
  page.complete.ariaDisabled = yes; // not disabled: it would lose the focus
  page.stop.ariaDisabled = !yes;
}

async function main() {
  const loaded = await load();
  const { config, library } = loaded;
  const stopping = new library.InterruptableStoppingCriteria();
  page.limit.max = config.n_ctx - 1;
  page.limit.value = Math.min(page.limit.value, page.limit.max);
  page.about.textContent =
    `GPT-2 with ${config.n_layer} blocks of ${config.n_head} heads, ${config.n_embd} numbers ` +
    `wide, for ${config.vocab_size.toLocaleString("en")} tokens and a context of ${config.n_ctx}.`;
  page.form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (page.complete.ariaDisabled === "true") return;
    page.error.hidden = true;
    page.completion.textContent = page.said.textContent = "";
    for (const name of ["tokens", "first", "rate", "reason"]) page[name].textContent = "–";
    stopping.reset();
    running(true);
    await complete(loaded, stopping).catch(show);
    running(false);
  });
  page.stop.addEventListener("click", () => stopping.interrupt());
  page.prompt.addEventListener("input", () => countTokens(loaded));
  page.prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    page.form.requestSubmit();
  });
  for (const button of document.querySelectorAll(".example")) {
    button.addEventListener("click", () => {
      page.prompt.value = button.innerText; // as it is shown, in one line
      countTokens(loaded);
      page.prompt.focus();
    });
  }
  countTokens(loaded);
  page.complete.disabled = page.stop.disabled = false;
  running(false);
}

main()
  .catch((error) => {
    page.about.textContent = "No model is loaded.";
    show(error);
  })
  .finally(() => page.progress.remove());
