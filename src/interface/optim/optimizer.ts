// Base of all optimizers: parameter groups, state, and the step that computes everything pending.
import {
  checkInteger,
  checkKeys,
  checkOption,
  describeValue,
  type OptionRule,
  POSITIVE,
} from '../../base/checks.ts';
import { type DType, newTypedArray } from '../../base/dtype.ts';
import { ArgumentError, internalError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, type Shape, sizeOf } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import type { Node } from '../../graph/node.ts';
import { input, scalar } from '../../graph/ops/leaf.ts';
import { Storage } from '../../runtime/storage.ts';
import { where } from '../tensor/arithmetic.ts';
import {
  counting,
  type Counting,
  type Formula,
  hostMath,
  type Running,
} from '../tensor/counting.ts';
import { engine, type RestoreHost } from '../tensor/engine.ts';
import { isTensor, listOf, notTensor, readyToCopy, tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { StepCount } from './step-count.ts';

/** Hyperparameters of an optimizer: numbers and switches, changed at will between steps. */
export type Hyperparameters = Record<string, number | boolean>;

/** Parameters that share hyperparameters. */
export type ParameterGroup<H extends Hyperparameters> = H & { params: Tensor[] };

type Pair = readonly [number, number];

/** Settings as users give them: `betas` and the like as pairs, as in PyTorch. */
type Settings<H extends Hyperparameters> = Partial<H> & {
  betas?: Pair;
  etas?: Pair;
  stepSizes?: Pair;
};

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
  lambd: [0],
  t0: [0],
  etaMinus: [0, 1],
  etaPlus: [1],
  stepMin: [0],
  stepMax: [0],
  eps1: [0],
  eps2: [0],
  beta2Decay: [-Infinity, 0],
  clipThreshold: POSITIVE,
};

/** What is given as a pair, and the settings that it stands for. */
const PAIRS: Readonly<Record<string, readonly [string, string]>> = {
  betas: ['beta1', 'beta2'],
  etas: ['etaMinus', 'etaPlus'],
  stepSizes: ['stepMin', 'stepMax'],
};

export abstract class Optimizer<H extends Hyperparameters> {
  /** Groups in order; change `group.lr` and the like at any time. */
  readonly paramGroups: ParameterGroup<H>[] = [];
  /** Per parameter: its state tensors and its count of steps. */
  protected readonly tensors = new Map<Tensor, Map<string, Tensor>>();
  protected readonly steps = new Map<Tensor, number>();
  /** True where the step in the making is to change nothing; null: it is made in any case. */
  #skips: Tensor | null = null;
  /** The parameter that is updated, and the number of its step. */
  #updated: { readonly param: Tensor; readonly step: number } | null = null;
  /** What programs in the making count themselves. */
  readonly #counts = new WeakMap<Counting, StepCount>();
  /** The float32 copy that a parameter of half precision is trained as: it takes its place here. */
  readonly #masters = new Map<Tensor, { readonly copy: Tensor; seen: Node }>();

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
    const pairs = Object.entries(PAIRS).filter(([, [first]]) => first in this.#defaults);
    checkKeys(op, given, [...pairs.map(([name]) => name), ...names]);
    const settings: Hyperparameters = { ...this.#defaults };
    const rest: Record<string, unknown> = { ...given };
    for (const [name, [first, second]] of pairs) {
      const pair = rest[name];
      delete rest[name];
      if (pair === undefined) continue;
      if (!(Array.isArray(pair) && pair.length === 2)) {
        throw new ArgumentError(`${name} must be a pair, got ${describeValue(pair)}`, { op });
      }
      settings[first] = pair[0] as number;
      settings[second] = pair[1] as number;
    }
    Object.assign(settings, rest);
    this.#check(settings as H);
    return settings as H;
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
    if (!isGroup(group)) {
      throw new ArgumentError(`${describeValue(group)} is not a group`, { op, hint: GROUPS });
    }
    const { params: list, ...given } = group;
    const params = listParameters(op, list);
    const known = new Set<unknown>(this.paramGroups.flatMap((other) => other.params));
    for (const param of params) {
      if (known.has(param)) {
        throw new ArgumentError('a parameter appears in two groups', { op });
      }
      checkParameter(op, param);
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
   * A number that follows from the count of this parameter's steps, as a slot of the plan. A program that
   * will run without this host (`dump`) computes it from a count of its own; whatever else `formula` reads
   * is a constant there.
   */
  protected counted(like: Tensor, formula: Formula, running?: Running): Tensor {
    if (this.#updated === null) throw internalError('a count outside of an update');
    const { param, step } = this.#updated;
    const program = counting.current;
    if (program !== null)
      return this.#countIn(program).value(param, step, like.dtype, formula, running);
    return slot(formula(hostMath, step, running?.at(step) ?? step), like);
  }

  #countIn(program: Counting): StepCount {
    let count = this.#counts.get(program);
    if (count === undefined) {
      count = new StepCount(program);
      this.#counts.set(program, count);
    }
    return count;
  }

  /** Takes down what a step changes on the host; the result puts it back. */
  #snapshot(): RestoreHost {
    const steps = new Map(this.steps);
    const unseen = [...this.#masters].filter(([param, { seen }]) => seen !== param.node);
    return (counts) => {
      if (counts === 'back') this.#setSteps(steps);
      for (const [param, master] of this.#masters) master.seen = param.node;
      for (const [param, { copy, seen }] of unseen) this.#masters.set(param, { copy, seen });
    };
  }

  /**
   * Updates every parameter that has a gradient, and computes everything that is pending: the
   * forward and backward pass, the updates, and results that nothing has used yet. With `skipIf`, a
   * tensor of one element, nothing changes if that is not 0, which is found out as part of the plan
   * and then read. Whether the step was made.
   */
  step(options: { readonly skipIf?: Tensor } = {}): boolean {
    const { skipIf } = options;
    return engine().act({
      name: `${this.constructor.name}.step`,
      inputs: skipIf === undefined ? [] : [skipIf],
      snapshot: () => this.#snapshot(),
      run: ([condition]) => this.#step(condition),
    });
  }

  #step(skipIf: Tensor | undefined): boolean {
    const before = new Map(this.steps);
    this.#skips = skipIf === undefined ? null : withoutTracking(() => skipIf.ne(0).reshape([]));
    // Settings may have been changed, by hand or by a schedule: before anything is computed with them.
    for (const group of this.paramGroups) this.#check(group);
    withoutTracking(() => {
      for (const group of this.paramGroups) {
        for (const param of group.params) {
          if (param.grad === null) continue;
          const step = (this.steps.get(param) ?? 0) + 1;
          this.steps.set(param, step);
          this.#updated = { param, step };
          this.#updateOne(param, param.grad, group, step);
        }
      }
    });
    this.#updated = null;
    this.#skips = null;
    if (counting.current !== null) this.#counts.get(counting.current)?.end();
    if (skipIf !== undefined) engine().keep(skipIf.node);
    try {
      engine().step();
    } catch (error) {
      // Too little memory, an index out of range: nothing was assigned.
      this.#setSteps(before);
      throw error;
    }
    for (const [param, master] of this.#masters) master.seen = param.node;
    if (skipIf === undefined || skipIf.itemSync() === 0) return true;
    this.#setSteps(before);
    return false;
  }

  #setSteps(steps: ReadonlyMap<Tensor, number>): void {
    this.steps.clear();
    for (const [param, step] of steps) this.steps.set(param, step);
  }

  /** `value`, or what `target` is now where the step is skipped. */
  #unlessSkipped(target: Tensor, value: Tensor): Tensor {
    return this.#skips === null ? value : where(this.#skips, target, value);
  }

  /** Halves would lose most updates to rounding: they are made on a float32 copy, then rounded. */
  #updateOne(param: Tensor, grad: Tensor, group: ParameterGroup<H>, step: number): void {
    const master = this.trained(param);
    if (master === param) this.update(param, grad, group, step);
    else {
      this.update(master, grad.float(), group, step);
      param.assign(master.to(param.dtype));
    }
  }

  /** What a parameter is trained as: itself, or its float32 copy. */
  protected trained(param: Tensor): Tensor {
    if (!isHalf(param.dtype)) return param;
    let master = this.#masters.get(param);
    if (master === undefined) {
      const copy = newState('float32', param.shape, MASTER, 0);
      // No part of a traced step: only the first one does it.
      engine().outside({
        name: 'master copy',
        inputs: [param],
        once: true,
        run: ([value]) => copy.setData((value as Tensor).float().dataSync()),
      });
      master = { copy, seen: param.node };
      this.#masters.set(param, master);
    }
    const { copy } = master;
    if (master.seen !== param.node) {
      // Somebody else wrote to the parameter: what the copy still rounds to stays, the rest is taken.
      const same = copy.to(param.dtype).eq(param);
      copy.assign(where(same, copy, param.float()), { inPlace: true });
      master.seen = param.node;
    }
    return copy;
  }

  /** Gives a parameter, or the copy that it is trained as, its new value. */
  protected assign(param: Tensor, value: Tensor): void {
    // Nobody but this optimizer names the copy: no earlier version needs to be kept.
    param.assign(this.#unlessSkipped(param, value), { inPlace: !param.tracked });
  }

  /** Forgets all gradients. */
  zeroGrad(): void {
    for (const group of this.paramGroups) for (const param of group.params) param.grad = null;
  }

  /** The shape of a state tensor: that of its parameter, unless a subclass knows better. */
  protected stateShape(param: Tensor, _name: string): Shape {
    return param.shape;
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
      state = newState(param.dtype, this.stateShape(param, name), name, initial);
      states.set(name, state);
    }
    return state;
  }

  /** Overwrites a state tensor where it stands. */
  protected setState(state: Tensor, value: Tensor): void {
    state.assign(this.#unlessSkipped(state, value), { inPlace: true });
  }

  // ---- saving ---------------------------------------------------------------------------------

  /** State tensors (not copies), step counts and settings. */
  stateDict(): OptimizerState {
    const params = this.paramGroups.flatMap((group) => group.params);
    const state: OptimizerState['state'] = {};
    params.forEach((param, i) => {
      const step = this.steps.get(param);
      if (step === undefined) return;
      const master = this.#masters.get(param)?.copy;
      const own = Object.fromEntries(this.tensors.get(master ?? param) ?? []);
      state[i] = { step, ...own, ...(master === undefined ? {} : { [MASTER]: master }) };
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
    const states = params.map((param, i) =>
      readState(op, param, i, (name) => this.stateShape(param, name), saved.state[i]),
    );
    // All of it is converted and computed before any of it is taken over.
    const entries = states.flatMap(({ values }) => values);
    const targets = entries.map(([param]) => (isHalf(param.dtype) ? FLOAT32 : param));
    const values = readyToCopy(
      entries.map(([, , value]) => value),
      targets,
    );
    settings.forEach((given, i) => Object.assign(this.paramGroups[i] as object, given));
    params.forEach((param, i) => {
      const step = states[i]?.step;
      this.tensors.delete(this.#masters.get(param)?.copy ?? param);
      this.#masters.delete(param);
      if (step === undefined) this.steps.delete(param);
      else this.steps.set(param, step);
    });
    entries.forEach(([param, name], i) => {
      const master = this.trained(param);
      const target = name === MASTER && master !== param ? master : this.stateOf(master, name);
      target.setData((values[i] as Tensor).dataSync());
    });
  }
}

/** Name of a float32 copy in a saved state. */
const MASTER = 'master';
/** Only its dtype is looked at. */
const FLOAT32 = { dtype: 'float32' } as const;

function isHalf(dtype: DType): boolean {
  return dtype === 'float16' || dtype === 'bfloat16';
}

/** Throws ArgumentError for what cannot be trained. */
export function checkParameter(op: string, param: unknown): void {
  if (isTensor(param) && param.tracked && param.isLeaf) return;
  throw new ArgumentError(`${describeValue(param)} is not a parameter`, {
    op,
    hint: isTensor(param) ? 'wrap it with new nn.Parameter(x)' : GROUPS,
  });
}

/** What optimizers take, for messages. */
const GROUPS = 'pass model.parameters(), or groups: { params, lr }';

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
  shapeOf: (name: string) => Shape,
  entry?: Record<string, Tensor | number>,
): ParameterState {
  if (entry === undefined) return { step: undefined, values: [] };
  const { step, ...rest } = entry;
  const values = Object.entries(rest).map(([name, value]) => {
    if (!isTensor(value)) return notTensor(op, value, `a tensor as ${name} of parameter ${index}`);
    if (!sameShape(value.shape, shapeOf(name))) {
      throw new ShapeError(
        `${name} of parameter ${index} is ${formatShape(value.shape)}, the parameter ${formatShape(param.shape)}`,
        { op },
      );
    }
    return [param, name, value] as const;
  });
  return { step: checkInteger(op, 'step', step, 0), values };
}

function newState(dtype: DType, shape: Shape, name: string, initial: number): Tensor {
  const host = newTypedArray(dtype, sizeOf(shape));
  if (initial !== 0) host.fill(initial);
  const storage = new Storage(host.byteLength, new Uint8Array(host.buffer));
  storage.persistent = true;
  storage.label = `optimizer state ${name}`;
  return tensorOn(input(storage, 0, shape, dtype, false, null));
}
