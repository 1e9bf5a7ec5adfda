// When a computed tensor counts as equal to a golden one, and how far off it is when it does not.
import { createHash } from 'node:crypto';

/** Values of a tensor outside the framework: what files hold and what reads return. */
export interface HostTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Row by row; booleans are 0 and 1. */
  readonly data: ArrayLike<number | bigint | boolean>;
}

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

export interface Comparison {
  /** One line that says what is wrong; undefined where everything agrees. */
  readonly problem: string | undefined;
  /** Largest |actual - expected| of the finite values. */
  readonly maxError: number;
  /** Largest error as a part of what is allowed there: above 1 is a failure. */
  readonly maxRatio: number;
}

type Kind = 'float' | 'integer' | 'boolean';

function kindOf(dtype: string): Kind {
  if (dtype === 'bool') return 'boolean';
  return /^(u?int)\d+$/.test(dtype) ? 'integer' : 'float';
}

function showShape(shape: readonly number[]): string {
  return `[${shape.join(',')}]`;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Place of a flat index, as `[1,0,2]`. */
function showPlace(index: number, shape: readonly number[]): string {
  const place: number[] = [];
  let rest = index;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 1;
    place.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return showShape(place);
}

/** A difference as a part of the allowed one; infinite where no difference is allowed. */
function excess(actual: number, expected: number, tolerance: Tolerance): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  if (!Number.isFinite(actual) || !Number.isFinite(expected)) {
    return Number.isNaN(actual) && Number.isNaN(expected) ? 0 : Number.POSITIVE_INFINITY;
  }
  const allowed = tolerance.atol + tolerance.rtol * Math.abs(expected);
  return allowed > 0 ? Math.abs(actual - expected) / allowed : Number.POSITIVE_INFINITY;
}

let seen = createHash('sha256');

/** Hash of all values that were compared since it was last asked for; NaN is one value. */
export function takeBits(): string {
  const hash = seen.digest('hex').slice(0, 16);
  seen = createHash('sha256');
  return hash;
}

/**
 * Compares by the rule of the golden set: |actual - expected| <= atol + rtol * |expected|;
 * integers, booleans and infinities must be equal, and NaN must meet NaN. The kind of the dtype
 * must agree, its width need not (PyTorch's indices are int64).
 */
export function compare(
  actual: HostTensor,
  expected: HostTensor,
  tolerance: Tolerance,
): Comparison {
  const mismatch = (problem: string): Comparison => ({
    problem,
    maxError: Number.NaN,
    maxRatio: Number.POSITIVE_INFINITY,
  });
  if (!sameShape(actual.shape, expected.shape)) {
    return mismatch(`shape ${showShape(actual.shape)}, expected ${showShape(expected.shape)}`);
  }
  seen.update(
    Float64Array.from(actual.data, (value) => (Number.isNaN(value) ? NaN : Number(value))),
  );
  const kind = kindOf(expected.dtype);
  if (kindOf(actual.dtype) !== kind) {
    return mismatch(`dtype ${actual.dtype}, expected ${expected.dtype}`);
  }
  if (actual.data.length !== expected.data.length) {
    return mismatch(`${actual.data.length} values, expected ${expected.data.length}`);
  }
  const rule = kind === 'float' ? tolerance : { rtol: 0, atol: 0 };
  let maxError = 0;
  let maxRatio = 0;
  let worst = -1;
  let wrong = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const a = Number(actual.data[i]);
    const e = Number(expected.data[i]);
    const ratio = excess(a, e, rule);
    const error = Math.abs(a - e);
    if (Number.isFinite(error)) maxError = Math.max(maxError, error);
    if (ratio > 1) wrong++;
    if (ratio > maxRatio) {
      maxRatio = ratio;
      worst = i;
    }
  }
  if (wrong === 0) return { problem: undefined, maxError, maxRatio };
  const place = showPlace(worst, expected.shape);
  const values = `${String(actual.data[worst])}, expected ${String(expected.data[worst])}`;
  const limit = kind === 'float' ? `rtol ${rule.rtol}, atol ${rule.atol}` : 'must be equal';
  const problem =
    `${wrong} of ${expected.data.length} values differ, max error ${maxError.toPrecision(3)} ` +
    `(${limit}); at ${place}: ${values}`;
  return { problem, maxError, maxRatio };
}
