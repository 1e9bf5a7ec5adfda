// An index that is promised to be in range. The value passes unchanged; the evaluator looks for
// these nodes and throws where the promise does not hold (interface/transform/index-checks.ts).
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode } from '../op.ts';
import { randomTensor } from './samples.ts';

const SCHEMA = { lowest: 'int', size: 'int', except: 'int' } as const;

/** Values are in [lowest, size), or `except`. */
export type IndexRange = AttrsOf<typeof SCHEMA>;

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
  cost: 0,
});

/** `index`, which a run checks to be in `range`. */
export function checkedIndex(index: Node, range: IndexRange): Node {
  return makeNode(checkedIndexOp, [index], range);
}

/** The range that a node is checked for, or null if it is another op's. */
export function rangeChecked(node: Node): IndexRange | null {
  return node.op.id === checkedIndexOp.id ? (node.attrs as IndexRange) : null;
}
