// Loops and choices of a model as operations of the graph: one plan, whatever their number of rounds.
import { DTypeError, FormatError } from '../../../base/errors.ts';
import * as ops from '../../../graph/ops/index.ts';
import { tensorOn, wrap } from '../../tensor/handle.ts';
import { arange, type Tensor, tensor } from '../../tensor/index.ts';
import { cond, scan, whileLoop } from '../../transform/control-flow.ts';
import type { ElementType } from '../tensor-data.ts';
import type { TensorValue, Value } from '../values.ts';
import { as } from './results.ts';

/** Fewer rounds are unrolled: they fuse with what stands around them, and values stay known. */
export const UNROLLED_ROUNDS = 8;

/** Most rounds of a loop: a condition that never fails is an error, not a hang. */
export const MOST_ROUNDS = 2 ** 20;

export function asTensor(value: Value | null | undefined, what: string): TensorValue {
  if (value?.kind === 'tensor') return value;
  throw new FormatError(`${what} is ${value?.kind ?? 'empty'} where a tensor is expected`);
}

/** What one round makes: the state that is handed on, and what is kept of it. */
export interface Round {
  readonly state: readonly TensorValue[];
  readonly kept: readonly TensorValue[];
  /** Whether another one follows. */
  readonly goes: TensorValue;
}

/** A round on a state. `at` is its number, `parts` are those of the values that are gone through. */
export type RunRound = (
  state: readonly TensorValue[],
  at: TensorValue,
  parts: readonly TensorValue[],
) => Round;

/** The state under the types it had before the round, whose dtypes the rounds keep. */
function typed(state: readonly TensorValue[], tensors: readonly Tensor[]): TensorValue[] {
  return tensors.map((value, k) => as((state[k] as TensorValue).type, value));
}

function checkTypes(before: readonly TensorValue[], after: readonly TensorValue[]): void {
  for (const [k, { type }] of before.entries()) {
    const now = after[k]?.type;
    if (now === type) continue;
    throw new DTypeError(`value ${k} of the state is ${type} before a round and ${now} after it`);
  }
}

const tensorsOf = (values: readonly TensorValue[]): Tensor[] => values.map((value) => value.tensor);

/** The results of a loop: the last state, and what was kept on a new first axis. */
export interface LoopResult {
  readonly state: TensorValue[];
  readonly kept: TensorValue[];
}

/** Thrown where a loop of a fixed number of rounds may end early. */
export class MayEndEarly extends Error {
  override readonly name = 'MayEndEarly';
}

/**
 * Exactly `length` rounds.
 *
 * @throws MayEndEarly if the body's condition is not known to hold and `endsEarly` is not given.
 */
export function countedLoop(
  run: RunRound,
  state: readonly TensorValue[],
  length: number,
  options: {
    /** Values of which a round sees its part along the first axis. */
    readonly parts?: readonly TensorValue[];
    readonly reverse?: boolean;
    /** Whether the condition is known to hold in all rounds, whatever the body says. */
    readonly holds?: boolean;
  } = {},
): LoopResult {
  const { parts = [], reverse = false, holds = false } = options;
  if (length > MOST_ROUNDS) throw new FormatError(`a loop of ${length} rounds`);
  let types: readonly ElementType[] = [];
  const numbers = arange(length, { dtype: 'int32' });
  const [last, kept] = scan(
    (carry: readonly Tensor[], [at, ...given]: readonly Tensor[]) => {
      const slices = given.map((value, k) => as((parts[k] as TensorValue).type, value));
      const made = run(typed(state, carry), as('int64', at as Tensor), slices);
      if (!holds && made.goes.known?.data[0] !== 1) throw new MayEndEarly();
      checkTypes(state, made.state);
      types = made.kept.map(({ type }) => type);
      return [tensorsOf(made.state), tensorsOf(made.kept)] as const;
    },
    tensorsOf(state) as readonly Tensor[],
    [numbers, ...tensorsOf(parts)] as readonly Tensor[],
    { length, reverse },
  );
  return {
    state: typed(state, last as readonly Tensor[]),
    kept: (kept as readonly Tensor[]).map((value, k) => as(types[k] as ElementType, value)),
  };
}

/**
 * Rounds as long as the condition holds and there are fewer than `limit`. What they keep is dropped:
 * how much that is depends on values.
 *
 * @returns the last state, and the number of rounds as int32.
 */
export function conditionalLoop(
  run: RunRound,
  state: readonly TensorValue[],
  limit: TensorValue | null,
  goes: TensorValue | null,
  maxIterations: number | undefined,
): { readonly state: TensorValue[]; readonly rounds: Tensor } {
  const zero = tensor(0, { dtype: 'int32' });
  const bound = limit === null ? null : limit.tensor.reshape([]);
  const first = goes === null ? tensor(true) : goes.tensor.bool().reshape([]);
  const range = ops.promiseRange('Loop, number of rounds', {
    lowest: 0,
    size: MOST_ROUNDS,
    except: 0,
  });
  type Carry = { readonly on: Tensor; readonly at: Tensor; readonly state: readonly Tensor[] };
  const last = whileLoop<Carry>(
    ({ on, at }) => {
      if (bound !== null) return on.logicalAnd(at.lt(bound));
      // One round more than is allowed, which is an error when the loop is read.
      return on.logicalAnd(at.le(MOST_ROUNDS));
    },
    ({ at, state: carry }) => {
      const number = bound === null ? tensorOn(ops.checkedIndex(at.node, range)) : at;
      const made = run(typed(state, carry), as('int64', number), []);
      checkTypes(state, made.state);
      if (bound === null && made.goes.known?.data[0] === 1) {
        throw new FormatError('its condition always holds, and there is no bound');
      }
      return {
        on: made.goes.tensor.bool().reshape([]),
        at: number.add(1),
        state: tensorsOf(made.state),
      };
    },
    { on: first, at: zero, state: tensorsOf(state) },
    maxIterations === undefined ? {} : { maxIterations },
  );
  return { state: typed(state, last.state), rounds: wrap(last.at.node) };
}

/** One of two branches, chosen on the device. */
export function chooseBranch(
  predicate: TensorValue,
  then: () => readonly TensorValue[],
  otherwise: () => readonly TensorValue[],
): TensorValue[] {
  const types: (readonly ElementType[])[] = [];
  const branch = (run: () => readonly TensorValue[]) => (): readonly Tensor[] => {
    const values = run();
    types.push(values.map(({ type }) => type));
    return tensorsOf(values);
  };
  const chosen = cond(
    predicate.tensor.bool().reshape([]),
    branch(then),
    branch(otherwise),
  ) as readonly Tensor[];
  const [first = [], second = []] = types;
  if (first.join() !== second.join()) {
    throw new DTypeError(`one branch gives ${first.join(', ')}, the other ${second.join(', ')}`);
  }
  return chosen.map((value, k) => as(first[k] as ElementType, value));
}
