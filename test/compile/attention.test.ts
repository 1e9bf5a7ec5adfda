// Attention in blocks: the same bits on every target in strict numerics, and less memory.
import { expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { compile } from '../../src/compile/compiler.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import { attention, constant } from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor, randomLike } from '../support/graphs.ts';
import { runGraph } from '../support/run-graph.ts';

/** Result and gradients of causal attention with dropout, by a mask of the keys too. */
function graphOf(heads: number, length: number, size: number) {
  const values = new Map<Node, ReferenceTensor>();
  const leaf = (value: ReferenceTensor): Node => {
    const node = leafFor(value);
    values.set(node, value);
    return node;
  };
  const inputs = [1, 2, 3].map((seed) => leaf(randomTensor([heads, length, size], { seed })));
  inputs.push(leaf(randomTensor([1, 1, length], { seed: 4 })));
  const [q, k, v, mask] = inputs as [Node, Node, Node, Node];
  const word = (value: number): Node => constant(value, 'uint32');
  const source = { seedLow: word(7), seedHigh: word(0), offsetLow: word(3), offsetHigh: word(0) };
  const result = attention(q, k, v, mask, { scale: 0.4, causal: true, dropout: 0.2, source });
  const cotangent = leaf(randomLike(result, 4));
  const grads = gradients([result], [cotangent], inputs) as Node[];
  return { roots: [result, ...grads], values };
}

test('strict numerics give the same bits on every target', () => {
  const { roots, values } = graphOf(2, 75, 6);
  const devices: Device[] = [
    new InterpDevice({ vectorBytes: 4 }),
    new InterpDevice({ vectorBytes: 64 }),
    new WasmDevice({ threads: 1 }),
    new NativeDevice({ threads: 1 }),
    new NativeDevice({ threads: 2 }),
  ];
  const [first, ...others] = devices.map((device) => {
    const found = runGraph(device, roots, values, { numerics: 'strict' });
    device.close();
    return roots.map((root) => [...found.get(root)!.data]);
  });
  for (const other of others) expect(other).toEqual(first);
}, 60_000);

test('memory grows with the sequence, not with its square', () => {
  const arena = (length: number): number => {
    const { roots } = graphOf(16, length, 16);
    const linear = new Linearization();
    linear.reset();
    for (const root of roots) linear.add(root);
    const device = new WasmDevice({ threads: 1 });
    const { plan } = compile(
      {
        nodes: linear.nodes.slice(),
        leaves: linear.leaves.slice(),
        scalars: [],
        roots: roots.map((root) => ({ position: linear.nodes.indexOf(root), inPlaceOf: -1 })),
      },
      device.target('fast'),
    );
    device.close();
    const scratch = plan.kernels.flatMap((kernel) => kernel.scratch);
    return plan.arenaBytes + scratch.reduce((sum, { length: n = 0 }) => sum + 4 * n, 0);
  };
  // One matrix of scores would be 2 ** 26 bytes.
  expect(arena(1024)).toBeLessThan(2 ** 23);
  expect(arena(2048) / arena(1024)).toBeLessThan(2.1);
}, 60_000);
