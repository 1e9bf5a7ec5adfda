// Compares models with what torchvision's are and compute: scripts/golden/vision_fixtures.py.
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type nn, noGrad, type Tensor, tensor } from 'tengen';

/** Number of the tensor "image" in `draw`. */
export const IMAGE = 9999;

/**
 * State of a module: shapes of its own tensors and its children. A number is a batch normalization
 * of that many channels, '=' repeats the sibling before.
 */
interface Tree {
  readonly [name: string]: readonly number[] | number | '=' | Tree;
}

export interface ModelRecord {
  readonly state: Tree;
  readonly logits?: readonly number[];
  /** Mean weight of normalizations when the scores were computed. */
  readonly scale?: number;
}

export interface Fixture {
  readonly models: Readonly<Record<string, ModelRecord>>;
  /** Of the language model: of a step of training. */
  readonly loss?: number;
  readonly norms?: Readonly<Record<string, number>>;
  readonly training?: {
    readonly loss: number;
    /** Norm of each gradient, and its product with a fixed direction. */
    readonly gradients: Readonly<Record<string, readonly [number, number]>>;
    /** Sums of running statistics. */
    readonly statistics: Readonly<Record<string, readonly [number]>>;
  };
}

export function readFixture(family: string, folder = '.'): Fixture {
  const url = new URL(`${folder}/fixtures/${family}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, 'utf8')) as Fixture;
}

const isShape = (value: unknown): value is readonly number[] => Array.isArray(value);

/** `name shape` of each tensor, in order. */
function* entriesOf(tree: Tree, prefix = ''): Generator<string> {
  let before: Tree | number | undefined;
  for (const [name, value] of Object.entries(tree)) {
    const path = prefix + name;
    if (isShape(value)) {
      yield `${path} ${value.join('x')}`;
      continue;
    }
    const child = value === '=' ? before : value;
    before = child;
    if (typeof child === 'number') {
      for (const part of ['weight', 'bias', 'running_mean', 'running_var']) {
        yield `${path}.${part} ${child}`;
      }
      yield `${path}.num_batches_tracked `;
    } else if (child !== undefined) {
      yield* entriesOf(child, `${path}.`);
    }
  }
}

/** Checks names, shapes and order of everything in the state dict. */
export function expectState(model: nn.Module, record: ModelRecord): void {
  const own = Object.entries(model.stateDict()).map(([name, t]) => `${name} ${t.shape.join('x')}`);
  expect(own).toEqual([...entriesOf(record.state)]);
}

/** Numbers in [-1, 1): a hash of the tensor's number and the position in it. */
export function draw(index: number, size: number): Float64Array {
  const values = new Float64Array(size);
  const start = index * 40503 + 12345;
  for (let i = 0; i < size; i++) {
    let x = (Math.imul(i, 2654435761) + start) | 0;
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
    x = Math.imul(x ^ (x >>> 12), 0x297a2d39);
    values[i] = ((x ^ (x >>> 15)) >>> 0) / 2 ** 31 - 1;
  }
  return values;
}

/** Factor and offset of a tensor's numbers: activations keep their size from layer to layer. */
function rangeOf(
  name: string,
  value: Tensor,
  scale: number,
): readonly [factor: number, offset: number] {
  const [outputs = 1] = value.shape;
  if (value.ndim >= 2) return [Math.sqrt((6 * outputs) / value.size), 0];
  if (name.endsWith('weight')) return [0.2, scale];
  if (name.endsWith('running_var')) return [0.5, 1];
  return [0.1, 0];
}

/** Fills weights and statistics as the reference did. */
export function fill(model: nn.Module, scale = 0.9): void {
  for (const [index, [name, value]] of Object.entries(model.stateDict()).entries()) {
    if (/(num_batches_tracked|relative_position_index|^mask)$/.test(name)) continue;
    const [factor, offset] = rangeOf(name, value, scale);
    value.setData(draw(index, value.size).map((u) => u * factor + offset));
  }
}

export function images(count: number, size: number): Tensor {
  const values = Float32Array.from(draw(IMAGE, count * 3 * size * size));
  return tensor(values).reshape(count, 3, size, size);
}

/** Largest difference over the largest expected number. */
export function relativeError(actual: ArrayLike<number>, expected: readonly number[]): number {
  expect(actual).toHaveLength(expected.length);
  const difference = Math.max(...expected.map((value, i) => Math.abs(value - (actual[i] ?? NaN))));
  return difference / Math.max(...expected.map(Math.abs));
}

/** Checks the state dict and, where the fixture has them, the scores of two images in evaluation. */
export async function expectSame(model: nn.Layer, record: ModelRecord, size = 64): Promise<void> {
  expectState(model, record);
  if (record.logits === undefined) return;
  fill(model, record.scale);
  model.eval();
  const logits = await noGrad(() => model.forward(images(2, size))).data();
  const error = relativeError(logits, record.logits);
  if (process.env['SHOW_ERRORS'] !== undefined) console.log(model.constructor.name, error);
  expect(error).toBeLessThan(2e-5);
}

/** Constructors with their names, for `test.each`. */
export function named<F extends { readonly name: string }>(builders: readonly F[]): [string, F][] {
  return builders.map((build) => [build.name, build]);
}
