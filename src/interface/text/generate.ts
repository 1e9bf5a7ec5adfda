// Text from a decoder, token by token: the loop, and how the next token is drawn.
import { checkInteger, checkNumber } from '../../base/checks.ts';
import { ArgumentError, TengenError } from '../../base/errors.ts';
import { tensor } from '../tensor/creation.ts';
import { defaultGenerator, Generator } from '../tensor/generator.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { noGrad } from '../transform/autodiff.ts';
import type { GPT } from './gpt.ts';

/** How the next token is chosen of the scores. */
export interface SamplingOptions {
  /** Scores are divided by it: below 1 safer, above 1 wilder; 0 takes the best one. Default 1. */
  readonly temperature?: number | undefined;
  /** Only so many of the best tokens are drawn from. */
  readonly topK?: number | undefined;
  /** Only the best tokens that together have this probability (Holtzman et al. 2020). */
  readonly topP?: number | undefined;
}

export interface GenerateOptions extends SamplingOptions {
  /** Tokens to make; default 100. */
  readonly maxNewTokens?: number | undefined;
  /** Ends the text behind one of these, which is still given. */
  readonly stopTokens?: readonly number[] | undefined;
  /** Of the draws; default: the global generator goes on. */
  readonly seed?: number | undefined;
}

function checkSampling(op: string, { temperature, topK, topP }: SamplingOptions): void {
  if (temperature !== undefined) checkNumber(op, 'temperature', temperature);
  if (topK !== undefined) checkInteger(op, 'topK', topK, 1);
  if (topP !== undefined) checkNumber(op, 'topP', topP, [0, 1, 'above']);
}

/**
 * Draws a token by its score; `uniform` in [0, 1) decides. `topK` and `topP` are applied in this order,
 * as is usual; of equal scores the smaller number counts as better. Throws ArgumentError for options
 * out of range, and where no score is a number above -Infinity.
 *
 * @example
 * sampleToken([0, 2, 1], 0.5, { temperature: 0 }); // => 1
 * sampleToken([0, 2, 1], 0.99, { topK: 2 }); // => 2
 */
export function sampleToken(
  scores: ArrayLike<number>,
  uniform: number,
  options: SamplingOptions = {},
): number {
  const op = 'text.sampleToken';
  checkSampling(op, options);
  const { temperature = 1, topK = scores.length, topP = 1 } = options;
  const best = argmaxOf(op, scores);
  if (temperature === 0 || topK === 1) return best;
  const top = scores[best] as number;
  const order = Uint32Array.from({ length: scores.length }, (_, token) => token);
  const isAll = topK >= scores.length && topP >= 1;
  // Sorting is stable, which settles equal scores.
  if (!isAll) order.sort((a, b) => (scores[b] as number) - (scores[a] as number));
  const weights: number[] = [];
  let total = 0;
  for (let i = 0; i < Math.min(topK, order.length); i++) {
    const weight = Math.exp(((scores[order[i] as number] as number) - top) / temperature);
    weights.push(weight);
    total += weight;
  }
  let count = 0;
  let kept = 0;
  while (count < weights.length && (count === 0 || kept < topP * total)) {
    kept += weights[count++] as number;
  }
  const wanted = uniform * kept;
  let reached = 0;
  let last = 0;
  for (let i = 0; i < count; i++) {
    if ((weights[i] as number) > 0) last = i;
    reached += weights[i] as number;
    if (reached > wanted) return order[i] as number;
  }
  // Rounding of the sums.
  return order[last] as number;
}

/** The best token, the smallest of several. */
function argmaxOf(op: string, scores: ArrayLike<number>): number {
  let best = -1;
  let top = -Infinity;
  for (let token = 0; token < scores.length; token++) {
    const score = scores[token] as number;
    if (Number.isNaN(score) || score === Infinity) {
      throw new TengenError(`the score of token ${token} is ${score}`, {
        op,
        hint: 'debug.checkNaN finds where it comes from',
      });
    }
    if (score > top) [best, top] = [token, score];
  }
  if (best < 0) throw new ArgumentError('there is no token to choose', { op });
  return best;
}

/** One call of the model: no history, no dropout, and the model's mode as it was. */
function inference(model: GPT, body: () => Tensor): Tensor {
  const inTraining = model.modules().filter((module) => module.training);
  for (const module of inTraining) module.training = false;
  try {
    return noGrad(body);
  } finally {
    for (const module of inTraining) module.training = true;
  }
}

/** Reads tokens of one text; a full context goes on with the last half of what it holds. */
class Reader {
  readonly #model: GPT;
  readonly #cache;
  readonly #text: number[];

  constructor(model: GPT, ids: readonly number[]) {
    this.#model = model;
    this.#cache = model.newCache(1);
    this.#text = [...ids];
  }

  /** Scores of the token behind the text. */
  start(): Tensor {
    const [first = 0] = this.#text;
    if (this.#text.length === 1) return this.#single(first);
    return this.#read(this.#text.slice(-this.#model.contextLength));
  }

  next(token: number): Tensor {
    this.#text.push(token);
    if (this.#cache.length < this.#cache.capacity) return this.#single(token);
    const kept = Math.max(1, this.#cache.capacity >> 1);
    const tail = this.#text.slice(-kept);
    this.#text.splice(0, this.#text.length - kept);
    return this.#read(tail);
  }

  #single(token: number): Tensor {
    const tokens = tensor(Int32Array.of(token));
    return inference(this.#model, () => this.#model.next(tokens, this.#cache));
  }

  #read(ids: readonly number[]): Tensor {
    const padded = new Int32Array(this.#model.contextLength);
    padded.set(ids);
    const tokens = tensor(padded, { shape: [1, padded.length] });
    return inference(this.#model, () => this.#model.prefill(tokens, ids.length, this.#cache));
  }
}

/**
 * Goes on with a text: tokens one by one, as they are made. Keys and values of what was read are kept,
 * so that each token costs a pass over one place, by the same plan for all. Where the context
 * is full, its last half is read anew and the rest forgotten. The model is used without dropout.
 *
 * Throws ArgumentError for an empty text, or options out of range.
 *
 * @example
 * const model = new text.GPT({ layers: 1, width: 8, heads: 2, contextLength: 4, vocabulary: 5 });
 * const made: number[] = [];
 * for await (const token of generate(model, [1, 2], { maxNewTokens: 6, seed: 1 })) made.push(token);
 * made.length; // => 6
 */
export function generate(
  model: GPT,
  ids: readonly number[],
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  const op = 'text.generate';
  const { maxNewTokens = 100, seed } = options;
  checkInteger(op, 'maxNewTokens', maxNewTokens, 0);
  checkSampling(op, options);
  if (ids.length === 0) {
    throw new ArgumentError('the text is empty', { op, hint: 'start with one token at least' });
  }
  for (const token of ids) checkInteger(op, 'a token', token, 0);
  const generator = seed === undefined ? defaultGenerator : new Generator(seed);
  return draw(new Reader(model, ids), generator, { ...options, maxNewTokens });
}

async function* draw(
  reader: Reader,
  generator: Generator,
  options: GenerateOptions & { readonly maxNewTokens: number },
): AsyncGenerator<number, void, undefined> {
  const { maxNewTokens, stopTokens = [] } = options;
  let token: number | undefined;
  for (let made = 0; made < maxNewTokens; made++) {
    const scores = token === undefined ? reader.start() : reader.next(token);
    const [uniform = 0] = generator.hostUniform(1, 0, 1);
    token = sampleToken(await scores.float().data(), uniform, options);
    yield token;
    if (stopTokens.includes(token)) return;
  }
}
