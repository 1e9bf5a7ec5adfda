// The models whose results are compared, each with an input, as program files.
import { configure, manualSeed, nn, noGrad, randn, type Tensor, trace } from 'tengen';
import { resnet18, shufflenetV2_x1_0 } from 'tengen/vision';
import { DigitNet } from '../../examples/mnist/model.ts';

export interface ModelKind {
  readonly id: string;
  readonly title: string;
  /** @param full whether images are as large as in practice. */
  make(full: boolean): {
    readonly module: nn.Module;
    readonly shape: readonly number[];
    forward(x: Tensor): readonly Tensor[];
  };
}

const imageNet = (build: () => nn.Module & { forward(x: Tensor): Tensor }) => (full: boolean) => {
  const module = build();
  const size = full ? 224 : 64;
  return { module, shape: [1, 3, size, size], forward: (x: Tensor) => [module.forward(x)] };
};

export const MODELS: readonly ModelKind[] = [
  {
    id: 'mnist',
    title: 'MNIST CNN',
    make: () => {
      const module = new DigitNet();
      return { module, shape: [1, 1, 28, 28], forward: (x) => [module.forward(x)] };
    },
  },
  { id: 'resnet18', title: 'ResNet-18', make: imageNet(resnet18) },
  { id: 'shufflenetv2', title: 'ShuffleNetV2', make: imageNet(shufflenetV2_x1_0) },
  {
    id: 'gru',
    title: 'GRU, 12 steps',
    make: () => {
      const module = new nn.GRU(16, 32, { numLayers: 2 });
      return { module, shape: [12, 2, 16], forward: (x) => module.forward(x) };
    },
  },
  {
    id: 'transformer',
    title: 'transformer',
    make: () => {
      const options = { dimFeedforward: 64, batchFirst: true };
      const module = new nn.TransformerEncoder(
        () => new nn.TransformerEncoderLayer(32, 4, options),
        2,
      );
      return { module, shape: [2, 12, 32], forward: (x) => [module.forward(x)] };
    },
  },
];

export interface DumpedModel {
  readonly file: Uint8Array;
  readonly x: Float32Array;
  readonly shape: readonly number[];
  /** What the traced function gives before it is dumped: all outputs, one after the other. */
  readonly traced: Readonly<Record<'strict' | 'fast', Uint8Array>>;
}

async function bytesOf(outputs: readonly Tensor[]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (const output of outputs) parts.push(new Uint8Array((await output.data()).slice().buffer));
  return new Uint8Array(Buffer.concat(parts));
}

/** A model with random weights, in evaluation mode, as a program file, and an input. */
export async function dumpModel(kind: ModelKind, full: boolean): Promise<DumpedModel> {
  manualSeed(7);
  const { module, shape, forward } = kind.make(full);
  // Statistics of batch norms that are those of some images: what is folded is then not the identity.
  module.train();
  const [first = 1, ...rest] = shape;
  for (const output of noGrad(() => forward(randn([4 * first, ...rest])))) await output.data();
  // What is still to be computed would be so in the numerics of whoever asks first.
  for (const [, buffer] of module.namedBuffers()) await buffer.data();
  for (const [, parameter] of module.namedParameters()) await parameter.data();
  module.eval();
  const x = randn([...shape]);
  const data = await x.data();
  const traced = trace((input: Tensor) => noGrad(() => [...forward(input)]), { name: 'parity' });
  configure({ numerics: 'strict' });
  const strict = await bytesOf(traced(x));
  configure({ numerics: 'fast' });
  const fast = await bytesOf(traced(x));
  const { bytes } = await traced.dump(null, {
    inputs: [x],
    module,
    names: { inputs: ['x'] },
    numerics: ['fast', 'strict'],
  });
  if (bytes === null) throw new Error('dump(null) gave no file');
  if (!(data instanceof Float32Array)) throw new Error('the input is not float32');
  return { file: bytes, x: data, shape, traced: { strict, fast } };
}
