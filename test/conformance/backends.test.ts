// Every op's samples with their gradients, compiled as one graph and run on each backend, against
// the reference evaluator.
import { afterAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { type DType, isFloat } from '../../src/base/dtype.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import {
  makeNode,
  type OpDef,
  type ReferenceTensor,
  type Sample,
  type TestedOp,
} from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { storedValue } from '../../src/graph/ops/reference.ts';
import type { Device } from '../../src/runtime/device.ts';
import { computedOps, leafFor, randomLike } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { type RunOptions, runGraph } from '../support/run-graph.ts';

const ops = computedOps();

/** Relative to 1 + |expected|. Without fusion, halves round before every sum of a gradient. */
function tolerance(dtype: DType): number {
  if (dtype === 'float16') return 1e-2;
  if (dtype === 'bfloat16') return 6e-2;
  return dtype === 'float64' ? 1e-11 : 2e-5;
}

interface Case {
  readonly name: string;
  readonly results: readonly Node[];
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
  readonly expected: ReadonlyMap<Node, ReferenceTensor>;
  readonly tolerance: number | undefined;
}

/** The op on a sample, and its gradients for a random cotangent where it has any. */
function caseOf(op: OpDef, sample: Sample, index: number): Case {
  const leaves = sample.inputs.map(leafFor);
  const node = makeNode(op, leaves, sample.attrs);
  const values = new Map(leaves.map((leaf, i) => [leaf, sample.inputs[i]!]));
  const results = [node];
  const floats = leaves.filter((leaf) => isFloat(leaf.dtype));
  const special = sample.inputs.some(({ data }) => data.some((value) => !Number.isFinite(value)));
  if (typeof op.gradient === 'function' && isFloat(node.dtype) && floats.length > 0 && !special) {
    const cotangent = leafFor(node);
    values.set(cotangent, randomLike(node, 9));
    for (const result of gradients([node], [cotangent], floats)) {
      if (result !== null) results.push(result);
    }
  }
  const expected = evaluateReference(results, values);
  const name = `${op.name} sample ${index}`;
  return { name, results, values, expected, tolerance: sample.tolerance };
}

const known = new Map<TestedOp, readonly Case[]>();

/** Built once for all backends, with what the reference says: that is the longer part. */
function casesOf(op: TestedOp): readonly Case[] {
  let cases = known.get(op);
  if (cases === undefined) {
    cases = op.samples().map((sample, i) => caseOf(op, sample, i));
    known.set(op, cases);
  }
  return cases;
}

function checkCase(made: Case, actual: ReadonlyMap<Node, ReferenceTensor>): void {
  made.results.forEach((node, which) => {
    const what = which === 0 ? made.name : `${made.name}, gradient ${which - 1}`;
    const found = (actual.get(node) ?? made.values.get(node))!.data;
    const wanted = made.expected.get(node)!.data;
    expect(found.length, what).toBe(wanted.length);
    for (let i = 0; i < wanted.length; i++) {
      const a = found[i]!;
      const e = storedValue(node.dtype, wanted[i]!);
      if (Object.is(a, e) || a === e) continue;
      const relative = made.tolerance ?? tolerance(node.dtype);
      if (isFloat(node.dtype) && Math.abs(a - e) <= relative * (1 + Math.abs(e))) continue;
      expect.fail(`${what}, element ${i}: ${a}, expected ${e}`);
    }
  });
}

const setups: readonly (readonly [string, () => Device, RunOptions])[] = [
  ['interp, strict', () => new InterpDevice({ vectorBytes: 16 }), { numerics: 'strict' }],
  ['wasm, fast', () => new WasmDevice({ threads: 1 }), { numerics: 'fast' }],
  ['wasm, no fusion', () => new WasmDevice({ threads: 1 }), { numerics: 'fast', fusion: false }],
  ['native, fast', () => new NativeDevice({ threads: 1 }), { numerics: 'fast' }],
];

describe.each(setups)('%s', (_name, create, options) => {
  const device = create();
  afterAll(() => {
    expect(device.memory().allocated).toBe(0);
    device.close();
  });

  // Native compiles every kernel of an op's cases: on a slow machine attention takes over 30 s.
  test.each(ops.map((op) => [op.name, op] as const))('%s', { timeout: 180_000 }, (_op, op) => {
    const cases = casesOf(op);
    const values = new Map(cases.flatMap((made) => [...made.values]));
    const actual = runGraph(
      device,
      cases.flatMap(({ results }) => results),
      values,
      options,
    );
    for (const made of cases) checkCase(made, actual);
  });
});
