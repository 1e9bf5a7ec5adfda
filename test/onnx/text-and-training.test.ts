// Text, n-grams and the optimizers of ONNX's training operators; and old forms of operators.
import { F, manualSeed, randn, setNumerics, tensor } from 'tengen';
import { load, toBytes } from 'tengen/onnx';
import { expect, test } from 'vitest';
import type { Draft, NodeProto } from '../../src/interface/onnx/messages.ts';
import { TensorValue, type Value } from '../../src/interface/onnx/values.ts';
import { info, model, node, weight } from './build.ts';

const encoder = new TextEncoder();
const words = (name: string, list: readonly string[]) => ({
  name,
  type: 8,
  strings: list.map((word) => encoder.encode(word)),
});

/** Runs one node on text; gives shapes and elements. */
async function onText(
  made: Draft<NodeProto>,
  inputs: readonly (readonly [shape: readonly number[], data: readonly string[]])[],
  opset = 20,
) {
  const loaded = await load(
    model(
      {
        input: inputs.map((_, i) => info(`x${i}`, 'string', [])),
        output: (made.output ?? []).map((name) => ({ name })),
        node: [made],
      },
      opset,
    ),
  );
  const given = inputs.map(([shape, data], i): [string, Value] => [
    `x${i}`,
    TensorValue.ofArray({ type: 'string', shape, data }),
  ]);
  return loaded.execute(new Map(given)).map((value) => {
    if (value?.kind !== 'tensor') throw new Error('no tensor');
    return [value.shape, [...(value.read().data as ArrayLike<unknown> & Iterable<unknown>)]];
  });
}

test('StringNormalizer leaves words out and changes letters', async () => {
  const made = node('StringNormalizer', ['x0'], ['y'], { case_change_action: 'UPPER' });
  const stopped = { ...made, attribute: [...(made.attribute ?? []), words('stopwords', ['the'])] };
  expect(await onText(stopped, [[[3], ['The', 'green', 'THE']]])).toEqual([[[1], ['GREEN']]]);
  expect(
    await onText(stopped, [
      [
        [1, 2],
        ['the', 'the'],
      ],
    ]),
  ).toEqual([[[1, 1], ['']]]);
  const exact = node('StringNormalizer', ['x0'], ['y'], { is_case_sensitive: 1 });
  const kept = { ...exact, attribute: [...(exact.attribute ?? []), words('stopwords', ['the'])] };
  expect(await onText(kept, [[[2], ['The', 'the']]])).toEqual([[[1], ['The']]]);
  await expect(
    onText(stopped, [
      [
        [2, 2],
        ['a', 'b', 'c', 'd'],
      ],
    ]),
  ).rejects.toThrow('[2,2]');
});

test('StringConcat joins, broadcast', async () => {
  const made = node('StringConcat', ['x0', 'x1'], ['y']);
  const got = await onText(made, [
    [
      [2, 1],
      ['a', 'b'],
    ],
    [[2], ['x', 'y']],
  ]);
  expect(got).toEqual([
    [
      [2, 2],
      ['ax', 'ay', 'bx', 'by'],
    ],
  ]);
});

test('StringSplit cuts at blanks or at a delimiter', async () => {
  const blanks = node('StringSplit', ['x0'], ['y', 'n'], { maxsplit: 1 });
  expect(await onText(blanks, [[[3], ['  a b  c ', 'one', '']]])).toEqual([
    [
      [3, 2],
      ['a', 'b  c ', 'one', '', '', ''],
    ],
    [[3], [2n, 1n, 0n]],
  ]);
  const commas = node('StringSplit', ['x0'], ['y', 'n'], { delimiter: ',' });
  expect(await onText(commas, [[[2], ['a,,b', '']]])).toEqual([
    [
      [2, 3],
      ['a', '', 'b', '', '', ''],
    ],
    [[2], [3n, 1n]],
  ]);
});

test('TfIdfVectorizer counts n-grams, apart by up to what may be skipped', async () => {
  const made = node('TfIdfVectorizer', ['x0'], ['y'], {
    mode: 'TF',
    min_gram_length: 1,
    max_gram_length: 2,
    max_skip_count: 1,
    ngram_counts: [0, 1],
    ngram_indexes: [1, 0],
  });
  const pooled = {
    ...made,
    attribute: [...(made.attribute ?? []), words('pool_strings', ['a', 'a', 'b'])],
  };
  // One "a" by itself twice; "a b" next to each other once and with one between once.
  expect(await onText(pooled, [[[4], ['a', 'a', 'b', 'c']]])).toEqual([[[2], [2, 2]]]);
  const wrong = { ...pooled, attribute: pooled.attribute.filter((a) => a.name !== 'pool_strings') };
  await expect(onText(wrong, [[[1], ['a']]])).rejects.toThrow('of the pool');
});

test('Adam, Adagrad and Momentum make one step on several tensors', async () => {
  const step = async (
    opType: string,
    kinds: number,
    attributes: Record<string, number | string>,
    given: readonly number[],
  ) => {
    const names = Array.from({ length: kinds * 2 }, (_, i) => `x${i}`);
    const outputs = Array.from({ length: (kinds - 1) * 2 }, (_, i) => `y${i}`);
    const domain = 'ai.onnx.preview.training';
    const loaded = await load(
      model(
        {
          input: [info('r', 'float32', []), info('t', 'int64', [])].concat(
            names.map((name) => info(name, 'float32', [1])),
          ),
          output: outputs.map((name) => info(name, 'float32', [1])),
          node: [node(opType, ['r', 't', ...names], outputs, attributes, domain)],
        },
        17,
        {
          opsetImport: [
            { domain: '', version: 17 },
            { domain, version: 1 },
          ],
        },
      ),
    );
    // Two tensors with the same values but for the second gradient, which is zero.
    const values = given.flatMap((value, kind) => [value, kind === 1 ? 0 : value]);
    const feeds = Object.fromEntries(names.map((name, i) => [name, [values[i] as number]]));
    const results = loaded.run({ r: 0.1, t: 2, ...feeds });
    return Object.values(results).map((result) => (result.arraySync() as number[])[0] as number);
  };
  const close = (...list: number[]) => list.map((value) => expect.closeTo(value, 5));
  const momentum = { alpha: 0.9, beta: 0.5, norm_coefficient: 0.5, mode: 'standard' };
  // Half of x, which is 1, is added to each gradient.
  const v = 0.9 * 2 + 0.5 * 3.5;
  const other = 0.9 * 2 + 0.5 * 0.5;
  expect(await step('Momentum', 3, momentum, [1, 3, 2])).toEqual(
    close(1 - 0.1 * v, 1 - 0.1 * other, v, other),
  );
  const nesterov = { ...momentum, mode: 'nesterov' };
  const looked = await step('Momentum', 3, nesterov, [1, 3, 2]);
  expect(looked[0]).toBeCloseTo(1 - 0.1 * (3.5 + 0.9 * v), 5);
  const h = 2 + 9;
  const rate = 0.1 / (1 + 2 * 0.25);
  expect(await step('Adagrad', 3, { decay_factor: 0.25 }, [1, 3, 2])).toEqual(
    close(1 - (rate * 3) / Math.sqrt(h), 1, h, 2),
  );
  const [mean, square] = [0.9 * 0.5 + 0.1 * 3, 0.999 * 2 + 0.001 * 9];
  const own = (0.1 * Math.sqrt(1 - 0.999 ** 2)) / (1 - 0.9 ** 2);
  const adam = await step('Adam', 4, {}, [1, 3, 0.5, 2]);
  expect(adam[0]).toBeCloseTo(1 - (own * mean) / Math.sqrt(square), 5);
  expect([adam[2], adam[4]]).toEqual(close(mean, square));
});

test('BatchNormalization of version 7 has statistics of each place', async () => {
  const loaded = await load(
    model(
      {
        input: [info('x', 'float32', [1, 2, 2])],
        output: [info('y', 'float32', [1, 2, 2])],
        initializer: [
          weight('s', [2, 2], [1, 2, 3, 4]),
          weight('b', [2, 2], [0, 0, 1, 1]),
          weight('m', [2, 2], [1, 1, 0, 0]),
          weight('v', [2, 2], [1, 4, 1, 4]),
        ],
        node: [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y'], { spatial: 0 })],
      },
      7,
    ),
  );
  const x = tensor([1, 3, 2, 2]).reshape(1, 2, 2);
  const got = loaded.run({ x })['y']?.dataSync();
  [0, 2, 7, 5].forEach((value, i) => expect(got?.[i]).toBeCloseTo(value, 3));
});

test('a Constant may be sparse', async () => {
  const sparse = {
    name: 'sparse_value',
    type: 11,
    sparseTensor: {
      values: weight('values', [2], [5, 7]),
      indices: weight('indices', [2], [1, 3], 'int64'),
      dims: [2, 2],
    },
  };
  const loaded = await load(
    model({
      input: [info('x', 'float32', [2, 2])],
      output: [info('y', 'float32', [2, 2])],
      node: [
        { ...node('Constant', [], ['c']), attribute: [sparse] },
        node('Add', ['x', 'c'], ['y']),
      ],
    }),
  );
  const x = [
    [1, 1],
    [1, 1],
  ];
  expect(loaded.run({ x })['y']?.arraySync()).toEqual([
    [1, 6],
    [1, 8],
  ]);
});

test('a hard sigmoid is read back with the same bits', async () => {
  manualSeed(2);
  setNumerics('strict');
  const x = randn([200]).mul(3);
  const back = await load(await toBytes((v: typeof x) => F.hardsigmoid(v), { inputs: [x] }));
  expect(back.run(x)['output']?.dataSync()).toEqual(F.hardsigmoid(x).dataSync());
  setNumerics('fast');
});
