// Every primitive: it has a conversion or a reason for having none, and what is written computes the same.
import { zeros } from 'tengen';
import type { Tensor } from 'tengen';
import { UnsupportedError } from 'tengen/onnx';
import { describe, expect, test } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import type { Sample, TestedOp } from '../../src/graph/op.ts';
import { allOps, makeNode } from '../../src/graph/op.ts';
import { CONVERSIONS } from '../../src/interface/onnx/export/convert.ts';
import { ALIASES } from '../../src/interface/onnx/export/graph.ts';
import { REGIONS } from '../../src/interface/onnx/export/region.ts';
import { UNSUPPORTED } from '../../src/interface/onnx/export/unsupported.ts';
import { encodeNumbers } from '../../src/interface/tensor/encode.ts';
import { fromBytes, wrap } from '../../src/interface/tensor/handle.ts';
import { reloaded } from './exported.ts';

/** Primitives that are no node of a file, and why. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  input: 'an input or a constant',
  scalar: 'a constant',
  attention: 'rewritten as the graph that it stands for',
  parameter: 'stands within a loop or choice',
  result: 'belongs to a loop or choice',
  guard: 'belongs to a loop or choice',
};

/** Samples of an op that are tried: all would take minutes, and the first ones are the plain ones. */
const TRIED = 3;

const ops = allOps().filter(({ lower, samples }) => lower.kind !== 'leaf' && samples().length > 0);

function tensorsOf(sample: Sample): Tensor[] {
  return sample.inputs.map(({ data, shape, dtype }) => {
    const { buffer } = encodeNumbers('sample', data, dtype);
    return fromBytes(new Uint8Array(buffer), shape, dtype);
  });
}

/** The op as a function of tensors. */
function asFunction(op: TestedOp, sample: Sample): (...inputs: Tensor[]) => Tensor {
  return (...inputs) => {
    const given = sample.inputs.length === 0 ? [] : inputs;
    return wrap(
      makeNode(
        op,
        given.map(({ node }) => node),
        sample.attrs,
      ),
    );
  };
}

async function check(op: TestedOp, sample: Sample): Promise<void> {
  const fn = asFunction(op, sample);
  const tensors = tensorsOf(sample);
  const inputs = tensors.length === 0 ? [zeros([1])] : tensors;
  const names = inputs.map((_, i) => `x${i}`);
  const model = await reloaded(fn, { inputs, inputNames: names, opset: 18 });
  const result = model.forward(Object.fromEntries(inputs.map((x, i) => [names[i], x])));
  const [got, want] = [result['output'] as Tensor, fn(...inputs)];
  expect(got.shape).toEqual(want.shape);
  expect(got.dtype).toBe(want.dtype);
  const [values, expected] = [got.dataSync(), want.dataSync()];
  expected.forEach((value, i) => {
    const close = isFloat(want.dtype) ? 1e-5 * Math.abs(value) + 1e-6 : 0;
    const error = Math.abs((values[i] as number) - value);
    const same = Object.is(values[i], value) || values[i] === value;
    if (!same && !(error <= close)) expect(values[i], `element ${i}`).toBe(value);
  });
}

/** Whether an op's samples keep what the kernels promise: indices in range. */
function staysInRange(op: TestedOp, sample: Sample): boolean {
  if (op.name !== 'gather' && op.name !== 'take') return true;
  const [x, index] = sample.inputs;
  const size = x?.shape[sample.attrs['axis'] as number] ?? 0;
  return index?.data.every((at) => at >= 0 && at < size) === true;
}

describe('primitives', () => {
  test.each(allOps().map((op) => [op.name, op] as const))('%s has its place', (name, op) => {
    const places = [
      REGIONS.has(name),
      name in CONVERSIONS,
      name in UNSUPPORTED,
      ALIASES.has(name),
      name in ELSEWHERE,
    ];
    expect(places.filter(Boolean), 'add it to a table of src/interface/onnx/export').toHaveLength(
      1,
    );
    if (name in CONVERSIONS) expect(CONVERSIONS[name]?.attrs).toEqual(op.attrs);
  });

  test('the tables name no op that does not exist', () => {
    const known = new Set(allOps().map(({ name }) => name));
    const named = [...Object.keys(CONVERSIONS), ...Object.keys(UNSUPPORTED), ...ALIASES];
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });

  test.each(ops.filter(({ name }) => name in UNSUPPORTED).map((op) => [op.name, op] as const))(
    '%s is refused with its reason',
    async (name, op) => {
      const sample = op.samples()[0] as Sample;
      const attempt = check(op, sample);
      await expect(attempt).rejects.toThrow(UnsupportedError);
      await expect(attempt).rejects.toThrow(UNSUPPORTED[name] as string);
    },
  );

  const written = ops.filter(({ name }) => name in CONVERSIONS || name === 'attention');
  test.each(written.map((op) => [op.name, op] as const))(
    '%s comes back the same',
    async (_name, op) => {
      const samples = op.samples().filter((sample) => staysInRange(op, sample));
      let count = 0;
      for (const sample of samples) {
        if (count === TRIED) break;
        try {
          await check(op, sample);
          count++;
        } catch (error) {
          // Some dtypes or groups of an op have no counterpart; not all of them.
          if (!(error instanceof UnsupportedError)) throw error;
        }
      }
      expect(count).toBeGreaterThan(0);
    },
  );
});
