// @ts-check
/**
 * Runs the model beside the page, so that the page never freezes. The page sends
 * `{ id, call, args }` and receives `{ id, progress }` any number of times, then `{ id, result }` or
 * `{ id, error }`. `{ stop: id }` ends a call early.
 */

import { LanguageModel, probabilities } from "./model.js";

/** @type {LanguageModel} */ let model;
/** @type {Set<number>} */ const stopped = new Set();

/** @typedef {(progress: any) => Promise<boolean>} Report  Resolves to false after a stop. */

/** @type {Record<string, (report: Report, ...args: any[]) => Promise<any>>} */
const CALLS = {
  async open(report, engine, threads) {
    let bytes = 0;
    model = await LanguageModel.open(engine, {
      threads,
      onBytes: (more) => report({ bytes: (bytes += more) }),
    });
    return { times: model.times, threads: model.threads };
  },

  /** The likeliest tokens at a position, and the time. */
  async predict(report, ids, position, count) {
    const start = performance.now();
    const { logits, shape } = await model.predict(ids);
    const time = performance.now() - start;
    const [, rows, width] = shape;
    const row = Math.min(position, rows - 1);
    const share = probabilities(logits.subarray(row * width, (row + 1) * width));
    const tokens = Array.from(share.keys()).sort((a, b) => share[b] - share[a]);
    return { time, top: tokens.slice(0, count).map((token) => ({ token, share: share[token] })) };
  },

  /** Reports each new token; the result is the time of the first one and of each later one. */
  async generate(report, prompt, settings) {
    let first = 0;
    let count = 0;
    const open = model.times.download + model.times.open;
    const start = performance.now();
    for await (const token of model.generate(prompt, settings)) {
      // The first token of all waits until the decoder's graphs are loaded; this is not its time.
      first ||= performance.now() - start - (model.times.download + model.times.open - open);
      count += 1;
      if (!(await report({ token }))) break;
    }
    const all = performance.now() - start - (model.times.download + model.times.open - open);
    return { count, first, later: count > 1 ? (all - first) / (count - 1) : null, times: model.times };
  },

  /** Reports the bits so far; the result is the last report, and the time. */
  async measure(report, ids) {
    const start = performance.now();
    let last = { bits: 0, counted: 0 };
    for await (last of model.measure(ids)) if (!(await report(last))) break;
    return { ...last, time: performance.now() - start };
  },
};

onmessage = async ({ data: { id, call, args, stop } }) => {
  if (stop !== undefined) {
    stopped.add(stop);
    return;
  }
  const report = async (/** @type {any} */ progress) => {
    postMessage({ id, progress });
    await nextTask(); // a message to stop is a task of its own
    return !stopped.has(id);
  };
  try {
    postMessage({ id, result: await CALLS[call](report, ...args) });
  } catch (error) {
    postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  } finally {
    stopped.delete(id);
  }
};

const { port1, port2 } = new MessageChannel();
port1.start();

/** Let the browser deliver messages that have arrived. */
function nextTask() {
  return new Promise((resolve) => {
    port1.addEventListener("message", resolve, { once: true });
    port2.postMessage(null);
  });
}
