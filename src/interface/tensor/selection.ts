// Results whose size depends on values, which are read at once: masks, positions, repeats.
import { ArgumentError } from '../../base/errors.ts';
import { broadcastShapes, normalizeAxis, sizeOf } from '../../base/shape.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from './arguments.ts';
import { valuesNow } from './conversion.ts';
import { tensor } from './creation.ts';
import { tensorOn, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

/**
 * The elements of `x` where the mask is true, as a vector; both broadcast. Needs the mask's values:
 * throws DeviceError on devices that are read asynchronously.
 */
export function maskedSelect(x: Tensor, mask: Tensor): Tensor {
  const op = 'maskedSelect';
  const node = nodeOf(op, x);
  const shape = broadcastShapes(op, node.shape, nodeOf(op, mask).shape);
  const chosen = valuesNow(op, tensorOn(ops.expand(mask.node, shape)));
  const positions: number[] = [];
  for (let i = 0; i < chosen.length; i++) if (chosen[i] !== 0) positions.push(i);
  const flat = ops.reshape(ops.expand(node, shape), [sizeOf(shape)]);
  if (positions.length === 0) return wrap(ops.full([0], 0, node.dtype));
  return wrap(ops.take(flat, tensor(Int32Array.from(positions)).node, 0));
}

/**
 * Positions of nonzero elements, row-major: int32 [count, axes]. Needs the values: throws
 * DeviceError on devices that are read asynchronously.
 */
export function nonzero(x: Tensor): Tensor {
  const { shape } = nodeOf('nonzero', x);
  const values = valuesNow('nonzero', x);
  const rows: number[] = [];
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] === 0) continue;
    count++;
    let rest = i;
    const row = new Array<number>(shape.length);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const size = shape[axis] as number;
      row[axis] = rest % size;
      rest = Math.floor(rest / size);
    }
    rows.push(...row);
  }
  return tensor(Int32Array.from(rows), { shape: [count, shape.length] });
}

/**
 * Each element `repeats` times in a row, along an axis or of the flattened tensor. A tensor of
 * counts, one per element of the axis, is read at once.
 */
export function repeatInterleave(x: Tensor, repeats: number | Tensor, axis?: number): Tensor {
  const op = 'repeatInterleave';
  const given = nodeOf(op, x);
  const node = axis === undefined ? ops.reshape(given, [sizeOf(given.shape)]) : given;
  const normal = normalizeAxis(op, axis ?? 0, node.shape.length);
  const size = node.shape[normal] as number;
  if (typeof repeats === 'number') {
    checkInteger(op, 'repeats', repeats, 0);
    const { shape } = node;
    const unit = [...shape.slice(0, normal + 1), 1, ...shape.slice(normal + 1)];
    const wide = unit.map((n, i) => (i === normal + 1 ? repeats : n));
    const whole = shape.map((n, i) => (i === normal ? n * repeats : n));
    return wrap(ops.reshape(ops.expand(ops.reshape(node, unit), wide), whole));
  }
  const counts = Array.from(valuesNow(op, repeats));
  const each = counts.length === 1 ? new Array<number>(size).fill(counts[0] as number) : counts;
  if (each.length !== size) {
    throw new ArgumentError(`${each.length} counts for ${size} elements`, { op });
  }
  const positions = each.flatMap((count, i) =>
    new Array<number>(checkInteger(op, 'a count', count, 0)).fill(i),
  );
  if (positions.length === 0) {
    return wrap(
      ops.full(
        node.shape.map((n, i) => (i === normal ? 0 : n)),
        0,
        node.dtype,
      ),
    );
  }
  return wrap(ops.take(node, tensor(Int32Array.from(positions)).node, normal));
}
