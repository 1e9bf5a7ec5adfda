// Random graphs give the same numbers fused, unfused and by the reference, on vectors and scalars.
// Values are small integers, so that every sum is exact and nothing needs a tolerance.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sizeOf, type Shape } from '../../src/base/shape.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute, type RootSpec, targetOf } from './harness.ts';

const SHAPES: readonly Shape[] = [
  [3],
  [2, 3],
  [4, 2, 3],
  [1, 3],
  [2, 1],
  [],
  [5, 40],
  [37],
  [2, 2, 5, 6],
  [2, 2, 3, 3],
  [40, 5],
];
const RANGE = 9;

/** Instructions: which op, which earlier values, and a number to choose details by. */
type Instruction = readonly [op: number, a: number, b: number, detail: number];

const c = (value: number): Node => g.constant(value, 'float32');
const bounded = (x: Node): Node => g.clamp(x, c(-RANGE), c(RANGE));
const broadcasts = (a: Shape, b: Shape): boolean => {
  for (let i = 1; i <= Math.min(a.length, b.length); i++) {
    const [m, n] = [a.at(-i)!, b.at(-i)!];
    if (m !== n && m !== 1 && n !== 1) return false;
  }
  return true;
};

type Make = (a: Node, b: Node, detail: number) => Node | null;

const binary =
  (op: (a: Node, b: Node) => Node): Make =>
  (a, b) =>
    broadcasts(a.shape, b.shape) ? bounded(op(a, b)) : null;
const axisOf = (a: Node, detail: number): number => detail % a.shape.length;

/** Ops whose order of summation the schedule may choose by the target. */
const CONTRACTIONS: readonly Make[] = [
  (a, b) =>
    a.shape.length >= 2 &&
    b.shape.length === a.shape.length &&
    a.shape.at(-1) === b.shape.at(-2) &&
    a.shape.slice(0, -2).join() === b.shape.slice(0, -2).join()
      ? bounded(g.matmul(a, b))
      : null,
  (a) => (a.shape.length < 2 ? null : bounded(g.matmul(a, g.transpose(a)))),
  (a, b, detail) => {
    if (a.shape.length !== 4 || b.shape.length !== 4 || a.shape[1] !== b.shape[1]) return null;
    if (a.shape[2]! + 2 < b.shape[2]! || a.shape[3]! + 2 < b.shape[3]!) return null;
    const stride = [1 + (detail % 2), 1];
    return bounded(
      g.convolution(a, b, { stride, padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 }),
    );
  },
];

const OPS: readonly Make[] = [
  binary(g.add),
  binary(g.sub),
  binary(g.mul),
  binary(g.maximum),
  binary((a, b) => g.select(g.less(a, b), a, b)),
  (a) => g.relu(a),
  (a) => g.neg(a),
  (a) => g.abs(a),
  (a) => g.cast(g.greater(a, c(1)), 'float32'),
  (a) => bounded(g.square(a)),
  (a, _b, detail) => g.reshape(a, detail % 2 === 0 ? [sizeOf(a.shape)] : [1, ...a.shape]),
  (a, _b, detail) =>
    a.shape.length < 2
      ? null
      : g.permute(
          a,
          [...a.shape.keys()].map((axis) => (axis + 1 + (detail % 2)) % a.shape.length),
        ),
  (a, _b, detail) => (a.shape.length > 3 ? null : g.expand(a, [1 + (detail % 3), ...a.shape])),
  (a, _b, detail) => {
    if (a.shape.length === 0) return null;
    const along = (amount: number): number[] =>
      a.shape.map((_, axis) => (axis === axisOf(a, detail) ? amount : 0));
    return g.pad(a, along(detail % 3), along(1), detail % 4);
  },
  (a, _b, detail) =>
    a.shape.length === 0 || a.shape[axisOf(a, detail)]! < 2
      ? null
      : g.narrowAxis(a, axisOf(a, detail), 1, a.shape[axisOf(a, detail)]! - 1),
  (a, _b, detail) => (a.shape.length === 0 ? null : g.flip(a, axisOf(a, detail))),
  (a, b, detail) => {
    if (a.shape.length === 0 || a.shape.length !== b.shape.length) return null;
    const axis = axisOf(a, detail);
    const fits = a.shape.every((size, i) => i === axis || size === b.shape[i]);
    return fits ? g.concat([a, b], axis) : null;
  },
  (a, _b, detail) =>
    a.shape.length === 0 ? null : bounded(g.sum(a, [axisOf(a, detail)], detail % 2 === 0)),
  (a) => bounded(g.sum(a)),
  (a, _b, detail) => (a.shape.length === 0 ? null : g.max(a, [axisOf(a, detail)], true)),
  (a, _b, detail) =>
    a.shape.length === 0
      ? null
      : g.cast(g.argmax(a, [axisOf(a, detail)], detail % 2 === 0), 'float32'),
  (a, _b, detail) => (a.shape.length === 0 ? null : bounded(g.cumsum(a, axisOf(a, detail)))),
  (a) =>
    a.shape.length < 2 || a.shape.at(-1)! < 2 || a.shape.at(-2)! < 2
      ? null
      : g.maxPool(a, { kernel: [2, 2], stride: [2, 2], padding: [0, 0, 0, 0], dilation: [1, 1] }),
  (a, b, detail) => {
    if (a.shape.length === 0 || a.shape.includes(0)) return null;
    const index = g.cast(g.minimum(g.abs(b), c(a.shape[axisOf(a, detail)]! - 1)), 'int32');
    return b.shape.length === 1 ? g.take(a, index, axisOf(a, detail)) : null;
  },
  (a, _b, detail) => bounded(g.add(a, g.scalar((detail % 7) - 3, 'float32'))),
];

const ALL = [...OPS, ...CONTRACTIONS];

interface Case {
  readonly roots: readonly RootSpec[];
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
}

function build(
  shapes: readonly number[],
  instructions: readonly Instruction[],
  chosen: readonly number[],
  ops: readonly Make[] = ALL,
  adjust: (value: number) => number = Math.round,
): Case {
  const leaves = shapes.map((at) =>
    leafFor({ shape: SHAPES[at % SHAPES.length]!, dtype: 'float32' }),
  );
  const values = new Map(
    leaves.map((leaf, i) => {
      const { shape, data, dtype } = randomTensor(leaf.shape, { low: -4, high: 4, seed: i + 1 });
      return [leaf, { shape, dtype, data: data.map(adjust) }];
    }),
  );
  const nodes = [...leaves];
  for (const [op, a, b, detail] of instructions) {
    const left = nodes.at(-1 - (a % Math.min(nodes.length, 6)))!;
    const right = nodes[b % nodes.length]!;
    // The first op, from the chosen one on, that takes these operands.
    for (let k = 0; k < ops.length; k++) {
      const made = ops[(op + k) % ops.length]!(left, right, detail);
      if (made === null) continue;
      if (sizeOf(made.shape) <= 4000) nodes.push(made);
      break;
    }
  }
  const computed = nodes.slice(leaves.length);
  const roots: RootSpec[] = [];
  const used = new Set<Node>();
  if (computed.length > 0) used.add(computed.at(-1)!);
  for (const at of chosen) if (computed.length > 0) used.add(computed[at % computed.length]!);
  const overwritten = new Set<Node>();
  for (const node of used) {
    const over = leaves.find(
      (leaf) =>
        !overwritten.has(leaf) && leaf.shape.join() === node.shape.join() && roots.length % 2 === 0,
    );
    if (over === undefined || !reaches(node, over)) roots.push(node);
    else {
      overwritten.add(over);
      roots.push({ node, over });
    }
  }
  return { roots, values };
}

function reaches(node: Node, leaf: Node): boolean {
  return node === leaf || node.inputs.some((input) => reaches(input, leaf));
}

const nodeOf = (root: RootSpec): Node => ('node' in root ? root.node : root);

function check({ roots, values }: Case, vectorBytes: number, numerics: 'fast' | 'strict'): void {
  if (roots.length === 0) return;
  const expected = evaluateReference(roots.map(nodeOf), values);
  for (const fusion of [true, false]) {
    const target = targetOf({ numerics, vectorBytes });
    const { program, compiled } = compileRoots(roots, { fusion }, target);
    const results = execute(program, compiled, values);
    roots.forEach((root, i) => {
      const wanted = expected.get(nodeOf(root))!.data;
      expect(
        Array.from(results[i]!, (value) => value + 0),
        `root ${i}, fusion ${fusion}`,
      ).toEqual(Array.from(wanted, (value) => value + 0));
    });
  }
}

const instruction = fc.tuple(fc.nat(1000), fc.nat(1000), fc.nat(1000), fc.nat(1000));

describe('random graphs', () => {
  test.each([
    ['fast', 16],
    ['strict', 64],
    ['fast', 4],
  ] as const)('%s, vectors of %i bytes', (numerics, vectorBytes) => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100), { minLength: 1, maxLength: 4 }),
        fc.array(instruction, { minLength: 3, maxLength: 24, size: 'max' }),
        fc.array(fc.nat(1000), { maxLength: 3 }),
        (shapes, instructions, chosen) => {
          check(build(shapes, instructions, chosen), vectorBytes, numerics);
        },
      ),
      { numRuns: Number(process.env['FUZZ_RUNS'] ?? 60) },
    );
  });

  test('strict numerics: neither fusion nor the width of vectors changes a bit', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100), { minLength: 1, maxLength: 4 }),
        fc.array(instruction, { minLength: 3, maxLength: 16, size: 'max' }),
        (shapes, instructions) => {
          // Not exactly representable sums: every other order would show.
          const adjust = (value: number): number => Math.fround(value / 3);
          const { roots, values } = build(shapes, instructions, [1, 3, 5], OPS, adjust);
          const runs = [
            [true, 16],
            [false, 16],
            [true, 64],
          ] as const;
          const [first, ...others] = runs.map(([fusion, vectorBytes]) => {
            const target = targetOf({ numerics: 'strict', vectorBytes });
            const { program, compiled } = compileRoots(roots, { fusion }, target);
            return execute(program, compiled, values);
          });
          for (const other of others) expect(other).toEqual(first);
        },
      ),
      { numRuns: Number(process.env['FUZZ_RUNS'] ?? 60) },
    );
  });
});
