// What a user says to define an operation, and the checks of it. Mistakes are found when the operation
// is defined, or else at the call: never when it is compiled.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { type DType, isDType } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import {
  allOps,
  type AttrKind,
  type AttrSchema,
  type AttrsOf,
  type KernelBody,
  type KernelContext,
  type ReadContext,
  type Reduction,
} from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { HostInput, HostOutput } from './host.ts';

/** Shape and dtype of a tensor, without its values. */
export interface TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What a kernel is written for: the result's type, and those of the inputs. */
export interface OpInstance extends TensorType {
  readonly inputs: readonly TensorType[];
}

/** One thing for each input. */
export type Each<I extends readonly string[], T> = { readonly [K in keyof I]: T };

/**
 * A kernel in the IR that all backends run. Everything may depend on attributes, shapes, dtypes and the
 * target alone: what was written once is used again for an equal call.
 * - `elementwise`: one element of the result from the inputs' at the same (broadcast) index. It is
 *   computed inside of other kernels.
 * - `indexed`: an element of the result from elements of the inputs anywhere; fused as well.
 * - `reduce`: running values over axes of the one input.
 * - `loops`: writes its own loops, each element of the result once; what comes before and after is
 *   fused into it.
 */
export type OwnKernel<I extends readonly string[], A> =
  | {
      readonly kind: 'elementwise';
      emit(builder: Builder, inputs: Each<I, Expression>, attrs: A, op: OpInstance): Expression;
    }
  | {
      readonly kind: 'indexed';
      emit(
        context: ReadContext,
        indices: readonly Expression[],
        attrs: A,
        op: OpInstance,
      ): Expression;
    }
  | { readonly kind: 'reduce'; reduction(attrs: A, op: OpInstance): Reduction }
  | {
      readonly kind: 'loops';
      lower(context: KernelContext, attrs: A, op: OpInstance): KernelBody;
      /** How often an average element of each input is read; about once if not said. */
      evaluations?(attrs: A, op: OpInstance): readonly number[];
    };

/** What a gradient rule is given. */
export interface OwnGradient<I extends readonly string[], A> {
  readonly inputs: Each<I, Tensor>;
  readonly output: Tensor;
  /** Gradient of the final result by the output: of its shape and dtype. */
  readonly grad: Tensor;
  readonly attrs: A;
  /** Whether the input at this place wants a gradient; others may be null. */
  needs(index: number): boolean;
}

/**
 * How an operation is differentiated: a rule of tensor operations, which can be differentiated again;
 * the gradient of a composition that computes the same; or not at all, and why.
 */
export type GradientOf<I extends readonly string[], A> =
  | ((context: OwnGradient<I, A>) => readonly (Tensor | null)[])
  | { composition(inputs: Each<I, Tensor>, attrs: A): Tensor }
  | { readonly nonDifferentiable: string };

/** An operation of a package. One of `composition`, `kernel` and `host` says what it computes. */
export interface OpDefinition<I extends readonly string[], S extends AttrSchema> {
  /** `package.operation`: names without a point belong to Tengen. */
  readonly name: string;
  /** Names of the input tensors, for messages. */
  readonly inputs: I;
  /**
   * Attributes and their kinds: int, float, ints, flag (a boolean), dtype, or a list of words. They are
   * part of the program: another value is another plan.
   */
  readonly attrs?: S;
  /** What dtypes inputs may have; any if not said. */
  readonly dtypes?: readonly DType[];
  /**
   * Shape and dtype of the result; throws ShapeError or DTypeError for what does not fit. May be left
   * out for a composition, and for an elementwise kernel: the broadcast shape and the one dtype.
   */
  shape?(inputs: Each<I, TensorType>, attrs: AttrsOf<S>): TensorType;
  composition?(inputs: Each<I, Tensor>, attrs: AttrsOf<S>): Tensor;
  readonly kernel?: OwnKernel<I, AttrsOf<S>>;
  /**
   * Fills `output.data`, zeros at first. It runs between two plans, on any device that can be read at
   * once; halves are given as float32, bools as 0 and 1.
   */
  host?(inputs: Each<I, HostInput>, attrs: AttrsOf<S>, output: HostOutput): void;
  /** May be left out for a composition, whose own gradient it is then. */
  readonly gradient?: GradientOf<I, AttrsOf<S>>;
  /** Rough arithmetic per element of an elementwise or indexed kernel; an addition is 1, exp is 20. */
  readonly cost?: number;
}

const OP = 'defineOp';
const NAME = /^[a-z]\w*(\.[a-z]\w*)+$/i;
const KEYS = [
  'name',
  'inputs',
  'attrs',
  'dtypes',
  'shape',
  'composition',
  'kernel',
  'host',
  'gradient',
  'cost',
];
const KINDS: readonly string[] = ['int', 'float', 'ints', 'flag', 'dtype'];
const KERNELS: Readonly<Record<string, string>> = {
  elementwise: 'emit',
  indexed: 'emit',
  reduce: 'reduction',
  loops: 'lower',
};

function refuse(message: string, hint?: string): never {
  throw new ArgumentError(message, { op: OP, ...(hint === undefined ? {} : { hint }) });
}

/** Throws ArgumentError unless a definition is complete, and its name is free. */
export function checkDefinition<I extends readonly string[], S extends AttrSchema>(
  definition: OpDefinition<I, S>,
): void {
  checkKeys(OP, definition, KEYS);
  const { name, inputs, attrs = {}, dtypes = [], gradient, composition, kernel } = definition;
  if (typeof name !== 'string' || !NAME.test(name)) {
    refuse(`${describeValue(name)} is no name for an operation`, "as 'package.operation'");
  }
  if (allOps().some((op) => op.name === name)) {
    refuse(`${name} is defined already`, 'each name once; is the module loaded twice?');
  }
  const isList = Array.isArray(inputs) && inputs.every((input) => typeof input === 'string');
  if (!isList || inputs.length === 0 || new Set(inputs).size !== inputs.length) {
    refuse(`${name}: inputs must be different names, one at least`, "inputs: ['x', 'y']");
  }
  for (const [attr, kind] of Object.entries(attrs)) checkKind(name, attr, kind);
  for (const dtype of dtypes) {
    if (!isDType(dtype)) refuse(`${name}: there is no dtype ${describeValue(dtype)}`);
  }
  const given = [composition, kernel, definition.host].filter((way) => way !== undefined);
  if (given.length !== 1) {
    refuse(`${name}: ${given.length} of composition, kernel and host are given`, 'one is needed');
  }
  if (kernel !== undefined) checkKernel(name, kernel, inputs.length);
  const isInferred = composition !== undefined || kernel?.kind === 'elementwise';
  if (definition.shape === undefined && !isInferred) refuse(`${name}: the shape rule is missing`);
  for (const key of ['shape', 'composition', 'host'] as const) {
    const way: unknown = definition[key];
    if (way !== undefined && typeof way !== 'function') refuse(`${name}: ${key} is no function`);
  }
  checkGradient(name, gradient, composition !== undefined);
}

function checkKind(name: string, attr: string, kind: unknown): void {
  const isWords =
    Array.isArray(kind) && kind.length > 0 && kind.every((word) => typeof word === 'string');
  if (isWords || (typeof kind === 'string' && KINDS.includes(kind))) return;
  refuse(
    `${name}: attribute ${attr} is of no kind: ${describeValue(kind)}`,
    `${KINDS.join(', ')}, or a list of words`,
  );
}

function checkKernel(name: string, kernel: { readonly kind: string }, inputs: number): void {
  const method = KERNELS[kernel?.kind];
  if (method === undefined) {
    const kinds = Object.keys(KERNELS).join(', ');
    refuse(`${name}: there is no kind of kernel ${describeValue(kernel?.kind)}`, kinds);
  }
  const body: unknown = (kernel as Readonly<Record<string, unknown>>)[method];
  if (typeof body !== 'function') refuse(`${name}: its kernel has no ${method}()`);
  if (kernel.kind === 'reduce' && inputs !== 1) {
    refuse(`${name}: a reduction has one input, not ${inputs}`);
  }
}

function checkGradient(name: string, gradient: unknown, isComposition: boolean): void {
  if (typeof gradient === 'function') return;
  if (gradient === undefined) {
    if (isComposition) return;
    refuse(`${name}: the gradient is missing`, "a rule, or { nonDifferentiable: 'why' }");
  }
  const { composition, nonDifferentiable } = (gradient ?? {}) as Record<string, unknown>;
  if (typeof composition === 'function') return;
  if (typeof nonDifferentiable === 'string' && nonDifferentiable.length > 0) return;
  refuse(
    `${name}: the gradient is neither a rule nor a composition nor a reason why there is none`,
  );
}

/** Throws unless the attributes of a call are what their kinds say. */
export function checkAttrs(op: string, schema: AttrSchema, attrs: object): void {
  checkKeys(op, attrs, Object.keys(schema));
  for (const [name, kind] of Object.entries(schema)) {
    const value = (attrs as Readonly<Record<string, unknown>>)[name];
    if (fits(kind, value)) continue;
    const expected = typeof kind === 'string' ? EXPECTED[kind] : kind.join(' or ');
    throw new ArgumentError(`${name} must be ${expected}, got ${describeValue(value)}`, { op });
  }
}

const EXPECTED: Readonly<Record<Extract<AttrKind, string>, string>> = {
  int: 'an integer of 32 bits',
  float: 'a number',
  ints: 'a list of integers of 32 bits',
  flag: 'true or false',
  dtype: 'a dtype',
  graph: 'a graph',
};

/** Keys of plans hold integers in 32 bits. */
const isInt32 = (value: unknown): boolean => typeof value === 'number' && (value | 0) === value;

function fits(kind: AttrKind, value: unknown): boolean {
  switch (kind) {
    case 'int':
      return isInt32(value);
    case 'float':
      return typeof value === 'number';
    case 'ints':
      return Array.isArray(value) && value.every(isInt32);
    case 'flag':
      return typeof value === 'boolean';
    case 'dtype':
      return isDType(value);
    default:
      return (kind as readonly unknown[]).includes(value);
  }
}

/** Throws DTypeError for an input of a dtype that the operation does not take. */
export function checkDtypes(
  op: string,
  names: readonly string[],
  dtypes: readonly DType[] | undefined,
  inputs: readonly TensorType[],
): void {
  if (dtypes === undefined) return;
  inputs.forEach(({ dtype }, i) => {
    if (dtypes.includes(dtype)) return;
    throw new DTypeError(`${names[i]} is ${dtype}, not ${dtypes.join(' or ')}`, { op });
  });
}

/** Throws unless two types are equal: what a result is, and what it was said to be. */
export function expectType(op: string, what: string, found: TensorType, wanted: TensorType): void {
  const [is, was] = [formatShape(found.shape), formatShape(wanted.shape)];
  if (is !== was) throw new ShapeError(`${what} is ${is}, expected ${was}`, { op });
  if (found.dtype === wanted.dtype) return;
  throw new DTypeError(`${what} is ${found.dtype}, expected ${wanted.dtype}`, { op });
}
