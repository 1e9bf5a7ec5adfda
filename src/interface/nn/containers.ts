// Modules that hold modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList.
import { ArgumentError } from '../../base/errors.ts';
import { listOf } from '../tensor/handle.ts';
import { Tensor } from '../tensor/tensor.ts';
import { type Layer, Module } from './module.ts';
import { Parameter } from './parameter.ts';

function checkName(op: string, name: string): void {
  if (name === '' || name.includes('.')) {
    throw new ArgumentError(`'${name}' cannot name a member: names are not empty, without dots`, {
      op,
    });
  }
}

/** Position `index`, negative from the end. Throws ArgumentError. */
function itemAt<T>(op: string, items: readonly T[], index: number): T {
  const item = items.at(index);
  if (item === undefined || !Number.isInteger(index)) {
    throw new ArgumentError(`there is no item ${index} among ${items.length}`, { op });
  }
  return item;
}

/** Any module passes: whether its forward maps a tensor to a tensor is the type checker's business. */
function isModule(value: unknown): value is Layer {
  return value instanceof Module;
}

/**
 * Layers applied one after the other, given in order or by name.
 *
 * @example
 * const model = new Sequential(new nn.Linear(4, 8), new nn.ReLU(), new nn.Linear(8, 2));
 * model.forward(zeros([3, 4])).shape; // => [3, 2]
 * Object.keys(model.stateDict()); // => ['0.weight', '0.bias', '2.weight', '2.bias']
 */
export class Sequential extends Module implements Iterable<Layer> {
  readonly #items = new Map<string, Layer>();

  /** Layers in order, or one record of layers by name. */
  constructor(...layers: readonly Layer[]);
  constructor(layers: Readonly<Record<string, Layer>>);
  constructor(...layers: readonly unknown[]) {
    super();
    const [first] = layers;
    const isRecord =
      layers.length === 1 && typeof first === 'object' && first !== null && !isModule(first);
    const named = isRecord ? Object.entries(first) : Object.entries(layers);
    for (const [name, layer] of named) this.#add(name, layer);
  }

  #add(name: string, layer: unknown): void {
    checkName('nn.Sequential', name);
    if (!isModule(layer)) {
      throw new ArgumentError(`'${name}' is not a module`, {
        op: 'nn.Sequential',
        hint: 'functions have modules too: new nn.ReLU() for relu',
      });
    }
    this.#items.set(name, layer);
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    yield* this.#items;
  }

  protected override replaceMember(name: string, module: Module): void {
    this.#add(name, module);
  }

  forward(x: Tensor): Tensor {
    let value = x;
    for (const layer of this.#items.values()) value = layer.forward(value);
    return value;
  }

  /** Adds layers at the end, named by their positions. Returns itself. */
  append(...layers: readonly Layer[]): this {
    for (const layer of layers) this.#add(String(this.#items.size), layer);
    return this;
  }

  /** The layer at a position (negative from the end), or of a name. Throws ArgumentError. */
  at(position: number | string): Layer {
    if (typeof position === 'number') {
      return itemAt('nn.Sequential', [...this.#items.values()], position);
    }
    const layer = this.#items.get(position);
    if (layer !== undefined) return layer;
    throw new ArgumentError(`there is no layer '${position}'`, {
      op: 'nn.Sequential',
      hint: `there are ${[...this.#items.keys()].join(', ')}`,
    });
  }

  get length(): number {
    return this.#items.size;
  }

  [Symbol.iterator](): Iterator<Layer> {
    return this.#items.values();
  }
}

/** Base of containers that cannot be called: their items are. */
abstract class Container extends Module {
  override forward(): never {
    throw new ArgumentError('a container has no forward of its own', {
      op: `nn.${this.describe()}`,
      hint: 'call its items',
    });
  }
}

/**
 * A list of modules of one kind.
 *
 * @example
 * const layers = new ModuleList([1, 2, 3].map((n) => new nn.Linear(n, n + 1)));
 * let x = ones([2, 1]);
 * for (const layer of layers) x = layer.forward(x);
 * x.shape; // => [2, 4]
 */
export class ModuleList<M extends Module = Module> extends Container implements Iterable<M> {
  readonly #items: M[];

  constructor(modules: Iterable<M> = []) {
    super();
    this.#items = [...listOf('nn.ModuleList', modules, 'modules', 'new nn.ModuleList([a, b])')];
  }

  override describe(): string {
    return 'ModuleList';
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    for (const [i, item] of this.#items.entries()) yield [String(i), item];
  }

  protected override replaceMember(name: string, module: Module): void {
    this.#items[Number(name)] = module as M;
  }

  /** Adds modules at the end. Returns itself. */
  append(...modules: readonly M[]): this {
    this.#items.push(...modules);
    return this;
  }

  /** The module at a position, negative from the end. Throws ArgumentError. */
  at(index: number): M {
    return itemAt('nn.ModuleList', this.#items, index);
  }

  get length(): number {
    return this.#items.length;
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#items.values();
  }
}

/**
 * Modules by name; each keeps its own type.
 *
 * @example
 * const heads = new ModuleDict({ box: new nn.Linear(8, 4), score: new nn.Linear(8, 1) });
 * heads.get('box').forward(zeros([2, 8])).shape; // => [2, 4]
 */
export class ModuleDict<T extends Record<string, Module> = Record<string, Module>>
  extends Container
  implements Iterable<[string, Module]>
{
  readonly #items: T;

  constructor(modules: T) {
    super();
    for (const name of Object.keys(modules)) checkName('nn.ModuleDict', name);
    this.#items = { ...modules };
  }

  override describe(): string {
    return 'ModuleDict';
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    yield* this;
  }

  protected override replaceMember(name: string, module: Module): void {
    Reflect.set(this.#items, name, module);
  }

  get<K extends keyof T & string>(name: K): T[K] {
    if (Object.hasOwn(this.#items, name)) return this.#items[name];
    throw new ArgumentError(`there is no module '${name}'`, {
      op: 'nn.ModuleDict',
      hint: `there are ${Object.keys(this.#items).join(', ')}`,
    });
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#items, name);
  }

  /** Adds or replaces a module. Returns itself. */
  set<K extends keyof T & string>(name: K, module: T[K]): this {
    checkName('nn.ModuleDict', name);
    this.#items[name] = module;
    return this;
  }

  get size(): number {
    return Object.keys(this.#items).length;
  }

  [Symbol.iterator](): Iterator<[string, Module]> & Iterable<[string, Module]> {
    return Object.entries<Module>(this.#items).values();
  }
}

/** A list of parameters; plain tensors become parameters. */
export class ParameterList extends Container implements Iterable<Parameter> {
  readonly #items: Parameter[] = [];

  constructor(parameters: Iterable<Tensor> = []) {
    super();
    // A tensor is iterable too: by its rows.
    this.append(...(parameters instanceof Tensor ? [parameters] : parameters));
  }

  override describe(): string {
    return 'ParameterList';
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    for (const [i, item] of this.#items.entries()) yield [String(i), item];
  }

  /** Adds parameters at the end. Returns itself. */
  append(...parameters: readonly Tensor[]): this {
    for (const item of parameters) {
      this.#items.push(item instanceof Parameter ? item : new Parameter(item));
    }
    return this;
  }

  /** The parameter at a position, negative from the end. Throws ArgumentError. */
  at(index: number): Parameter {
    return itemAt('nn.ParameterList', this.#items, index);
  }

  get length(): number {
    return this.#items.length;
  }

  [Symbol.iterator](): Iterator<Parameter> {
    return this.#items.values();
  }
}

/** Parameters by name; plain tensors become parameters. */
export class ParameterDict extends Container implements Iterable<[string, Parameter]> {
  readonly #items = new Map<string, Parameter>();

  constructor(parameters: Readonly<Record<string, Tensor>> = {}) {
    super();
    for (const [name, value] of Object.entries(parameters)) this.set(name, value);
  }

  override describe(): string {
    return 'ParameterDict';
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    yield* this.#items;
  }

  /** The parameter of a name. Throws ArgumentError. */
  get(name: string): Parameter {
    const parameter = this.#items.get(name);
    if (parameter !== undefined) return parameter;
    throw new ArgumentError(`there is no parameter '${name}'`, { op: 'nn.ParameterDict' });
  }

  /** Adds or replaces a parameter. Returns itself. */
  set(name: string, value: Tensor): this {
    checkName('nn.ParameterDict', name);
    this.#items.set(name, value instanceof Parameter ? value : new Parameter(value));
    return this;
  }

  get size(): number {
    return this.#items.size;
  }

  [Symbol.iterator](): Iterator<[string, Parameter]> {
    return this.#items.entries();
  }
}
