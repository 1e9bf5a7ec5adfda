// What exporters are given - a compiled program, with names for what goes in and out - and what they
// have in common: which of its bindings is what, and one block of memory that holds all weights.
import { byteSize, type DType } from '../base/dtype.ts';
import { ArgumentError, internalError } from '../base/errors.ts';
import { blocksFor } from '../base/philox.ts';
import { sizeOf, type Shape } from '../base/shape.ts';
import type { Target } from '../ir/kernel.ts';
import type { Binding, Plan, PreparedPlan } from './plan.ts';
import { alignWeights, WEIGHTS_HEADER } from './weights-block.ts';

/** Name, element type and shape of something that goes into a program or comes out of it. */
export interface ExportedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What numbers must be: at least `least`, more than `above`, less than `below`; or `except`. */
export interface ExportedLimits {
  readonly except?: number | undefined;
  readonly least?: number | undefined;
  readonly above?: number | undefined;
  readonly below?: number | undefined;
}

/**
 * What the caller gives at each run: a binding of the plan, or, for a number such as a learning rate,
 * scalar slots of its dtype; neither if the program does not look at it.
 */
export interface ExportedInput extends ExportedTensor {
  readonly binding?: number | undefined;
  readonly slots?: readonly number[];
  /** Of every element; checked before each run. */
  readonly limits?: ExportedLimits;
}

/**
 * What a run gives. The binding may also be one of an input, a weight, or another output: then it is
 * copied.
 */
export interface ExportedOutput extends ExportedTensor {
  readonly binding: number;
}

/**
 * Parameters, buffers and optimizer state. What the plan writes to is updated where it stands, or, with
 * `update`, becomes what that binding holds after a run without failed checks.
 */
export interface ExportedWeight extends ExportedTensor {
  /** None if the program does not look at it. */
  readonly binding?: number | undefined;
  readonly update?: number | undefined;
  readonly bytes: Uint8Array;
}

/** Two results of one element, least and most of some numbers: whether something inside went wrong. */
export interface ExportedCheck {
  readonly least: number;
  readonly most: number;
  readonly dtype: DType;
  readonly limits: ExportedLimits;
  /** Least and most where there were no numbers. */
  readonly nothing?: readonly [least: number, most: number] | undefined;
}

/** Random numbers of a run: slots that hold words of a place in the random stream. */
export interface ExportedRandom {
  /** 32-bit words that each draw takes. */
  readonly draws: readonly number[];
  /** Word 0 and 1 of a place are the seed, 2 and 3 the number of the block of four words. */
  readonly slots: readonly {
    readonly slot: number;
    readonly draw: number;
    readonly word: number;
  }[];
}

/** Name of the state of the random stream among weights: uint32 [4], the seed and the next block. */
export const RANDOM_STATE = 'random_state';

/** Inputs with the outputs that are expected of them, in the order of the request's lists. */
export interface ExportedCase {
  readonly inputs: readonly Uint8Array[];
  readonly outputs: readonly Uint8Array[];
}

/** A plan for one target; `prepared` is what the compiler gave beside it. */
export interface ExportedPlan {
  readonly target: Target;
  readonly plan: Plan;
  readonly prepared: PreparedPlan | null;
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
  readonly random?: ExportedRandom;
  readonly testCases?: readonly ExportedCase[];
  /** Runs what is computed once, at export time: on any device that takes the target's kernels. */
  readonly runOnce: RunOnce;
}

/** A weight, or something that was computed of weights, in the block of weights. */
export interface PlacedWeight {
  /** Null for what was computed. */
  readonly tensor: ExportedTensor | null;
  readonly binding: number | undefined;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** What a binding of a plan is. */
export type BindingRole =
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'output'; readonly index: number }
  /** A place of its own: a check's result, or what a weight becomes. */
  | { readonly kind: 'place'; readonly index: number }
  | { readonly kind: 'weight'; readonly offset: number };

/** One plan of a request with all its bindings accounted for. */
export interface ResolvedExport {
  readonly plan: Plan;
  readonly target: Target;
  /** Of each binding; null for what nothing touches. */
  readonly roles: readonly (BindingRole | null)[];
  /** Of each scalar slot: which input it is, a word of a random place, or its constant value. */
  readonly slots: readonly (
    | { readonly input: number }
    | { readonly draw: number; readonly word: number }
    | { readonly value: number }
  )[];
  /** Bytes of each place of its own. */
  readonly places: readonly number[];
  readonly weights: readonly PlacedWeight[];
  /** Of the block of weights, its header included. */
  readonly weightsBytes: number;
  /** Whether runs change weights. */
  readonly stateful: boolean;
  /** Weights that are overwritten from a place after a run without failed checks. */
  readonly updates: readonly { readonly offset: number; readonly place: number }[];
  /** Where the state of the random stream stands in the block of weights; null if there is none. */
  readonly randomState: number | null;
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
    used.add(binding);
  });
  const places = ownPlaces(request);
  places.forEach((binding, index) => {
    roles[binding] ??= { kind: 'place', index };
  });
  const given: PendingWeight[] = request.weights.filter(
    ({ binding = -1 }) => request.allWeights === true || used.has(binding),
  );
  const kept = await keptOf(request, exported);
  const weights = placeWeights([...given, ...kept, ...randomStateOf(request)], plan);
  for (const { binding, offset } of weights.placed) {
    if (binding !== undefined) roles[binding] = { kind: 'weight', offset };
  }
  used.forEach((binding) => {
    if (roles[binding] === null) throw internalError(`binding ${binding} is nothing that is known`);
  });
  const offsetOf = (name: string): number | undefined =>
    weights.placed.find(({ tensor }) => tensor?.name === name)?.offset;
  const updates = request.weights.flatMap(({ name, update }) => {
    const offset = offsetOf(name);
    if (update === undefined || offset === undefined) return [];
    return [{ offset, place: places.indexOf(update) }];
  });
  const randomState = offsetOf(RANDOM_STATE) ?? null;
  const written = ({ binding }: PlacedWeight): boolean =>
    binding !== undefined && bindingAt(plan, binding).access !== 'read';
  return {
    plan,
    target,
    roles,
    slots: slotsOf(request, plan),
    places: places.map((binding) => bindingAt(plan, binding).bytes),
    weights: weights.placed,
    weightsBytes: weights.bytes,
    stateful: weights.placed.some(written) || updates.length > 0 || randomState !== null,
    updates,
    randomState,
    copies: request.outputs.flatMap(({ binding }, output) => {
      const from = roles[binding] as BindingRole;
      return from.kind === 'output' && from.index === output ? [] : [{ output, from }];
    }),
  };
}

/** Bindings that need a place which nobody else gives them. */
function ownPlaces({ checks = [], weights }: ExportRequest): number[] {
  const updates = weights.flatMap(({ update }) => (update === undefined ? [] : [update]));
  return [...new Set([...checks.flatMap(({ least, most }) => [least, most]), ...updates])];
}

function slotsOf({ inputs, scalars, random }: ExportRequest, plan: Plan): ResolvedExport['slots'] {
  return plan.scalars.map((_, slot) => {
    const input = inputs.findIndex((each) => each.slots?.includes(slot) === true);
    if (input >= 0) return { input };
    const drawn = random?.slots.find((each) => each.slot === slot);
    return drawn ?? { value: scalars[slot] as number };
  });
}

/** Seed 0, and nothing drawn so far. */
function randomStateOf({ random }: ExportRequest): PendingWeight[] {
  if (random === undefined || random.draws.length === 0) return [];
  return [{ name: RANDOM_STATE, dtype: 'uint32', shape: [4], bytes: new Uint8Array(16) }];
}

type PendingWeight =
  | ExportedWeight
  | { readonly binding: number; readonly bytes: Uint8Array; readonly name?: undefined };

/** What the prepared plan computes: its results take the place of the weights that it read. */
async function keptOf(
  { weights, scalars, inputs, random, runOnce }: ExportRequest,
  { plan, prepared }: ExportedPlan,
): Promise<PendingWeight[]> {
  if (prepared === null) return [];
  const changing = [...inputs.flatMap(({ slots = [] }) => slots), ...(random?.slots ?? [])];
  const numbers = new Set(changing.map((each) => (typeof each === 'number' ? each : each.slot)));
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
  weights: readonly PendingWeight[],
  plan: Plan,
): { readonly placed: readonly PlacedWeight[]; readonly bytes: number } {
  let end = WEIGHTS_HEADER;
  const placed = weights.map((weight): PlacedWeight => {
    const { binding, bytes } = weight;
    if (binding !== undefined && bytes.byteLength !== bindingAt(plan, binding).bytes) {
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

/** Blocks of the random stream that each draw takes. */
export function blocksOfDraws({ random }: ExportRequest): number[] {
  return (random?.draws ?? []).map(blocksFor);
}

/** The largest relative difference of test cases that counts as passed, if the caller does not say. */
export function usualTolerance(numerics: 'fast' | 'strict'): number {
  return numerics === 'strict' ? 0 : 1e-5;
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
