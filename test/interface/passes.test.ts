// The switches of the compiler's passes: what each does, when it must not, and that no result depends
// on them but for rounding - and in strict numerics not at all.
import { afterEach, describe, expect, test } from 'vitest';
import {
  configure,
  evaluate,
  explain,
  F,
  nn,
  noGrad,
  type PassName,
  passes,
  randn,
  scan,
  setNumerics,
  setPasses,
  tensor,
  type Tensor,
  zeros,
} from 'tengen';
import type { CompiledProgram } from '../../src/compile/program.ts';
import { evaluator } from '../../src/interface/transform/install.ts';

configure({ device: 'wasm', threads: 1 });

afterEach(() => {
  setPasses('all');
  setNumerics('fast');
});

const NAMES = Object.keys(passes()) as PassName[];

/** Values of `make`, without gradients, and the program that computed them. */
function computed(make: () => Tensor): { values: Float32Array; compiled: CompiledProgram } {
  // The first time draws initial parameters.
  noGrad(make).dataSync();
  using result = noGrad(make);
  const values = result.dataSync().slice() as Float32Array;
  return { values, compiled: evaluator().recent[0]!.entry.compiled };
}

/** Noise that is there, and no part of what is computed next. */
function noise(shape: readonly number[]): Tensor {
  const x = randn([...shape]);
  evaluate(x);
  return x;
}

function timesApplied({ applied }: CompiledProgram, rule: string): number {
  return applied.find(([name]) => name === rule)?.[1] ?? 0;
}

function folded(make: () => Tensor): number {
  return timesApplied(computed(make).compiled, 'batch-norm-folding');
}

function expectClose(actual: Float32Array, expected: Float32Array, tolerance = 2e-6): void {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
  actual.forEach((value, i) =>
    expect(Math.abs(value - expected[i]!)).toBeLessThan(tolerance * largest),
  );
}

/** Statistics and parameters that are not the initial ones, in evaluation. */
function trained(norm: nn.BatchNorm2d | nn.BatchNorm1d): typeof norm {
  const { numFeatures } = norm;
  norm.runningMean!.setData(Float32Array.from({ length: numFeatures }, (_, i) => 0.3 * i - 0.5));
  norm.runningVar!.setData(Float32Array.from({ length: numFeatures }, (_, i) => 0.2 + 0.4 * i));
  norm.weight!.setData(Float32Array.from({ length: numFeatures }, (_, i) => 1.5 - 0.3 * i));
  norm.bias!.setData(Float32Array.from({ length: numFeatures }, (_, i) => 0.1 * i * i));
  norm.eval();
  return norm;
}

describe('batch-norm folding', () => {
  const x = noise([2, 3, 9, 8]);
  const norm = trained(new nn.BatchNorm2d(5));
  const plain = new nn.Conv2d(3, 5, 3, { bias: false });
  const biased = new nn.Conv2d(3, 5, 3, { padding: 1 });
  const grouped = new nn.Conv2d(3, 6, 3, { groups: 3 });
  const transposed = new nn.ConvTranspose2d(3, 5, 3, { stride: 2 });
  const linear = new nn.Linear(8, 4);
  const [six, four] = [trained(new nn.BatchNorm2d(6)), trained(new nn.BatchNorm1d(4))];
  const scale = new nn.Parameter(tensor([0.5, 2, -1, 3, 0.1], { shape: [5, 1, 1] }));

  test.each<[string, () => Tensor]>([
    ['a convolution', () => norm.forward(plain.forward(x))],
    ['one with a bias, and an activation', () => norm.forward(biased.forward(x)).relu()],
    ['groups', () => six.forward(grouped.forward(x))],
    ['transposed', () => norm.forward(transposed.forward(x))],
    ['a linear layer', () => four.forward(linear.forward(x.reshape([54, 8])))],
    ['division and subtraction', () => biased.forward(x).div(scale).sub(scale)],
    ['a factor in front', () => scale.mul(plain.forward(x))],
  ])('%s: the values but for rounding', (_, make) => {
    const { values, compiled } = computed(make);
    expect(timesApplied(compiled, 'batch-norm-folding')).toBeGreaterThan(0);
    // What is left is computed ahead.
    expect(compiled.kernels.flatMap(({ ops }) => ops)).not.toContain('mul');
    setPasses({ batchNormFolding: false });
    expect(folded(make)).toBe(0);
    expectClose(values, computed(make).values);
  });

  test('new parameters are seen', () => {
    const own = trained(new nn.BatchNorm2d(5));
    const run = (): Tensor => own.forward(plain.forward(x));
    expect(folded(run)).toBeGreaterThan(0);
    own.weight!.setData(new Float32Array(5).fill(0));
    own.bias!.setData(new Float32Array(5).fill(7));
    expect(new Set(computed(run).values)).toEqual(new Set([7]));
  });

  test('not where somebody else reads the convolution', () => {
    const [y, z] = noGrad(() => {
      const y = plain.forward(x);
      return [y, norm.forward(y)] as const;
    });
    evaluate(y, z);
    expect(timesApplied(evaluator().recent[0]!.entry.compiled, 'batch-norm-folding')).toBe(0);
  });

  test('not of factors that are computed, are given, or differ by position', () => {
    const given = noise([5, 1, 1]);
    const wide = new nn.Parameter(noise([7, 6]));
    expect(folded(() => plain.forward(x).mul(given))).toBe(0);
    expect(folded(() => plain.forward(x).mul(wide))).toBe(0);
    expect(folded(() => plain.forward(x).mul(x.mean([0, 2, 3]).sum()))).toBe(0);
    expect(folded(() => plain.forward(x).mul(2.5))).toBe(0);
    expect(folded(() => F.conv2d(x, noise([5, 3, 3, 3])).mul(scale))).toBe(0);
  });

  test('not while gradients are recorded, nor in training', () => {
    norm.forward(plain.forward(x)).dataSync();
    expect(timesApplied(evaluator().recent[0]!.entry.compiled, 'batch-norm-folding')).toBe(0);
    const training = new nn.BatchNorm2d(5);
    expect(folded(() => training.forward(plain.forward(x)))).toBe(0);
  });

  test('not in strict numerics: no bit depends on it', () => {
    setNumerics('strict');
    expect(folded(() => norm.forward(plain.forward(x)))).toBe(0);
  });
});

describe('what else each pass does', () => {
  const image = noise([1, 4, 12, 12]);
  const first = new nn.Conv2d(4, 8, 3, { padding: 1 });
  const second = new nn.Conv2d(8, 8, 3, { padding: 1 });
  const kernels = (make: () => Tensor): number => computed(make).compiled.kernels.length;

  test('epilogues: bias, residual sum and activation need no kernel of their own', () => {
    const make = (): Tensor => {
      const y = first.forward(image).relu();
      return second.forward(y).add(y).relu();
    };
    const fused = kernels(make);
    setPasses({ epilogues: false });
    expect(kernels(make)).toBe(fused + 2);
    setPasses({ elementwiseFusion: false });
    // Bias and relu; bias, sum and relu; and the two biases as [1, 8, 1, 1].
    expect(kernels(make)).toBe(fused + 5 + 0);
  });

  test('preprocessing: a photograph goes straight into the first convolution', () => {
    const pixels = tensor(
      Uint8Array.from({ length: 20 * 26 * 3 }, (_, i) => (i * 37) % 256),
      { shape: [1, 20, 26, 3] },
    );
    const stem = new nn.Conv2d(3, 8, 7, { stride: 2, padding: 3 });
    const mean = tensor([0.4, 0.5, 0.6], { shape: [3, 1, 1] });
    const make = (): Tensor => {
      const planes = pixels.to('float32').div(255).permute([0, 3, 1, 2]);
      const resized = F.interpolate(planes, { size: [16, 18], mode: 'bilinear' });
      return stem.forward(resized.sub(mean).div(0.25)).relu();
    };
    const { values, compiled } = computed(make);
    expect(compiled.kernels[0]?.ops).toContain('cast');
    expect(compiled.kernels[0]?.ops).toContain('readTaps');
    expect(compiled.kernels[0]?.schedule).toContain('convolution');
    setPasses({ preprocessing: false });
    const apart = computed(make);
    expect(apart.compiled.kernels.length).toBeGreaterThan(compiled.kernels.length);
    expectClose(apart.values, values);
  });

  test('weight packing and constant folding: what is computed ahead', () => {
    const make = (): Tensor => first.forward(image).mul(first.bias!.exp().reshape([8, 1, 1]));
    const both = computed(make).compiled;
    expect(both.prepared).not.toBeNull();
    setPasses({ weightPacking: false });
    const values = computed(make).compiled;
    expect(values.kernels.length).toBeGreaterThan(both.kernels.length);
    setPasses({ constantFolding: false });
    expect(computed(make).compiled.prepared).toBeNull();
    setPasses({ weightPacking: true });
    const packed = computed(make).compiled;
    expect(packed.prepared).not.toBeNull();
    expect(packed.kernels.flatMap(({ ops }) => ops)).toContain('exp');
  });

  test('constant folding has a limit: what is much larger than what it is made of is not kept', () => {
    const rows = new nn.Parameter(noise([1024, 1]));
    const columns = new nn.Parameter(noise([1, 1024]));
    const data = noise([1024]);
    const make = (): Tensor => rows.matmul(columns).sum(0).add(data);
    expect(computed(make).compiled.prepared).toBeNull();
  });

  test('common subexpressions of two branches are computed once', () => {
    const branch = (bias: number): Tensor => first.forward(image).sum([2, 3]).add(bias);
    const make = (): Tensor => branch(1).add(branch(2));
    const joined = kernels(make);
    setPasses({ commonSubexpressions: false });
    expect(kernels(make)).toBeGreaterThan(joined);
  });

  test('dead outputs: carries that serve nothing, and values of iterations that nobody reads', () => {
    const steps = noise([6, 32]);
    const make = (): Tensor => {
      const carries = { kept: zeros([32]), dead: zeros([32]) };
      const [last] = scan(
        ({ kept, dead }, step: Tensor) => {
          const next = kept.add(step).tanh();
          return [{ kept: next, dead: dead.add(step.exp()) }, next.mul(3)];
        },
        carries,
        steps,
      );
      return last.kept.add(0);
    };
    const { values, compiled } = computed(make);
    const ops = compiled.kernels.flatMap((kernel) => kernel.ops);
    expect(ops).toContain('tanh');
    expect(ops).not.toContain('exp');
    setPasses({ deadOutputs: false });
    const whole = computed(make);
    expect(whole.compiled.kernels.flatMap((kernel) => kernel.ops)).toContain('exp');
    expect(whole.compiled.unplannedBytes).toBeGreaterThan(compiled.unplannedBytes + 6 * 32 * 4 - 1);
    expect(whole.values).toEqual(values);
  });

  test('algorithm selection: without, the general schedule of each kind', () => {
    const make = (): Tensor => second.forward(first.forward(image));
    setPasses({ algorithmSelection: false });
    const names = computed(make).compiled.kernels.map(({ schedule }) => schedule);
    expect(names.every((name) => name.startsWith('channel convolution'))).toBe(true);
    const depthwise = new nn.Conv2d(4, 4, 3, { groups: 4 });
    const [only] = computed(() => depthwise.forward(image)).compiled.kernels;
    expect(only?.schedule).toContain('depthwise');
  });

  test('explain() says what was rewritten and what the arena saves', () => {
    const norm = trained(new nn.BatchNorm2d(8));
    computed(() => norm.forward(first.forward(image)));
    expect(explain()).toMatch(/rewritten: .*batch-norm-folding \d/);
    expect(explain()).toMatch(/if every value had its own memory/);
  });
});

/** Convolutions, groups, shuffled channels, pooling, branches, residuals and a dense end. */
function network(): () => Tensor {
  const stem = new nn.Conv2d(3, 8, 3, { stride: 2, padding: 1, bias: false });
  const depthwise = new nn.Conv2d(8, 8, 3, { groups: 8, padding: 1, bias: false });
  const point = new nn.Conv2d(8, 8, 1, { bias: false });
  const norms = [8, 8, 8].map((channels) => trained(new nn.BatchNorm2d(channels)));
  const head = new nn.Linear(8, 5);
  const image = noise([2, 3, 20, 20]);
  return () => {
    let x = norms[0]!.forward(stem.forward(image.sub(0.5).mul(2))).relu();
    x = F.maxPool2d(x, 2);
    const y = F.relu6(norms[1]!.forward(depthwise.forward(x)));
    x = norms[2]!.forward(point.forward(y)).add(x);
    x = x.reshape([2, 2, 4, 5, 5]).permute([0, 2, 1, 3, 4]).reshape([2, 8, 5, 5]);
    return F.softmax(head.forward(x.mean([2, 3])), 1);
  };
}

describe('results do not depend on the passes', () => {
  const make = network();
  const variants: readonly [string, () => void][] = [
    ['none', () => setPasses('none')],
    ...NAMES.map((name): [string, () => void] => [
      `without ${name}`,
      () => setPasses({ [name]: false }),
    ]),
    ...NAMES.map((name): [string, () => void] => [
      `only ${name}`,
      () => {
        setPasses('none');
        setPasses({ [name]: true });
      },
    ]),
  ];
  const fast = computed(make).values;
  setNumerics('strict');
  const strict = computed(make).values;
  setNumerics('fast');

  test.each(variants)('%s', (_, choose) => {
    choose();
    expectClose(computed(make).values, fast);
    setNumerics('strict');
    expect(computed(make).values).toEqual(strict);
  });

  test('a training step without passes', () => {
    const model = new nn.Sequential(
      new nn.Conv2d(1, 4, 3, { bias: false }),
      new nn.BatchNorm2d(4),
      new nn.ReLU(),
      new nn.Flatten(),
      new nn.Linear(4 * 36, 3),
    );
    const x = noise([4, 1, 8, 8]);
    const gradients = (): Float32Array[] => {
      model.zeroGrad();
      model.forward(x).square().mean().backward();
      return model.parameters().map((each) => each.grad!.dataSync().slice() as Float32Array);
    };
    const withPasses = gradients();
    setPasses('none');
    gradients().forEach((each, i) => expectClose(each, withPasses[i]!, 2e-5));
  });
});

describe('switches', () => {
  test('all, none, and by name', () => {
    expect(Object.values(passes()).every(Boolean)).toBe(true);
    setPasses('none');
    expect(Object.values(passes()).some(Boolean)).toBe(false);
    configure({ passes: { epilogues: true } });
    expect(passes().epilogues).toBe(true);
    expect(passes().preprocessing).toBe(false);
    setPasses('all');
    expect(Object.values(passes()).every(Boolean)).toBe(true);
  });

  test('what is no pass is refused, and nothing changes', () => {
    const bad = { foldBatchNorm: false } as { batchNormFolding?: boolean };
    expect(() => setPasses(bad)).toThrow(/no option 'foldBatchNorm'/);
    expect(() => setPasses('most' as 'all')).toThrow(/'all', 'none' or a record, got 'most'/);
    expect(() => setPasses({ epilogues: 1 as never })).toThrow(/epilogues is true or false, got 1/);
    expect(() => setPasses(null as never)).toThrow(/record of options/);
    expect(passes().epilogues).toBe(true);
  });
});
