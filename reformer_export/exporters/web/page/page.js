// @ts-check
/** The page: shows what the model in the worker computes. */

import { Description } from "./model.js";
import { openCodec } from "./text.js";

const SHOWN = 10; // tokens
const PAUSE = 120; // ms without a key before the text is read

/** @param {string} id @returns {any} The element. */
const element = (id) => document.getElementById(id);

const text = element("text");
const status = element("status");
const generated = element("generated");

/** @type {Description} */ let description;
/** @type {import("./text.js").Codec} */ let codec;
/** @type {Model} */ let model;

/** The model in its worker. One call runs at a time; the others wait. */
class Model {
  #worker = new Worker("worker.js", { type: "module" });
  /** @type {string | null} Why the model takes no more calls. */ #closed = null;
  #queue = Promise.resolve();
  #count = 0;
  /** @type {Map<number, { done: (result: any) => void, failed: (error: Error) => void,
   *                       onProgress: (progress: any) => void }>} */
  #calls = new Map();

  constructor() {
    this.#worker.onmessage = ({ data: { id, progress, result, error } }) => {
      const call = this.#calls.get(id);
      if (call === undefined) return;
      if (progress !== undefined) return call.onProgress(progress);
      this.#calls.delete(id);
      error === undefined ? call.done(result) : call.failed(new Error(error));
    };
    this.#worker.onerror = ({ message }) => this.close(message);
  }

  /** @param {string} call @param {any[]} args @param {(progress: any) => void} [onProgress] */
  call(call, args, onProgress = () => {}) {
    const answer = this.#queue.then(
      () => new Promise((done, failed) => {
        if (this.#closed !== null) throw new Error(this.#closed);
        this.#count += 1;
        this.#calls.set(this.#count, { done, failed, onProgress });
        this.#worker.postMessage({ id: this.#count, call, args });
      }),
    );
    this.#queue = answer.catch(() => {});
    return answer;
  }

  /** End the running call early; it returns what it has. */
  stop() {
    for (const id of this.#calls.keys()) this.#worker.postMessage({ stop: id });
  }

  close(reason = "The engine was changed.") {
    this.#closed = reason;
    this.#worker.terminate();
    for (const { failed } of this.#calls.values()) failed(new Error(reason));
    this.#calls.clear();
  }
}

/** @param {string} message @param {boolean} [wrong] */
function say(message, wrong = false) {
  status.textContent = message;
  status.classList.toggle("wrong", wrong);
}

/** @param {number} ms */
function seconds(ms) {
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** @param {number} tokens @param {number} ms */
const rate = (tokens, ms) => `${Math.round((tokens * 1000) / ms).toLocaleString("en")} tokens/s`;

/** @type {Map<string, string>} */ const times = new Map();

/** Show times in the table; the names keep their first order. @param {[string, string][]} rows */
function showTimes(...rows) {
  for (const [name, time] of rows) times.set(name, time);
  element("times").replaceChildren(
    ...Array.from(times, ([name, time]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      row.insertCell().textContent = time;
      return row;
    }),
  );
}

/** Do something with the model and show its error, unless another model has taken its place.
 * @param {() => Promise<void>} job */
async function attempt(job) {
  const current = model;
  try {
    await job();
  } catch (error) {
    if (model === current) say(error instanceof Error ? error.message : String(error), true);
  }
}

/** The same with a button that stops it. @param {() => Promise<void>} job */
async function run(job) {
  element("stop").disabled = false;
  await attempt(job);
  element("stop").disabled = true;
}

let encoded = { text: "", tokens: /** @type {number[]} */ ([]) };

/** The tokens of the text. */
function allTokens() {
  if (encoded.text !== text.value) {
    encoded = { text: text.value, tokens: codec.encode(new TextEncoder().encode(text.value)) };
  }
  return encoded.tokens;
}

/** The same, at most as many as the model takes: the last ones. */
function tokens() {
  return allTokens().slice(-description.maxLength);
}

// ---- the next token

let reading = false;
let changed = false;
let timer = 0;

function textChanged() {
  const count = allTokens().length;
  const { unit } = codec;
  const [shown, most] = [count, description.maxLength].map((n) => n.toLocaleString("en"));
  element("count").textContent =
    count > description.maxLength ? `${shown} ${unit}; the last ${most} are read` : `${shown} of ${most} ${unit}`;
  clearTimeout(timer);
  timer = setTimeout(readText, PAUSE);
}

/** Show the likeliest tokens; if the text changes meanwhile, once more. */
async function readText() {
  changed = true;
  if (reading) return;
  reading = true;
  element("next").setAttribute("aria-busy", "true");
  while (changed) {
    changed = false;
    await attempt(async () => {
      const ids = tokens();
      if (ids.length === 0) return element("next").replaceChildren();
      const position = description.task === "fill-mask" ? Number(element("position").value) : Infinity;
      const { time, top } = await model.call("predict", [ids, position, SHOWN]);
      showNext(ids, top);
      element("next-time").textContent = seconds(time);
      showTimes(["Reading the text", `${seconds(time)}, ${rate(ids.length, time)}`]);
    });
  }
  reading = false;
  element("next").setAttribute("aria-busy", "false");
}

/** @param {number[]} prompt @param {{ token: number, share: number }[]} top */
function showNext(prompt, top) {
  const longest = Math.max(...top.map(({ token }) => codec.show(token)[0].length));
  element("next").style.setProperty("--sign", `${Math.max(longest, 2) + 1}ch`);
  element("next").replaceChildren(
    ...top.map(({ token, share }) => {
      const [sign, name] = codec.show(token);
      const percent = `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
      const button = document.createElement("button");
      button.type = "button";
      button.style.setProperty("--share", String(share));
      button.title = name;
      button.setAttribute("aria-label", `${name || sign}, ${percent}`);
      for (const [kind, content] of [["token", sign], ["bar", ""], ["share", percent]]) {
        const part = document.createElement("span");
        part.className = kind;
        part.textContent = content;
        button.append(part);
      }
      const typed = codec.typed(prompt, token);
      button.disabled = typed === "" || description.task !== "text-generation";
      button.onclick = () => {
        text.value += typed;
        textChanged();
      };
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

// ---- the continuation

let continuation = "";

/** @param {Event} event */
function continueText(event) {
  event.preventDefault();
  const prompt = tokens();
  if (prompt.length === 0) return say("Type at least one character first.", true);
  const number = (/** @type {string} */ id) => Number(element(id).value);
  const settings = {
    maxNewTokens: number("max-new-tokens"),
    temperature: number("temperature"),
    topK: number("top-k"),
    seed: number("seed"),
  };
  const read = codec.stream(prompt);
  const given = document.createElement("span");
  given.className = "given";
  given.textContent = text.value.slice(-200);
  const added = document.createTextNode("");
  continuation = "";
  generated.replaceChildren(given, added);
  generated.hidden = element("generated-title").hidden = false;
  generated.scrollIntoView({ block: "nearest" });
  say("Continuing the text");
  element("continue").disabled = true;
  run(async () => {
    const { count, first, later, times } = await model.call("generate", [prompt, settings], ({ token }) => {
      const follows = generated.scrollHeight - generated.scrollTop - generated.clientHeight < 40;
      added.data = continuation += read.add(token);
      if (follows) generated.scrollTop = generated.scrollHeight;
    });
    added.data = continuation += read.end();
    showTimes(
      ...loadTimes(times),
      ["First new token", `${seconds(first)}, ${rate(prompt.length, first)}`],
    );
    if (later !== null) showTimes(["Each new token", `${seconds(later)}, ${rate(1, later)}`]);
    say(`${count} new tokens: ${continuation.slice(0, 200)}`);
  }).finally(() => {
    element("continue").disabled = false;
    element("keep").disabled = continuation === "";
  });
}

function keepContinuation() {
  text.value += continuation;
  continuation = "";
  element("keep").disabled = true;
  generated.hidden = element("generated-title").hidden = true;
  text.focus();
  textChanged();
}

// ---- files

/** @param {File} file */
async function measureFile(file) {
  const result = element("file-result");
  const progress = element("file-progress");
  const data = new Uint8Array(await file.arrayBuffer());
  if (data.length === 0) return say(`${file.name} is empty.`, true);
  result.textContent = "";
  progress.hidden = false;
  say(`Reading ${file.name}`);
  await run(async () => {
    const ids = codec.encode(data);
    const show = (/** @type {{ counted: number }} */ { counted }) => (progress.value = counted / ids.length);
    const { bits, counted, time } = await model.call("measure", [Uint32Array.from(ids)], show);
    const all = counted === ids.length;
    // Where a token ends in the file is not known, unless tokens are bytes.
    const bytes = Math.round((data.length * counted) / ids.length);
    const share = document.createElement("strong");
    share.textContent = (bits / bytes).toFixed(3);
    const about = all ? "all" : codec.unit === "bytes" ? "the first" : "about the first";
    result.replaceChildren(share, ` bits per byte of ${about} ${bytes.toLocaleString("en")} bytes of ${file.name}`);
    if (!codec.holds(data)) {
      result.append(". The tokens do not hold this text exactly (spaces, line breaks, unknown characters), so this is too low.");
    }
    showTimes(["Reading the file", `${seconds(time)}, ${rate(counted, time)}`]);
    say("Ready");
  });
  progress.hidden = true;
}

/** Let an element take dropped files. @param {HTMLElement} target
 * @param {(file: File) => void} take */
function acceptDrops(target, take) {
  const over = (/** @type {DragEvent} */ event, /** @type {boolean} */ inside) => {
    event.preventDefault();
    target.classList.toggle("over", inside);
  };
  target.addEventListener("dragover", (event) => over(event, true));
  target.addEventListener("dragleave", (event) => over(event, false));
  target.addEventListener("drop", (event) => {
    over(event, false);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
}

// ---- the engine

/** @param {{ download: number, open: number }} times */
function loadTimes({ download, open }) {
  /** @type {[string, string][]} */
  const rows = [["Download", seconds(download)], ["Opening the model", seconds(open)]];
  return rows;
}

/** Why an engine cannot run here; null if it can. @param {string} engine */
async function missing(engine) {
  if (engine === "wasm") return null;
  if (!description.engines.includes("webgpu")) {
    return "This page was made without WebGPU (to-web --webgpu adds it).";
  }
  if (!("gpu" in navigator)) return "This browser has no WebGPU, or the page is not secure (https or localhost).";
  if (!("Suspending" in WebAssembly)) return "This browser has no JavaScript Promise Integration, which WebGPU needs here.";
  const gpu = /** @type {any} */ (navigator).gpu;
  return (await gpu.requestAdapter()) ? null : "This browser found no GPU that it can use.";
}

/** @param {string} engine */
async function openModel(engine) {
  model?.close();
  model = new Model();
  times.clear();
  const size = description.modelFiles.reduce((sum, name) => sum + description.files[name].bytes, 0);
  const megabytes = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);
  say("Loading ONNX Runtime");
  await attempt(async () => {
    const threads = new URLSearchParams(location.search).get("threads");
    const opened = await model.call("open", [engine, threads ? Number(threads) : undefined], ({ bytes }) =>
      say(`Loading the model: ${megabytes(bytes)} of ${megabytes(size)} MB`));
    const place = engine === "webgpu" ? "WebGPU" : `WebAssembly, ${opened.threads} thread${opened.threads === 1 ? "" : "s"}`;
    showTimes(["Engine", place], ...loadTimes(opened.times));
    say("Ready");
    document.body.dataset.ready = engine;
    await readText();
  });
}

async function start() {
  description = await Description.read();
  codec = await openCodec(description);
  const { title, task, canGenerate, hasAllLogits } = description;
  document.title = title;
  element("title").textContent = title;
  if (!codec.isText) {
    text.value = "";
    element("text-title").firstChild.textContent = "Token ids";
    element("text-hint").textContent = "Type numbers with spaces between: this page does not have the model's tokenizer.";
  }
  if (task === "fill-mask") {
    element("next-title").textContent = "Token at the position";
    element("next-hint").hidden = true;
    element("position-field").hidden = false;
    element("position").oninput = textChanged;
  }
  element("generation").hidden = !canGenerate;
  element("file-card").hidden = !codec.isText || task !== "text-generation" || !hasAllLogits;
  element("generation").onsubmit = continueText;
  element("keep").onclick = keepContinuation;
  element("stop").onclick = () => model.stop();
  element("file").onchange = (/** @type {any} */ { target }) => {
    if (target.files[0]) measureFile(target.files[0]);
    target.value = "";
  };
  acceptDrops(element("drop"), measureFile);
  acceptDrops(text, async (file) => {
    text.value = await file.text();
    textChanged();
  });
  text.oninput = textChanged;
  const radios = /** @type {any} */ (element("engine-form")).elements.engine;
  const reason = await missing("webgpu");
  radios[1].disabled = reason !== null;
  element("engine-hint").textContent = reason ?? "";
  for (const radio of radios) radio.onchange = () => openModel(radio.value);
  textChanged();
  clearTimeout(timer); // the text is read when the model is open
  await openModel("wasm");
}

start().catch((error) => say(error.message, true));
