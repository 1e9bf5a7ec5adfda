// Where parameters start: PyTorch's bounds, reproducible from a seed.
import { describe, expect, test } from 'vitest';
import { manualSeed, nn, type Tensor, zeros } from 'tengen';

const values = (x: Tensor): number[] => Array.from(x.dataSync());
const parameter = (...shape: number[]): nn.Parameter => new nn.Parameter(zeros(shape));

function moments(x: Tensor): { mean: number; deviation: number; largest: number } {
  const list = values(x);
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  const squares = list.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const largest = Math.max(...list.map(Math.abs));
  return { mean, deviation: Math.sqrt(squares / list.length), largest };
}

/** Uniform within `bound`: nothing beyond, something near, the right deviation. */
function expectUniform(x: Tensor, bound: number): void {
  const { mean, deviation, largest } = moments(x);
  expect(largest).toBeLessThanOrEqual(Math.fround(bound));
  expect(largest).toBeGreaterThan(0.98 * bound);
  // Four deviations of a mean of so many draws.
  expect(Math.abs(mean)).toBeLessThan((4 * bound) / Math.sqrt(3 * x.size));
  expect(deviation / (bound / Math.sqrt(3))).toBeCloseTo(1, 1);
}

describe('initialization', () => {
  test('Linear and Conv start uniform within 1 / sqrt(fan in)', () => {
    const linear = new nn.Linear(100, 200);
    expectUniform(linear.weight, 0.1);
    expectUniform(linear.bias as Tensor, 0.1);
    const conv = new nn.Conv2d(8, 300, 5, { groups: 2 });
    expectUniform(conv.weight, 0.1);
    expectUniform(conv.bias as Tensor, 0.1);
    // PyTorch counts the second axis of a transposed weight, whatever it stands for.
    expectUniform(new nn.ConvTranspose2d(40, 4, 5).weight, 0.1);
    expectUniform(new nn.Bilinear(100, 7, 30).weight, 0.1);
  });

  test('the named rules have their bounds and deviations', () => {
    expectUniform(nn.init.xavierUniform(parameter(100, 200)), Math.sqrt(6 / 300));
    expectUniform(nn.init.kaimingUniform(parameter(200, 50, 2)), Math.sqrt(6 / 100));
    const relu = nn.init.kaimingNormal(parameter(100, 200), {
      nonlinearity: 'relu',
      mode: 'fanOut',
    });
    expect(moments(relu).deviation).toBeCloseTo(Math.sqrt(2 / 100), 2);
    expect(moments(nn.init.xavierNormal(parameter(100, 200))).deviation).toBeCloseTo(
      Math.sqrt(2 / 300),
      2,
    );
    const normal = moments(nn.init.normal(parameter(10_000), 3, 0.5));
    expect(normal.mean).toBeCloseTo(3, 1);
    expect(normal.deviation).toBeCloseTo(0.5, 1);
    expect(values(nn.init.constant(parameter(2), 0.25))).toEqual([0.25, 0.25]);
    expect(nn.init.calculateGain('leakyRelu', 0)).toBeCloseTo(Math.SQRT2);
    expect(() => nn.init.xavierUniform(parameter(3))).toThrow('a weight needs two axes');
  });

  test('Embedding starts from N(0, 1)', () => {
    const { mean, deviation } = moments(new nn.Embedding(100, 100).weight);
    expect(mean).toBeCloseTo(0, 1);
    expect(deviation).toBeCloseTo(1, 1);
  });

  test('skip leaves draws out, and draws nothing from the generator', () => {
    const make = (): number[] => {
      manualSeed(5);
      return values(new nn.Linear(3, 3).weight);
    };
    const drawn = make();
    manualSeed(5);
    const skipped = nn.init.skip(() => [
      new nn.Linear(3, 3).weight,
      new nn.Embedding(3, 3).weight,
      new nn.LayerNorm(3).weight as Tensor,
    ]);
    expect(skipped.map((weight) => values(weight)[0])).toEqual([0, 0, 1]);
    expect(values(new nn.Linear(3, 3).weight)).toEqual(drawn);
    const failing = (): never => {
      throw new Error('while building');
    };
    expect(() => nn.init.skip(failing)).toThrow('while building');
    expect(make()).toEqual(drawn);
  });

  test('the same seed gives the same model, another one another', () => {
    const make = (seed: number): number[] => {
      manualSeed(seed);
      return values(new nn.Linear(3, 3).weight);
    };
    const first = make(5);
    expect(make(5)).toEqual(first);
    expect(make(6)).not.toEqual(first);
    manualSeed(5);
    const layer = new nn.Linear(3, 3);
    layer.resetParameters();
    expect(values(layer.weight)).not.toEqual(first);
  });
});
