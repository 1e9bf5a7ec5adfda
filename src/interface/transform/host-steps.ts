// Operations that are functions on the host: a plan ends before them, and the next one begins behind.
import { newTypedArray, viewTypedArray } from '../../base/dtype.ts';
import { DeviceError, internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import type { HostTensor } from '../../graph/op.ts';
import { Storage } from '../../runtime/storage.ts';
import type { Engine } from '../tensor/engine.ts';

/** The functions of a program that wait for no other one. */
export function firstHosts({ nodes, hosts }: Linearization): Node[] {
  // How many functions lie on the longest way to each node.
  const depth = new Int32Array(nodes.length);
  nodes.forEach((node, i) => {
    if (node.storage !== null) return;
    let most = 0;
    for (const { position } of node.inputs) most = Math.max(most, depth[position] as number);
    depth[i] = most + (node.op.lower.kind === 'host' ? 1 : 0);
  });
  return hosts.filter(({ position }) => depth[position] === 1);
}

/** Computes a node whose inputs are computed; its value is a leaf from then on. */
export function runOnHost(engine: Engine, node: Node): void {
  const { op, attrs, shape, dtype } = node;
  if (op.lower.kind !== 'host') throw internalError(`${op.name} is no function on the host`);
  const inputs = node.inputs.map((input): HostTensor => {
    const device = (input.storage as Storage).device;
    if (device !== null && !device.synchronous) {
      throw new DeviceError(`values on ${device.name} cannot be read at once`, {
        op: op.name,
        hint: 'use it on a device that can, or give the operation a kernel',
      });
    }
    // A copy: the function may keep it or write to it.
    const bytes = engine.viewSync(input).slice();
    const data = viewTypedArray(input.dtype, bytes.buffer, bytes.byteOffset, sizeOf(input.shape));
    return { shape: input.shape, dtype: input.dtype, data };
  });
  const data = newTypedArray(dtype, sizeOf(shape));
  op.lower.run(inputs, { shape, dtype, data }, attrs);
  const storage = new Storage(data.byteLength, new Uint8Array(data.buffer));
  storage.label = `the result of ${op.name}`;
  node.storage = storage;
  node.version = 0;
  // Without tracking nobody asks for its history.
  if (!node.tracked) node.inputs = [];
}
