// The models of test/onnx/fixtures: `npx tsx test/onnx/models.ts` writes the files.
import { writeFileSync } from 'node:fs';
import { info, model, node, weight } from './build.ts';

const wave = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.round(Math.sin(i * 2.3) * 64) / 64);

/** Convolution, pooling, normalization, and a Reshape whose shape is computed. */
const network = model({
  input: [info('image', 'float32', ['batch', 2, 6, 6])],
  output: [info('scores', 'float32', ['batch', 3])],
  initializer: [
    weight('kernel', [3, 2, 3, 3], wave(54)),
    weight('scale', [3], [1, 2, 3]),
    weight('shift', [3], [0, 1, -1]),
    weight('mean', [3], [0.5, 0, 0]),
    weight('variance', [3], [1, 1, 2]),
    weight('fc', [12, 3], wave(36)),
    weight('minus', [1], [-1], 'int64'),
    weight('first', [], [0], 'int64'),
    weight('axes', [1], [0], 'int64'),
  ],
  node: [
    node('Conv', ['image', 'kernel'], ['c'], { pads: [1, 1, 0, 0], strides: [1, 1] }),
    node('BatchNormalization', ['c', 'scale', 'shift', 'mean', 'variance'], ['n'], {
      epsilon: 1e-3,
    }),
    node('Relu', ['n'], ['r']),
    node('MaxPool', ['r'], ['p'], { kernel_shape: [2, 2], strides: [2, 2] }),
    node('Shape', ['p'], ['shape']),
    node('Gather', ['shape', 'first'], ['batch_size']),
    node('Unsqueeze', ['batch_size', 'axes'], ['rows']),
    node('Concat', ['rows', 'minus'], ['target'], { axis: 0 }),
    node('Reshape', ['p', 'target'], ['flat']),
    node('MatMul', ['flat', 'fc'], ['product']),
    node('Softmax', ['product'], ['scores'], { axis: -1 }),
  ],
});

const branch = (name: string, opType: string) => ({
  name,
  node: [node(opType, ['x'], [`${name}_out`])],
  output: [info(`${name}_out`, 'float32', [2])],
});

/** A condition, a loop with a carried value and one that is gathered, and a function with an attribute. */
const control = model(
  {
    input: [info('x', 'float32', [2]), info('flag', 'bool', [])],
    output: [info('y', 'float32', [2]), info('all', 'float32', ['rounds', 2])],
    initializer: [weight('count', [], [3], 'int64')],
    node: [
      node('If', ['flag'], ['chosen'], {
        then_branch: { graph: branch('yes', 'Neg') },
        else_branch: { graph: branch('no', 'Exp') },
      }),
      node('Loop', ['count', '', 'chosen'], ['last', 'all'], {
        body: {
          graph: {
            name: 'body',
            input: [info('i', 'int64', []), info('go', 'bool', []), info('v', 'float32', [2])],
            output: [
              info('on', 'bool', []),
              info('next', 'float32', [2]),
              info('copy', 'float32', [2]),
            ],
            node: [
              node('Identity', ['go'], ['on']),
              node('Add', ['v', 'x'], ['next']),
              node('Identity', ['next'], ['copy']),
            ],
          },
        },
      }),
      node('Scaled', ['last'], ['y'], { factor: 1.5 }, 'local'),
    ],
  },
  17,
  {
    functions: [
      {
        name: 'Scaled',
        domain: 'local',
        input: ['a'],
        output: ['b'],
        attribute: ['factor'],
        opsetImport: [{ domain: '', version: 17 }],
        node: [
          {
            opType: 'Constant',
            output: ['f'],
            attribute: [{ name: 'value_float', type: 1, refAttrName: 'factor' }],
          },
          node('Mul', ['a', 'f'], ['b']),
        ],
      },
    ],
  },
);

/** Integers, quantization and indexing. */
const quantized = model(
  {
    input: [info('x', 'uint8', [1, 1, 3, 3]), info('index', 'int64', [2])],
    output: [info('y', 'float32', [1, 1, 2, 2]), info('picked', 'float32', [1, 1, 2, 2])],
    initializer: [
      weight('xs', [], [0.5]),
      weight('xz', [], [3], 'uint8'),
      weight('w', [1, 1, 2, 2], [1, -2, 3, -4], 'int8'),
      weight('ws', [1], [0.25]),
      weight('wz', [1], [0], 'int8'),
      weight('ys', [], [1]),
      weight('yz', [], [10], 'uint8'),
    ],
    node: [
      node('QLinearConv', ['x', 'xs', 'xz', 'w', 'ws', 'wz', 'ys', 'yz'], ['q']),
      node('DequantizeLinear', ['q', 'ys', 'yz'], ['y']),
      node('Gather', ['y', 'index'], ['picked'], { axis: 3 }),
    ],
  },
  13,
);

export const FIXTURES: Readonly<Record<string, Uint8Array>> = { network, control, quantized };

if (process.argv[1]?.endsWith('models.ts') === true) {
  for (const [name, bytes] of Object.entries(FIXTURES)) {
    writeFileSync(new URL(`fixtures/${name}.onnx`, import.meta.url), bytes);
  }
}
