// Operations for the tests, one of each kind.
import { F, type Tensor } from 'tengen';
import { defineOp, valueTypeOf } from 'tengen/extend';

/** x² + shift, as a kernel. */
export const squarePlus = defineOp({
  name: 'test.squarePlus',
  inputs: ['x'],
  attrs: { shift: 'float' },
  dtypes: ['float32', 'float64', 'float16', 'int8'],
  kernel: {
    kind: 'elementwise',
    emit: (b, [x], { shift }) => b.add(b.mul(x, x), b.constant(shift, x.type, x.lanes)),
  },
  gradient: ({ inputs: [x], grad }) => [x.mul(2).mul(grad)],
});

/** x * y of broadcast shapes; the gradients keep the result's shape. */
export const times = defineOp({
  name: 'test.times',
  inputs: ['x', 'y'],
  kernel: { kind: 'elementwise', emit: (b, [x, y]) => b.mul(x, y) },
  gradient: ({ inputs: [x, y], grad, needs }) => [
    needs(0) ? y.mul(grad) : null,
    needs(1) ? x.mul(grad) : null,
  ],
});

/** Every element that many places on along the last axis, the last ones repeated. */
export const shifted = defineOp({
  name: 'test.shifted',
  inputs: ['x'],
  attrs: { by: 'int' },
  shape: ([x]) => x,
  kernel: {
    kind: 'indexed',
    emit: ({ builder: b, read }, indices, { by }, { shape }) => {
      const last = b.constant(shape.at(-1)! - 1);
      const at = b.min(b.offset(indices.at(-1)!, by), last);
      return read(0, [...indices.slice(0, -1), at]);
    },
  },
  gradient: {
    composition: ([x], { by }) => {
      const size = x.shape.at(-1)!;
      const kept = Math.max(size - by, 0);
      const tail = x.narrow(-1, size - 1, 1).expand([...x.shape.slice(0, -1), size - kept]);
      const head = x.narrow(-1, size - kept, kept);
      return joined(head, tail);
    },
  },
});

function joined(head: Tensor, tail: Tensor): Tensor {
  const pad = [0, tail.shape.at(-1)!] as const;
  const before = [head.shape.at(-1)!, 0] as const;
  return F.pad(head, pad).add(F.pad(tail, before));
}

/** Sum of squares over the last axis. */
export const squaredNorm = defineOp({
  name: 'test.squaredNorm',
  inputs: ['x'],
  shape: ([x]) => ({ shape: x.shape.slice(0, -1), dtype: x.dtype }),
  kernel: {
    kind: 'reduce',
    reduction: (_attrs, { inputs, dtype }) => ({
      axes: [inputs[0]!.shape.length - 1],
      keepdims: false,
      accumulators: [{ type: valueTypeOf(dtype), identity: 0 }],
      map: (b, value) => [b.mul(value, value)],
      combine: (b, [x], [y]) => [b.add(x!, y!)],
      finish: (_b, [total]) => total!,
    }),
  },
  gradient: ({ inputs: [x], grad }) => [x.mul(2).mul(grad.unsqueeze(-1))],
});

/** Running sums along the rows of a matrix. */
export const runningSum = defineOp({
  name: 'test.runningSum',
  inputs: ['x'],
  shape: ([x]) => x,
  kernel: {
    kind: 'loops',
    lower: ({ builder: b, read, write }, _attrs, { shape, dtype }) => {
      const [rows = 0, columns = 0] = shape;
      const row = b.variable('row', 'i32', { min: 0, max: rows - 1 });
      const column = b.variable('column', 'i32', { min: 0, max: columns - 1 });
      const total = b.variable('total', valueTypeOf(dtype), { mutable: true });
      return {
        gridIndex: row,
        gridSize: rows,
        body: [
          { kind: 'declare', variable: total, value: b.constant(0, valueTypeOf(dtype)) },
          {
            kind: 'for',
            index: column,
            start: b.constant(0),
            end: b.constant(columns),
            step: 1,
            body: [
              {
                kind: 'assign',
                variable: total,
                value: b.add(total, read(0, [row, column])),
              },
              ...write([row, column], total),
            ],
          },
        ],
      };
    },
  },
  gradient: ({ grad }) => [grad.flip(1).cumsum(1).flip(1)],
});

/** x sorted along the last axis, on the host; the gradient is not that of a sort, but of the sum. */
export const sortedOnHost = defineOp({
  name: 'test.sortedOnHost',
  inputs: ['x'],
  shape: ([x]) => x,
  host: ([x], _attrs, { data, shape }) => {
    const size = shape.at(-1) ?? 1;
    for (let start = 0; start < data.length; start += size) {
      data.set(x.data.slice(start, start + size).sort(), start);
    }
  },
  gradient: ({ inputs: [x], grad }) => [placedOnHost(x, grad)],
});

/** Elements of `grad` to where sorting took the elements of x from. */
const placedOnHost = defineOp({
  name: 'test.placedOnHost',
  inputs: ['x', 'grad'],
  shape: ([x]) => x,
  host: ([x, grad], _attrs, { data, shape }) => {
    const size = shape.at(-1) ?? 1;
    for (let start = 0; start < data.length; start += size) {
      const order = Array.from({ length: size }, (_, i) => start + i);
      order.sort((a, b) => x.data[a]! - x.data[b]!);
      order.forEach((place, i) => (data[place] = grad.data[start + i]!));
    }
  },
  gradient: { nonDifferentiable: 'the order is a step' },
});
