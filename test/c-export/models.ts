// Programs that exporters are tried with: a convolutional network, a recurrent one with a loop, a small
// transformer, a loop that a condition ends, integers and halves, and a training step.
import {
  F,
  manualSeed,
  nn,
  noGrad,
  optim,
  randint,
  randn,
  tensor,
  type Tensor,
  whileLoop,
} from 'tengen';
import { DigitNet } from '../../examples/mnist/model.ts';
import { cTarget } from '../../src/backends/c/targets.ts';
import { bytes, capture, Captured } from './capture.ts';

export interface ExampleModel {
  readonly name: string;
  readonly captured: Captured;
  /** Inputs of several runs, in the order of the program's. */
  readonly runs: readonly (readonly Uint8Array[])[];
}

const inference = <T>(build: () => T): T => noGrad(build);

export function digits(): ExampleModel {
  manualSeed(1);
  const model = new DigitNet();
  model.eval();
  const [image, other] = [randn(1, 1, 28, 28), randn(1, 1, 28, 28)];
  const captured = capture({ image }, () => inference(() => ({ scores: model.forward(image) })));
  return { name: 'mnist', captured, runs: [[bytes(image)], [bytes(other)]] };
}

export function gru(): ExampleModel {
  manualSeed(2);
  const model = new nn.GRU(5, 9, { numLayers: 2 });
  const [sequence, state] = [randn(40, 2, 5), randn(2, 2, 9)];
  const captured = capture({ sequence, state }, () =>
    inference(() => {
      const [output, last] = model.forward(sequence, state);
      return { output, last };
    }),
  );
  if (!captured.compile(cTarget('scalar', 'strict')).plan.loops?.length)
    throw new Error('there is no loop');
  const more = [randn(40, 2, 5), randn(2, 2, 9)].map(bytes);
  return { name: 'gru', captured, runs: [[bytes(sequence), bytes(state)], more] };
}

export function transformer(): ExampleModel {
  manualSeed(3);
  const embedding = new nn.Embedding(11, 16);
  const layer = new nn.TransformerEncoderLayer(16, 2, {
    dimFeedforward: 24,
    activation: 'gelu',
    batchFirst: true,
  });
  layer.eval();
  const tokens = randint(0, 11, [2, 7]);
  const captured = capture({ tokens }, () =>
    inference(() => {
      const hidden = layer.forward(embedding.forward(tokens), { isCausal: true });
      return { probabilities: F.softmax(hidden.matmul(embedding.weight.transpose(0, 1)), 2) };
    }),
  );
  return {
    name: 'transformer',
    captured: captured.withLimits('tokens', { least: 0, below: 11 }),
    runs: [[bytes(tokens)], [bytes(randint(0, 11, [2, 7]))]],
  };
}

/** Newton's method until it stands still: the number of iterations depends on the input. */
export function root(): ExampleModel {
  const a = tensor([2, 3, 1e4, 0.25, 17]);
  const captured = capture({ a }, () => {
    const [x, count] = whileLoop(
      ([guess]) => guess.mul(guess).sub(a).abs().gt(a.mul(1e-6)).any(),
      ([guess, n]): [Tensor, Tensor] => [guess.add(a.div(guess)).mul(0.5), n.add(1)],
      [a, tensor(0, { dtype: 'int32' })],
    );
    return { x, count };
  });
  const others = [
    [1, 1, 1, 1, 1],
    [1e-6, 1e6, 1, 5, 3],
  ].map((list) => [bytes(tensor(list))]);
  return { name: 'root', captured, runs: [[bytes(a)], ...others] };
}

/** Element types that are stored in other forms than they are computed in. */
export function dtypes(): ExampleModel {
  manualSeed(4);
  const half = randn(3, 37).to('float16');
  const brain = randn(3, 37).to('bfloat16');
  const small = randint(-100, 100, [3, 37]).to('int8');
  const large = randint(-2147483648, 2147483647, [3, 37]);
  const inputs = { half, brain, small, large };
  const captured = capture(inputs, () => ({
    halves: half.mul(3).add(brain.to('float16')),
    brains: brain.exp().add(1),
    bytes: small.mul(small).add(small),
    words: large.mul(large).sub(large.neg()).abs(),
    masks: large.gt(0).logicalAnd(half.lt(0)),
    doubles: half
      .to('float64')
      .mul(1 / 3)
      .tanh()
      .sum(1),
    echo: small,
  }));
  return { name: 'dtypes', captured, runs: [[half, brain, small, large].map(bytes)] };
}

/** An index that is computed: whether it is in range shows only in the run. */
export function checked(): ExampleModel {
  const table = tensor([10, 20, 30]);
  const x = tensor([0.4]);
  const captured = capture({ x }, () => {
    const index = x.mul(4).to('int32');
    return { picked: table.indexSelect(0, index), least: index.min(), most: index.max() };
  });
  const [picked, least, most] = captured.request.outputs;
  const request = {
    ...captured.request,
    outputs: [picked!],
    checks: [
      {
        least: least!.binding,
        most: most!.binding,
        dtype: 'int32' as const,
        limits: { least: 0, below: 3 },
      },
    ],
  };
  const { program, constantLeaves } = captured;
  return {
    name: 'checked',
    captured: new Captured(program, request, constantLeaves),
    runs: [[bytes(x)], [bytes(tensor([0]))]],
  };
}

export const LEARNING_RATE = 0.0625;

/** One step of stochastic gradient descent with momentum; the learning rate is an input. */
export function training(): ExampleModel {
  manualSeed(5);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(4 * 4 * 4, 5),
  );
  const optimizer = new optim.SGD(model.parameters(), { lr: LEARNING_RATE, momentum: 0.9 });
  const images = randn(6, 1, 8, 8);
  const labels = randint(0, 5, [6]);
  const captured = capture(
    { images, labels },
    () => {
      const loss = F.crossEntropy(model.forward(images), labels);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return { loss };
    },
    { learning_rate: LEARNING_RATE },
  );
  const rate = (value: number): Uint8Array => bytes(tensor(value));
  return {
    name: 'training',
    captured: captured.withLimits('labels', { least: 0, below: 5 }),
    runs: [LEARNING_RATE, 0.5, 0.125].map((value) => [bytes(images), bytes(labels), rate(value)]),
  };
}

export const MODELS = { digits, gru, transformer, root, dtypes, checked, training } as const;
