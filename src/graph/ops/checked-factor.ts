// A decomposition that is promised to exist: of a regular matrix, or of a positive definite one. The
// value passes unchanged; a run in which the promise does not hold throws.
import { LinAlgError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode } from '../op.ts';
import { diagonalOf, unpack } from './matrix-parts.ts';
import { randomTensor } from './samples.ts';
import { abs } from './unary.ts';

const SCHEMA = { kind: ['lu', 'cholesky'], op: ['inv', 'solve', 'cholesky'], size: 'int' } as const;
type Checked = AttrsOf<typeof SCHEMA>;

function complaint({ attrs, shape }: Node): string {
  const { kind, size } = attrs as Checked;
  const matrices = formatShape([...shape.slice(0, kind === 'lu' ? -1 : -2), size, size]);
  return kind === 'lu'
    ? `a matrix of ${matrices} is singular: elimination meets a pivot of 0`
    : `a matrix of ${matrices} is not positive definite`;
}

const checkedFactorOp = defineOp({
  name: 'checkedFactor',
  summary: 'the same decomposition; a run in which the matrix does not have one throws',
  attrs: SCHEMA,
  infer: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  gradient: ({ grad }) => [grad],
  lower: { kind: 'elementwise', emit: (_builder, [x]) => x! },
  promise: {
    watched: (node) => {
      const { kind, size } = node.attrs as Checked;
      const factor = node.inputs[0]!;
      // Of a decomposition with a zero on U's diagonal, or NaN or zero on that of L.
      if (kind === 'cholesky') return diagonalOf(factor);
      return abs(diagonalOf(unpack(factor, [[size, size]])[0]!));
    },
    check: ({ min }, node) => {
      const { kind, op } = node.attrs as Checked;
      if (kind === 'cholesky' ? min > 0 : min !== 0) return;
      throw new LinAlgError(complaint(node), {
        op,
        hint:
          kind === 'lu'
            ? 'pinv() and lstsq() take any matrix'
            : 'add a small multiple of eye(), or use eigh()',
      });
    },
    stated: (node) => ({ above: 0, message: `${(node.attrs as Checked).op}: ${complaint(node)}` }),
  },
  reference: ([x]) => x!.data.slice(),
  samples: () => [
    {
      inputs: [randomTensor([2, 6], { low: 1 })],
      attrs: { kind: 'lu', op: 'inv', size: 2 },
    },
    ...[0, 1, 3].map((size) => ({
      inputs: [randomTensor([size, size], { low: 1 })],
      attrs: { kind: 'cholesky', op: 'cholesky', size } as const,
    })),
  ],
  cost: 0,
});

/** A decomposition of luFactor or cholesky, which a run checks to be complete. */
export function checkedFactor(
  factor: Node,
  kind: Checked['kind'],
  op: Checked['op'],
  size: number,
): Node {
  // Nothing of nothing is singular.
  if (factor.shape.includes(0)) return factor;
  return makeNode(checkedFactorOp, [factor], { kind, op, size });
}
