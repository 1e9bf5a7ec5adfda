// Every op that takes float32 takes halves too, with gradients, on each backend: its first samples,
// rounded. What refuses them does so by name.
import { afterAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { type DType, isFloat } from '../../src/base/dtype.ts';
import { DTypeError } from '../../src/base/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import {
  allOps,
  makeNode,
  type OpDef,
  type ReferenceTensor,
  type Sample,
} from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { storedValue } from '../../src/graph/ops/reference.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor, randomLike } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { runGraph } from '../support/run-graph.ts';

type Half = 'float16' | 'bfloat16';

/** The words of a text. */
function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}

/** Factorizations: a half has too few digits for them, and PyTorch refuses it as well. */
const REFUSING = words(`
  cholesky luFactor luSolve luDeterminant qr qrComplete mirrorTriangle singularValues
  symmetricEigen generalEigen pseudoInverse matrixExponential triangularSolve
`);

/** The first samples that hold float32, as halves. */
function halved(op: OpDef & { samples(): readonly Sample[] }, dtype: DType, count: number) {
  const samples = op
    .samples()
    .filter(({ inputs }) => inputs.some((input) => input.dtype === 'float32'));
  return samples.slice(0, count).map((sample) => ({
    ...sample,
    inputs: sample.inputs.map((input) =>
      input.dtype === 'float32'
        ? { ...input, dtype, data: input.data.map((value) => storedValue(dtype, value)) }
        : input,
    ),
  }));
}

interface Case {
  readonly name: string;
  readonly results: readonly Node[];
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
}

function caseOf(op: OpDef, sample: Sample): Case {
  const leaves = sample.inputs.map(leafFor);
  const node = makeNode(op, leaves, sample.attrs);
  const values = new Map(leaves.map((leaf, i) => [leaf, sample.inputs[i]!]));
  const results = [node];
  const floats = leaves.filter((leaf) => isFloat(leaf.dtype));
  const special = sample.inputs.some(({ data }) => data.some((value) => !Number.isFinite(value)));
  if (typeof op.gradient === 'function' && isFloat(node.dtype) && !special) {
    const cotangent = leafFor(node);
    values.set(cotangent, randomLike(node, 9));
    for (const result of gradients([node], [cotangent], floats)) {
      if (result !== null) results.push(result);
    }
  }
  return { name: op.name, results, values };
}

/** Relative to 1 + |expected|: gradients sum values that were rounded before. */
const TOLERANCE: Readonly<Record<string, number>> = { float16: 1e-2, bfloat16: 6e-2 };

function expectCase(made: Case, actual: ReadonlyMap<Node, ReferenceTensor>): void {
  const expected = evaluateReference(made.results, made.values);
  made.results.forEach((node, which) => {
    const found = (actual.get(node) ?? made.values.get(node))!.data;
    const wanted = expected.get(node)!.data;
    expect(found.length).toBe(wanted.length);
    for (let i = 0; i < wanted.length; i++) {
      const a = found[i]!;
      const e = storedValue(node.dtype, wanted[i]!);
      if (Object.is(a, e) || a === e) continue;
      const tolerance = TOLERANCE[node.dtype] ?? 2e-5;
      if (isFloat(node.dtype) && Math.abs(a - e) <= tolerance * (1 + Math.abs(e))) continue;
      expect.fail(`${made.name}, result ${which}, element ${i}: ${a}, expected ${e}`);
    }
  });
}

const ops = allOps().filter((op) => op.lower.kind !== 'leaf');
const halves: readonly Half[] = ['float16', 'bfloat16'];

const setups: readonly (readonly [string, () => Device, number])[] = [
  ['interp', () => new InterpDevice({ vectorBytes: 16 }), 2],
  ['wasm', () => new WasmDevice({ threads: 1 }), 2],
  // The C compiler takes its time.
  ['native', () => new NativeDevice({ threads: 1 }), 1],
];

describe.each(setups)('%s', (_name, create, count) => {
  const device = create();
  afterAll(() => {
    expect(device.memory().allocated).toBe(0);
    device.close();
  });

  test.each(halves)('%s', { timeout: 240_000 }, (dtype) => {
    const cases = ops
      .filter(({ name }) => !REFUSING.has(name))
      .flatMap((op) => halved(op, dtype, count).map((sample) => caseOf(op, sample)));
    expect(cases.length).toBeGreaterThan(100);
    // A few at a time: a plan of all of them would take long to compile.
    for (let start = 0; start < cases.length; start += 24) {
      const some = cases.slice(start, start + 24);
      const actual = runGraph(
        device,
        some.flatMap(({ results }) => results),
        new Map(some.flatMap(({ values }) => [...values])),
        { numerics: 'fast' },
      );
      for (const made of some) expectCase(made, actual);
    }
  });
});

test('factorizations refuse halves by name', () => {
  for (const op of ops.filter(({ name }) => REFUSING.has(name))) {
    for (const sample of halved(op, 'float16', 1)) {
      expect(() => caseOf(op, sample), op.name).toThrow(DTypeError);
    }
  }
});
