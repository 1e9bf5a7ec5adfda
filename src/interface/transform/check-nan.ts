// Finds the first operation that makes a NaN or an infinity: computes what was just made one
// primitive at a time, and looks at every value.
import { isFloat, viewTypedArray } from '../../base/dtype.ts';
import { TengenError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import { newMark, type Node } from '../../graph/node.ts';
import { decodeNumbers } from '../tensor/conversion.ts';
import type { Engine } from '../tensor/engine.ts';

interface Summary {
  readonly nans: number;
  readonly infinities: number;
  readonly low: number;
  readonly high: number;
}

function summarize(engine: Engine, node: Node): Summary {
  engine.evaluate([node]);
  const bytes = engine.viewSync(node).slice();
  const host = viewTypedArray(node.dtype, bytes.buffer, bytes.byteOffset, sizeOf(node.shape));
  const values = decodeNumbers(host, node.dtype);
  let [nans, infinities, low, high] = [0, 0, Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (Number.isNaN(value)) nans++;
    else if (!Number.isFinite(value)) infinities++;
    else {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return { nans, infinities, low, high };
}

function describe(node: Node, summary: Summary): string {
  const { nans, infinities, low, high } = summary;
  const range = low <= high ? ` from ${low} to ${high}` : '';
  const special = [
    nans > 0 ? `${nans} NaN` : '',
    infinities > 0 ? `${infinities} infinite` : '',
  ].filter((text) => text !== '');
  const extra = special.length === 0 ? '' : ` with ${special.join(' and ')}`;
  return `${node.dtype} ${formatShape(node.shape)}${range}${extra}`;
}

/** What has to be computed for `root`, inputs first. */
function pendingBelow(root: Node): Node[] {
  const mark = newMark();
  const order: Node[] = [];
  const stack: { node: Node; next: number }[] = [{ node: root, next: 0 }];
  root.mark = mark;
  while (stack.length > 0) {
    const top = stack[stack.length - 1] as { node: Node; next: number };
    const input = top.node.inputs[top.next++];
    if (input === undefined) {
      order.push(top.node);
      stack.pop();
    } else if (input.mark !== mark && input.storage === null) {
      input.mark = mark;
      stack.push({ node: input, next: 0 });
    }
  }
  return order;
}

/**
 * Throws if computing `root` makes a NaN, or an infinity from finite numbers. Constants may hold
 * either: a mask of -Infinity is no mistake.
 */
export function checkForNaN(engine: Engine, root: Node): void {
  for (const node of pendingBelow(root)) {
    const inputs = node.inputs;
    if (inputs.length === 0 || !isFloat(node.dtype)) continue;
    const result = summarize(engine, node);
    if (result.nans === 0 && result.infinities === 0) continue;
    // Of a loop's result, what the loop was given.
    const given = node.op.lower.kind === 'result' ? (inputs[0] as Node).inputs : inputs;
    const operands = given.map((input) => ({ input, summary: summarize(engine, input) }));
    const hadNaN = operands.some(({ summary }) => summary.nans > 0);
    const hadInfinity = operands.some(({ summary }) => summary.infinities > 0);
    if ((result.nans === 0 || hadNaN) && (result.infinities === 0 || hadInfinity || hadNaN))
      continue;
    const list = operands.map(({ input, summary }) => describe(input, summary)).join('; ');
    throw new TengenError(`made ${describe(node, result)}. inputs: ${list}`, {
      op: node.op.name,
      hint: 'debug.checkNaN is on; the stack shows where it was made',
    });
  }
}
