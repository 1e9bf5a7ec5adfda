// Leaves: stored values and scalar slots. They compute nothing.
import type { DType } from '../../base/dtype.ts';
import type { Shape } from '../../base/shape.ts';
import { Node, type StorageToken } from '../node.ts';
import { defineOp, NO_ATTRS } from '../op.ts';

const valueGiven = (): never => {
  throw new Error('internal: a leaf has a value, it is not computed');
};

/** A value that exists: data from the host, a parameter, the result of an earlier plan. */
export const inputOp = defineOp({
  name: 'input',
  summary: 'a stored value',
  attrs: {},
  infer: valueGiven,
  gradient: () => [],
  lower: { kind: 'leaf' },
  reference: valueGiven,
  samples: () => [],
});

/** A JavaScript number that may change from run to run without changing the plan. */
export const scalarOp = defineOp({
  name: 'scalar',
  summary: 'a number given at each run',
  attrs: {},
  infer: valueGiven,
  gradient: () => [],
  lower: { kind: 'leaf' },
  reference: valueGiven,
  samples: () => [],
});

/** A leaf for a stored value; `tracked` if gradients may be asked for. */
export function input(
  storage: StorageToken,
  version: number,
  shape: Shape,
  dtype: DType,
  tracked: boolean,
  device: string | null,
): Node {
  const node = new Node(inputOp, [], NO_ATTRS, shape, dtype, tracked, device);
  node.storage = storage;
  node.version = version;
  return node;
}

const SCALAR_SHAPE: Shape = Object.freeze([]);

/** A scalar slot of shape []. */
export function scalar(value: number, dtype: DType): Node {
  const node = new Node(scalarOp, [], NO_ATTRS, SCALAR_SHAPE, dtype, false, null);
  node.value = value;
  return node;
}
