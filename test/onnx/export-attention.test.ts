// Attention that is written as a call of our own function, and what is read back from it.
import { F, manualSeed, rand, randn, setNumerics } from 'tengen';
import type { Tensor } from 'tengen';
import { load, toBytes } from 'tengen/onnx';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { modelProto } from '../../src/interface/onnx/messages.ts';
import { exportedModel, exportedOps } from './exported.ts';

beforeEach(() => {
  manualSeed(5);
  setNumerics('strict');
});
afterEach(() => setNumerics('fast'));

const bias = randn([40, 40]);
const seen = rand([40, 40])
  .gt(0.3)
  .logicalOr(randn([40, 40]).isnan());
const attend = (options: F.AttentionOptions) => (x: Tensor) =>
  F.scaledDotProductAttention(x, x.mul(0.5), x.neg(), options);

describe('attention', () => {
  test.each([
    ['plain', {}],
    ['scaled', { scale: 0.3 }],
    ['causal', { isCausal: true }],
    ['biased', { attnMask: bias }],
    ['masked', { attnMask: seen }],
  ])('%s is one call, and has the same bits when it is read back', async (_, options) => {
    const fn = attend(options);
    const x = randn([2, 3, 40, 8]);
    const bytes = await toBytes(fn, { inputs: [x] });
    const model = modelProto.decode(bytes);
    const calls = (model.graph?.node ?? []).filter(({ domain }) => domain === 'tengen');
    expect(calls).toHaveLength(1);
    expect(model.functions.map(({ name }) => name)).toEqual([calls[0]?.opType]);
    const wanted = fn(x).dataSync();
    expect((await load(bytes)).run(x)['output']?.dataSync()).toEqual(wanted);
    // Readers that do not know the function compute what its body says.
    const renamed = modelProto.encode({
      ...model,
      functions: model.functions.map((f) => ({ ...f, domain: 'other' })),
      opsetImport: [...model.opsetImport, { domain: 'other', version: 1 }],
      graph: {
        ...model.graph,
        node: model.graph?.node.map((n) => (n.domain === 'tengen' ? { ...n, domain: 'other' } : n)),
      },
    });
    const got = (await load(renamed)).run(x)['output']?.dataSync() ?? [];
    wanted.forEach((value, i) => expect(got[i]).toBeCloseTo(value, 5));
  });

  test('of any number of queries in one file', async () => {
    const fn = attend({ isCausal: true });
    const dynamicAxes = { input: { 0: 'batch', 1: 'time' } };
    const back = await load(await toBytes(fn, { inputs: [[2, 6, 8]], dynamicAxes }));
    for (const time of [1, 6, 31, 32, 70]) {
      const x = randn([3, time, 8]);
      expect(back.run(x)['output']?.dataSync()).toEqual(fn(x).dataSync());
    }
  });

  test('halves are computed as they were', async () => {
    const fn = attend({});
    const x = randn([2, 40, 8]).half();
    const back = await load(await toBytes(fn, { inputs: [x] }));
    expect(back.run(x)['output']?.dataSync()).toEqual(fn(x).dataSync());
  });

  test('that is written by hand stays so where a call would be in blocks', async () => {
    const byHand = (x: Tensor) => {
      const scores = x.mul(0.25).matmul(x.transpose(-2, -1));
      return F.softmax(scores, -1).matmul(x);
    };
    const x = randn([2, 40, 8]);
    expect(await exportedOps(byHand, { inputs: [x] })).not.toContain('ScaledDotProductAttention');
    const back = await load(await toBytes(byHand, { inputs: [x] }));
    expect(back.run(x)['output']?.dataSync()).toEqual(byHand(x).dataSync());
  });

  test('with another body is what that body says', async () => {
    const model = await exportedModel(attend({}), { inputs: [[1, 2, 4]] });
    const functions = model.functions.map((f) => ({
      ...f,
      node: f.node.map((n) => (n.opType === 'Softmax' ? { ...n, opType: 'Hardmax' } : n)),
    }));
    const back = await load(modelProto.encode({ ...model, functions }));
    const x = randn([1, 2, 4]);
    const scores = x.mul(0.5).matmul(x.mul(0.5).transpose(-2, -1));
    const best = scores.argmax(-1).arraySync() as number[][];
    const wanted = (best[0] as number[]).flatMap((i) => [...x.neg().select(1, i).dataSync()]);
    expect([...(back.run(x)['output']?.dataSync() ?? [])]).toEqual(wanted);
  });
});
