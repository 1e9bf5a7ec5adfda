// An index that is promised to be in range. The value passes unchanged; a run in which the promise
// does not hold throws (interface/transform/promises.ts).
import { ShapeError } from '../../base/errors.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, type Bounds, defineOp, makeNode } from '../op.ts';
import { equal, select } from './compare.ts';
import { constant } from './creation.ts';
import { randomTensor } from './samples.ts';

const SCHEMA = { lowest: 'int', size: 'int', except: 'int' } as const;

/** Values are in [lowest, size), or `except`. */
export type IndexRange = AttrsOf<typeof SCHEMA>;

/** Which function promised a range, for the message when it is broken. */
const promisedBy = new WeakMap<IndexRange, string>();

/** Throws ShapeError where one of the values is outside `range`. */
export function checkBounds(values: Bounds, range: IndexRange): void {
  const { lowest, size } = range;
  const index = values.min < lowest ? values.min : values.max;
  if (index >= lowest && index < size) return;
  throw new ShapeError(`index ${index} is out of range for size ${size}`, {
    op: promisedBy.get(range) ?? 'index',
    ...(size > 0 ? { hint: `valid indices are ${lowest} to ${size - 1}` } : {}),
  });
}

const checkedIndexOp = defineOp({
  name: 'checkedIndex',
  summary: 'the same integers; a run in which one is out of range throws',
  attrs: SCHEMA,
  infer: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  gradient: { nonDifferentiable: 'an index is an integer' },
  lower: { kind: 'elementwise', emit: (_builder, [x]) => x! },
  bounds: (_inputs, { lowest, size, except }) =>
    except === lowest ? { min: lowest, max: size - 1 } : null,
  reference: ([x]) => x!.data.slice(),
  samples: () => [
    {
      inputs: [randomTensor([2, 3], { dtype: 'int32', low: 0, high: 5 })],
      attrs: { lowest: 0, size: 5, except: 0 },
    },
    {
      inputs: [randomTensor([7], { dtype: 'uint8', low: 0, high: 5 })],
      attrs: { lowest: -5, size: 5, except: -5 },
    },
    ...[0, 1].map((size) => ({
      inputs: [randomTensor([size], { dtype: 'int32', low: 0, high: 1 })],
      attrs: { lowest: 0, size: 1, except: 0 },
    })),
  ],
  promise: {
    watched: (node) => {
      const { lowest, except } = node.attrs as IndexRange;
      const index = node.inputs[0]!;
      if (except === lowest) return index;
      const isExcept = equal(index, constant(except, index.dtype));
      return select(isExcept, constant(lowest, index.dtype), index);
    },
    check: (bounds, node) => checkBounds(bounds, node.attrs as IndexRange),
    stated: (node) => {
      const range = node.attrs as IndexRange;
      const message = `${promisedBy.get(range) ?? 'index'}: an index is out of range`;
      return { least: range.lowest, below: range.size, message };
    },
  },
  cost: 0,
});

/** Notes that `op` promises `range`. */
export function promiseRange(op: string, range: IndexRange): IndexRange {
  promisedBy.set(range, op);
  return range;
}

/** `index`, which a run checks to be in `range`. */
export function checkedIndex(index: Node, range: IndexRange): Node {
  return makeNode(checkedIndexOp, [index], range);
}

/** The range that a node is checked for, or null if it is another op's. */
export function rangeChecked(node: Node): IndexRange | null {
  return node.op.id === checkedIndexOp.id ? (node.attrs as IndexRange) : null;
}
