// Module: a tree of parameters, buffers and sub-modules found by walking an object's own fields.
import { describeValue } from '../../base/checks.ts';
import { type DType, isDType, isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { customGradient } from '../../graph/ops/custom-gradient.ts';
import { isTensor, notTensor, readyToCopy, tensorOn } from '../tensor/handle.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Buffer, Parameter } from './parameter.ts';

/** What a forward hook may do: see or replace the result. */
export type ForwardHook = (module: Module, inputs: readonly unknown[], output: unknown) => unknown;
/** What a forward pre-hook may do: see or replace the inputs. */
export type ForwardPreHook = (
  module: Module,
  inputs: readonly unknown[],
) => readonly unknown[] | void;

/**
 * Sees, or replaces, the gradient by a module's first tensor input; null where none flows there. The
 * gradient of its first tensor output is that of the whole result.
 */
export type BackwardHook = (
  module: Module,
  gradInput: Tensor | null,
  gradOutput: Tensor,
) => Tensor | void;

/** Takes a hook off again. */
export interface HookHandle {
  remove(): void;
}

/** Names of tensors to tensors, PyTorch's names (`layer1.0.running_mean`), in field order. */
export type StateDict = Record<string, Tensor>;

/** What a state dict may be loaded from: a record, or the Map that reading a file gives. */
export type StateSource = Readonly<StateDict> | ReadonlyMap<string, Tensor>;

export interface LoadReport {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
}

interface Hooks {
  readonly before: Set<ForwardPreHook>;
  readonly after: Set<ForwardHook>;
  readonly backward: Set<BackwardHook>;
}

const hooksOf = new WeakMap<Module, Hooks>();

/** Arrays and records of modules may nest this deep in a field; deeper things are not layers. */
const MEMBER_DEPTH = 3;

/**
 * Base class of layers and models. Assign parameters, buffers, modules, or arrays and plain records
 * of them to fields; they are found in the order of assignment. `#private` fields are not seen.
 *
 * @example
 * ```ts
 * import { nn, tensor } from 'tengen';
 *
 * class Twice extends nn.Module {
 *   inner = new nn.Linear(2, 2);
 *   forward(x: Tensor): Tensor {
 *     return this.inner.forward(this.inner.forward(x));
 *   }
 * }
 * [...new Twice().namedParameters()].map(([name]) => name); // => ['inner.weight', 'inner.bias']
 * ```
 */
export abstract class Module {
  /** Whether layers behave as in training (dropout, batch statistics). Set by train() and eval(). */
  training = true;

  /** Computes the layer. */
  abstract forward(...inputs: readonly never[]): unknown;

  // ---- walking --------------------------------------------------------------------------------

  /** Tensors and modules held directly, by name. Containers override it to name their items. */
  protected *members(): Generator<[string, Module | Tensor]> {
    for (const [field, value] of Object.entries(this)) {
      yield* membersOf(toSnakeCase(field), value, 0);
    }
  }

  /** Direct sub-modules by name; arrays of modules give `field.0`, `field.1`, ... */
  *namedChildren(): Generator<[string, Module]> {
    for (const [name, value] of this.members()) if (value instanceof Module) yield [name, value];
  }

  /** This module ('' as name) and all below it, each once. */
  *namedModules(prefix = '', seen = new Set<Module>()): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) {
      yield* child.namedModules(prefix === '' ? name : `${prefix}.${name}`, seen);
    }
  }

  *#namedTensors<T extends Tensor>(
    kind: abstract new (...args: never[]) => T,
    recurse: boolean,
  ): Generator<[string, T]> {
    const seen = new Set<Tensor>();
    for (const [path, module] of this.namedModules()) {
      if (!recurse && module !== this) continue;
      for (const [name, item] of module.members()) {
        if (!(item instanceof kind) || seen.has(item)) continue;
        seen.add(item);
        yield [path === '' ? name : `${path}.${name}`, item];
      }
    }
  }

  /** Trainable tensors with their PyTorch names, each once. */
  namedParameters(recurse = true): Generator<[string, Parameter]> {
    return this.#namedTensors(Parameter, recurse);
  }

  /** Saved tensors that are not trained, e.g. running statistics. */
  namedBuffers(recurse = true): Generator<[string, Buffer]> {
    return this.#namedTensors(Buffer, recurse);
  }

  parameters(recurse = true): Parameter[] {
    return Array.from(this.namedParameters(recurse), ([, parameter]) => parameter);
  }

  buffers(recurse = true): Buffer[] {
    return Array.from(this.namedBuffers(recurse), ([, buffer]) => buffer);
  }

  children(): Module[] {
    return Array.from(this.namedChildren(), ([, child]) => child);
  }

  modules(): Module[] {
    return Array.from(this.namedModules(), ([, module]) => module);
  }

  /** The module at a path such as `layer1.0.conv`; '' is this one. Throws ArgumentError. */
  getSubmodule(path: string): Module {
    for (const [name, module] of this.namedModules()) if (name === path) return module;
    throw new ArgumentError(`there is no module '${path}'`, {
      op: `${this.constructor.name}.getSubmodule`,
      hint: `there are ${[...this.namedModules()]
        .slice(1, 9)
        .map(([name]) => name)
        .join(', ')}`,
    });
  }

  /**
   * Puts another module in the place of the one at a path, which must exist. Optimizers keep the old
   * parameters: make them anew. Returns the module that was there.
   *
   * @example
   * const model = new nn.Sequential(new nn.Linear(2, 2), new nn.ReLU());
   * model.setSubmodule('1', new nn.GELU()).describe(); // => 'ReLU'
   * String(model.at(1)); // => 'GELU(approximate=none)'
   */
  setSubmodule(path: string, module: Module): Module {
    const op = `${this.constructor.name}.setSubmodule`;
    if (!(module instanceof Module)) {
      throw new ArgumentError(`expected a module, got ${describeValue(module)}`, { op });
    }
    for (const [name, child] of this.namedChildren()) {
      if (name === path) {
        this.replaceMember(name, module);
        return child;
      }
      if (path.startsWith(`${name}.`))
        return child.setSubmodule(path.slice(name.length + 1), module);
    }
    throw new ArgumentError(`there is no module '${path}'`, { op });
  }

  /** Puts a module in the place of the member of this name. Containers override it. */
  protected replaceMember(name: string, module: Module): void {
    const [first, ...rest] = name.split('.');
    const field = Object.keys(this).find((key) => toSnakeCase(key) === first);
    const keys = [field ?? '', ...rest];
    const last = keys.pop() as string;
    const holder = keys.reduce<object>((value, key) => Reflect.get(value, key) as object, this);
    Reflect.set(holder, last, module);
  }

  /** Calls `visit` on every module below and then on this one. Returns itself. */
  apply(visit: (module: Module) => void): this {
    for (const child of this.children()) child.apply(visit);
    visit(this);
    return this;
  }

  // ---- modes ----------------------------------------------------------------------------------

  /** Sets training mode here and below. Returns itself. */
  train(mode = true): this {
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** Sets evaluation mode: no dropout, running statistics. Returns itself. */
  eval(): this {
    return this.train(false);
  }

  /** Forgets accumulated gradients. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null;
  }

  /**
   * Converts all float parameters and buffers, in place: the parameters stay the same objects.
   * Accumulated gradients are dropped. Optimizers train halves on float32 copies of their own.
   */
  to(dtype: DType): this {
    if (!isDType(dtype) || !isFloat(dtype)) {
      throw new DTypeError(`parameters are floats, not ${describeValue(dtype)}`, {
        op: 'Module.to',
      });
    }
    for (const tensor of [...this.parameters(), ...this.buffers()]) {
      if (isFloat(tensor.dtype)) tensor.convert(dtype);
    }
    return this;
  }

  /** All float parameters and buffers as float16. */
  half(): this {
    return this.to('float16');
  }

  /** All float parameters and buffers as bfloat16. */
  bfloat16(): this {
    return this.to('bfloat16');
  }

  /** All float parameters and buffers as float32. */
  float(): this {
    return this.to('float32');
  }

  // ---- state ----------------------------------------------------------------------------------

  /** All parameters and buffers by PyTorch name. The tensors are the module's own, not copies. */
  stateDict(): StateDict {
    const state: StateDict = {};
    for (const [path, module] of this.namedModules()) {
      const join = (name: string): string => (path === '' ? name : `${path}.${name}`);
      for (const [name, tensor] of module.namedParameters(false)) state[join(name)] = tensor;
      for (const [name, tensor] of module.namedBuffers(false)) state[join(name)] = tensor;
    }
    return state;
  }

  /**
   * Copies values into this module's parameters and buffers by name. With `strict` (default)
   * missing or unexpected names throw; shapes must always agree, dtypes are converted. All problems
   * are named at once, and nothing is changed if there is any.
   */
  loadStateDict(state: StateSource, options: { strict?: boolean } = {}): LoadReport {
    if (typeof state !== 'object' || state === null) {
      throw new ArgumentError(`expected a state dict, got ${describeValue(state)}`, {
        op: 'loadStateDict',
      });
    }
    const given: ReadonlyMap<string, Tensor> =
      state instanceof Map ? state : new Map(Object.entries(state));
    const own = this.stateDict();
    const missing = Object.keys(own).filter((name) => !given.has(name));
    const unexpected = [...given.keys()].filter((name) => !Object.hasOwn(own, name));
    const problems: string[] = [];
    for (const [name, tensor] of Object.entries(own)) {
      const value = given.get(name);
      if (value === undefined) continue;
      if (!isTensor(value)) notTensor('loadStateDict', value, `a tensor as ${name}`);
      if (!sameShape(value.shape, tensor.shape)) {
        problems.push(
          `${name} is ${formatShape(value.shape)}, expected ${formatShape(tensor.shape)}`,
        );
      }
    }
    const isStrict = options.strict !== false && missing.length + unexpected.length > 0;
    const names = `missing: ${missing.join(', ') || 'none'}; unexpected: ${unexpected.join(', ') || 'none'}`;
    if (problems.length > 0) {
      const others = isStrict ? `; ${names}` : '';
      throw new ShapeError(`sizes differ: ${problems.join('; ')}${others}`, {
        op: 'loadStateDict',
      });
    }
    if (isStrict) {
      throw new ArgumentError(names, {
        op: 'loadStateDict',
        hint: 'pass { strict: false } to load what fits',
      });
    }
    const targets: Tensor[] = [];
    const values: Tensor[] = [];
    for (const [name, tensor] of Object.entries(own)) {
      const value = given.get(name);
      if (value === undefined || value === tensor) continue;
      targets.push(tensor);
      values.push(value);
    }
    for (const [i, value] of readyToCopy(values, targets).entries()) {
      targets[i]?.setData(value.dataSync());
    }
    return { missing, unexpected };
  }

  // ---- hooks ----------------------------------------------------------------------------------

  /** `hook` runs before forward and may return other inputs. */
  registerForwardPreHook(hook: ForwardPreHook): HookHandle {
    const hooks = this.#hooks();
    hooks.before.add(hook);
    return { remove: () => void hooks.before.delete(hook) };
  }

  /** `hook` runs after forward and may return another output. */
  registerForwardHook(hook: ForwardHook): HookHandle {
    const hooks = this.#hooks();
    hooks.after.add(hook);
    return { remove: () => void hooks.after.delete(hook) };
  }

  /**
   * `hook` runs when gradients are built, once for each call of forward whose result they flow
   * through, and may return another gradient of the input. Tensors beside the first are not seen.
   */
  registerFullBackwardHook(hook: BackwardHook): HookHandle {
    const hooks = this.#hooks();
    hooks.backward.add(hook);
    return { remove: () => void hooks.backward.delete(hook) };
  }

  /** Runs forward with its first input and its first output passed through watching nodes. */
  #watched(
    forward: (...inputs: readonly unknown[]) => unknown,
    inputs: readonly unknown[],
  ): unknown {
    const hooks = [...(hooksOf.get(this)?.backward ?? [])];
    let gradOutput: Tensor | null = null;
    const call = (gradInput: Tensor | null): Tensor | null => {
      if (gradOutput === null) return gradInput;
      let grad = gradInput;
      for (const hook of hooks) grad = hook(this, grad, gradOutput) ?? grad;
      return grad;
    };
    const at = inputs.findIndex(isTensor);
    const given = inputs[at] as Tensor | undefined;
    const isTracked = given?.tracked === true;
    const watched = [...inputs];
    if (given !== undefined && isTracked) {
      watched[at] = passing(given, (grad) => call(grad) ?? grad);
    }
    const output = forward(...watched);
    const see = (grad: Tensor): Tensor => {
      gradOutput = grad;
      if (!isTracked) call(null);
      return grad;
    };
    if (isTensor(output)) return output.tracked ? passing(output, see) : output;
    if (!Array.isArray(output)) return output;
    const results: unknown[] = [...(output as readonly unknown[])];
    const first = results.findIndex(isTensor);
    const result = results[first] as Tensor | undefined;
    if (result?.tracked === true) results[first] = passing(result, see);
    return results;
  }

  /** The first hook puts a wrapper before this object's own `forward`. */
  #hooks(): Hooks {
    const known = hooksOf.get(this);
    if (known !== undefined) return known;
    const hooks: Hooks = { before: new Set(), after: new Set(), backward: new Set() };
    hooksOf.set(this, hooks);
    const forward = this.forward.bind(this) as (...inputs: readonly unknown[]) => unknown;
    const hooked = (...inputs: readonly unknown[]): unknown => {
      let given = inputs;
      for (const hook of hooks.before) given = hook(this, given) ?? given;
      let output = hooks.backward.size === 0 ? forward(...given) : this.#watched(forward, given);
      for (const hook of hooks.after) output = hook(this, given, output) ?? output;
      return output;
    };
    Object.defineProperty(this, 'forward', { value: hooked, enumerable: false });
    return hooks;
  }

  /** One line about this layer, without its children: `Linear(in=2, out=3)`. */
  describe(): string {
    return this.constructor.name;
  }

  toString(): string {
    const children = [...this.namedChildren()];
    if (children.length === 0) return this.describe();
    const lines = children.map(([name, child]) => {
      const text = child.toString().split('\n').join('\n  ');
      return `  (${name}): ${text}`;
    });
    return `${this.describe()}(\n${lines.join('\n')}\n)`;
  }

  /** What `console.log(model)` shows in Node. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

/** The same value; `see` is called with its gradient, and gives the one that flows on. */
function passing(x: Tensor, see: (grad: Tensor) => Tensor): Tensor {
  const node = customGradient(x.node, [x.node], (grad) => [see(tensorOn(grad)).node]);
  return tensorOn(node);
}

/** A module that maps a tensor to a tensor: what `Sequential` chains. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

function* membersOf(
  name: string,
  value: unknown,
  depth: number,
): Generator<[string, Module | Tensor]> {
  if (value instanceof Module || value instanceof Tensor) yield [name, value];
  else if (depth === MEMBER_DEPTH) return;
  else if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* membersOf(`${name}.${i}`, item, depth + 1);
  } else if (isPlainRecord(value)) {
    for (const [key, item] of Object.entries(value)) {
      yield* membersOf(`${name}.${key}`, item, depth + 1);
    }
  }
}

function isPlainRecord(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
  );
}

/** `runningMean` is `running_mean` in files, as in PyTorch. */
export function toSnakeCase(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, (_, before: string, upper: string) => {
    return `${before}_${upper.toLowerCase()}`;
  });
}
