// What exporters are given - a compiled program, with names for what goes in and out - and what they
// have in common: which of its bindings is what, and one block of memory that holds all weights.
import { byteSize, type DType } from '../base/dtype.ts';
import { ArgumentError, internalError } from '../base/errors.ts';
import { sizeOf, type Shape } from '../base/shape.ts';
import type { Target } from '../ir/kernel.ts';
import type { Binding, Plan } from './plan.ts';
import { alignWeights, WEIGHTS_HEADER } from './weights-block.ts';

/** Name, element type and shape of something that goes into a program or comes out of it. */
export interface ExportedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Least and most that every element may be: of indices. */
export interface ExportedRange {
  readonly least: number;
  readonly most: number;
}

/**
 * What the caller gives at each run: a binding of the plan, or, for a number such as a learning rate,
 * one of its scalar slots; neither if the program does not look at it.
 */
export interface ExportedInput extends ExportedTensor {
  readonly binding?: number;
  readonly slot?: number;
  /** Checked before each run. */
  readonly range?: ExportedRange;
}

/**
 * What a run gives. The binding may also be one of an input, a weight, or another output: then it is
 * copied.
 */
export interface ExportedOutput extends ExportedTensor {
  readonly binding: number;
}

/** Parameters, buffers and optimizer state. What the plan writes to is updated where it stands. */
export interface ExportedWeight extends ExportedTensor {
  readonly binding: number;
  readonly bytes: Uint8Array;
}

/** A result of one element that tells whether something inside went wrong. */
export interface ExportedCheck {
  readonly binding: number;
  readonly dtype: DType;
  readonly range: ExportedRange;
}

/** Inputs with the outputs that are expected of them, in the order of the request's lists. */
export interface ExportedCase {
  readonly inputs: readonly Uint8Array[];
  readonly outputs: readonly Uint8Array[];
}

/** A plan for one target; `prepared` is what the compiler gave beside it. */
export interface ExportedPlan {
  readonly target: Target;
  readonly plan: Plan;
  readonly prepared: ExportedPrepared | null;
}

/** A plan whose results are computed once: packed weights. */
export interface ExportedPrepared {
  readonly plan: Plan;
  readonly kept: readonly number[];
  readonly leaves: readonly number[];
  readonly scalars: readonly number[];
}

/**
 * Runs a plan once. `contents` has what each binding holds; null for what is written, or not touched.
 * Gives the bytes of the bindings in `wanted` after it.
 */
export type RunOnce = (
  plan: Plan,
  contents: readonly (Uint8Array | null)[],
  scalars: Float64Array,
  wanted: readonly number[],
) => Promise<readonly Uint8Array[]>;

/** A program with everything that an exporter has to know of it. */
export interface ExportRequest {
  /** Of the model: part of names of files and functions. */
  readonly name: string;
  readonly inputs: readonly ExportedInput[];
  readonly outputs: readonly ExportedOutput[];
  readonly weights: readonly ExportedWeight[];
  /**
   * Whether weights that the plan does not touch are kept. Programs with equal lists of weights then
   * take the same block: what one trains, the other uses.
   */
  readonly allWeights?: boolean;
  /** The numbers in the plan's slots; those that are inputs are ignored. */
  readonly scalars: Float64Array;
  readonly checks?: readonly ExportedCheck[];
  readonly testCases?: readonly ExportedCase[];
  /** Runs what is computed once, at export time: on any device that takes the target's kernels. */
  readonly runOnce: RunOnce;
}

/** A weight, or something that was computed of weights, in the block of weights. */
export interface PlacedWeight {
  /** Null for what was computed. */
  readonly tensor: ExportedTensor | null;
  readonly binding: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What a binding of a plan is. */
export type BindingRole =
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'output'; readonly index: number }
  | { readonly kind: 'check'; readonly index: number }
  | { readonly kind: 'weight'; readonly offset: number };

/** One plan of a request with all its bindings accounted for. */
export interface ResolvedExport {
  readonly plan: Plan;
  readonly target: Target;
  /** Of each binding; null for what nothing touches. */
  readonly roles: readonly (BindingRole | null)[];
  /** Of each scalar slot: which input it is, or its constant value. */
  readonly slots: readonly ({ readonly input: number } | { readonly value: number })[];
  readonly weights: readonly PlacedWeight[];
  /** Of the block of weights, its header included. */
  readonly weightsBytes: number;
  /** Whether runs change weights. */
  readonly stateful: boolean;
  /** Outputs that are copied from something else after a run. */
  readonly copies: readonly { readonly output: number; readonly from: BindingRole }[];
}

/**
 * Accounts for everything that a plan touches.
 *
 * @throws ArgumentError for test cases, weights or numbers that do not fit the program.
 * @throws Error `internal:` for bindings that are nothing, or inputs that the plan changes.
 */
export async function resolveExport(
  request: ExportRequest,
  exported: ExportedPlan,
): Promise<ResolvedExport> {
  checkRequest(request, exported.plan);
  const { plan, target } = exported;
  const used = touchedBindings(plan);
  const roles: (BindingRole | null)[] = plan.bindings.map(() => null);
  request.inputs.forEach(({ binding, name }, index) => {
    if (binding === undefined) return;
    if (bindingAt(plan, binding).access !== 'read') {
      throw internalError(`input ${name} is changed by the plan`);
    }
    roles[binding] = { kind: 'input', index };
  });
  request.outputs.forEach(({ binding }, index) => {
    if (bindingAt(plan, binding).access === 'write') roles[binding] ??= { kind: 'output', index };
  });
  request.checks?.forEach(({ binding }, index) => {
    roles[binding] ??= { kind: 'check', index };
  });
  for (const { binding } of request.outputs) used.add(binding);
  const weights = placeWeights(
    [
      ...request.weights.filter(({ binding }) => request.allWeights === true || used.has(binding)),
      ...(await keptOf(request, exported)),
    ],
    plan,
  );
  for (const { binding, offset } of weights.placed) roles[binding] = { kind: 'weight', offset };
  used.forEach((binding) => {
    if (roles[binding] === null) throw internalError(`binding ${binding} is nothing that is known`);
  });
  const copies = request.outputs.flatMap(({ binding }, output) => {
    const from = roles[binding] as BindingRole;
    return from.kind === 'output' && from.index === output ? [] : [{ output, from }];
  });
  return {
    plan,
    target,
    roles,
    slots: plan.scalars.map((_, slot) => {
      const input = request.inputs.findIndex((each) => each.slot === slot);
      return input < 0 ? { value: request.scalars[slot] as number } : { input };
    }),
    weights: weights.placed,
    weightsBytes: weights.bytes,
    stateful: weights.placed.some(({ binding }) => bindingAt(plan, binding).access !== 'read'),
    copies,
  };
}

/** What the prepared plan computes: its results take the place of the weights that it read. */
async function keptOf(
  { weights, scalars, inputs, runOnce }: ExportRequest,
  { plan, prepared }: ExportedPlan,
): Promise<{ readonly binding: number; readonly bytes: Uint8Array }[]> {
  if (prepared === null) return [];
  const numbers = new Set(inputs.map(({ slot }) => slot));
  if (prepared.scalars.some((slot) => numbers.has(slot))) {
    throw internalError('something is computed once of a number that changes with every run');
  }
  const contents: (Uint8Array | null)[] = prepared.plan.bindings.map(() => null);
  for (const leaf of prepared.leaves) {
    const weight = weights.find(({ binding }) => binding === leaf);
    if (weight === undefined || bindingAt(plan, leaf).access !== 'read') {
      throw internalError(`something is computed once of binding ${leaf}, which is no constant`);
    }
    contents[leaf] = weight.bytes;
  }
  const results = await runOnce(prepared.plan, contents, scalars, prepared.kept);
  return prepared.kept.map((binding, i) => ({ binding, bytes: results[i] as Uint8Array }));
}

function placeWeights(
  weights: readonly (
    | ExportedWeight
    | { readonly binding: number; readonly bytes: Uint8Array; readonly name?: undefined }
  )[],
  plan: Plan,
): { readonly placed: readonly PlacedWeight[]; readonly bytes: number } {
  let end = WEIGHTS_HEADER;
  const placed = weights.map((weight): PlacedWeight => {
    const { binding, bytes } = weight;
    if (bytes.byteLength !== bindingAt(plan, binding).bytes) {
      throw internalError(`${bytes.byteLength} bytes for binding ${binding}`);
    }
    const offset = end;
    end = alignWeights(end + bytes.byteLength);
    return { tensor: weight.name === undefined ? null : weight, binding, offset, bytes };
  });
  return { placed, bytes: placed.length === 0 ? 0 : end };
}

function bindingAt({ bindings }: Plan, index: number): Binding {
  const binding = bindings[index];
  if (binding === undefined) throw internalError(`the plan has no binding ${index}`);
  return binding;
}

/** Bindings that some dispatch or condition names. */
function touchedBindings({ kernels, dispatches, loops = [] }: Plan): Set<number> {
  const touched = new Set<number>();
  const conditions = loops.flatMap(({ condition }) => (condition === null ? [] : [condition]));
  const places = [
    ...dispatches.flatMap(({ kernel, arguments: list }) =>
      kernels[kernel]?.gridSize === 0 ? [] : list,
    ),
    ...conditions.map(({ location }) => location),
  ];
  for (const place of places) if (place.space === 'binding') touched.add(place.index);
  return touched;
}

/** The bytes of a tensor. */
export function bytesOfTensor({ shape, dtype }: Pick<ExportedTensor, 'shape' | 'dtype'>): number {
  return sizeOf(shape) * byteSize(dtype);
}

function checkRequest(request: ExportRequest, plan: Plan): void {
  const { inputs, outputs, weights, scalars, testCases = [] } = request;
  const fail = (message: string): never => {
    throw new ArgumentError(message, { op: 'export' });
  };
  for (const [kind, list] of Object.entries({ inputs, outputs })) {
    const names = new Set<string>();
    for (const { name } of list) {
      if (names.has(name)) fail(`two ${kind} are named '${name}'`);
      names.add(name);
    }
  }
  if (scalars.length < plan.scalars.length) {
    fail(`${scalars.length} numbers for a program of ${plan.scalars.length}`);
  }
  for (const weight of weights) {
    const wanted = bytesOfTensor(weight);
    if (weight.bytes.byteLength !== wanted) {
      fail(`weight '${weight.name}' has ${weight.bytes.byteLength} bytes, its shape has ${wanted}`);
    }
  }
  testCases.forEach((each, number) => {
    checkCase(each.inputs, inputs, `test case ${number}, input`, fail);
    checkCase(each.outputs, outputs, `test case ${number}, output`, fail);
  });
}

function checkCase(
  values: readonly Uint8Array[],
  tensors: readonly ExportedTensor[],
  what: string,
  fail: (message: string) => never,
): void {
  if (values.length !== tensors.length) {
    fail(`${what}: ${values.length} given, there are ${tensors.length}`);
  }
  tensors.forEach((tensor, i) => {
    const [got, wanted] = [values[i]?.byteLength ?? 0, bytesOfTensor(tensor)];
    if (got !== wanted) fail(`${what} '${tensor.name}' has ${got} bytes, its shape has ${wanted}`);
  });
}
