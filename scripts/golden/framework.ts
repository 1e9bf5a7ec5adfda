// Tengen as the golden adapters see it: public functions found by name when they are called, so
// that a case counts from the moment its operation exists.

import {
  env,
  evaluate,
  F,
  grad,
  nn,
  optim,
  setDefaultDevice,
  setNumerics,
  Tensor,
  tensor,
  valueAndGrad,
  vjp,
} from '../../src/index.ts';
import * as tengen from '../../src/index.ts';
import * as vision from '../../src/vision.ts';
import '../../src/interp.ts';
import '../../src/native.ts';
import type { HostTensor } from './compare.ts';
import type { GoldenTensor, Json } from './manifest.ts';

export { nn, optim, Tensor, vjp };

/** A layer that maps one tensor to one tensor. */
export type Layer = nn.Module & { forward(x: Tensor, options?: object): Tensor };

/** An operation that the public API does not have: its cases are skipped, not failed. */
export class NotInStage extends Error {
  override readonly name = 'NotInStage';

  constructor(operation: string) {
    super(`not in this stage: ${operation}`);
  }
}

/** Vectors that hold a known mistake of the PyTorch they came from: skipped, and the reason said. */
export class DefectiveReference extends Error {
  override readonly name = 'DefectiveReference';
}

export type Callable = (...args: readonly unknown[]) => unknown;

const namespaces: readonly Readonly<Record<string, unknown>>[] = [F, tengen, nn, optim, vision];

function isCallable(value: unknown): value is Callable {
  return typeof value === 'function';
}

/** The public function of this name. */
export function find(name: string): Callable {
  for (const namespace of namespaces) {
    const candidate = namespace[name];
    if (isCallable(candidate)) return candidate;
  }
  throw new NotInStage(name);
}

/** A new object of the public class of this name. */
export function make<T extends object>(name: string, ...args: readonly unknown[]): T {
  return Reflect.construct(find(name), args) as T;
}

function asTensor(name: string, value: unknown): Tensor {
  if (value instanceof Tensor) return value;
  throw new Error(`${name} returned no tensor but ${typeof value}`);
}

/** Calls the public function of this name for a tensor. */
export function call(name: string, ...args: readonly unknown[]): Tensor {
  return asTensor(name, find(name)(...args));
}

/** As `call`, for a list of tensors. */
export function callForList(name: string, ...args: readonly unknown[]): readonly Tensor[] {
  const result = find(name)(...args);
  if (!Array.isArray(result)) throw new Error(`${name} returned no list`);
  return result.map((item: unknown) => asTensor(name, item));
}

/** As `call`, for two results: a list of two, or `{ values, indices }`. */
export function callForPair(name: string, ...args: readonly unknown[]): readonly Tensor[] {
  const result = find(name)(...args);
  if (Array.isArray(result)) return result.map((item: unknown) => asTensor(name, item));
  const { values, indices } = result as { values?: unknown; indices?: unknown };
  return [asTensor(name, values), asTensor(name, indices)];
}

/** Calls a method of a tensor. */
export function callMethod(
  x: Tensor | undefined,
  name: string,
  ...args: readonly unknown[]
): Tensor {
  const method: unknown = x === undefined ? undefined : Reflect.get(x, name);
  if (!isCallable(method)) throw new NotInStage(`Tensor.${name}`);
  return asTensor(name, method.apply(x, [...args]));
}

/** A tensor with the values of a golden one. */
export function makeTensor(golden: GoldenTensor): Tensor {
  return tensor(golden.data, { shape: golden.shape, dtype: golden.dtype });
}

/** A float tensor of these values. */
export function floats(values: readonly number[], shape: readonly number[]): Tensor {
  return tensor(Float32Array.from(values), { shape });
}

/** The parts along the first axis, each with memory of its own, as a loader would give them. */
export async function rowsOf(x: Tensor | undefined): Promise<Tensor[]> {
  if (x === undefined) throw new Error('an input is missing');
  const [count = 0, ...shape] = x.shape;
  const data = await x.data();
  const size = data.length / Math.max(1, count);
  return Array.from({ length: count }, (_, row) =>
    tensor(data.slice(row * size, (row + 1) * size), { shape, dtype: x.dtype }),
  );
}

/** Computes tensors, all in one go, and copies them out. */
export async function readTensors(tensors: readonly Tensor[]): Promise<HostTensor[]> {
  evaluate(...tensors);
  return Promise.all(
    tensors.map(async (x) => ({ dtype: x.dtype, shape: x.shape, data: await x.data() })),
  );
}

/** Computes a tensor and copies it out. */
export async function readTensor(x: Tensor): Promise<HostTensor> {
  return { dtype: x.dtype, shape: x.shape, data: await x.data() };
}

/** The strided views that a case asks for; see the golden set's README. */
export function applyViews(x: Tensor, steps: readonly Json[]): Tensor {
  let view = x;
  for (const step of steps) {
    const [kind, ...args] = step as readonly Json[];
    if (kind === 'transpose' || kind === 'permute' || kind === 'expand') {
      view = call(kind, view, ...args);
    } else if (kind === 'slice') {
      const [axis, ...range] = args;
      const every: Json[] = Array.from({ length: Number(axis) }, () => [null, null, null]);
      view = callMethod(view, 'at', ...decodeIndex([...every, range], []));
    } else {
      throw new Error(`unknown view ${JSON.stringify(step)}`);
    }
  }
  return view;
}

/** Sum of all outputs, each weighted by its cotangent: the scalar whose gradient a case holds. */
function weightedSum(outputs: readonly Tensor[], cotangents: readonly Tensor[]): Tensor {
  const parts = outputs.map((output, i) => {
    const cotangent = cotangents[i];
    if (cotangent === undefined) throw new Error('fewer cotangents than outputs');
    return call('sum', call('mul', output, cotangent));
  });
  return parts.reduce((sum, part) => call('add', sum, part));
}

/** sum(outputs * cotangents) and its gradients by each of `at`, differentiable again. */
export function valueAndGradients(
  fn: (...inputs: readonly Tensor[]) => readonly Tensor[],
  at: readonly Tensor[],
  cotangents: readonly Tensor[],
): { readonly value: Tensor; readonly grads: readonly Tensor[] } {
  const scalar = (...inputs: readonly Tensor[]) => weightedSum(fn(...inputs), cotangents);
  return valueAndGrad(scalar, { argnums: at.map((_, i) => i), createGraph: true })(...at);
}

/** The gradients alone. */
export function gradientsOf(
  fn: (...inputs: readonly Tensor[]) => readonly Tensor[],
  at: readonly Tensor[],
  cotangents: readonly Tensor[],
): readonly Tensor[] {
  return valueAndGradients(fn, at, cotangents).grads;
}

/** The derivative of an elementwise function. */
export function derivative(fn: (x: Tensor) => Tensor): (x: Tensor) => Tensor {
  return grad((x: Tensor) => call('sum', fn(x)), { createGraph: true });
}

/** Computes on the named device from now on, by default on the preferred one; describes it. */
export function useDevice(name: string | undefined, strict: boolean): string {
  setDefaultDevice(name ?? 'wasm');
  if (strict) setNumerics('strict');
  const { device, threads, numerics } = env();
  return `device ${device}, ${threads} thread${threads === 1 ? '' : 's'}, ${numerics} numerics`;
}

/** Items of a golden index (see the set's README) as our own. */
export function decodeIndex(index: Json | undefined, inputs: readonly (Tensor | undefined)[]) {
  if (!Array.isArray(index)) throw new Error(`no index: ${JSON.stringify(index)}`);
  return (index as readonly Json[]).map((item) => {
    if (item === '...' || typeof item === 'number') return item;
    if (item === 'newaxis') return null;
    if (Array.isArray(item)) return find('slice')(...(item as readonly Json[]));
    return inputs[Number((item as { readonly input: number }).input)];
  });
}

/** The mask that hides what comes after a query. */
export function makeCausalMask(length: number): Tensor {
  return call('generateSquareSubsequentMask', length);
}
