// Compares gradient graphs with central differences, both by the reference evaluator.
import { expect } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import { leafFor, randomLike } from './graphs.ts';
import { evaluateReference } from './reference-evaluator.ts';

/** At most this many elements of an input are moved one by one; of a large one, few. */
const MOVED = 16;
const MOVED_OF_LARGE = 3;
const LARGE = 500;

export interface GradientCheckOptions {
  /** 1 checks first derivatives, 2 also derivatives of the gradient. */
  readonly order: 1 | 2;
  /** Leaves that have no gradient by convention. */
  readonly constants?: readonly Node[];
  readonly relative?: number;
}

/** Positions to perturb: all of a small input, an even spread over a large one. */
function positions(size: number): number[] {
  if (size <= MOVED) return Array.from({ length: size }, (_, i) => i);
  const moved = size > LARGE ? MOVED_OF_LARGE : MOVED;
  return Array.from({ length: moved }, (_, i) => Math.floor(((i + 0.5) * size) / moved));
}

function dot(a: ReferenceTensor, b: ReferenceTensor): number {
  let total = 0;
  for (let i = 0; i < a.data.length; i++) total += a.data[i]! * b.data[i]!;
  return total;
}

/**
 * Checks `gradients` of `outputs` by every float leaf in `values` for random cotangents. With
 * order 2, the gradient itself is taken as a function of leaves and cotangents and checked again
 * (unless an input is large).
 */
export function checkGradients(
  outputs: readonly Node[],
  values: ReadonlyMap<Node, ReferenceTensor>,
  options: GradientCheckOptions,
  what: string,
): void {
  const floats = outputs.filter((output) => isFloat(output.dtype));
  expect(floats.length, `${what}: a float output`).toBeGreaterThan(0);
  const { constants = [] } = options;
  const targets = [...values.keys()].filter(
    (leaf) => isFloat(leaf.dtype) && !constants.includes(leaf),
  );
  const cotangents = floats.map((output) => leafFor(output));
  const all = new Map(values);
  floats.forEach((output, i) => all.set(cotangents[i]!, randomLike(output, i + 50)));
  const results = gradients(floats, cotangents, targets);
  const found = results.filter((result) => result !== null);
  const derived = evaluateReference(found, all);
  targets.forEach((target, i) => {
    const result = results[i]!;
    const gradient =
      result === null
        ? new Float64Array(values.get(target)!.data.length)
        : derived.get(result)!.data;
    if (result !== null) {
      expect([result.shape, result.dtype], `${what}: form of gradient ${i}`).toEqual([
        target.shape,
        target.dtype,
      ]);
    }
    compareWithDifferences(
      floats,
      cotangents,
      all,
      target,
      gradient,
      options,
      `${what}, input ${i}`,
    );
  });
  const sizes = [...values.values()].map(({ data }) => data.length);
  if (options.order === 2 && found.length > 0 && Math.max(...sizes) <= LARGE) {
    checkGradients(found, all, { ...options, order: 1 }, `${what}, second order`);
  }
}

function compareWithDifferences(
  outputs: readonly Node[],
  cotangents: readonly Node[],
  values: ReadonlyMap<Node, ReferenceTensor>,
  target: Node,
  gradient: Float64Array,
  options: GradientCheckOptions,
  what: string,
): void {
  const base = values.get(target)!;
  const objective = (position: number, value: number): number => {
    const data = base.data.slice();
    data[position] = value;
    const moved = new Map(values).set(target, { ...base, data });
    const result = evaluateReference(outputs, moved);
    return outputs.reduce(
      (total, output, i) => total + dot(result.get(output)!, values.get(cotangents[i]!)!),
      0,
    );
  };
  for (const position of positions(base.data.length)) {
    const x = base.data[position]!;
    const step = 1e-4 * Math.max(1, Math.abs(x));
    // Richardson's extrapolation of two central differences: an error of step^4.
    const wide = (objective(position, x + step) - objective(position, x - step)) / (2 * step);
    const near = (objective(position, x + step / 2) - objective(position, x - step / 2)) / step;
    const expected = (4 * near - wide) / 3;
    const actual = gradient[position]!;
    const allowed = (options.relative ?? 1e-6) * (1 + Math.abs(expected));
    if (!(Math.abs(actual - expected) <= allowed)) {
      expect.fail(`${what}: gradient[${position}] is ${actual}, differences give ${expected}`);
    }
  }
}
