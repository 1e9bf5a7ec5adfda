// Plans of several dispatches in which a row's result needs a row that another thread may have made:
// a missing barrier shows. For tests of devices.
import { Builder } from '../../src/ir/builder.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import type { Dispatch, Location, Plan } from '../../src/runtime/plan.ts';

export const ROWS = 32;
const COLUMNS = 128;
export const SIZE = ROWS * COLUMNS;
export const BYTES = SIZE * 4;

/**
 * out[r, c] = x[rows - 1 - r, c] * factor + y[r, c] over the first `rows` rows: a row of `x` that
 * another thread may have made.
 */
export function mirrorKernel(rows: number): Kernel {
  const b = new Builder();
  const length = rows * COLUMNS;
  const x = b.buffer('x', 'float32', 'read', { length });
  const y = b.buffer('y', 'float32', 'read', { length });
  const factor = b.buffer('factor', 'float32', 'read', { length: 1 });
  const out = b.buffer('out', 'float32', 'write', { length });
  const row = b.variable('row', 'i32', { min: 0, max: rows - 1 });
  const column = b.variable('column', 'i32', { min: 0, max: COLUMNS - 4 });
  const at = b.add(b.scale(row, COLUMNS), column);
  const mirrored = b.add(b.scale(b.sub(b.constant(rows - 1), row), COLUMNS), column);
  const scaled = b.mul(b.load(x, mirrored, 4), b.splat(b.load(factor, b.constant(0)), 4));
  return {
    name: `mirror${rows}`,
    buffers: [x, y, factor, out],
    scratch: [],
    gridIndex: row,
    gridSize: rows,
    body: [
      {
        kind: 'for',
        index: column,
        start: b.constant(0),
        end: b.constant(COLUMNS),
        step: 4,
        body: [{ kind: 'store', buffer: out, index: at, value: b.add(scaled, b.load(y, at, 4)) }],
      },
    ],
  };
}

export const arena = (slot: number): Location => ({ space: 'arena', offset: slot * (BYTES / 2) });
export const binding = (index: number): Location => ({ space: 'binding', index });
const FACTOR: Location = { space: 'scalar', slot: 0 };

/** Dispatches over bindings 0 (input) and 1 (result) and an arena of half-overlapping slots. */
export function mirrorPlan(dispatches: readonly Dispatch[]): Plan {
  return {
    kernels: [mirrorKernel(ROWS), mirrorKernel(2)],
    dispatches,
    arenaBytes: 6 * BYTES,
    bindings: [
      { bytes: BYTES, access: 'read' },
      { bytes: BYTES, access: 'readwrite' },
    ],
    scalars: ['float32'],
  };
}

export function call(x: Location, y: Location, out: Location, kernel = 0): Dispatch {
  return { kernel, arguments: [x, y, FACTOR, out] };
}
