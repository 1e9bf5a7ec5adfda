// Matrix products of many shapes on the native device: the least time of each, and of each kernel.
//   npx tsx bench/products.ts [NAME...] [--kernels] [--numerics strict] [--threads 1] [--milliseconds 400]
// NAME is BATCHxMxKxN or MxKxN, then a and b for transposed operands, e for bias and gelu: 64x3136x128b
import { parseArgs } from 'node:util';
import { sizeOf } from '../src/base/shape.ts';
import { NativeDevice } from '../src/backends/native/index.ts';
import { compile } from '../src/compile/compiler.ts';
import { Linearization } from '../src/graph/linearize.ts';
import type { Node } from '../src/graph/node.ts';
import { add, div, erf, matmul, mul, scalar, transpose } from '../src/graph/ops/index.ts';
import { leafFor } from '../test/support/graphs.ts';
import { noise } from './harness.ts';

const SHAPES =
  '256x256x256 512x512x512 1024x1024x1024 2048x2048x2048 64x3136x128b 128x64x3136a 64x128x3136 ' +
  '1024x256x768b 1024x256x1024b 1024x1024x256b 1024x256x768 256x1024x768a 128x768x2304 ' +
  '128x768x3072 128x3072x768 128x768x50257b 32x128x64x128b 32x128x64x128 32x128x128x64 ' +
  '32x128x32x128b 1x512x1000b 1x1280x1000b 1x512x1000 4x1280x1000b 8x1280x1000b 16x1280x1000b ' +
  '4x1280x1000 8x1280x1000 1000x512x1 131x157x611 64x10x128 64x128x10b 10x64x128a 33x33x33 ' +
  '64x64x64 100x100x100 128x768x3072be';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernels: { type: 'boolean', default: false },
    numerics: { type: 'string', default: 'fast' },
    milliseconds: { type: 'string', default: '400' },
    threads: { type: 'string', default: '1' },
  },
});

function productOf(name: string): { readonly node: Node; readonly flops: number } {
  const [, text = '', flags = ''] = /^([0-9x]+)([abe]*)$/.exec(name) ?? [];
  const sizes = text.split('x').map(Number);
  const [m, k, n] = sizes.slice(-3) as [number, number, number];
  const batch = sizes.slice(0, -3);
  const operand = (rows: number, columns: number, transposed: boolean): Node => {
    const shape = transposed ? [...batch, columns, rows] : [...batch, rows, columns];
    const leaf = leafFor({ shape, dtype: 'float32' });
    return transposed ? transpose(leaf) : leaf;
  };
  let node = matmul(operand(m, k, flags.includes('a')), operand(k, n, flags.includes('b')));
  if (flags.includes('e')) {
    const number = (value: number): Node => scalar(value, 'float32');
    const y = add(node, leafFor({ shape: [n], dtype: 'float32' }));
    node = mul(mul(number(0.5), y), add(number(1), erf(div(y, number(Math.SQRT2)))));
  }
  return { node, flops: 2 * m * k * n * sizeOf(batch) };
}

const device = new NativeDevice({ threads: Number(values.threads) });

function measure(name: string): void {
  const { node, flops } = productOf(name);
  const linear = new Linearization();
  linear.reset();
  linear.add(node);
  const program = {
    nodes: linear.nodes.slice(),
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
    roots: [{ position: linear.nodes.indexOf(node), inPlaceOf: -1 }],
  };
  const target = device.target(values.numerics === 'strict' ? 'strict' : 'fast');
  const compiled = compile(program, target, {});
  const buffers = compiled.plan.bindings.map(({ bytes }) => {
    const buffer = device.allocate(bytes);
    device.write(buffer, 0, new Uint8Array(noise(bytes / 4, bytes).buffer));
    return buffer;
  });
  const executable = device.load(compiled.plan);
  const scalars = Float64Array.from(program.scalars, ({ value }) => value);
  const least = executable.profile(buffers, scalars);
  let total = Infinity;
  const limit = performance.now() + Number(values.milliseconds);
  for (let runs = 0; runs < 10 || performance.now() < limit; runs++) {
    const times = executable.profile(buffers, scalars);
    let sum = 0;
    times.forEach((time, i) => {
      least[i] = Math.min(least[i] as number, time);
      sum += time;
    });
    total = Math.min(total, sum);
  }
  const schedule = compiled.kernels[0]?.schedule ?? '';
  const reached = (flops / total / 1e6).toFixed(1);
  const cells = [
    name.padEnd(18),
    total.toFixed(4).padStart(10),
    'ms',
    reached.padStart(7),
    schedule,
  ];
  console.log(cells.join(' '));
  if (values.kernels) {
    compiled.kernels.forEach((kernel, i) => {
      console.log(`    ${(least[i] as number).toFixed(4).padStart(10)} ms  ${kernel.name}`);
    });
  }
  executable.dispose();
}

for (const name of positionals.length > 0 ? positionals : SHAPES.split(' ')) measure(name);
device.close();
