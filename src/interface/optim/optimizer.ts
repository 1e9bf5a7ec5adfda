// Base of all optimizers: parameter groups, state, and the step that computes everything pending.
import {
  checkInteger,
  checkKeys,
  checkOption,
  describeValue,
  type OptionRule,
} from '../../base/checks.ts';
import { newTypedArray } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import { input, scalar } from '../../graph/ops/leaf.ts';
import { Storage } from '../../runtime/storage.ts';
import { engine } from '../tensor/engine.ts';
import { isTensor, listOf, notTensor, readyToCopy, tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Hyperparameters of an optimizer: numbers and switches, changed at will between steps. */
export type Hyperparameters = Record<string, number | boolean>;

/** Parameters that share hyperparameters. */
export type ParameterGroup<H extends Hyperparameters> = H & { params: Tensor[] };

/** Settings as users give them: `betas` as a pair, like PyTorch. */
type Settings<H extends Hyperparameters> = Partial<H> & { betas?: readonly [number, number] };

type GroupArgument<H extends Hyperparameters> = { params: Iterable<Tensor> } & Settings<H>;

/** What constructors take: parameters, or groups with settings of their own. */
export type Parameters<H extends Hyperparameters> = Iterable<Tensor> | Iterable<GroupArgument<H>>;

/** Saved form of an optimizer; parameters are numbered in group order. */
export interface OptimizerState {
  /** Name of the optimizer that it is a state of. */
  readonly optimizer?: string;
  readonly state: Record<string, Record<string, Tensor | number>>;
  readonly paramGroups: readonly (Hyperparameters & { params: number[] })[];
}

/** A number as a tensor that may change each step without a new plan. */
export function slot(value: number, like: Tensor): Tensor {
  return tensorOn(scalar(value, like.dtype));
}

/** What the settings of every optimizer may be; others are any finite number. */
const RULES: Readonly<Record<string, OptionRule>> = {
  lr: [0],
  momentum: [0],
  beta1: [0, 1, 'below'],
  beta2: [0, 1, 'below'],
  alpha: [0, 1],
  rho: [0, 1],
  eps: [0],
  weightDecay: [0],
  lrDecay: [0],
  momentumDecay: [0],
  initialAccumulatorValue: [0],
};

export abstract class Optimizer<H extends Hyperparameters> {
  /** Groups in order; change `group.lr` and the like at any time. */
  readonly paramGroups: ParameterGroup<H>[] = [];
  /** Per parameter: its state tensors and its count of steps. */
  protected readonly tensors = new Map<Tensor, Map<string, Tensor>>();
  protected readonly steps = new Map<Tensor, number>();

  readonly #defaults: H;

  /** `options` are settings in place of `defaults`; others than those are refused. */
  constructor(parameters: Parameters<H>, defaults: H, options: Settings<H> = {}) {
    const op = this.constructor.name;
    this.#defaults = defaults;
    this.#defaults = this.#read(options);
    const items = listParameters(op, parameters);
    if (items.length === 0) {
      throw new ArgumentError('got no parameters', { op, hint: 'pass model.parameters()' });
    }
    if (items.some(isGroup)) for (const group of items) this.addParamGroup(group as never);
    else this.addParamGroup({ params: items } as never);
  }

  /** Settings over the defaults. Throws ArgumentError for unknown ones, and values out of bounds. */
  #read(given: Settings<H>): H {
    const op = this.constructor.name;
    const names = Object.keys(this.#defaults);
    checkKeys(op, given, 'beta1' in this.#defaults ? ['betas', ...names] : names);
    const { betas, ...rest } = given;
    if (betas !== undefined && !(Array.isArray(betas) && betas.length === 2)) {
      throw new ArgumentError(`betas must be a pair, got ${describeValue(betas)}`, { op });
    }
    const pair = betas === undefined ? {} : { beta1: betas[0], beta2: betas[1] };
    const settings = { ...this.#defaults, ...pair, ...rest };
    this.#check(settings);
    return settings;
  }

  #check(settings: H): void {
    for (const [name, standard] of Object.entries(this.#defaults)) {
      const rule = typeof standard === 'boolean' ? 'boolean' : (RULES[name] ?? [-Infinity]);
      checkOption(this.constructor.name, name, settings[name], rule);
    }
  }

  /** Adds a group; settings that it leaves out are those of the optimizer. */
  addParamGroup(group: GroupArgument<H>): void {
    const op = this.constructor.name;
    const hint = 'pass model.parameters(), or groups: { params, lr }';
    if (!isGroup(group)) {
      throw new ArgumentError(`${describeValue(group)} is not a group`, { op, hint });
    }
    const { params: list, ...given } = group;
    const params = listParameters(op, list);
    const known = new Set<unknown>(this.paramGroups.flatMap((other) => other.params));
    for (const param of params) {
      if (known.has(param)) {
        throw new ArgumentError('a parameter appears in two groups', { op });
      }
      if (!isTensor(param) || !param.tracked || !param.isLeaf) {
        throw new ArgumentError(`${describeValue(param)} is not a parameter`, {
          op,
          hint: isTensor(param) ? 'wrap it with new nn.Parameter(x)' : hint,
        });
      }
      known.add(param);
    }
    const settings = this.#read(given as Settings<H>);
    this.paramGroups.push({ ...settings, params } as ParameterGroup<H>);
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
    // Settings may have been changed, by hand or by a schedule: before anything is computed with them.
    for (const group of this.paramGroups) this.#check(group);
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
    return { optimizer: this.constructor.name, state, paramGroups };
  }

  /**
   * Takes over what `stateDict` gave: all of it, or nothing if it does not fit. Throws ArgumentError
   * for the state of another kind of optimizer or of other groups, ShapeError for other shapes.
   */
  loadStateDict(saved: OptimizerState): void {
    const op = `${this.constructor.name}.loadStateDict`;
    const fail = (message: string): never => {
      throw new ArgumentError(message, { op });
    };
    if (!Array.isArray(saved?.paramGroups) || typeof saved.state !== 'object') {
      fail(`expected what stateDict() gave, got ${describeValue(saved)}`);
    }
    const { optimizer = this.constructor.name } = saved;
    if (optimizer !== this.constructor.name) {
      fail(`the state is of ${optimizer}, this is ${this.constructor.name}`);
    }
    const sizes = saved.paramGroups.map((group) => group.params.length);
    const own = this.paramGroups.map((group) => group.params.length);
    if (sizes.join() !== own.join()) {
      fail(
        `the saved groups have ${sizes.join(', ')} parameters, this optimizer's ${own.join(', ')}`,
      );
    }
    const settings = saved.paramGroups.map(({ params: _, ...given }) => this.#read(given as H));
    const params = this.paramGroups.flatMap((group) => group.params);
    const states = params.map((param, i) => readState(op, param, i, saved.state[i]));
    const entries = states.flatMap(({ values }) => values);
    const values = readyToCopy(
      entries.map(([, , value]) => value),
      entries.map(([param]) => param),
    );
    settings.forEach((given, i) => Object.assign(this.paramGroups[i] as object, given));
    params.forEach((param, i) => {
      const step = states[i]?.step;
      this.tensors.delete(param);
      if (step === undefined) this.steps.delete(param);
      else this.steps.set(param, step);
    });
    entries.forEach(([param, name], i) => {
      this.stateOf(param, name).setData((values[i] as Tensor).dataSync());
    });
  }
}

/** Whether something is meant as a group of parameters. */
function isGroup(item: unknown): boolean {
  return typeof item === 'object' && item !== null && 'params' in item && !isTensor(item);
}

/** The items of a list of parameters. Throws ArgumentError for a module, or a single tensor. */
export function listParameters(op: string, parameters: Iterable<unknown>): readonly unknown[] {
  return listOf(op, parameters, 'parameters', 'pass model.parameters(), or [x] for a single one');
}

interface ParameterState {
  readonly step: number | undefined;
  readonly values: readonly (readonly [param: Tensor, name: string, value: Tensor])[];
}

/** What was saved of one parameter, checked; no step if it was never updated. */
function readState(
  op: string,
  param: Tensor,
  index: number,
  entry?: Record<string, Tensor | number>,
): ParameterState {
  if (entry === undefined) return { step: undefined, values: [] };
  const { step, ...rest } = entry;
  const values = Object.entries(rest).map(([name, value]) => {
    if (!isTensor(value)) return notTensor(op, value, `a tensor as ${name} of parameter ${index}`);
    if (!sameShape(value.shape, param.shape)) {
      throw new ShapeError(
        `${name} of parameter ${index} is ${formatShape(value.shape)}, the parameter ${formatShape(param.shape)}`,
        { op },
      );
    }
    return [param, name, value] as const;
  });
  return { step: checkInteger(op, 'step', step, 0), values };
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
