// Generation with a cache: what the forward pass gives, by one plan, with options that do what they say.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ArgumentError, manualSeed, noGrad, ShapeError, stats, TengenError, tensor } from 'tengen';
import { generate, type GenerateOptions, GPT, sampleToken } from 'tengen/text';
import { checkLeaks } from '../interface/support.ts';
import { relativeError } from '../vision/support.ts';

const sizes = { layers: 2, width: 16, heads: 2, contextLength: 8, vocabulary: 11 };

function makeModel(dropout = 0): GPT {
  manualSeed(3);
  return new GPT({ ...sizes, dropout });
}

/** Scores behind `ids`, by the whole forward pass. */
function scoresBehind(model: GPT, ids: readonly number[]): ArrayLike<number> {
  const all = noGrad(() => model.forward(tensor([ids], { dtype: 'int32' })));
  return all
    .at(0)
    .at(ids.length - 1)
    .dataSync();
}

async function collect(
  model: GPT,
  ids: readonly number[],
  options: GenerateOptions,
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generate(model, ids, options)) tokens.push(token);
  return tokens;
}

const ints = (ids: readonly number[]) => tensor(Int32Array.from(ids));
const padded = (ids: readonly number[]) =>
  tensor(
    Int32Array.from({ length: 8 }, (_, i) => ids[i] ?? 7),
    { shape: [1, 8] },
  );

describe('the cache', () => {
  checkLeaks();

  test('gives the scores of the forward pass, token by token and behind a prefill', () => {
    const model = makeModel();
    const text = [3, 1, 4, 1, 5, 9, 2, 6];
    const cache = model.newCache();
    text.forEach((token, i) => {
      const scores = noGrad(() => model.next(ints([token]), cache)).dataSync();
      const wanted = scoresBehind(model, text.slice(0, i + 1));
      expect(relativeError(scores, Array.from(wanted)), `place ${i}`).toBeLessThan(1e-5);
    });
    expect(cache.length).toBe(8);
    expect(() => model.next(ints([1]), cache)).toThrow(ArgumentError);
    const read = noGrad(() => model.prefill(padded(text.slice(0, 5)), 5, cache)).dataSync();
    const wanted = Array.from(scoresBehind(model, text.slice(0, 5)));
    expect(relativeError(read, wanted)).toBeLessThan(1e-5);
    const next = noGrad(() => model.next(ints([9]), cache)).dataSync();
    const behind = Array.from(scoresBehind(model, text.slice(0, 6)));
    expect(relativeError(next, behind)).toBeLessThan(1e-5);
  });

  test('keeps the texts of a batch apart', () => {
    const model = makeModel();
    const cache = model.newCache(2);
    const texts = [
      [1, 2, 3],
      [4, 5, 6],
    ] as const;
    let last = tensor([0]);
    for (let i = 0; i < 3; i++) {
      last = noGrad(() => model.next(ints(texts.map((ids) => ids[i]!)), cache));
      last.dataSync();
    }
    texts.forEach((ids, row) => {
      const wanted = Array.from(scoresBehind(model, ids));
      expect(relativeError(last.at(row).dataSync(), wanted)).toBeLessThan(1e-5);
    });
    expect(() => model.next(ints([1]), cache)).toThrow(ShapeError);
    expect(() => model.next(tensor([[1]], { dtype: 'int32' }), cache)).toThrow(ShapeError);
    expect(() => model.prefill(ints([1]).unsqueeze(0), 1, model.newCache())).toThrow(ShapeError);
    expect(() => model.prefill(padded([1]), 9, model.newCache())).toThrow(ArgumentError);
  });
});

describe('generate', () => {
  checkLeaks();

  test('takes the best tokens of the forward pass, and goes on when the context is full', async () => {
    const model = makeModel(0.5);
    const made = await collect(model, [1, 2], { maxNewTokens: 12, temperature: 0 });
    expect(model.training).toBe(true);
    model.eval();
    let held = [1, 2];
    for (const token of made) {
      const scores = Array.from(scoresBehind(model, held));
      expect(token).toBe(scores.indexOf(Math.max(...scores)));
      // A full context goes on with its last half, the newest token among it.
      if (held.length === 8) held = held.slice(-3);
      held = [...held, token];
    }
  });

  test('compiles nothing behind the first tokens, whatever the prompt', async () => {
    const model = makeModel();
    await collect(model, [1, 2, 3], { maxNewTokens: 3, seed: 1 });
    const before = stats().planMisses;
    for (const ids of [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 0, 1, 2, 3, 4]]) {
      expect(await collect(model, ids, { maxNewTokens: 20, seed: 2 })).toHaveLength(20);
    }
    expect(stats().planMisses - before).toBe(0);
  });

  test('repeats with a seed, stops at a token', async () => {
    const model = makeModel();
    const options = { maxNewTokens: 10, temperature: 1.5 };
    const first = await collect(model, [1], { ...options, seed: 5 });
    expect(await collect(model, [1], { ...options, seed: 5 })).toEqual(first);
    expect(await collect(model, [1], { ...options, seed: 6 })).not.toEqual(first);
    const stopTokens = [first[4]!];
    const stopped = await collect(model, [1], { ...options, seed: 5, stopTokens });
    expect(stopped).toEqual(first.slice(0, first.indexOf(first[4]!) + 1));
    expect(await collect(model, [1], { maxNewTokens: 0 })).toEqual([]);
  });

  test('says what is wrong at the call', () => {
    const model = makeModel();
    for (const options of [
      { maxNewTokens: -1 },
      { temperature: -1 },
      { temperature: NaN },
      { topK: 0 },
      { topP: 0 },
      { topP: 1.5 },
      { seed: -1 },
    ]) {
      expect(() => generate(model, [1], options), JSON.stringify(options)).toThrow(ArgumentError);
    }
    expect(() => generate(model, [])).toThrow(ArgumentError);
    expect(() => generate(model, [1.5])).toThrow(ArgumentError);
  });
});

describe('sampleToken', () => {
  test('draws tokens as often as their probability says', () => {
    const scores = [0, Math.log(2), Math.log(5), -Infinity];
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 800; i++) counts[sampleToken(scores, (i + 0.5) / 800)]!++;
    expect(counts).toEqual([100, 200, 500, 0]);
    const cold = [0, 0, 0, 0];
    for (let i = 0; i < 300; i++)
      cold[sampleToken(scores, (i + 0.5) / 300, { temperature: 0.5 })]!++;
    expect(cold).toEqual([10, 40, 250, 0]);
  });

  test('keeps to the best tokens', () => {
    const scores = [Math.log(1), Math.log(4), Math.log(3), Math.log(2)];
    const drawn = (options: GenerateOptions) =>
      new Set(Array.from({ length: 200 }, (_, i) => sampleToken(scores, i / 200, options)));
    expect(drawn({})).toEqual(new Set([1, 2, 3, 0]));
    expect(drawn({ topK: 2 })).toEqual(new Set([1, 2]));
    expect(drawn({ topP: 0.4 })).toEqual(new Set([1]));
    expect(drawn({ topP: 0.5 })).toEqual(new Set([1, 2]));
    expect(drawn({ topK: 3, topP: 0.9 })).toEqual(new Set([1, 2, 3]));
    expect(drawn({ topK: 100 })).toEqual(new Set([1, 2, 3, 0]));
    // Of equal ones the first.
    expect(sampleToken([1, 1, 1], 0.99, { topK: 1 })).toBe(0);
    expect(sampleToken([1, 1, 1], 0.99, { topK: 2 })).toBe(1);
  });

  test('always gives a token with a probability', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -50, max: 50, noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (scores, uniform, topP) => {
          const token = sampleToken(scores, uniform, { topP, temperature: 0.1 });
          expect(token).toBeGreaterThanOrEqual(0);
          expect(token).toBeLessThan(scores.length);
        },
      ),
      { seed: 1 },
    );
  });

  test('refuses what is no score', () => {
    expect(() => sampleToken([0, NaN], 0.5)).toThrow(TengenError);
    expect(() => sampleToken([], 0.5)).toThrow(ArgumentError);
    expect(() => sampleToken([-Infinity], 0.5)).toThrow(ArgumentError);
  });
});
