// Compares devices operation by operation: the graph of a model with every value as a result.
import { sameBytes } from '../../base/bytes.ts';
import { byteSize, type DType } from '../../base/dtype.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import { type Sizes, substituteSizes } from '../../base/size-expression.ts';
import { compile } from '../../compile/compiler.ts';
import { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import { input, scalar } from '../../graph/ops/index.ts';
import { graphOf, parseGraphRecord } from '../../graph/record.ts';
import type { Device } from '../../runtime/device.ts';
import type { ModelHeader } from '../lite/header.ts';
import { differenceOf } from '../lite/model.ts';
import { decodeOutput } from '../lite/values.ts';
import { PlanMemory, type Start } from './plan-memory.ts';

/** An operation of the graph, for people. */
export interface NodeName {
  /** Its number in the graph of the file. */
  readonly position: number;
  readonly op: string;
  readonly shape: Shape;
  readonly dtype: DType;
  /** The weights that it reads. */
  readonly weights: readonly string[];
}

export interface ModelNodes {
  readonly nodes: readonly Node[];
  readonly leaves: readonly Node[];
  readonly scalars: readonly Node[];
  readonly names: readonly NodeName[];
}

/** The graph of a model at some sizes. */
export function nodesOfModel(header: ModelHeader, sizes: Sizes): ModelNodes {
  const record = parseGraphRecord(substituteSizes(header.graph, sizes));
  const ends = (op: string) => record.nodes.filter((node) => node.op === op);
  const leaves = ends('input').map(({ shape, dtype }, i) =>
    input({ storageId: -1 - i }, 0, shape, dtype, false, null),
  );
  const scalars = ends('scalar').map(({ dtype }) => scalar(0, dtype));
  const { nodes } = graphOf(record, leaves, scalars);
  const names = nodes.map(({ op, shape, dtype, inputs }, position): NodeName => {
    const weights = inputs.flatMap((node) => {
      const leaf = header.leaves[leaves.indexOf(node)];
      return leaf?.kind === 'weight' ? [leaf.tensor] : [];
    });
    return { position, op: op.name, shape, dtype, weights };
  });
  return { nodes, leaves, scalars, names };
}

/** `conv2d (node 4, [1,8,6,6], of conv.weight)` */
export function formatNode({ op, position, shape, weights }: NodeName): string {
  const of = weights.length === 0 ? '' : `, of ${weights.join(' and ')}`;
  return `${op} (node ${position}, ${formatShape(shape)}${of})`;
}

/** Whether a node has a value of its own that is computed. */
export function isComputed({ op }: Node): boolean {
  const { kind } = op.lower;
  return kind !== 'leaf' && kind !== 'region';
}

/** The bytes of every computed value, by position in the graph. */
export async function valuesOfNodes(
  { nodes, leaves, scalars }: ModelNodes,
  start: Start,
  device: Device,
  numerics: 'fast' | 'strict',
): Promise<Map<number, Uint8Array>> {
  const positions = nodes.flatMap((node, i) => (isComputed(node) ? [i] : []));
  const linear = new Linearization();
  linear.reset();
  const roots = positions.map((position) => ({
    position: linear.add(nodes[position] as Node),
    inPlaceOf: -1,
  }));
  const program = { nodes: linear.nodes, leaves, scalars, roots };
  const { plan, rootBindings } = compile(program, device.target(numerics));
  const memory = new PlanMemory(
    device,
    plan.bindings.map(({ bytes }) => bytes),
    start.leaves,
  );
  try {
    memory.run(plan, start.scalars);
    const values = new Map<number, Uint8Array>();
    for (const [i, position] of positions.entries()) {
      values.set(position, await memory.read(rootBindings[i] as number));
    }
    return values;
  } finally {
    memory.dispose();
  }
}

export interface NodeDifference {
  readonly node: NodeName;
  /** Over the largest value; infinite where one is no number and the other is. */
  readonly difference: number;
}

export interface NodeReport {
  readonly compared: number;
  /** The first in the graph's order that differs by more than what counts as the same. */
  readonly first: NodeDifference | null;
  readonly largest: NodeDifference | null;
}

/**
 * Compares values. Strict: all bits. Fast: floats, up to `tolerance`; a whole number or a truth may turn
 * over where rounding decides, so they are not compared.
 */
export function compareNodes(
  { names }: ModelNodes,
  actual: ReadonlyMap<number, Uint8Array>,
  expected: ReadonlyMap<number, Uint8Array>,
  numerics: 'fast' | 'strict',
  tolerance: number,
): NodeReport {
  let first: NodeDifference | null = null;
  let largest: NodeDifference | null = null;
  let compared = 0;
  for (const [position, bytes] of expected) {
    const node = names[position] as NodeName;
    const isStrict = numerics === 'strict';
    if (!isStrict && !node.dtype.includes('float')) continue;
    compared++;
    const own = actual.get(position) as Uint8Array;
    const difference = differenceOfBytes(node.dtype, own, bytes, isStrict);
    if (difference > (largest?.difference ?? 0)) largest = { node, difference };
    if (first === null && difference > (isStrict ? 0 : tolerance)) first = { node, difference };
  }
  return { compared, first, largest };
}

/** As `differenceOf`; where `bits` count, what has other bits differs by something. */
export function differenceOfBytes(
  dtype: DType,
  actual: Uint8Array,
  expected: Uint8Array,
  bits: boolean,
): number {
  if (sameBytes(actual, expected)) return 0;
  const numbers = (bytes: Uint8Array) => {
    const count = Math.floor(bytes.byteLength / byteSize(dtype));
    return decodeOutput(dtype, [count], bytes.slice()).data;
  };
  const [own, other] = [numbers(actual), numbers(expected)];
  // Which of the many NaNs comes out is the machine's business.
  if (own.every((value, i) => Object.is(value, other[i]))) return 0;
  const difference = differenceOf(own, other);
  // Zeros of other signs, for one, are equal as numbers.
  return bits ? Math.max(difference, Number.MIN_VALUE) : difference;
}
