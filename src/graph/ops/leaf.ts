// Leaves: stored values, scalar slots, what a body is given. They compute nothing.
import type { DType } from '../../base/dtype.ts';
import type { Shape } from '../../base/shape.ts';
import { Node, type StorageToken } from '../node.ts';
import { defineOp, NO_ATTRS } from '../op.ts';

const valueGiven = (): never => {
  throw new Error('internal: a leaf has a value, it is not computed');
};

const defineLeaf = (name: string, summary: string) =>
  defineOp({
    name,
    summary,
    attrs: {},
    infer: valueGiven,
    gradient: () => [],
    lower: { kind: 'leaf' },
    reference: valueGiven,
    samples: () => [],
  });

/** A value that exists: data from the host, a parameter, the result of an earlier plan. */
export const inputOp = defineLeaf('input', 'a stored value');

/** A JavaScript number that may change from run to run without changing the plan. */
export const scalarOp = defineLeaf('scalar', 'a number given at each run');

/** A value that a body is given (`graph/subgraph.ts`). */
export const parameterOp = defineLeaf(
  'parameter',
  'what changes from one iteration of a loop to the next, inside it',
);

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
  storage.aliased = true;
  node.storage = storage;
  node.version = version;
  return node;
}

/** Told of leaves that stand for the same stored value as another one: tracing. */
export const aliasListeners = new Set<(alias: Node, of: Node) => void>();

/** Another leaf on the stored value of `node`, without its history. */
export function alias(node: Node, tracked: boolean, device: string | null = node.device): Node {
  const leaf = input(
    node.storage as StorageToken,
    node.version,
    node.shape,
    node.dtype,
    tracked,
    device,
  );
  for (const listener of aliasListeners) listener(leaf, node);
  return leaf;
}

const SCALAR_SHAPE: Shape = Object.freeze([]);

/** A scalar slot of shape []. */
export function scalar(value: number, dtype: DType): Node {
  const node = new Node(scalarOp, [], NO_ATTRS, SCALAR_SHAPE, dtype, false, null);
  node.value = value;
  return node;
}
