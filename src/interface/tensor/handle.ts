// The handle under Tensor: a pointer at an immutable graph node, reading it and assigning to it.
// Nothing is computed until a value is needed (docs/deferred.md). The methods that users call
// stand in tensor.ts; free functions import this file, so that there is no cycle.
import {
  byteSize,
  type DType,
  promote,
  promoteWithNumber,
  type TypedArray,
  viewTypedArray,
} from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { cast, full, input, scalar } from '../../graph/ops/index.ts';
import { Storage } from '../../runtime/storage.ts';
import { openBodies } from '../../graph/bodies.ts';
import { encodeNumbers } from './encode.ts';
import { type AssignOptions, engine, type NodeHolder, notInstalled, watched } from './engine.ts';
import type { Tensor } from './tensor.ts';

/** What arithmetic takes where a tensor is expected. */
export type TensorLike = Tensor | number | boolean;

export class TensorHandle implements NodeHolder {
  /** The graph node this handle points at. Internal: it changes with `assign`. */
  node: Node;

  #grad: Tensor | null = null;

  constructor(node: Node) {
    this.node = node;
  }

  /** Gradient accumulated by `backward`, or null. */
  get grad(): Tensor | null {
    if (watched.current !== null) watched.current.gradientRead(this, this.#grad);
    return this.#grad;
  }
  set grad(value: Tensor | null) {
    if (watched.current !== null) watched.current.gradientWritten(this, value);
    this.#grad = value;
  }

  get shape(): Shape {
    return this.node.shape;
  }
  get dtype(): DType {
    return this.node.dtype;
  }
  /** Number of axes. */
  get ndim(): number {
    return this.node.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return sizeOf(this.node.shape);
  }
  /** Whether gradients may flow to or through this tensor. */
  get tracked(): boolean {
    return this.node.tracked;
  }
  /** As `tracked`, by PyTorch's name. */
  get requiresGrad(): boolean {
    return this.node.tracked;
  }
  /** Name of the device it must be used on, or null for wherever it is used. */
  get device(): string | null {
    return this.node.device;
  }

  /** False for what is computed with gradients; only a leaf can be a parameter. As PyTorch's. */
  get isLeaf(): boolean {
    const storage = this.#assignTarget ?? (this.node.storage as Storage | null);
    return !this.tracked || storage?.persistent === true;
  }

  // ---- reading --------------------------------------------------------------------------------

  /** Computes what is missing and resolves to a copy of the elements, row-major. */
  async data(): Promise<TypedArray> {
    engine().evaluate([this.node], true);
    const bytes = await engine().read(this.node);
    return this.#typed(bytes);
  }

  /** As `data`, at once. Throws DeviceError on devices that can only be read asynchronously. */
  dataSync(): TypedArray {
    engine().evaluate([this.node]);
    return this.#typed(engine().readSync(this.node));
  }

  #typed(bytes: Uint8Array): TypedArray {
    const aligned = bytes.byteOffset % byteSize(this.dtype) === 0 ? bytes : bytes.slice();
    return viewTypedArray(this.dtype, aligned.buffer, aligned.byteOffset, this.size);
  }

  // ---- assigning ------------------------------------------------------------------------------

  /**
   * This tensor's value becomes `value`, of the same shape and dtype. Expressions built before
   * keep naming the old value. Throws ShapeError or DTypeError.
   */
  assign(value: Tensor, options: AssignOptions = {}): this {
    if (!isTensor(value)) notTensor('assign', value);
    if (!sameShape(value.shape, this.shape)) {
      throw new ShapeError(
        `cannot assign ${formatShape(value.shape)} to ${formatShape(this.shape)}`,
        { op: 'assign' },
      );
    }
    const node = value.dtype === this.dtype ? value.node : cast(value.node, this.dtype);
    engine().assign(this, this.#ownStorage(), node, options);
    return this;
  }

  /**
   * Replaces the value from the host, at once: loading weights, initialization. Takes numbers in
   * row-major order; for halves, a Uint16Array holds their bits. Throws ShapeError if their count
   * differs, DTypeError if they do not fit.
   */
  setData(values: ArrayLike<number>): this {
    const op = 'setData';
    const kind = typeof (values as ArrayLike<number> | undefined)?.[0];
    if (isTensor(values) || (kind !== 'number' && kind !== 'boolean' && values?.length !== 0)) {
      throw new ArgumentError(`expected numbers in row-major order, got ${describeValue(values)}`, {
        op,
        hint: 'assign(x) takes a tensor of the same shape',
      });
    }
    if (values.length !== this.size) {
      throw new ShapeError(`${values.length} values do not fill ${formatShape(this.shape)}`, {
        op,
      });
    }
    const host = encodeNumbers(op, values, this.dtype);
    const storage = this.#ownStorage();
    engine().replacing(storage);
    storage.replaceHost(new Uint8Array(host.buffer));
    engine().replaced(this, storage);
    return this;
  }

  /** The storage that assignments write to: a parameter's own, else one that nobody shares. */
  #assignTarget: Storage | null = null;

  #ownStorage(): Storage {
    if (this.#assignTarget === null) {
      const present = this.node.storage as Storage | null;
      // A detached alias of a parameter must not write to the parameter's memory.
      const owner = present === null ? undefined : owners.get(present)?.deref();
      const owns = present !== null && present.persistent && (owner ?? this) === this;
      if (!owns && present !== null) present.superseded = true;
      this.#assignTarget = owns ? present : new Storage(this.size * byteSize(this.dtype), null);
    }
    return this.#assignTarget;
  }

  /** The value in another dtype, in memory of its own; the handle, and what it owns, stays. */
  convert(dtype: DType): this {
    const { node } = this;
    if (node.dtype === dtype) return this;
    const converted = castNode(node, dtype);
    engine().evaluate([converted]);
    const bytes = engine().readSync(converted);
    const before = this.#ownStorage();
    const storage = new Storage(bytes.byteLength, bytes);
    storage.persistent = before.persistent;
    storage.tracked = before.tracked;
    storage.label = before.label;
    this.node = input(storage, 0, node.shape, dtype, node.tracked, node.device);
    this.#assignTarget = storage;
    if (owners.get(before)?.deref() === this) owners.set(storage, new WeakRef(this));
    this.grad = null;
    return this;
  }

  /** Keeps this value beyond the next step even if nothing reads it now. Returns itself. */
  keep(): this {
    engine().keep(this.node);
    return this;
  }

  /** Frees the value's memory now. Later uses throw DisposedError. */
  dispose(): void {
    (this.node.storage as Storage | null)?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The handle that a persistent storage belongs to: where its gradient is accumulated. */
const owners = new WeakMap<Storage, WeakRef<TensorHandle>>();

/** Makes `handle` the owner of the storage its node stands for: parameters and buffers. */
export function claimStorage(handle: TensorHandle): void {
  const storage = handle.node.storage as Storage | null;
  if (storage !== null) owners.set(storage, new WeakRef(handle));
}

/** The handle that owns the storage of a leaf, if there is one. */
export function ownerOf(leaf: Node): Tensor | null {
  const owner = owners.get(leaf.storage as Storage)?.deref();
  return (owner as Tensor | undefined) ?? null;
}

let construct: ((node: Node) => Tensor) | null = null;

/** Called once by tensor.ts: how handles with all methods are made. */
export function setTensorConstructor(make: (node: Node) => Tensor): void {
  construct = make;
}

/** A tensor on `node` that nobody computes unless it is asked for. */
export function tensorOn(node: Node): Tensor {
  if (construct === null) throw notInstalled();
  return construct(node);
}

/** Wraps the result of a public operation, and lets a step compute it if nothing uses it. */
export function wrap(node: Node): Tensor {
  if (openBodies().length === 0) engine().created(node);
  return tensorOn(node);
}

export function isTensor(value: unknown): value is Tensor {
  return value instanceof TensorHandle;
}

/** A leaf of zeros in memory of its own, so that it is told from all others: stands for an argument. */
export function standIn(
  shape: Shape,
  dtype: DType,
  options: Parameters<typeof fromBytes>[3] = {},
): Tensor {
  return fromBytes(new Uint8Array(sizeOf(shape) * byteSize(dtype)), shape, dtype, options);
}

/** A leaf tensor over host bytes, which it takes over. */
export function fromBytes(
  bytes: Uint8Array,
  shape: Shape,
  dtype: DType,
  options: { tracked?: boolean; persistent?: boolean; label?: string; device?: string } = {},
): Tensor {
  if (bytes.byteLength !== sizeOf(shape) * byteSize(dtype)) {
    throw new ShapeError(
      `${bytes.byteLength} bytes do not make ${formatShape(shape)} of ${dtype} (${sizeOf(shape) * byteSize(dtype)} bytes)`,
      { op: 'tensor' },
    );
  }
  const storage = new Storage(bytes.byteLength, bytes);
  storage.persistent = options.persistent === true;
  storage.tracked = options.tracked === true;
  if (options.label !== undefined) storage.label = options.label;
  return tensorOn(
    input(storage, 0, shape, dtype, options.tracked === true, options.device ?? null),
  );
}

/** A number as a node of `dtype`. 0, 1 and -1 are constants, others slots that never recompile. */
export function numberNode(value: number, dtype: DType): Node {
  if (value === 0 || value === 1 || value === -1) {
    if (!Object.is(value, -0)) return full([], value, dtype);
  }
  return scalar(value, dtype);
}

/** What arithmetic expects, for messages. */
export const TENSOR_OR_NUMBER = 'a tensor or a number';

/** Two operands brought to one dtype by PyTorch's promotion; numbers are weak. */
export function promoteOperands(op: string, a: TensorLike, b: TensorLike): [Node, Node] {
  if (isTensor(a) && isTensor(b)) {
    if (a.dtype === b.dtype) return [a.node, b.node];
    const dtype = promote(a.dtype, b.dtype);
    return [castNode(a.node, dtype), castNode(b.node, dtype)];
  }
  if (isTensor(a)) {
    const dtype = promoteWithNumber(a.dtype, numberOf(op, b, TENSOR_OR_NUMBER));
    return [castNode(a.node, dtype), numberNode(Number(b), dtype)];
  }
  if (isTensor(b)) {
    const dtype = promoteWithNumber(b.dtype, numberOf(op, a, TENSOR_OR_NUMBER));
    return [numberNode(Number(a), dtype), castNode(b.node, dtype)];
  }
  throw new ArgumentError('at least one operand must be a tensor', { op });
}

/** `node` as `dtype`: itself if it is already. */
export function castNode(node: Node, dtype: DType): Node {
  return node.dtype === dtype ? node : cast(node, dtype);
}

/** A number or boolean argument. Throws ArgumentError for anything else. */
export function numberOf(op: string, value: unknown, expected = 'a number'): number | boolean {
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  return notTensor(op, value, expected);
}

/**
 * `values` in the dtypes of `targets`, computed: what cannot be read fails here, before any of it is
 * copied. Halves are read as raw bits, so that conversion is the device's business.
 */
export function readyToCopy(
  values: readonly Tensor[],
  targets: readonly { readonly dtype: DType }[],
): Tensor[] {
  const nodes = values.map(({ node }, i) =>
    castNode(node, (targets[i] as { readonly dtype: DType }).dtype),
  );
  engine().evaluate(nodes);
  return nodes.map(tensorOn);
}

/** The items of a list. A tensor, though iterable, is none. Throws ArgumentError. */
export function listOf<T>(
  op: string,
  items: Iterable<T>,
  what = 'tensors',
  hint = `${op}([x, y])`,
): readonly T[] {
  const list = items as Partial<Iterable<T>> | null | undefined;
  if (!isTensor(items) && typeof list?.[Symbol.iterator] === 'function') return [...items];
  throw new ArgumentError(`expected a list of ${what}, got ${describeValue(items)}`, { op, hint });
}

/** Throws, saying what stands where a tensor was expected. */
export function notTensor(op: string, value: unknown, expected = 'a tensor'): never {
  const isData = Array.isArray(value) || ArrayBuffer.isView(value);
  throw new ArgumentError(`expected ${expected}, got ${describeValue(value)}`, {
    op,
    ...(isData ? { hint: 'wrap it with tensor()' } : {}),
  });
}
