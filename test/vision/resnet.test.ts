// ResNets against torchvision's: state dicts, scores, one step of training.
import { describe, expect, onTestFinished, test } from 'vitest';
import { ArgumentError, evaluate, F, nn, tensor, zeros, setAlgorithms } from 'tengen';
import { ResNet, resnet18, resnet34, resnet50, resnext50_32x4d } from 'tengen/vision';
import { draw, expectSame, expectState, fill, images, readFixture } from './support.ts';

const { models, training } = readFixture('resnet');
const small = { numClasses: 10, stem: 'cifar' } as const;
const make = <M>(build: () => M): M => nn.init.skip(build);

describe('ResNet', () => {
  test('names and shapes are those of torchvision', () => {
    for (const build of [resnet34, resnet50, resnext50_32x4d]) {
      const model = make(() => build({ numClasses: 10 }));
      expectState(model, models[build.name]!);
    }
    expect(make(() => resnet18()).fc.weight.shape).toEqual([1000, 512]);
  });

  test('resnet18 computes the same with both stems', async () => {
    await expectSame(
      make(() => resnet18({ numClasses: 10 })),
      models['resnet18']!,
    );
    await expectSame(
      make(() => resnet18(small)),
      models['resnet18_cifar']!,
      32,
    );
  });

  // Batch norm over 8 images of 2 x 2 and relu's kinks magnify rounding: minimal filtering, which
  // rounds a few times more than a direct sum, is held to 5e-3 of a gradient's norm here.
  test.each([
    { reproducible: true, tolerance: 1e-3 },
    { reproducible: false, tolerance: 5e-3 },
  ])('a step of training has the same loss, gradients and statistics (%o)', async (policy) => {
    const { reproducible, tolerance } = policy;
    setAlgorithms({ reproducible });
    onTestFinished(() => setAlgorithms({}));
    const model = make(() => resnet18(small));
    fill(model);
    const labels = tensor([0, 1, 2, 3, 4, 5, 6, 7], { dtype: 'int32' });
    const loss = F.crossEntropy(model.forward(images(8, 16)), labels);
    loss.backward();
    evaluate(loss, ...model.parameters().map((p) => p.grad!), ...model.buffers());
    expect(await loss.item()).toBeCloseTo(training!.loss, 4);
    const state = model.stateDict();
    for (const [name, [sum]] of Object.entries(training!.statistics)) {
      const values = await state[name]!.data();
      const size = sumOf(values, Math.abs);
      const actual = sumOf(values, (value) => value);
      expect(Math.abs(actual - sum), name).toBeLessThan(1e-4 * size);
    }
    for (const [index, [name, parameter]] of [...model.namedParameters()].entries()) {
      const [norm, product] = training!.gradients[name]!;
      const grad = await parameter.grad!.data();
      const direction = draw(index, grad.length);
      const actual = sumOf(grad, (value, i) => value * direction[i]!);
      const length = Math.sqrt(sumOf(grad, (value) => value * value));
      expect(Math.abs(length - norm), name).toBeLessThan(tolerance * norm);
      expect(Math.abs(actual - product), name).toBeLessThan(tolerance * norm);
    }
  });

  test('blocks start as the identity if asked', () => {
    const layout = { block: 'basic', layers: [1, 1, 1, 1] } as const;
    const state = make(() => new ResNet(layout, { ...small, zeroInitResidual: true })).stateDict();
    for (const [name, value] of [
      ['layer1.0.bn1.weight', 1],
      ['layer1.0.bn2.weight', 0],
      ['layer2.0.downsample.1.weight', 1],
      ['layer4.0.bn2.weight', 0],
    ] as const) {
      expect(new Set(state[name]!.float().dataSync()), name).toEqual(new Set([value]));
    }
  });

  test('impossible layouts are refused', () => {
    const layers = [1, 1, 1, 1] as const;
    expect(() => new ResNet({ block: 'basic', layers, groups: 2 })).toThrow(ArgumentError);
    expect(() => resnet18({ stem: 'mnist' as 'cifar' })).toThrow("got 'mnist'");
    const model = make(() => resnet18(small));
    expect(() => model.forward(zeros([1, 1, 32, 32]))).toThrow('channels');
  });
});

/** Sum of what `term` makes of each value. */
function sumOf(values: ArrayLike<number>, term: (value: number, index: number) => number): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += term(values[i]!, i);
  return total;
}
