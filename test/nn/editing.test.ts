// Changing models: parametrizations, replaced modules, hooks on gradients, loading reports, counts;
// and the small layers that call one function.
import { beforeAll, describe, expect, test } from 'vitest';
import {
  ArgumentError,
  F,
  manualSeed,
  nn,
  ones,
  optim,
  randn,
  setDefaultDevice,
  ShapeError,
  tensor,
  type Tensor,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { expectValues } from '../interface/support.ts';

beforeAll(() => setDefaultDevice('interp'));

const namesOf = (module: nn.Module): string[] => Object.keys(module.stateDict());

class Doubled extends nn.Module {
  forward(x: Tensor): Tensor {
    return x.mul(2);
  }
}

describe('parametrizations', () => {
  test('weightNorm: the same weight, of trained length and direction', () => {
    manualSeed(1);
    const layer = new nn.Linear(3, 2);
    const before = layer.weight.arraySync();
    nn.weightNorm(layer);
    expect(namesOf(layer)).toEqual([
      'bias',
      'parametrizations.weight.original0',
      'parametrizations.weight.original1',
    ]);
    expectValues(layer.weight, before);
    const state = layer.stateDict();
    const g = state['parametrizations.weight.original0'] as Tensor;
    const v = state['parametrizations.weight.original1'] as Tensor;
    expect(g.shape).toEqual([2, 1]);
    layer
      .forward(randn([4, 3]))
      .sum()
      .backward();
    // A longer direction changes nothing: its gradient stands at right angles to it.
    expectValues((v.grad as Tensor).mul(v).sum(1), [0, 0]);
    g.setData([3, 0.5]);
    expectValues(layer.weight.square().sum(1).sqrt(), [3, 0.5]);
    const sgd = new optim.SGD(layer.parameters(), { lr: 0.1 });
    layer
      .forward(ones([1, 3]))
      .sum()
      .backward();
    sgd.step();
    const trained = layer.weight.arraySync();
    nn.parametrize.removeParametrizations(layer, 'weight');
    expect(namesOf(layer).toSorted()).toEqual(['bias', 'weight']);
    expect(layer.weight).toBeInstanceOf(nn.Parameter);
    expectValues(layer.weight, trained);
  });

  test('spectralNorm: the largest singular value becomes 1, as the power iteration learns', () => {
    manualSeed(2);
    const layer = new nn.Linear(2, 2, { bias: false });
    layer.weight.setData([3, 0, 0, 4]);
    nn.spectralNorm(layer);
    expect(namesOf(layer)).toEqual([
      'parametrizations.weight.original',
      'parametrizations.weight.0._u',
      'parametrizations.weight.0._v',
    ]);
    for (let i = 0; i < 20; i++) layer.forward(ones([1, 2])).dataSync();
    expectValues(layer.weight, [
      [0.75, 0],
      [0, 1],
    ]);
    layer.eval();
    const u = layer.stateDict()['parametrizations.weight.0._u'] as Tensor;
    const before = u.arraySync();
    layer.forward(ones([1, 2])).dataSync();
    expect(u.arraySync()).toEqual(before);
    layer
      .forward(ones([1, 2]))
      .sum()
      .backward();
    const [original] = layer.parameters();
    expect((original as Tensor).grad?.shape).toEqual([2, 2]);
    const convolution = nn.spectralNorm(new nn.ConvTranspose2d(2, 3, 2), 'weight', { axis: 1 });
    expect(convolution.forward(ones([1, 2, 3, 3])).shape).toEqual([1, 3, 4, 4]);
  });

  test('several on one field, in order; the original comes back', () => {
    const layer = new nn.Linear(1, 1, { bias: false });
    layer.weight.setData([3]);
    const [parameter] = layer.parameters();
    nn.parametrize.register(layer, 'weight', new Doubled());
    nn.parametrize.register(layer, 'weight', new Doubled());
    expectValues(layer.weight, [[12]]);
    expect(nn.parametrize.isParametrized(layer, 'weight')).toBe(true);
    expect(layer.parameters()[0]).toBe(parameter);
    nn.parametrize.removeParametrizations(layer, 'weight', { leaveParametrized: false });
    expect(layer.weight).toBe(parameter);
    expectValues(layer.weight, [[3]]);
    expect(nn.parametrize.isParametrized(layer)).toBe(false);
    nn.parametrize.register(layer, 'weight', new Doubled());
    nn.parametrize.removeParametrizations(layer, 'weight');
    expect(layer.weight).toBe(parameter);
    expectValues(layer.weight, [[6]]);
  });

  test('recurrent weights, too', () => {
    const layer = new nn.RNN(2, 3);
    const x = randn([4, 1, 2]);
    const before = layer.forward(x)[0].arraySync();
    nn.weightNorm(layer, 'weightHhL0');
    expectValues(layer.forward(x)[0], before);
    expect(namesOf(layer)).toContain('parametrizations.weight_hh_l0.original1');
  });

  test('what is refused', () => {
    const layer = new nn.Linear(2, 2);
    expect(() => nn.weightNorm(layer, 'inFeatures')).toThrow("no parameter 'inFeatures'");
    expect(() => nn.parametrize.removeParametrizations(layer, 'weight')).toThrow(ArgumentError);
    expect(() => nn.spectralNorm(layer, 'bias')).toThrow(ShapeError);
    class Cut extends nn.Module {
      forward(x: Tensor): Tensor {
        return x.narrow(0, 0, 1);
      }
    }
    expect(() => nn.parametrize.register(layer, 'weight', new Cut())).toThrow(ShapeError);
    expect(layer.weight).toBeInstanceOf(nn.Parameter);
  });
});

class Net extends nn.Module {
  blocks = [new nn.Linear(2, 2), new nn.Sequential({ act: new nn.ReLU() })];
  list = new nn.ModuleList([new nn.Identity()]);
  heads = new nn.ModuleDict({ one: new nn.Identity() as nn.Module });
  forward(x: Tensor): Tensor {
    return this.blocks.reduce<Tensor>((y, block) => block.forward(y), x);
  }
}

describe('replacing modules', () => {
  test('in fields, arrays and containers, by path', () => {
    const net = new Net();
    for (const path of ['blocks.0', 'blocks.1.act', 'list.0', 'heads.one', 'list']) {
      const before = net.getSubmodule(path);
      const module = path === 'list' ? new nn.ModuleList([]) : new nn.Tanh();
      expect(net.setSubmodule(path, module)).toBe(before);
      expect(net.getSubmodule(path)).toBe(module);
    }
    expectValues(net.forward(tensor([0.5])), [Math.tanh(Math.tanh(0.5))]);
    expect(net.getSubmodule('')).toBe(net);
    expect(() => net.getSubmodule('blocks.7')).toThrow("no module 'blocks.7'");
    expect(() => net.setSubmodule('nowhere', new nn.Tanh())).toThrow(ArgumentError);
    expect(() => net.setSubmodule('list', {} as nn.Module)).toThrow(ArgumentError);
  });
});

describe('hooks on gradients', () => {
  test("see both gradients, may replace the input's, and come off", () => {
    const layer = new nn.Linear(2, 1, { bias: false });
    layer.weight.setData([2, 3]);
    const seen: unknown[] = [];
    const handle = layer.registerFullBackwardHook((module, gradInput, gradOutput) => {
      seen.push([module === layer, gradInput?.arraySync(), gradOutput.arraySync()]);
      return gradInput?.mul(10);
    });
    const run = (): unknown => {
      const x = new nn.Parameter(tensor([[1, 1]]));
      layer.forward(x).mul(5).sum().backward();
      return x.grad?.arraySync();
    };
    expect(run()).toEqual([[100, 150]]);
    expect(seen).toEqual([[true, [[10, 15]], [[5]]]]);
    // Data has no gradient: the hook still hears of the result's.
    layer
      .forward(tensor([[1, 1]]))
      .sum()
      .backward();
    expect(seen[1]).toEqual([true, undefined, [[1]]]);
    handle.remove();
    expect(run()).toEqual([[10, 15]]);
    expect(seen).toHaveLength(2);
    expectValues(layer.weight.grad as Tensor, [[11, 11]]);
  });
});

test('loadStateDict names all that does not fit at once', () => {
  const layer = new nn.Linear(2, 1);
  const before = layer.weight.arraySync();
  const load = (): unknown => layer.loadStateDict({ weight: zeros([2, 2]), other: zeros([1]) });
  expect(load).toThrow(ShapeError);
  expect(load).toThrow('weight is [2,2], expected [1,2]; missing: bias; unexpected: other');
  expect(() => layer.loadStateDict({ weight: zeros([2, 2]) }, { strict: false })).toThrow(
    ShapeError,
  );
  expect(layer.weight.arraySync()).toEqual(before);
});

describe('summary', () => {
  test('counts the arithmetic of products, convolutions and attention', () => {
    const model = new nn.Sequential(
      new nn.Conv2d(2, 4, 3, { groups: 2 }),
      new nn.ConvTranspose2d(4, 3, 2),
      new nn.Flatten(),
      new nn.Linear(3 * 5 * 5, 10),
    );
    const table = nn.summary(model, [2, 2, 6, 6]);
    expect(table.layers.map(({ flops }) => flops)).toEqual([
      2 * (2 * 4 * 4 * 4) * 9,
      2 * (2 * 4 * 4 * 4) * (3 * 4),
      0,
      2 * (2 * 10) * 75,
    ]);
    expect(table.flops).toBe(table.layers.reduce((sum, { flops }) => sum + flops, 0));
    expect(table.activations).toBe(128 + 150 + 150 + 20);
    class Attend extends nn.Module {
      forward(x: Tensor): Tensor {
        return F.scaledDotProductAttention(x, x, x);
      }
    }
    // q kᵀ and the weights times v.
    expect(nn.summary(new Attend(), [1, 5, 4]).flops).toBe(2 * 2 * 5 * 5 * 4);
  });
});

describe('Transformer', () => {
  test('is its encoder, then its decoder; names as in PyTorch', () => {
    manualSeed(3);
    const options = { dModel: 4, nhead: 2, numEncoderLayers: 1, numDecoderLayers: 2 };
    const model = new nn.Transformer({ ...options, dimFeedforward: 6, batchFirst: true }).eval();
    const names = namesOf(model);
    expect(names[0]).toBe('encoder.layers.0.self_attn.in_proj_weight');
    expect(names).toContain('decoder.layers.1.multihead_attn.out_proj.weight');
    expect(names).toContain('decoder.norm.bias');
    const [src, tgt] = [randn([2, 5, 4]), randn([2, 3, 4])];
    const mask = nn.generateSquareSubsequentMask(3);
    const output = model.forward(src, tgt, { tgtMask: mask });
    const memory = model.encoder.forward(src);
    expectValues(output, model.decoder.forward(tgt, memory, { tgtIsCausal: true }).arraySync());
    // Causal: a later target does not change an earlier output.
    const changed = tgt.narrow(1, 0, 2);
    const short = model.forward(src, changed, { tgtIsCausal: true });
    expectValues(short, output.narrow(1, 0, 2).arraySync());
    expect(() => new nn.TransformerDecoder(() => new nn.TransformerDecoderLayer(4, 2), 0)).toThrow(
      ArgumentError,
    );
  });
});

describe('layers of one function', () => {
  test('values', () => {
    expectValues(new nn.Softmax2d().forward(zeros([1, 2, 1, 1])), [[[[0.5]], [[0.5]]]]);
    expect(() => new nn.Softmax2d().forward(zeros([2, 2]))).toThrow(ShapeError);
    expectValues(
      new nn.RReLU({ lower: 0.25, upper: 0.75 }).eval().forward(tensor([-2, 2])),
      [-1, 2],
    );
    manualSeed(5);
    const slopes = new nn.RReLU().forward(ones([1000]).neg()).neg();
    expect(slopes.min().itemSync()).toBeGreaterThanOrEqual(1 / 8);
    expect(slopes.max().itemSync()).toBeLessThanOrEqual(1 / 3);
    expect(slopes.mean().itemSync()).toBeCloseTo((1 / 8 + 1 / 3) / 2, 2);
    expect(() => F.rrelu(ones([1]), { lower: 1, upper: 0 })).toThrow(ArgumentError);
    expectValues(new nn.AlphaDropout(0.5).eval().forward(ones([2])), [1, 1]);
    expectValues(new nn.CosineSimilarity().forward(tensor([[1, 0]]), tensor([[1, 1]])), [
      Math.SQRT1_2,
    ]);
    expectValues(
      new nn.PairwiseDistance({ p: 1 }).forward(tensor([[1, 0]]), tensor([[0, 0]])),
      [1.000002],
    );
    expectValues(new nn.LPPool1d(2, 2).forward(tensor([[3, 4]])), [[5]]);
    expectValues(new nn.LPPool2d(1, 2).forward(ones([1, 2, 2])), [[[4]]]);
    expectValues(new nn.ConstantPad1d(1, 7).forward(tensor([1])), [7, 1, 7]);
    expect(new nn.ConstantPad2d(1, 7).forward(zeros([1, 1])).shape).toEqual([3, 3]);
    expect(new nn.ConstantPad3d(1, 7).forward(zeros([1, 1, 1])).shape).toEqual([3, 3, 3]);
    const bags = new nn.EmbeddingBag(4, 1, { mode: 'sum' });
    bags.weight.setData([1, 2, 4, 8]);
    expectValues(bags.forward(tensor([[0, 3]], { dtype: 'int32' })), [[9]]);
    expect(() => new nn.EmbeddingBag(4, 1, { mode: 'mid' as 'sum' })).toThrow(ArgumentError);
  });

  test('losses', () => {
    const [a, p, n] = [tensor([[0, 0]]), tensor([[3, 4]]), tensor([[0, 1]])];
    // 5 - 1 + 1; swapped, the nearer of the two is the same.
    expectValues(new nn.TripletMarginWithDistanceLoss().forward(a, p, n), 5);
    const distanceFunction = (x: Tensor, y: Tensor): Tensor => x.sub(y).abs().amax(-1);
    const loss = new nn.TripletMarginWithDistanceLoss({ distanceFunction, margin: 2 });
    expectValues(loss.forward(a, p, n), 4 - 1 + 2);
    const scores = tensor([
      [0.5, -2],
      [3, 1],
    ]);
    const targets = tensor([
      [1, 1],
      [1, -1],
    ]);
    expectValues(new nn.HingeLoss().forward(scores, targets), (0.5 + 3 + 0 + 2) / 2);
    expectValues(F.hingeLoss(scores, targets, { norm: 'L2', reduction: 'none' }), [9.25, 4]);
    expect(() => F.hingeLoss(scores, targets, { norm: 'L3' as 'L2' })).toThrow(ArgumentError);
  });
});
