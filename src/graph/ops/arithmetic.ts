// Elementwise arithmetic of two operands. Operands have one dtype and broadcast.
import { DTypeError } from '../../base/errors.ts';
import { broadcastShapes } from '../../base/shape.ts';
import type { BinaryOp } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS, type OpSpec } from '../op.ts';
import { broadcastReference, pairSamples } from './reference.ts';
import { neg } from './unary.ts';

/** Shape and dtype of an elementwise op on operands of one dtype. */
export function inferBinary(op: string, inputs: readonly Node[]) {
  const [left, right] = inputs as readonly [Node, Node];
  if (left.dtype !== right.dtype) {
    throw new DTypeError(`operands are ${left.dtype} and ${right.dtype}`, { op });
  }
  return { shape: broadcastShapes(op, left.shape, right.shape), dtype: left.dtype };
}

function binaryOp(
  name: string,
  summary: string,
  operation: BinaryOp,
  apply: (a: number, b: number) => number,
  gradient: OpSpec<Record<string, never>>['gradient'],
) {
  return defineOp({
    name,
    summary,
    attrs: {},
    infer: (inputs) => inferBinary(name, inputs),
    gradient,
    lower: {
      kind: 'elementwise',
      emit: (builder, [a, b]) => builder.binary(operation, a!, b!),
    },
    reference: (inputs, _attrs, output) => broadcastReference(inputs, output, apply),
    samples: () => pairSamples(),
  });
}

const addOp = binaryOp(
  'add',
  'a + b',
  'add',
  (a, b) => a + b,
  ({ grad }) => [grad, grad],
);
const subOp = binaryOp(
  'sub',
  'a - b',
  'sub',
  (a, b) => a - b,
  ({ grad, needs }) => [grad, needs(1) ? neg(grad) : null],
);
const mulOp = binaryOp(
  'mul',
  'a * b',
  'mul',
  (a, b) => a * b,
  ({ grad, inputs, needs }) => [
    needs(0) ? mul(grad, inputs[1]!) : null,
    needs(1) ? mul(grad, inputs[0]!) : null,
  ],
);

/** a + b, broadcast. */
export function add(a: Node, b: Node): Node {
  return makeNode(addOp, [a, b], NO_ATTRS);
}
/** a - b, broadcast. */
export function sub(a: Node, b: Node): Node {
  return makeNode(subOp, [a, b], NO_ATTRS);
}
/** a * b, broadcast. */
export function mul(a: Node, b: Node): Node {
  return makeNode(mulOp, [a, b], NO_ATTRS);
}
