// What an operation is. One OpDef answers every question about one primitive: how its attributes
// look, what shape it gives, its gradient, how it becomes a kernel, its reference in plain
// TypeScript, and inputs to test it with. Everything else (conformance, gradient checks, tables,
// backends) enumerates OpDefs.
import { type DType, dtypeIndex, type TypedArray } from '../base/dtype.ts';
import { DeviceError, ShapeError } from '../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../base/shape.ts';
import type { Builder } from '../ir/builder.ts';
import type { Buffer, Expression, ValueType } from '../ir/expression.ts';
import type { Statement, Target } from '../ir/kernel.ts';
import { Node } from './node.ts';
import type { Subgraph } from './subgraph.ts';

// ---- attributes -------------------------------------------------------------------------------

export type AttrValue = number | boolean | string | readonly number[] | Subgraph;
/** Attributes as the graph carries them; each OpDef knows the precise type of its own. */
export type Attrs = Readonly<Record<string, AttrValue>>;

/** Kinds of attributes: they give the type, the plan key and the form in files. */
export type AttrKind = 'int' | 'float' | 'ints' | 'flag' | 'dtype' | 'graph' | readonly string[];
export type AttrSchema = Readonly<Record<string, AttrKind>>;

type AttrOf<K> = K extends 'int' | 'float'
  ? number
  : K extends 'ints'
    ? readonly number[]
    : K extends 'flag'
      ? boolean
      : K extends 'dtype'
        ? DType
        : K extends 'graph'
          ? Subgraph
          : K extends readonly (infer E)[]
            ? E
            : never;

/** The precise type of the attributes that a schema describes. */
export type AttrsOf<S extends AttrSchema> = { readonly [K in keyof S]: AttrOf<S[K]> };

// ---- lowering ---------------------------------------------------------------------------------

/** What an `indexed` op sees: values of its inputs at any index, as expressions. */
export interface ReadContext {
  readonly builder: Builder;
  readonly target: Target;
  /** The scalar value of input `input` at `indices` (one per axis, in range). */
  read(input: number, indices: readonly Expression[]): Expression;
}

/** What a `custom` op sees: it writes its own loops. */
export interface KernelContext extends ReadContext {
  /** Stores an element of the result after the fused epilogue. Every element exactly once. */
  write(indices: readonly Expression[], value: Expression): readonly Statement[];
  /** Whether loops may be `repeatable`: no result can lie over something that is read. */
  readonly mayRepeat: boolean;
  /** An array of its own for each grid item. */
  scratch(name: string, dtype: DType, length: number): Buffer;
}

export interface KernelBody {
  readonly gridIndex: Expression & { readonly kind: 'variable' };
  readonly gridSize: number;
  readonly body: readonly Statement[];
}

/** A reduction's running values: `lanes`-agnostic, so that lowering may vectorize. */
export interface Reduction {
  /** Sorted axes of input 0. */
  readonly axes: readonly number[];
  readonly keepdims: boolean;
  readonly accumulators: readonly { readonly type: ValueType; readonly identity: number }[];
  /** One element as running values. `flatIndex`: its row-major position within `axes`. */
  map(builder: Builder, value: Expression, flatIndex: Expression): readonly Expression[];
  /** Joins two sets of running values; associative and commutative but for rounding. */
  combine(
    builder: Builder,
    a: readonly Expression[],
    b: readonly Expression[],
  ): readonly Expression[];
  finish(builder: Builder, values: readonly Expression[]): Expression;
}

/** A tensor on the host: row-major, in the array that stores its dtype (halves as their bits). */
export interface HostTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** Geometry of an n-d convolution or of its derivatives; all arrays have one entry per space axis. */
export interface ConvolutionGeometry {
  readonly role: 'forward' | 'backwardData' | 'backwardFilter';
  readonly groups: number;
  readonly stride: readonly number[];
  /** Zeros before and after: [before0, after0, before1, after1, ...]. */
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

/** How a value of a body changes with the iterations. */
export type ParameterRole =
  /** What an output made of it before; the input at first. */
  | 'carry'
  /** The part of the input at this place along its first axis. */
  | 'slice'
  /** The input. */
  | 'same';

/** Where a result of a region comes from. */
export type RegionResult =
  /** What a carry is in the end. */
  | { readonly kind: 'final'; readonly carry: number }
  /** A value of the body: of each iteration, along a new first axis, or of the only one. */
  | { readonly kind: 'each' | 'once'; readonly value: Node };

/** A body and how often it runs. */
export interface Region {
  readonly body: Subgraph;
  /** Most iterations, or -1 if only the condition ends it. */
  readonly trips: number;
  /** Whether slices, and values kept of each iteration, are counted from their end. */
  readonly backwards: boolean;
  /** For each parameter of the body, which input of the node it stands for, and how. */
  readonly roles: readonly { readonly input: number; readonly role: ParameterRole }[];
  /** A parameter, bool of shape [], that must be `when` for another iteration; null: always. */
  readonly condition: { readonly parameter: number; readonly when: boolean } | null;
  /** For each result of the node. */
  readonly results: readonly RegionResult[];
}

/**
 * How an op becomes a kernel. The scheduler branches on this kind, never on op names:
 * - `elementwise`: one output element from the inputs' elements at the same (broadcast) index.
 * - `indexed`: an output element from inputs at computed indices. `view`: pure re-indexing, free.
 * - `reduce`: over axes of input 0.
 * - `matmul`: [...batch, m, k] @ [...batch, k, n], equal batch shapes.
 * - `convolution`: see ConvolutionGeometry.
 * - `custom`: writes its own loops.
 * - `host`: no kernel at all, a function on the host. Plans end before it and begin behind it.
 * - `leaf`: has no computation: a stored value, or a scalar slot.
 * - `region`: runs other computations, one after the other; has several values, none of its own.
 * - `result`: one of the values of the region that it reads.
 */
export type Lowering<A> =
  | {
      readonly kind: 'elementwise';
      emit(builder: Builder, inputs: readonly Expression[], attrs: A, node: Node): Expression;
    }
  | {
      readonly kind: 'indexed';
      readonly view: boolean;
      emit(context: ReadContext, indices: readonly Expression[], attrs: A, node: Node): Expression;
    }
  | { readonly kind: 'reduce'; reduction(attrs: A, node: Node): Reduction }
  | { readonly kind: 'matmul' }
  | { readonly kind: 'convolution'; geometry(attrs: A, node: Node): ConvolutionGeometry }
  | {
      readonly kind: 'custom';
      lower(context: KernelContext, attrs: A, node: Node): KernelBody;
      /**
       * How often an average element of each input is evaluated (about once if not said): decides whether
       * what leads to it is computed on the spot or stored first.
       */
      evaluations?(attrs: A, node: Node): readonly number[];
    }
  | {
      readonly kind: 'host';
      /** Fills the output, which is zeros; the arrays are its own. */
      run(inputs: readonly HostTensor[], output: HostTensor, attrs: A): void;
    }
  | { readonly kind: 'leaf' }
  | { readonly kind: 'region'; regions(attrs: A): readonly Region[] }
  | { readonly kind: 'result' };

// ---- gradient ---------------------------------------------------------------------------------

export interface GradientContext<A> {
  readonly node: Node;
  readonly attrs: A;
  readonly inputs: readonly Node[];
  /** Gradient of the final result by this node: same shape and dtype as the node. */
  readonly grad: Node;
  /** Of a region: the gradient by each of its results, or null; `grad` means nothing then. */
  readonly grads: readonly (Node | null)[];
  /** Whether input `index` wants a gradient: others may be skipped. */
  needs(index: number): boolean;
}

/**
 * One gradient per input, or null where none flows. A gradient of a broadcast elementwise input
 * may keep the result's shape: the reverse walk sums it to the input's.
 */
export type GradientRule<A> =
  | ((context: GradientContext<A>) => readonly (Node | null)[])
  | { readonly nonDifferentiable: string };

// ---- reference and samples --------------------------------------------------------------------

/** A tensor of the reference implementation: row-major, float64 whatever the dtype. */
export interface ReferenceTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Float64Array;
}

/** Inputs to test an op with. */
export interface Sample<A = Attrs> {
  readonly inputs: readonly ReferenceTensor[];
  readonly attrs: A;
  /** Why finite differences do not apply here (a kink, an integer result). */
  readonly skipGradient?: string;
  /** Float inputs that have no gradient by convention: differences leave them alone. */
  readonly constantInputs?: readonly number[];
  /** Relative tolerance of the float32 result, in place of 1e-5; say why beside it. */
  readonly tolerance?: number;
}

// ---- bounds -----------------------------------------------------------------------------------

/** All values are numbers from `min` to `max`. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** Bounds of what is one of several values: known if all are. */
export function unionOf(parts: readonly (Bounds | null)[]): Bounds | null {
  let union = parts[0] ?? null;
  for (const part of parts) {
    if (part === null || union === null) return null;
    union = { min: Math.min(union.min, part.min), max: Math.max(union.max, part.max) };
  }
  return union;
}

// ---- promises ---------------------------------------------------------------------------------

/**
 * What an op promises of its values and only a run can find out: the evaluator computes the smallest
 * and the largest of some numbers with the run, and nothing of a run that breaks a promise is kept.
 */
export interface RunPromise {
  /** The numbers that tell, of the dtype of the node's first input. */
  watched(node: Node): Node;
  /** Throws if the promise is broken. */
  check(bounds: Bounds, node: Node): void;
  /** The same as data, for programs that run without their graph; null: nothing is promised. */
  stated(node: Node): StatedPromise | null;
}

/** A promise as data: all watched numbers are at least `least`, more than `above`, less than `below`. */
export interface StatedPromise {
  readonly least?: number;
  readonly above?: number;
  readonly below?: number;
  /** Least and most of no numbers, where nothing may have been computed. */
  readonly nothing?: readonly [least: number, most: number];
  /** What is said if it is broken. */
  readonly message: string;
}

// ---- definition -------------------------------------------------------------------------------

/** What the package needs of an op. */
interface OpParts<S extends AttrSchema> {
  readonly name: string;
  readonly attrs: S;
  /** Shape and dtype of the result; throws ShapeError or DTypeError with the op's name. */
  infer(inputs: readonly Node[], attrs: AttrsOf<S>): { shape: Shape; dtype: DType };
  readonly gradient: GradientRule<AttrsOf<S>>;
  readonly lower: Lowering<AttrsOf<S>>;
  /** Bounds of the values from those of the inputs; null: not known from the graph. */
  bounds?(inputs: readonly (Bounds | null)[], attrs: AttrsOf<S>, node: Node): Bounds | null;
  /** What a run has to check. */
  readonly promise?: RunPromise;
  /**
   * Rough arithmetic per output element of an elementwise or indexed op (1 = an add, 20 = an exp):
   * decides between computing again and storing.
   */
  readonly cost?: number;
  /** Defined outside of this package: what it compiles to may differ from process to process. */
  readonly isOwn?: boolean;
}

/** What tests and tables read of an op. The build leaves it out: no other code may count on it. */
export interface OpTests<S extends AttrSchema = AttrSchema> {
  /** The result in plain TypeScript, float64, as obvious as can be. */
  reference(
    inputs: readonly ReferenceTensor[],
    attrs: AttrsOf<S>,
    output: { readonly shape: Shape; readonly dtype: DType },
  ): Float64Array;
  samples(): readonly Sample<AttrsOf<S>>[];
  /** One line for the table of ops. */
  readonly summary: string;
}

export interface OpSpec<S extends AttrSchema> extends OpParts<S>, OpTests<S> {}

/** The erased form that nodes carry: its methods take the op's own attributes. */
export interface OpDef<S extends AttrSchema = AttrSchema> extends OpParts<S> {
  readonly id: number;
  readonly cost: number;
}

/** An op as tests see it. */
export type TestedOp = OpDef & OpTests;

const registry: TestedOp[] = [];

/** Registers a primitive. */
export function defineOp<const S extends AttrSchema>(spec: OpSpec<S>): OpDef<S> {
  const op: OpDef<S> & OpTests<S> = { ...spec, id: registry.length, cost: spec.cost ?? 1 };
  registry.push(op as TestedOp);
  return op;
}

/** Every op that has been defined, in order of definition. For tests and tables. */
export function allOps(): readonly TestedOp[] {
  return registry;
}

/** The op of this name that was defined last, or undefined. */
export function opNamed(name: string): OpDef | undefined {
  return registry.findLast((op) => op.name === name);
}

export const NO_ATTRS: Readonly<Record<string, never>> = Object.freeze({});

/**
 * Most elements of a tensor, stored or not. Kernels count in 32 bits; what is left of 2^31 is room
 * for the last step of any loop.
 */
export const MAX_ELEMENTS: number = 2 ** 31 - 2 ** 20;

function tooLarge(op: string, shape: Shape): ShapeError {
  return new ShapeError(
    `the result ${formatShape(shape)} has ${sizeOf(shape)} elements, more than ${MAX_ELEMENTS}`,
    { op, hint: 'compute it in parts along an axis' },
  );
}

/** A new node: infers its shape and dtype, and marks its inputs as used. */
export function makeNode<S extends AttrSchema>(
  op: OpDef<S>,
  inputs: readonly Node[],
  attrs: AttrsOf<S>,
): Node {
  const { shape, dtype } = op.infer(inputs, attrs);
  if (sizeOf(shape) > MAX_ELEMENTS) throw tooLarge(op.name, shape);
  let tracked = false;
  let device: string | null = null;
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i] as Node;
    input.consumed = true;
    if (input.tracked) tracked = true;
    if (input.device !== null && input.device !== device) {
      if (device !== null) throw deviceMismatch(op.name, device, input.device);
      device = input.device;
    }
  }
  const keepHistory = tracked && trackingEnabled;
  return new Node(op as OpDef, inputs, attrs as Attrs, shape, dtype, keepHistory, device);
}

function deviceMismatch(op: string, first: string, second: string): DeviceError {
  return new DeviceError(`operands are on ${first} and ${second}`, {
    op,
    hint: `move one of them with to('${first}')`,
  });
}

let trackingEnabled = true;

/** Whether nodes that are made now remember their history. */
export function isTracking(): boolean {
  return trackingEnabled;
}

/** Runs `body` with nodes made inside it not remembering their history. */
export function withoutTracking<T>(body: () => T): T {
  return withTracking(body, false);
}

/** Runs `body` with nodes made inside it remembering their history, or not. */
export function withTracking<T>(body: () => T, enabled = true): T {
  const before = trackingEnabled;
  trackingEnabled = enabled;
  try {
    return body();
  } finally {
    trackingEnabled = before;
  }
}

// ---- keys -------------------------------------------------------------------------------------

/** Growing Int32Array that keys are written to. */
export class KeyWriter {
  words: Int32Array = new Int32Array(1024);
  length = 0;

  push(word: number): void {
    if (this.length === this.words.length) {
      const larger = new Int32Array(this.words.length * 2);
      larger.set(this.words);
      this.words = larger;
    }
    this.words[this.length++] = word;
  }

  /** All bits of a number. */
  float(value: number): void {
    floatWords[0] = value;
    this.push(floatBits[0] as number);
    this.push(floatBits[1] as number);
  }
}

const floatWords = new Float64Array(1);
const floatBits = new Int32Array(floatWords.buffer);

/** Writes a node's attributes, by its op's schema. */
export function writeAttrs(op: OpDef, attrs: Attrs, key: KeyWriter): void {
  for (const name in op.attrs) {
    const kind = op.attrs[name] as AttrKind;
    const value = attrs[name];
    if (typeof value === 'number') {
      if (kind === 'int') key.push(value);
      else key.float(value);
    } else if (typeof value === 'boolean') key.push(value ? 1 : 0);
    else if (typeof value === 'string') {
      key.push(kind === 'dtype' ? dtypeIndex[value as DType] : (kind as string[]).indexOf(value));
    } else if (value !== undefined) {
      const words = 'key' in value ? value.key : value;
      key.push(words.length);
      for (let i = 0; i < words.length; i++) key.push(words[i] as number);
    }
  }
}
