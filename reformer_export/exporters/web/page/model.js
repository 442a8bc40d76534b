// @ts-check
/**
 * Runs an artifact's language model in the browser with ONNX Runtime Web. It uses no part of the
 * document, so it works in a page, in a worker and under node.
 *
 * The numbers are those of `reformer_export.open_runner` and `open_generator` with portable
 * operators. Sampling with a temperature uses other random numbers than Python.
 */

const MANIFEST = "manifest.json";
const LARGEST_WINDOW = 4096; // tokens; for `measure`

/** The scripts of ONNX Runtime Web by engine. */
const RUNTIMES = { wasm: "./ort.wasm.min.mjs", webgpu: "./ort.jspi.min.mjs" };

/**
 * @typedef {"wasm" | "webgpu"} Engine
 * @typedef {readonly number[] | Uint32Array} Tokens
 * @typedef {{ logits: Float32Array, shape: readonly number[] }} Prediction
 * @typedef {{ maxNewTokens: number, temperature: number, topK: number, seed: number,
 *             stop?: readonly number[] }} Settings
 *   A temperature of 0 chooses the likeliest token; a topK of 0 keeps all tokens.
 */

/** What the page knows about the model, from the artifact's manifest. */
export class Description {
  /** @param {any} manifest */
  constructor(manifest) {
    const web = manifest.formats.web.details;
    /** @type {string} */ this.title = web.title;
    /** @type {string} */ this.task = manifest.task;
    /** @type {string} */ this.dtype = manifest.dtype;
    /** @type {number} */ this.vocabSize = manifest.signature.vocab_size;
    /** @type {number} */ this.maxLength = manifest.signature.max_length;
    /** @type {number | null} The id of byte 0; null if the tokens are not bytes. */
    this.byteOffset = web.byte_offset;
    /** @type {string | null} The file of the model's tokenizer; null if the page has none. */
    this.tokenizerFile = web.tokenizer;
    /** @type {number[]} Ids that end a text. */ this.stop = web.stop;
    /** @type {Engine[]} */ this.engines = web.engines;
    this.canGenerate = "decoder" in manifest.formats;
    const logits = manifest.signature.outputs.find((/** @type {any} */ o) => o.name === "logits");
    /** False if the model returns only the logits of the last token. */
    this.hasAllLogits = logits.axes[1] !== 1;
    /** @type {Record<string, { bytes: number }>} */ this.files = manifest.files;
    /** @type {string[]} */ this.modelFiles = manifest.formats.onnx.files;
    /** @type {string[]} */ this.decoderFiles = manifest.formats.decoder?.files ?? [];
  }

  /** @returns {Promise<Description>} The description of the model beside this script. */
  static async read() {
    return new Description(JSON.parse(new TextDecoder().decode(await load(MANIFEST))));
  }
}

/** A language model that is ready to run. Sessions are opened when they are first needed. */
export class LanguageModel {
  /** @type {Map<string, Promise<Uint8Array>>} */ #files = new Map();
  /** @type {Map<string, Promise<any>>} */ #sessions = new Map();
  /** @type {any} */ #ort;
  /** @type {(loaded: number) => void} */ #onBytes;

  /**
   * @param {Description} description
   * @param {Engine} engine
   * @param {any} ort The module of ONNX Runtime Web.
   * @param {(bytes: number) => void} onBytes
   */
  constructor(description, engine, ort, onBytes) {
    this.description = description;
    this.engine = engine;
    this.#ort = ort;
    this.#onBytes = onBytes;
    /** Milliseconds that downloads and opening sessions have taken. */
    this.times = { download: 0, open: 0 };
  }

  /**
   * Load ONNX Runtime and the model.
   * @param {Engine} engine
   * @param {{ threads?: number, onBytes?: (bytes: number) => void }} [options] `threads` of the
   *   processor, several only if the page is isolated from other origins; `onBytes` receives the
   *   size of each piece of the model that arrives.
   */
  static async open(engine, { threads = usualThreads(), onBytes = () => {} } = {}) {
    const description = await Description.read();
    const ort = await import(RUNTIMES[engine]);
    ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    const model = new LanguageModel(description, engine, ort, onBytes);
    await model.#session(description.modelFiles[0]);
    return model;
  }

  /** The number of threads. */
  get threads() {
    return this.#ort.env.wasm.numThreads;
  }

  /**
   * Run the model.
   * @param {Tokens} ids `batch` sequences of the same length, one after another.
   * @param {{ batch?: number, mask?: Tokens }} [options] `mask` is 1 for a token and 0
   *   for padding, by default all 1.
   * @returns {Promise<Prediction>} Logits `[batch, length or 1, vocab_size]`.
   */
  async predict(ids, { batch = 1, mask = ids.map(() => 1) } = {}) {
    const length = ids.length / batch;
    const { maxLength, vocabSize } = this.description;
    if (!(length >= 1 && length <= maxLength)) {
      throw new Error(`A sequence of ${length} tokens: the model takes 1 to ${maxLength}.`);
    }
    const unknown = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (unknown !== undefined) {
      throw new Error(`The token ${unknown} is not in the vocabulary 0..${vocabSize - 1}.`);
    }
    const session = await this.#session(this.description.modelFiles[0]);
    const outputs = await session.run({
      input_ids: this.#integers(ids, [batch, length]),
      attention_mask: this.#integers(mask, [batch, length]),
    });
    return { logits: floats(outputs.logits), shape: outputs.logits.dims };
  }

  /**
   * Continue a text, token by token.
   * @param {Tokens} prompt
   * @param {Settings} settings
   * @returns {AsyncGenerator<number>} The new tokens, with the one that ends the text.
   */
  async *generate(prompt, { maxNewTokens, temperature, topK, seed, stop = this.description.stop }) {
    const { maxLength, vocabSize, decoderFiles } = this.description;
    const [prefillFile, stepFile] = decoderFiles;
    const [prefill, step] = [await this.#session(prefillFile), await this.#session(stepFile)];
    const random = randomNumbers(seed);
    const capacity = Math.min(prompt.length + maxNewTokens - 1, maxLength);
    let outputs = await prefill.run({ input_ids: this.#integers(prompt, [1, prompt.length]) });
    let past = this.#enlarged(outputs, step.inputMetadata, capacity);
    for (let count = 1, length = prompt.length; ; count += 1, length += 1) {
      const scores = floats(outputs.logits).slice(-vocabSize);
      const token = choose(scores, { temperature, topK, random });
      yield token;
      if (count >= maxNewTokens || stop.includes(token)) return;
      if (length >= maxLength) {
        throw new Error(`The model takes ${maxLength} tokens, the text among them.`);
      }
      outputs = await step.run({
        input_ids: this.#integers([token], [1, 1]),
        past_length: this.#integers([length], [1]),
        prompt_length: this.#integers([prompt.length], [1]),
        ...past,
      });
      past = {};
      for (const name in outputs) {
        if (name.startsWith("present_")) past[name.replace("present_", "past_")] = outputs[name];
      }
    }
  }

  /**
   * Measure how well the model predicts a text: yields the sum of -log2(probability of the actual
   * token) so far, and the number of tokens that it is about.
   *
   * The model reads windows. Each window starts half a window after the previous one, and only its
   * second half counts; the first half is its context. The first window counts completely. The
   * first token has no context and costs log2(vocabulary) bits.
   * @param {Tokens} ids
   */
  async *measure(ids) {
    const { maxLength, vocabSize } = this.description;
    const window = Math.min(maxLength, LARGEST_WINDOW, ids.length);
    const last = ids.length - window; // the last window ends where the text ends
    let bits = Math.log2(vocabSize);
    let counted = 1;
    for (let start = 0; counted < ids.length; start += Math.max(window >> 1, 1)) {
      start = Math.min(start, last);
      const { logits } = await this.predict(ids.slice(start, start + window));
      for (let place = counted; place < start + window; place += 1) {
        const row = place - 1 - start;
        const scores = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
        bits += cost(scores, ids[place]);
      }
      counted = start + window;
      yield { bits, counted };
    }
    if (ids.length === 1) yield { bits, counted };
  }

  /** Copies of a prompt's cache with room for `capacity` tokens: the inputs `past_*` of a step.
   * @param {Record<string, any>} outputs
   * @param {readonly any[]} inputs
   * @param {number} capacity
   */
  #enlarged(outputs, inputs, capacity) {
    /** @type {Record<string, any>} */ const past = {};
    for (const { name, shape } of inputs) {
      const present = outputs[name.replace("past_", "present_")];
      if (name === "past_length" || present === undefined) continue;
      const axis = shape.findIndex((/** @type {unknown} */ size) => size === "capacity" || size === "blocks");
      if (axis < 0) {
        past[name] = present;
        continue;
      }
      // An order tensor has blocks of a fixed length, which is its last axis.
      const size = shape[axis] === "capacity" ? capacity : blocks(inputs, capacity);
      const dims = present.dims.with(axis, size);
      const outer = product(present.dims.slice(0, axis));
      const [from, to] = [product(present.dims.slice(axis)), product(dims.slice(axis))];
      const data = new present.data.constructor(outer * to);
      for (let i = 0; i < outer; i += 1) {
        data.set(present.data.subarray(i * from, (i + 1) * from), i * to);
      }
      past[name] = new this.#ort.Tensor(present.type, data, dims);
    }
    return past;
  }

  /** @param {Tokens} values @param {number[]} shape */
  #integers(values, shape) {
    return new this.#ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  }

  /** @param {string} name @returns {Promise<any>} */
  #session(name) {
    const known = this.#sessions.get(name) ?? this.#open(name);
    this.#sessions.set(name, known);
    return known;
  }

  /** @param {string} name */
  async #open(name) {
    const weights = this.description.modelFiles[1];
    let start = performance.now();
    const [model, data] = await Promise.all([this.#file(name), this.#file(weights)]);
    this.times.download += performance.now() - start;
    start = performance.now();
    const session = await this.#ort.InferenceSession.create(model, {
      executionProviders: [this.engine],
      externalData: [{ path: weights, data }],
      logSeverityLevel: 3, // errors
    });
    this.times.open += performance.now() - start;
    return session;
  }

  /** @param {string} name */
  #file(name) {
    const known = this.#files.get(name) ?? load(name, this.#onBytes);
    this.#files.set(name, known);
    return known;
  }
}

/** The probabilities of all tokens. @param {Float32Array} scores Logits of one position. */
export function probabilities(scores) {
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Float64Array.from(scores, (score) => Math.exp(score - highest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** As many threads as ONNX Runtime chooses: half of the processor's, at most 4. */
export function usualThreads() {
  if (!globalThis.crossOriginIsolated) return 1;
  return Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2));
}

/** @param {Float32Array} scores
 * @param {{ temperature: number, topK: number, random: () => number }} settings */
function choose(scores, { temperature, topK, random }) {
  if (temperature === 0) return scores.indexOf(scores.reduce((a, b) => Math.max(a, b), -Infinity));
  const scaled = scores.map((score) => score / temperature);
  if (topK > 0 && topK < scaled.length) {
    const least = scaled.toSorted()[scaled.length - topK];
    scaled.forEach((score, i) => { if (score < least) scaled[i] = -Infinity; });
  }
  const share = probabilities(scaled);
  let rest = random();
  for (let token = 0; token < share.length; token += 1) {
    rest -= share[token];
    if (rest < 0) return token;
  }
  return share.findLastIndex((each) => each > 0); // the shares sum to a little less than 1
}

/** -log2 of the probability of a token. @param {Float32Array} scores @param {number} token */
function cost(scores, token) {
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = scores.reduce((total, score) => total + Math.exp(score - highest), 0);
  return (Math.log(sum) + highest - scores[token]) / Math.LN2;
}

/** Random numbers from 0 to 1, the same for the same seed (splitmix32). @param {number} seed */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** The number of blocks that an order tensor has for `capacity` tokens.
 * @param {readonly any[]} inputs @param {number} capacity */
function blocks(inputs, capacity) {
  const order = inputs.find(({ shape }) => shape.at(-2) === "blocks");
  return Math.ceil(capacity / order.shape.at(-1));
}

/** @param {readonly number[]} sizes */
function product(sizes) {
  return sizes.reduce((a, b) => a * b, 1);
}

/** A float tensor's values in fp32. @param {any} tensor @returns {Float32Array} */
function floats(tensor) {
  return tensor.data instanceof Float32Array ? tensor.data : Float32Array.from(tensor.data);
}

/** The bytes of a file beside this script.
 * @param {string} name
 * @param {(bytes: number) => void} [onBytes] receives the size of each piece that arrives.
 */
export async function load(name, onBytes = () => {}) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok || response.body === null) {
    throw new Error(`${name} is missing on the server (status ${response.status}).`);
  }
  const pieces = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    onBytes(value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
