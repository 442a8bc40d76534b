// @ts-check
/**
 * Text to token ids and back, with the results of `reformer_export.inference.text`. It uses no part
 * of the document.
 */

import { load } from "./model.js";
import { Tokenizer } from "./tokenizer.js";

/**
 * @typedef {object} Codec
 * @property {boolean} isText False if the user must write token ids.
 * @property {string} unit What a token is, in the plural.
 * @property {(data: Uint8Array) => number[]} encode The tokens of a text in UTF-8. Byte models take
 *   any bytes; for others, an Error is thrown if the text is not UTF-8.
 * @property {(data: Uint8Array) => boolean} holds True if the tokens of a text give the same text again.
 * @property {(token: number) => [string, string]} show A sign for the token, and its name.
 * @property {(prompt: readonly number[], token: number) => string} typed The text to write for this
 *   token after a prompt; empty if there is none.
 * @property {(prompt: readonly number[]) => TextStream} stream Converts the tokens after a prompt.
 *
 * @typedef {{ add: (token: number) => string, end: () => string }} TextStream
 *   `add` gives the text that a token completes; `end` the rest, for an incomplete character.
 */

/** The codec of a model. @param {import("./model.js").Description} description */
export async function openCodec({ byteOffset, tokenizerFile }) {
  if (byteOffset !== null) return byteCodec(byteOffset);
  if (tokenizerFile === null) return numberCodec;
  return pieceCodec(new Tokenizer(JSON.parse(new TextDecoder().decode(await load(tokenizerFile)))));
}

/** Tokens are bytes plus an offset. @param {number} offset @returns {Codec} */
export function byteCodec(offset) {
  return {
    isText: true,
    unit: "bytes",
    encode: (data) => Array.from(data, (byte) => byte + offset),
    holds: () => true,
    show(token) {
      const byte = token - offset;
      if (byte === 10) return ["↵", "line feed"];
      if (byte === 32) return ["␣", "space"];
      if (byte > 32 && byte < 127) return [String.fromCharCode(byte), ""];
      if (byte < 0 || byte > 255) return [String(token), `token ${token}, which is no byte`];
      const hex = byte.toString(16).toUpperCase().padStart(2, "0");
      return [hex, `byte 0x${hex}`];
    },
    typed(_, token) {
      const byte = token - offset;
      return byte === 10 || (byte >= 32 && byte < 127) ? String.fromCharCode(byte) : "";
    },
    stream(prompt) {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      const add = (/** @type {number} */ token) => {
        const byte = token - offset;
        return byte < 0 || byte > 255 ? "" : decoder.decode(Uint8Array.of(byte), { stream: true });
      };
      prompt.forEach(add); // the first new token may complete the prompt's last character
      return { add, end: () => decoder.decode() };
    },
  };
}

/** Tokens are pieces of words. @param {Tokenizer} tokenizer @returns {Codec} */
export function pieceCodec(tokenizer) {
  const reader = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const read = (/** @type {Uint8Array} */ data) => {
    try {
      return reader.decode(data);
    } catch {
      throw new Error("The text is not UTF-8: convert it, for example with iconv -t UTF-8.");
    }
  };
  return {
    isText: true,
    unit: "tokens",
    encode: (data) => tokenizer.encode(read(data)),
    holds(data) {
      const text = read(data);
      return tokenizer.encode(text).map(tokenizer.stream([])).join("") === text;
    },
    show(token) {
      const text = tokenizer.text(token);
      if (text === undefined) return [String(token), `token ${token}, which has no text`];
      return [text.replaceAll(" ", "␣").replaceAll("\n", "↵"), text.startsWith(" ") ? `space ${text.trim()}`.trim() : ""];
    },
    typed: (prompt, token) => tokenizer.stream(prompt)(token),
    stream: (prompt) => ({ add: tokenizer.stream(prompt), end: () => "" }),
  };
}

/** Tokens are numbers that the user writes. @type {Codec} */
export const numberCodec = {
  isText: false,
  unit: "tokens",
  encode: (data) => (new TextDecoder().decode(data).match(/\d+/g) ?? []).map(Number),
  holds: () => true,
  show: (token) => [String(token), ""],
  typed: (_, token) => ` ${token}`,
  stream: () => ({ add: (token) => ` ${token}`, end: () => "" }),
};
