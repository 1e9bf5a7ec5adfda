// From samples to a batch: stacks what can be stacked, keeps the structure of the samples.
import type { DType, TypedArray } from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { type HostArray, type TypedHostArray, isHostArray } from '../io/host-array.ts';
import { type Tensor, adoptHostArray, isTensor, toHostArray } from '../io/tensors.ts';

/** The batch that the default collation makes of samples of type `S`. */
export type Collated<S> = CollatedAs<S, Tensor>;

/** The same with host arrays in place of tensors. */
export type CollatedArrays<S> = CollatedAs<S, TypedHostArray>;

type CollatedAs<S, Leaf> = S extends number | boolean | TypedArray | HostArray | Tensor
  ? Leaf
  : S extends string
    ? string[]
    : S extends object
      ? { -readonly [Key in keyof S]: CollatedAs<S[Key], Leaf> }
      : never;

/**
 * Makes the function that stacks samples into host arrays; `fail` throws the caller's error.
 * Workers receive this function as source text: it refers to nothing outside itself.
 */
export function createStacker(
  fail: (reason: string) => never,
): (samples: readonly unknown[]) => unknown {
  type View = TypedArray & { set(source: ArrayLike<number>, offset: number): void };
  interface Leaf {
    data: TypedArray;
    shape: readonly number[];
    dtype: DType | undefined;
  }

  const isView = (value: unknown): value is TypedArray =>
    ArrayBuffer.isView(value) && !(value instanceof DataView);

  const dtypeOf = (data: TypedArray, where: string): DType => {
    if (data instanceof Float32Array) return 'float32';
    if (data instanceof Uint8Array) return 'uint8';
    if (data instanceof Int32Array) return 'int32';
    if (data instanceof Float64Array) return 'float64';
    if (data instanceof Int8Array) return 'int8';
    if (data instanceof Int16Array) return 'int16';
    if (data instanceof Uint32Array) return 'uint32';
    return fail(
      `${where} is a ${Object(data).constructor.name}, which needs { data, shape, dtype }`,
    );
  };

  const asLeaf = (value: unknown): Leaf | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    if (isView(value)) return { data: value, shape: [value.length], dtype: undefined };
    const { data, shape, dtype } = value as { data?: unknown; shape?: unknown; dtype?: DType };
    if (!isView(data) || !Array.isArray(shape)) return undefined;
    return { data, shape: shape as number[], dtype };
  };

  const kindOf = (value: unknown): string => {
    if (value === null) return 'null';
    if (Array.isArray(value)) return 'tuple';
    if (asLeaf(value) !== undefined) return 'array';
    return typeof value;
  };

  const stackNumbers = (values: readonly number[]): HostArray => {
    // Labels are integers and become indices; anything else is a float32, as it is in models.
    const integers = values.every((value) => value === (value | 0));
    const data = integers ? Int32Array.from(values) : Float32Array.from(values);
    return { data, shape: [values.length], dtype: integers ? 'int32' : 'float32' };
  };

  const stackArrays = (values: readonly unknown[], where: string): HostArray => {
    const leaves = values.map((value) => asLeaf(value) as Leaf);
    const first = leaves[0] as Leaf;
    const size = first.shape.reduce((a, b) => a * b, 1);
    const Kind = first.data.constructor as new (length: number) => View;
    const result = new Kind(size * leaves.length);
    for (let index = 0; index < leaves.length; index++) {
      const { data, shape, dtype } = leaves[index] as Leaf;
      if (shape.length !== first.shape.length || shape.some((n, axis) => n !== first.shape[axis])) {
        fail(
          `${where} of sample ${index} has shape [${shape.join(',')}], that of sample 0 [${first.shape.join(',')}]. hint: crop or pad them to one size, or give your own collate`,
        );
      }
      if (data.length !== size) {
        fail(`${where} of sample ${index}: ${data.length} elements, shape [${shape.join(',')}]`);
      }
      if (data.constructor !== first.data.constructor || dtype !== first.dtype) {
        fail(`${where} of sample ${index} has another element type than that of sample 0`);
      }
      result.set(data, index * size);
    }
    const dtype = first.dtype ?? dtypeOf(first.data, where);
    return { data: result, shape: [leaves.length, ...first.shape], dtype };
  };

  const stack = (values: readonly unknown[], where: string): unknown => {
    const kind = kindOf(values[0]);
    const odd = values.findIndex((value) => kindOf(value) !== kind);
    if (odd >= 0) {
      fail(`${where} of sample ${odd} is a ${kindOf(values[odd])}, that of sample 0 a ${kind}`);
    }
    if (kind === 'number') return stackNumbers(values as number[]);
    if (kind === 'boolean') {
      const data = Uint8Array.from(values as boolean[], (value) => (value ? 1 : 0));
      return { data, shape: [values.length], dtype: 'bool' };
    }
    if (kind === 'string') return values;
    if (kind === 'array') return stackArrays(values, where);
    if (kind !== 'tuple' && kind !== 'object') {
      fail(`${where} is ${kind}, which cannot be stacked. hint: give your own collate`);
    }
    const records = values as Readonly<Record<string, unknown>>[];
    const keys = Object.keys(records[0] as object);
    const columns = keys.map((key) => {
      const missing = records.findIndex((record) => !(key in record));
      if (missing >= 0) fail(`${where} of sample ${missing} has no '${key}', that of sample 0 has`);
      return stack(
        records.map((record) => record[key]),
        kind === 'tuple' ? `${where}[${key}]` : `${where}.${key}`,
      );
    });
    const longer = records.findIndex((record) => Object.keys(record).length !== keys.length);
    if (longer >= 0) fail(`${where} of sample ${longer} has more members than that of sample 0`);
    return kind === 'tuple'
      ? columns
      : Object.fromEntries(keys.map((key, index) => [key, columns[index]]));
  };

  return (samples) => {
    if (samples.length === 0) fail('a batch needs at least one sample');
    return stack(samples, 'the value');
  };
}

const stackSamples = createStacker((reason) => {
  throw new ShapeError(reason, { op: 'collate' });
});

/** Applies `leaf` to the parts of a tree that it accepts; copies only what changes. */
function mapTree(value: unknown, leaf: (value: object) => unknown): unknown {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  const mapped = leaf(value);
  if (mapped !== undefined) return mapped;
  if (Array.isArray(value)) return value.map((item) => mapTree(item, leaf));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTree(item, leaf)]));
}

function hasTensor(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false;
  if (isTensor(value)) return true;
  if (isHostArray(value)) return false;
  return Object.values(value).some(hasTensor);
}

/** The sample with its tensors read into host memory. */
async function readTensors(sample: unknown): Promise<unknown> {
  if (typeof sample !== 'object' || sample === null || ArrayBuffer.isView(sample)) return sample;
  if (isTensor(sample)) return toHostArray(sample);
  if (isHostArray(sample)) return sample;
  if (Array.isArray(sample)) return Promise.all(sample.map(readTensors));
  const members = Object.entries(sample).map(
    async ([key, value]) => [key, await readTensors(value)] as const,
  );
  return Object.fromEntries(await Promise.all(members));
}

/** Host arrays in a tree become tensors that own their memory; the rest stays. */
export function toTensors(batch: unknown): unknown {
  return mapTree(batch, (value) => {
    if (isTensor(value)) return value;
    return isHostArray(value) ? adoptHostArray(value) : undefined;
  });
}

/**
 * Stacks samples along a new first axis: numbers, booleans, typed arrays, `{ data, shape }` and
 * tensors become arrays; strings a list; tuples and records keep their form. Integers become int32,
 * other numbers float32.
 *
 * As a loader's `collate` it gives batches without making tensors of them, by the fast path where the
 * dataset has one.
 *
 * @throws ShapeError if samples differ in shape, type or members.
 */
export async function collateToArrays<S>(samples: readonly S[]): Promise<CollatedArrays<S>> {
  if (!Array.isArray(samples)) {
    throw new ArgumentError(`expected a list of samples, got ${describeValue(samples)}`, {
      op: 'collate',
    });
  }
  const ready = samples.some(hasTensor) ? await Promise.all(samples.map(readTensors)) : samples;
  return stackSamples(ready) as CollatedArrays<S>;
}

/** The loader's default: {@link collateToArrays}, with tensors in place of the arrays. */
export async function defaultCollate<S>(samples: readonly S[]): Promise<Collated<S>> {
  return toTensors(await collateToArrays(samples)) as Collated<S>;
}
