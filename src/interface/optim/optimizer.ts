// Base of all optimizers: parameter groups, state, and the step that computes everything pending.
import { ArgumentError } from '../../base/errors.ts';
import { newTypedArray } from '../../base/dtype.ts';
import { withoutTracking } from '../../graph/op.ts';
import { input, scalar } from '../../graph/ops/leaf.ts';
import { Storage } from '../../runtime/storage.ts';
import { engine } from '../tensor/engine.ts';
import { tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Hyperparameters of an optimizer: numbers and switches, changed at will between steps. */
export type Hyperparameters = Record<string, number | boolean>;

/** Parameters that share hyperparameters. */
export type ParameterGroup<H extends Hyperparameters> = H & { params: Tensor[] };

type GroupArgument<H extends Hyperparameters> = { params: Iterable<Tensor> } & Partial<H>;

/** What constructors take: parameters, or groups with settings of their own. */
export type Parameters<H extends Hyperparameters> = Iterable<Tensor> | Iterable<GroupArgument<H>>;

/** Saved form of an optimizer; parameters are numbered in group order. */
export interface OptimizerState {
  readonly state: Record<string, Record<string, Tensor | number>>;
  readonly paramGroups: readonly (Hyperparameters & { params: number[] })[];
}

/** A number as a tensor that may change each step without a new plan. */
export function slot(value: number, like: Tensor): Tensor {
  return tensorOn(scalar(value, like.dtype));
}

export abstract class Optimizer<H extends Hyperparameters> {
  /** Groups in order; change `group.lr` and the like at any time. */
  readonly paramGroups: ParameterGroup<H>[] = [];
  /** Per parameter: its state tensors and its count of steps. */
  protected readonly tensors = new Map<Tensor, Map<string, Tensor>>();
  protected readonly steps = new Map<Tensor, number>();

  constructor(parameters: Parameters<H>, defaults: H) {
    const items: (Tensor | GroupArgument<H>)[] = [...parameters];
    const groups = items.filter((item): item is GroupArgument<H> => 'params' in item);
    const loose = items.filter((item): item is Tensor => !('params' in item));
    if (groups.length > 0 && loose.length > 0) {
      throw new ArgumentError('pass either parameters or groups, not both', {
        op: this.constructor.name,
      });
    }
    if (items.length === 0) {
      throw new ArgumentError('got no parameters', {
        op: this.constructor.name,
        hint: 'pass model.parameters()',
      });
    }
    if (loose.length > 0) this.addParamGroup({ ...defaults, params: loose });
    for (const group of groups) this.addParamGroup({ ...defaults, ...group });
  }

  /** Adds a group whose settings are all given. */
  addParamGroup(group: { params: Iterable<Tensor> } & H): void {
    const params = [...group.params];
    const known = new Set(this.paramGroups.flatMap((other) => other.params));
    for (const param of params) {
      if (known.has(param)) {
        throw new ArgumentError('a parameter appears in two groups', { op: this.constructor.name });
      }
      if (!param.tracked) {
        throw new ArgumentError('got a tensor that is not a parameter', {
          op: this.constructor.name,
          hint: 'wrap it with new nn.Parameter(x)',
        });
      }
      known.add(param);
    }
    const { lr } = group;
    if (typeof lr === 'number' && !(lr >= 0)) {
      throw new ArgumentError(`lr must not be negative, got ${lr}`, { op: this.constructor.name });
    }
    this.paramGroups.push({ ...group, params } as ParameterGroup<H>);
  }

  /**
   * Builds the update of one parameter: assigns to it and to its state, without computing.
   * `step` counts from 1.
   */
  protected abstract update(
    param: Tensor,
    grad: Tensor,
    group: ParameterGroup<H>,
    step: number,
  ): void;

  /** The gradient, with its sign turned to ascend, and with L2 weight decay in it. */
  protected direction(
    param: Tensor,
    grad: Tensor,
    group: { readonly weightDecay: number; readonly maximize: boolean },
  ): Tensor {
    const signed = group.maximize ? grad.neg() : grad;
    if (group.weightDecay === 0) return signed;
    return signed.add(param.mul(slot(group.weightDecay, param)));
  }

  /**
   * Updates every parameter that has a gradient, and computes everything that is pending: the
   * forward and backward pass, the updates, and results that nothing has used yet.
   */
  step(): void {
    withoutTracking(() => {
      for (const group of this.paramGroups) {
        for (const param of group.params) {
          if (param.grad === null) continue;
          const step = (this.steps.get(param) ?? 0) + 1;
          this.steps.set(param, step);
          this.update(param, param.grad, group, step);
        }
      }
    });
    engine().step();
  }

  /** Forgets all gradients. */
  zeroGrad(): void {
    for (const group of this.paramGroups) for (const param of group.params) param.grad = null;
  }

  /** A state tensor of `param`, `initial` at first; updated in place, so it costs one buffer. */
  protected stateOf(param: Tensor, name: string, initial = 0): Tensor {
    let states = this.tensors.get(param);
    if (states === undefined) {
      states = new Map();
      this.tensors.set(param, states);
    }
    let state = states.get(name);
    if (state === undefined) {
      state = newState(param, name, initial);
      states.set(name, state);
    }
    return state;
  }

  /** Overwrites a state tensor where it stands. */
  protected setState(state: Tensor, value: Tensor): void {
    state.assign(value, { inPlace: true });
  }

  // ---- saving ---------------------------------------------------------------------------------

  /** State tensors (not copies), step counts and settings. */
  stateDict(): OptimizerState {
    const params = this.paramGroups.flatMap((group) => group.params);
    const state: OptimizerState['state'] = {};
    params.forEach((param, i) => {
      const step = this.steps.get(param);
      if (step === undefined) return;
      state[i] = { step, ...Object.fromEntries(this.tensors.get(param) ?? []) };
    });
    let next = 0;
    const paramGroups = this.paramGroups.map(({ params: own, ...settings }) => ({
      ...(settings as Hyperparameters),
      params: own.map(() => next++),
    })) as (Hyperparameters & { params: number[] })[];
    return { state, paramGroups };
  }

  /** Takes over what `stateDict` gave. Throws ArgumentError if groups do not fit. */
  loadStateDict(saved: OptimizerState): void {
    const sizes = saved.paramGroups.map((group) => group.params.length);
    const own = this.paramGroups.map((group) => group.params.length);
    if (sizes.join() !== own.join()) {
      throw new ArgumentError(
        `the saved groups have ${sizes.join(', ')} parameters, this optimizer's ${own.join(', ')}`,
        { op: `${this.constructor.name}.loadStateDict` },
      );
    }
    saved.paramGroups.forEach(({ params: _params, ...settings }, i) => {
      Object.assign(this.paramGroups[i] as object, settings);
    });
    const params = this.paramGroups.flatMap((group) => group.params);
    params.forEach((param, i) => {
      const entry = saved.state[i];
      if (entry === undefined) {
        this.steps.delete(param);
        this.tensors.delete(param);
        return;
      }
      for (const [name, value] of Object.entries(entry)) {
        if (typeof value !== 'number') this.stateOf(param, name).setData(value.dataSync());
        else if (name === 'step') this.steps.set(param, value);
      }
    });
  }
}

function newState(param: Tensor, name: string, initial: number): Tensor {
  const { dtype, shape, size } = param;
  const host = newTypedArray(dtype, size);
  if (initial !== 0) host.fill(initial);
  const storage = new Storage(host.byteLength, new Uint8Array(host.buffer));
  storage.persistent = true;
  storage.label = `optimizer state ${name}`;
  return tensorOn(input(storage, 0, shape, dtype, false, null));
}
