// What a table can know of an op without running it: read from the definition, or by asking it.
import { type DType, DTYPES, isFloat } from '../../src/base/dtype.ts';
import { TengenError } from '../../src/base/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import { allOps, makeNode, type Sample, type TestedOp } from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { input } from '../../src/graph/ops/leaf.ts';

/** Cells of a row that need no measurement. */
export interface Facts {
  readonly op: string;
  readonly summary: string;
  readonly dtypes: string;
  readonly gradient: string;
  readonly second: string;
}

/** Every op that computes something of its own: not values that are given, nor loops and choices. */
export function tableOps(): readonly TestedOp[] {
  return allOps().filter(({ lower }) => !['leaf', 'region', 'result'].includes(lower.kind));
}

function leafOf(shape: readonly number[], dtype: DType): Node {
  return input({ storageId: 0 }, 0, shape, dtype, isFloat(dtype), null);
}

/** Names of sets of dtypes, the largest first. */
const SETS: readonly (readonly [string, (dtype: DType) => boolean])[] = [
  ['all', () => true],
  ['numbers', (dtype) => dtype !== 'bool'],
  ['integers, bool', (dtype) => !isFloat(dtype)],
  ['floats', isFloat],
  ['integers', (dtype) => !isFloat(dtype) && dtype !== 'bool'],
];

/** A list of dtypes in as few words as possible. */
function named(found: readonly DType[]): string {
  for (const [name, holds] of SETS) {
    const members = DTYPES.filter(holds);
    if (members.length === found.length && members.every((dtype) => found.includes(dtype))) {
      return name;
    }
  }
  return found.join(', ');
}

/** What the first float input (or else the first) and those of its dtype may be: `infer` is asked for each. */
function dtypesOf(op: TestedOp): string {
  const samples = op.samples().filter(({ inputs }) => inputs.length > 0);
  if (samples.length === 0) return '';
  const found = DTYPES.filter((dtype) =>
    samples.some(({ inputs, attrs }) => {
      const own = (inputs.find((each) => isFloat(each.dtype)) ?? inputs[0])?.dtype;
      const leaves = inputs.map((each) =>
        leafOf(each.shape, each.dtype === own ? dtype : each.dtype),
      );
      try {
        return makeNode(op, leaves, attrs) !== null;
      } catch (error) {
        if (error instanceof TengenError) return false;
        throw error;
      }
    }),
  );
  return named(found);
}

/** Gradients by the float inputs of a node; null where there is none. */
function gradientNodes(node: Node, leaves: readonly Node[]): readonly Node[] {
  const found = gradients([node], [leafOf(node.shape, node.dtype)], leaves);
  return found.filter((each) => each !== null);
}

/** `yes`, or why there is none; the gradient of the gradient, likewise. */
function gradientCells(op: TestedOp): readonly [first: string, second: string] {
  if (typeof op.gradient !== 'function') return [`no: ${op.gradient.nonDifferentiable}`, ''];
  const usable = (sample: Sample): boolean => sample.inputs.some(({ dtype }) => isFloat(dtype));
  for (const { inputs, attrs } of op.samples().filter(usable)) {
    const leaves = inputs.map(({ shape, dtype }) => leafOf(shape, dtype));
    const node = makeNode(op, leaves, attrs);
    if (!isFloat(node.dtype)) continue;
    const floats = leaves.filter(({ dtype }) => isFloat(dtype));
    const first = gradientNodes(node, floats);
    const flowing = first.filter(({ tracked }) => tracked);
    if (flowing.length === 0) return ['zero', 'zero'];
    try {
      for (const each of flowing) gradientNodes(each, floats);
      return ['yes', 'yes'];
    } catch (error) {
      if (error instanceof TengenError) return ['yes', `no: ${error.message}`];
      throw error;
    }
  }
  return ['no inputs', ''];
}

export function factsOf(op: TestedOp): Facts {
  const [gradient, second] = gradientCells(op);
  return { op: op.name, summary: op.summary, dtypes: dtypesOf(op), gradient, second };
}
