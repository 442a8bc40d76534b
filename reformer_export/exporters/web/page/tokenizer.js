// @ts-check
/**
 * Text to token ids and back for models that read byte pairs of SentencePiece's pieces, as Hugging
 * Face's Reformers do. The ids are those of the Python package `tokenizers`, whose Rust source says
 * what happens in every case.
 *
 * `exporters/web/text.py` writes the file. It refuses a tokenizer that works in another way.
 */

const SPACE = "\u2581"; // stands for a space in a piece
const LARGEST_CLUSTER = 5; // bytes; a longer cluster of characters is replaced character by character
const REMEMBERED = 50_000; // texts
const LONGEST_REMEMBERED = 256; // characters
const PLACES = 2 ** 26; // larger than a position in a word and than a token id

/**
 * @typedef {{ id: number, content: string, single_word: boolean, lstrip: boolean, rstrip: boolean,
 *             normalized: boolean, special: boolean }} AddedToken
 * @typedef {{ pieces: Record<string, number>, merges: [number, number, number][], unknown: number,
 *             characters: string | null, added: AddedToken[], special_tokens_are_text: boolean,
 *             before: number[], after: number[] }} TokenizerFile
 *   `merges`: two token ids and the id of the joined piece, the first merge first. `characters`:
 *   SentencePiece's map of replacements in base64. `before` and `after` surround every text.
 */

export class Tokenizer {
  /** @type {BytePairs} */ #pairs;
  /** @type {(text: string) => string} */ #normalize;
  /** @type {AddedTokens} */ #asWritten;
  /** @type {AddedTokens} */ #normalized;
  /** @type {Map<number, string>} */ #pieces = new Map();
  /** @type {Set<string>} */ #special = new Set();

  /** @param {TokenizerFile} file */
  constructor(file) {
    this.file = file;
    this.#pairs = new BytePairs(file);
    this.#normalize = file.characters === null ? (text) => text : normalization(file.characters);
    for (const [piece, id] of Object.entries(file.pieces)) this.#pieces.set(id, piece);
    const [asWritten, normalized] = [new Map(), new Map()];
    for (const token of file.added) {
      const content = token.normalized ? this.#normalize(token.content) : token.content;
      (token.normalized ? normalized : asWritten).set(content, token);
      this.#pieces.set(token.id, content);
      if (token.special) this.#special.add(token.content);
    }
    this.#asWritten = new AddedTokens(asWritten, file.special_tokens_are_text);
    this.#normalized = new AddedTokens(normalized, file.special_tokens_are_text);
  }

  /** @param {string} text Without unpaired surrogates. @returns {number[]} */
  encode(text) {
    /** @type {number[]} */ const ids = [...this.file.before];
    for (const part of this.#asWritten.split(text)) {
      if (typeof part === "number") {
        ids.push(part);
        continue;
      }
      for (const rest of this.#normalized.split(this.#normalize(part))) {
        if (typeof rest === "number") ids.push(rest);
        else for (const word of words(rest)) for (const id of this.#pairs.encode(word)) ids.push(id);
      }
    }
    ids.push(...this.file.after);
    return ids;
  }

  /** A token as readable text, with its spaces. @param {number} id @returns {string | undefined} */
  text(id) {
    return this.#pieces.get(id)?.replaceAll(SPACE, " ");
  }

  /**
   * A function that gives the text of each new token after a prompt. The first of all tokens with a
   * text is written without the space before it. Special tokens have no text.
   * @param {readonly number[]} prompt
   * @returns {(id: number) => string}
   */
  stream(prompt) {
    let space = "";
    const add = (/** @type {number} */ id) => {
      const piece = this.#pieces.get(id);
      if (piece === undefined || this.#special.has(piece)) return "";
      const text = piece.replaceAll(SPACE, space);
      space = " ";
      return text;
    };
    prompt.forEach(add);
    return add;
  }
}

/** A text cut before every space, with a space before the first word. @param {string} text */
function words(text) {
  const marked = text.replaceAll(" ", SPACE);
  return (marked.startsWith(SPACE) || marked === "" ? marked : SPACE + marked).match(/\u2581?[^\u2581]+|\u2581/gu) ?? [];
}

/** The added tokens in a text. */
class AddedTokens {
  /** @type {RegExp | null} */ #pattern = null;

  /** @param {Map<string, AddedToken>} tokens @param {boolean} specialIsText */
  constructor(tokens, specialIsText) {
    this.tokens = tokens;
    this.specialIsText = specialIsText;
    const longestFirst = Array.from(tokens.keys()).sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((content) => content.replace(/[\^$\\.*+?()[\]{}|/]/gu, "\\$&"));
    if (tokens.size > 0) this.#pattern = new RegExp(escaped.join("|"), "gu");
  }

  /** @param {string} text @returns {(string | number)[]} The added tokens' ids and the text between. */
  split(text) {
    /** @type {(string | number)[]} */ const parts = [];
    let end = 0;
    for (const { 0: content, index } of this.#pattern ? text.matchAll(this.#pattern) : []) {
      const token = /** @type {AddedToken} */ (this.tokens.get(content));
      let [start, stop] = [index, index + content.length];
      if (token.special && this.specialIsText) continue;
      if (token.single_word && (WORD_BEFORE.test(text.slice(Math.max(start - 2, 0), start)) || WORD_AFTER.test(text.slice(stop, stop + 2)))) continue;
      if (token.lstrip) while (start > end && WHITE.test(text[start - 1])) start -= 1;
      if (token.rstrip) while (stop < text.length && WHITE.test(text[stop])) stop += 1;
      if (start > end) parts.push(text.slice(end, start));
      parts.push(token.id);
      end = stop;
    }
    if (end < text.length) parts.push(text.slice(end));
    return parts;
  }
}

const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const WHITE = /\p{White_Space}/u;

/**
 * A function that replaces characters as SentencePiece does, and several spaces by one.
 *
 * The map is a double-array trie (darts-clone: 32 bits a node) over UTF-8, with its size in bytes
 * before it and the replacements after it, each with a zero at its end.
 * @param {string} base64
 * @returns {(text: string) => string}
 */
function normalization(base64) {
  const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  const replacements = bytes.subarray(4 + size);
  const node = (/** @type {number} */ place) => (place < size / 4 ? view.getUint32(4 + 4 * place, true) : 0);
  const offset = (/** @type {number} */ unit) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  /** The replacement of the shortest beginning that has one. @param {Uint8Array} key */
  const find = (key) => {
    let place = offset(node(0));
    for (const byte of key) {
      place ^= byte;
      const unit = node(place);
      if (byte === 0 || (unit & 0x800000ff) !== byte) return null;
      place ^= offset(unit);
      if (unit & 0x100) {
        const start = node(place) & 0x7fffffff;
        const end = replacements.indexOf(0, start);
        return decoder.decode(replacements.subarray(start, end < 0 ? undefined : end));
      }
    }
    return null;
  };

  const replaceCluster = remembering((/** @type {string} */ cluster) => {
    const key = encoder.encode(cluster);
    const whole = key.length <= LARGEST_CLUSTER ? find(key) : null;
    return whole ?? Array.from(cluster, (each) => find(encoder.encode(each)) ?? each).join("");
  });
  const replace = remembering((/** @type {string} */ part) => Array.from(clusters(part), replaceCluster).join(""));
  return (text) => text.split(BEFORE_SPACE).map(replace).join("").replace(/ {2,}/g, " ");
}

// Between these two characters a cluster always ends. (A few characters after U+05FF belong to what
// follows them.)
const BEFORE_SPACE = /(?<=[!-\u05ff])(?= )/;
const SEGMENTER = new Intl.Segmenter("en", { granularity: "grapheme" });

/** The clusters of a text: characters with their accents. @param {string} text */
function* clusters(text) {
  // The segmenter needs quadratic time for a long text, so it gets pieces.
  for (let start = 0, size = 500; start < text.length; ) {
    let end = start + size;
    if (/[\ud800-\udbff]/.test(text[end - 1])) end += 1;
    const found = Array.from(SEGMENTER.segment(text.slice(start, end)), ({ segment }) => segment);
    if (end < text.length) found.pop(); // this one may be longer
    if (found.length === 0) size *= 2;
    for (const cluster of found) start += cluster.length;
    yield* found;
  }
}

/** The same function, but it looks up what it has computed before.
 * @template Result @param {(text: string) => Result} compute */
function remembering(compute) {
  /** @type {Map<string, Result>} */ const known = new Map();
  return (/** @type {string} */ text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const result = compute(text);
    if (known.size >= REMEMBERED) known.clear();
    if (text.length <= LONGEST_REMEMBERED) known.set(text, result);
    return result;
  };
}

/** Byte pairs: the characters of a word, joined pair by pair. */
class BytePairs {
  /** @type {Map<string, number>} */ #ids;
  /** @type {Map<number, number>} From two token ids to the place of their merge. */ #ranks = new Map();
  /** @type {number[]} */ #joined;
  /** @type {number} */ #unknown;

  /** @param {TokenizerFile} file */
  constructor({ pieces, merges, unknown }) {
    this.#ids = new Map(Object.entries(pieces));
    this.#unknown = unknown;
    this.#joined = merges.map(([, , joined]) => joined);
    merges.forEach(([left, right], rank) => this.#ranks.set(left * PLACES + right, rank));
  }

  /** @type {(word: string) => readonly number[]} */
  encode = remembering((word) => this.#join(this.#characters(word)));

  /** The ids of a word's characters; unknown characters beside each other are one token.
   * @param {string} word */
  #characters(word) {
    /** @type {number[]} */ const ids = [];
    let afterUnknown = false;
    for (const character of word) {
      const id = this.#ids.get(character);
      if (id !== undefined || !afterUnknown) ids.push(id ?? this.#unknown);
      afterUnknown = id === undefined;
    }
    return ids;
  }

  /** Join the pair whose merge comes first, of several the leftmost, until there is none.
   * @param {number[]} ids @returns {number[]} */
  #join(ids) {
    const next = ids.map((_, place) => place + 1);
    const previous = ids.map((_, place) => place - 1);
    const queue = new Queue();
    const rankAt = (/** @type {number} */ place) => this.#ranks.get(ids[place] * PLACES + ids[next[place]]);
    const add = (/** @type {number} */ place) => {
      const rank = place >= 0 && next[place] < ids.length ? rankAt(place) : undefined;
      if (rank !== undefined) queue.push(rank * PLACES + place);
    };
    ids.forEach((_, place) => add(place));
    for (let first = queue.pop(); first !== undefined; first = queue.pop()) {
      const place = first % PLACES;
      const joined = this.#joined[(first - place) / PLACES];
      const right = next[place];
      if (ids[place] < 0 || right >= ids.length) continue;
      const rank = rankAt(place); // the pair at this place may have changed since
      if (rank === undefined || this.#joined[rank] !== joined) continue;
      ids[place] = joined;
      ids[right] = -1;
      next[place] = next[right];
      if (next[place] < ids.length) previous[next[place]] = place;
      add(previous[place]);
      add(place);
    }
    return ids.filter((id) => id >= 0);
  }
}

/** A heap of numbers: gives the smallest first. */
class Queue {
  /** @type {number[]} */ #items = [];

  /** @param {number} item */
  push(item) {
    const items = this.#items;
    let place = items.push(item) - 1;
    for (let above; place > 0 && items[(above = (place - 1) >> 1)] > item; place = above) items[place] = items[above];
    items[place] = item;
  }

  /** @returns {number | undefined} */
  pop() {
    const items = this.#items;
    const [smallest, last] = [items[0], items.pop()];
    if (items.length === 0 || last === undefined) return smallest;
    let place = 0;
    for (let below; (below = 2 * place + 1) < items.length; place = below) {
      if (items[below + 1] < items[below]) below += 1;
      if (items[below] >= last) break;
      items[place] = items[below];
    }
    items[place] = last;
    return smallest;
  }
}
