// Programs: functions of tensors as graphs that can be looked into and rewired, and that are called,
// trained, traced and dumped like the functions they came from.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { constant } from '../../graph/ops/index.ts';
import { isTensor, notTensor, standIn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DumpReport, WeightNames } from '../transform/dumping.ts';
import { type Around, type BodyView, type BranchName, regionSplice, viewOf } from './bodies.ts';
import { writeProgramFile } from './dump.ts';
import { nameNodes, nameWeights } from './names.ts';
import {
  checkDumpOptions,
  type Ends,
  type ProgramDumpOptions,
  type ReplaceOptions,
} from './options.ts';
import { matcher, type Pattern } from './patterns.ts';
import { ProgramNode } from './program-node.ts';
import {
  checkRecord,
  checkTold,
  cutParts,
  inputsInOrder,
  keptInput,
  mergeParts,
  type NamedValue,
  orderOfParts,
  portOf,
  portRecordOf,
  printed,
  type ProgramParts,
  type ProgramPort,
  renameParts,
  rewireParts,
  sizesOfParts,
  summaryOf,
  unknownEnd,
} from './program-parts.ts';
import { captureAtAllSizes, type ProgramSizes, shapeAt } from './sizes.ts';
import {
  checkForm,
  formOf,
  type Replacement,
  replacementIn,
  splice,
  type Splice,
} from './splice.ts';
import { nodesOf, orderOf, type Value } from './value-graph.ts';

/**
 * A function of tensors as a graph. Surgery gives new programs and leaves the old one as it is; they
 * share the weights that they have in common. Made by `programOf` and `loadProgram`.
 *
 * @example
 * import { programOf } from 'tengen/program';
 * const program = programOf((x: Tensor) => x.exp().add(1), [zeros([2])]);
 * program.call(tensor([0, 0])); // => [2, 2]
 */
export class Program {
  readonly name: string;
  /** Every node once, inputs first: those of the program, then what it computes. */
  readonly nodes: readonly ProgramNode[];
  /** What it holds between runs, by name: parameters, which gradients reach, and buffers. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly #parts: ProgramParts;
  readonly #order: readonly Value[];
  readonly #byId = new Map<number, Value>();
  readonly #names: ReadonlyMap<number, string>;
  readonly #handles = new Map<Value, ProgramNode>();
  readonly #users = new Map<Value, Value[]>();
  readonly #sizes: ProgramSizes;
  readonly #bodies = new Map<string, { readonly view: BodyView; readonly program: Program }>();

  /** Internal: `programOf` and `loadProgram` make programs. */
  constructor(parts: ProgramParts) {
    this.name = parts.name;
    this.#order = orderOfParts(parts);
    this.#sizes = sizesOfParts(parts.name, parts.dims, this.#order);
    const { dims } = this.#sizes;
    this.weights = nameWeights(this.#order, parts.weightNames);
    this.#names = nameNodes(this.#order, this.weights, parts.nodeNames);
    this.#parts = { ...parts, dims, nodeNames: this.#names };
    checkTold(this.#parts, this.#sizes);
    const owner = {
      nameOf: (value: Value) => this.#names.get(value.id) as string,
      handleOf: (value: Value) => this.#handles.get(value) as ProgramNode,
      usersOf: (value: Value) => this.#users.get(value) ?? [],
    };
    for (const value of this.#order) {
      this.#byId.set(value.id, value);
      this.#handles.set(value, new ProgramNode(owner, value));
      for (const input of new Set(value.inputs)) {
        const users = this.#users.get(input);
        if (users === undefined) this.#users.set(input, [value]);
        else users.push(value);
      }
    }
    this.nodes = [...this.#handles.values()];
  }

  get inputs(): readonly ProgramPort[] {
    return this.#parts.inputs.map(portOf);
  }

  get outputs(): readonly ProgramPort[] {
    return this.#parts.outputs.map(portOf);
  }

  /** The declared dimensions that its sizes follow: it is for every size of them. */
  get dimensions(): readonly string[] {
    return this.#sizes.names;
  }

  /** The node that computes an output. */
  output(name: string): ProgramNode {
    const found = this.#parts.outputs.find((each) => each.name === name);
    if (found !== undefined) return this.#handles.get(found.value) as ProgramNode;
    throw unknownEnd(this.#parts, 'output', name);
  }

  // ---- a function -----------------------------------------------------------------------------

  /**
   * The only result for inputs in order; `run` gives results by name.
   *
   * @throws ArgumentError for another number of inputs, or if there are several results; ShapeError and
   *   DTypeError for inputs of another form.
   */
  call(...inputs: readonly Tensor[]): Tensor {
    const { outputs } = this.#parts;
    if (outputs.length !== 1) {
      throw new ArgumentError(`it has ${outputs.length} results`, {
        op: this.name,
        hint: `run({ ... }) gives ${outputs.map(({ name }) => name).join(', ')} by name`,
      });
    }
    return this.#compute(inputs)[0] as Tensor;
  }

  /** Results by name, for inputs by name. Throws as `call`. */
  run(inputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
    const results = this.#compute(inputsInOrder(this.#parts, inputs));
    return Object.fromEntries(
      this.#parts.outputs.map(({ name }, i) => [name, results[i] as Tensor]),
    );
  }

  #compute(inputs: readonly Tensor[]): Tensor[] {
    const { inputs: ports, outputs, updates } = this.#parts;
    if (inputs.length !== ports.length) {
      const list = ports.map(({ name, value }) => `${name} ${formOf(value)}`).join(', ') || 'none';
      throw new ArgumentError(`${inputs.length} inputs instead of ${ports.length}: ${list}`, {
        op: this.name,
      });
    }
    const given = new Map(
      ports.map(({ name, value }, i) => {
        const tensor = inputs[i];
        if (!isTensor(tensor)) return notTensor(this.name, tensor);
        // Sizes that follow dimensions are looked at together, below.
        const isOpen = this.#sizes.dims.length > 0;
        const form = isOpen ? { dtype: tensor.dtype, shape: value.shape } : tensor;
        checkForm(this.name, `input '${name}'`, form, value, this.#sizes);
        return [value, tensor.node] as const;
      }),
    );
    const sizes = this.#sizesOf(this.name, inputs);
    // A body that is called on its own is in its first iteration.
    for (const value of this.#parts.body?.iterations ?? []) given.set(value, constant(0, 'uint32'));
    const nodes = nodesOf(this.#order, given, sizes);
    const results = [...outputs, ...updates].map(({ value }) => {
      const node = nodes.get(value);
      return wrap(node as NonNullable<typeof node>);
    });
    updates.forEach(({ tensor }, i) => tensor.assign(results[outputs.length + i] as Tensor));
    return results.slice(0, outputs.length);
  }

  #sizesOf(op: string, inputs: readonly Tensor[]): Sizes {
    const shapes = inputs.map(({ shape }) => shape);
    return this.#sizes.sizesOf(op, this.#parts.inputs.map(portRecordOf), shapes);
  }

  /** The weights that are trained: what optimizers take. */
  *parameters(): Generator<Tensor> {
    for (const [, parameter] of this.namedParameters()) yield parameter;
  }

  *namedParameters(): Generator<[string, Tensor]> {
    for (const [name, tensor] of this.weights) {
      if (isTrained(tensor)) yield [name, tensor];
    }
  }

  /** The weights that are not trained. */
  *namedBuffers(): Generator<[string, Tensor]> {
    for (const [name, tensor] of this.weights) {
      if (!isTrained(tensor)) yield [name, tensor];
    }
  }

  /**
   * Writes the program to a file at `path`, or to memory; `tengen/lite` runs it (docs/deploy.md).
   *
   * @throws as `fn.dump`.
   */
  async dump(path: string | URL | null, options: ProgramDumpOptions = {}): Promise<DumpReport> {
    const op = 'dump';
    checkDumpOptions(path, options, 'program');
    const { inputs, testCases } = options;
    const ports = this.#parts.inputs;
    const fn = (...args: readonly unknown[]): Tensor[] => this.#compute(args as readonly Tensor[]);
    const captured = captureAtAllSizes(
      this.#sizes,
      (sizes) => ({
        fn,
        args: ports.map(({ value }) => standIn(shapeAt(value.shape, sizes), value.dtype)),
      }),
      {
        name: this.name,
        module: this,
        inputNames: ports.map(({ name }) => name),
        outputNames: this.#parts.outputs.map(({ name }) => name),
      },
    );
    return writeProgramFile(
      path,
      {
        name: this.name,
        fn,
        captured,
        sizes: this.#sizes,
        testCases: testCases ?? (inputs === undefined ? [] : [inputs]),
        sizesOf: (_args, tensors) => this.#sizesOf(op, tensors),
      },
      options,
    );
  }

  // ---- looking --------------------------------------------------------------------------------

  /**
   * The nodes that end what `pattern` describes, in the order of computation.
   *
   * @throws ArgumentError for what is no pattern.
   * @example
   * import { programOf } from 'tengen/program';
   * const program = programOf((x: Tensor) => x.exp().add(x.neg().exp()), [zeros([2])]);
   * program.find('exp').length; // => 2
   * program.find(['neg', 'exp']).map(({ name }) => name); // => ['exp_1']
   */
  find(pattern: Pattern): ProgramNode[] {
    return this.nodes.filter(matcher(pattern));
  }

  /** The node of this name. Throws ArgumentError if there is none. */
  node(name: string): ProgramNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found !== undefined) return found;
    throw new ArgumentError(`there is no node '${String(name)}'`, {
      op: this.name,
      hint: 'print() lists them all',
    });
  }

  /** The program as text, a line for each node. */
  print(): string {
    return printed(this.#parts, this.weights, this.nodes);
  }

  toString(): string {
    return this.print();
  }

  /** What `console.log(program)` shows in Node: its ends, and how much there is between them. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return summaryOf(this.#parts, this.nodes, this.weights);
  }

  // ---- surgery --------------------------------------------------------------------------------

  /** The value that a handle names in this program: an earlier program's, if it is still here. */
  #at(op: string, node: ProgramNode): Value {
    if (!(node instanceof ProgramNode)) {
      throw new ArgumentError(`expected a node of the program, got ${describeValue(node)}`, {
        op,
        hint: "program.find('relu')[0], or program.node('relu')",
      });
    }
    const value = this.#byId.get(node.id);
    if (value !== undefined) return value;
    throw new ArgumentError(`node '${node.name}' is not in this program`, {
      op,
      hint: 'it was replaced or cut off, or is of another program: look for it again',
    });
  }

  #with(changed: Partial<ProgramParts>): Program {
    return new Program({ ...this.#parts, ...changed });
  }

  /** The same with other values in the place of some. */
  #rewired(standIns: ReadonlyMap<Value, Value>): Program {
    return new Program(rewireParts(this.#parts, standIns));
  }

  /** Puts what a function makes of some values in the place of others. */
  #spliced(
    op: string,
    what: Splice,
    place: (made: readonly Value[]) => ReadonlyMap<Value, Value>,
  ): Program {
    const known = new Map(
      this.#order.flatMap((value) =>
        value.source?.kind === 'weight' ? [[value.source.tensor, value] as const] : [],
      ),
    );
    const made = splice(op, what, known, this.#sizes);
    const again = made.updates.find(({ tensor }) =>
      this.#parts.updates.some((update) => update.tensor === tensor),
    );
    if (again !== undefined) {
      throw new ArgumentError('the function assigns to a weight that the program assigns to', {
        op,
      });
    }
    const program = this.#rewired(place(made.values));
    return program.#with({
      updates: [...program.#parts.updates, ...made.updates],
      weightNames: new Map([...made.weightNames, ...this.#parts.weightNames]),
    });
  }

  /** Puts what `fn` makes of `given` in the place of a value of the form of `like`. */
  #replaced(
    op: string,
    fn: Replacement,
    given: readonly Value[],
    like: Value,
    module: WeightNames | undefined,
    place: (made: Value) => ReadonlyMap<Value, Value>,
  ): Program {
    const iterations = this.#parts.body?.iterations ?? [];
    const called = replacementIn(op, fn, iterations.length);
    const what = { fnAt: () => called, given: [...given, ...iterations], like: [like], module };
    return this.#spliced(op, what, ([made]) => place(made as Value));
  }

  /**
   * What `fn` computes in the place of a node, or of each of several: of the node's inputs, or of other
   * nodes that `inputs` names. Weights that only the old node needed are gone; tensors that `fn` closes
   * over become weights.
   *
   * @throws ShapeError or DTypeError unless the result is of the node's shape and dtype; ArgumentError
   *   for nodes that are not in the program.
   * @example
   * import { programOf } from 'tengen/program';
   * const program = programOf((x: Tensor) => x.relu().add(1), [zeros([2])]);
   * const other = program.replace(program.find('relu'), (x) => x.abs());
   * other.call(tensor([-2, 3])); // => [3, 4]
   * program.call(tensor([-2, 3])); // => [1, 4]
   */
  replace(
    node: ProgramNode | readonly ProgramNode[],
    fn: Replacement,
    options: ReplaceOptions = {},
  ): Program {
    const op = 'replace';
    checkKeys(op, options, ['inputs', 'module']);
    if (isList(node)) {
      return node.reduce<Program>((program, each) => program.replace(each, fn, options), this);
    }
    const value = this.#at(op, node);
    if (value.source?.kind === 'input') {
      throw new ArgumentError(`'${node.name}' is an input of the program`, {
        op,
        hint: 'insertAfter changes what its users take; cut makes another node an input',
      });
    }
    const given = options.inputs?.map((input) => this.#at(op, input)) ?? value.inputs;
    if (given.some((input) => orderOf([input]).includes(value))) {
      throw new ArgumentError(`the function is given what is computed from '${node.name}'`, { op });
    }
    return this.#replaced(op, fn, given, value, options.module, (made) => new Map([[value, made]]));
  }

  /**
   * What takes a node takes `fn` of it from now on, which has the same shape and dtype.
   *
   * @throws as `replace`.
   */
  insertAfter(
    node: ProgramNode,
    fn: Replacement,
    options: Pick<ReplaceOptions, 'module'> = {},
  ): Program {
    const op = 'insertAfter';
    checkKeys(op, options, ['module']);
    const value = this.#at(op, node);
    return this.#replaced(
      op,
      fn,
      [value],
      value,
      options.module,
      (made) => new Map([[value, made]]),
    );
  }

  /**
   * A node takes `fn` of one of its inputs from now on; others that use that input do not.
   *
   * @throws as `replace`; ArgumentError if there is no such input.
   */
  insertBefore(
    node: ProgramNode,
    inputIndex: number,
    fn: Replacement,
    options: Pick<ReplaceOptions, 'module'> = {},
  ): Program {
    const op = 'insertBefore';
    checkKeys(op, options, ['module']);
    const value = this.#at(op, node);
    const input = value.inputs[inputIndex];
    if (input === undefined) {
      throw new ArgumentError(
        `'${node.name}' has ${value.inputs.length} inputs, there is none ${String(inputIndex)}`,
        { op },
      );
    }
    return this.#replaced(op, fn, [input], input, options.module, (made) => {
      const inputs = value.inputs.map((each, i) => (i === inputIndex ? made : each));
      return new Map([[value, { ...value, inputs }]]);
    });
  }

  /**
   * Takes a node out: its users take its input in its place, the one of the same shape and dtype.
   *
   * @param keep the position of that input, if several are.
   * @throws ArgumentError unless there is one.
   * @example
   * import { programOf } from 'tengen/program';
   * const program = programOf((x: Tensor) => x.relu().mul(2), [zeros([2])]);
   * program.delete(program.node('relu')).call(tensor([-2, 3])); // => [-4, 6]
   */
  delete(node: ProgramNode, keep?: number): Program {
    const op = 'delete';
    const value = this.#at(op, node);
    const kept = keptInput(op, node.name, value, this.#sizes, keep);
    return this.#rewired(new Map([[value, kept]]));
  }

  /** The program as bodies of its loops and choices see it. */
  get #around(): Around {
    const nameOf = (value: Value): string => this.#names.get(value.id) as string;
    return { parts: this.#parts, order: this.#order, sizes: this.#sizes, nameOf };
  }

  /**
   * The body of a loop (`scan`, `whileLoop`) or one of the two of a choice (`cond`), as a program: to look
   * into, and to change for `replaceBody`. A loop's body takes what is carried (`carry`, or `carry0`,
   * `carry1`...), parts of what is gone through (`x`), and values from around by their names; it gives what
   * is carried on (`next`), what is kept of each iteration (`each`) and, in a `whileLoop`, the `condition`.
   * A branch gives `result`s.
   *
   * @throws ArgumentError for a node that has no body, or if it has two and none is named.
   */
  body(node: ProgramNode, branch?: BranchName): Program {
    return this.#bodyOf('body', node, branch).program;
  }

  #bodyOf(
    op: string,
    node: ProgramNode,
    branch?: BranchName,
  ): { view: BodyView; program: Program } {
    const value = this.#at(op, node);
    const key = `${value.id} ${branch ?? ''}`;
    let known = this.#bodies.get(key);
    if (known === undefined) {
      const view = viewOf(op, this.#around, value, branch);
      known = { view, program: new Program(view.parts) };
      this.#bodies.set(key, known);
    }
    return known;
  }

  /**
   * The same program with another body in a loop or choice: what `edit` makes of `body(node, branch)`.
   *
   * @throws as `body`; ArgumentError, ShapeError or DTypeError if the new body takes or gives something
   *   else than the old one, or assigns to a weight.
   * @example
   * import { programOf } from 'tengen/program';
   * const sums = (x: Tensor) => scan((sum, row: Tensor) => [sum.add(row), null], tensor(0), x)[0];
   * const program = programOf(sums, [zeros([3])]);
   * const products = program.replaceBody(program.find('loop')[0]!, (body) =>
   *   body.replace(body.find('add'), (sum, row) => sum.add(row.square())),
   * );
   * products.call(tensor([1, 2, 3])); // => 14
   */
  replaceBody(node: ProgramNode, edit: (body: Program) => Program, branch?: BranchName): Program {
    const op = 'replaceBody';
    if (typeof edit !== 'function') {
      throw new ArgumentError(`expected a function of the body, got ${describeValue(edit)}`, {
        op,
      });
    }
    const { view, program } = this.#bodyOf(op, node, branch);
    const edited = edit(program);
    if (!(edited instanceof Program)) {
      throw new ArgumentError(`the function gives ${describeValue(edited)}, not a program`, { op });
    }
    const body = { parts: edited.#parts, order: edited.#order };
    const what = regionSplice(op, this.#around, this.#at(op, node), view, body, branch);
    const replaced = this.#spliced(
      op,
      what,
      (made) => new Map(what.like.map((value, i) => [value, made[i] as Value])),
    );
    const { weightNames } = replaced.#parts;
    return replaced.#with({ weightNames: new Map([...edited.#parts.weightNames, ...weightNames]) });
  }

  /**
   * The part of the program from `inputs` on, which become its inputs, and up to `outputs`, its results.
   * Inputs, weights and updates of weights that nothing in it needs are gone; inputs of the program that
   * it still needs follow after the new ones.
   *
   * @throws ArgumentError for nodes that are not there, or inputs that no output depends on.
   * @example
   * import { programOf } from 'tengen/program';
   * const program = programOf((x: Tensor) => x.mul(2).relu().exp(), [zeros([2])]);
   * program.cut({ outputs: program.find('relu') }).call(tensor([-1, 3])); // => [0, 6]
   * program.cut({ inputs: program.find('relu') }).call(tensor([0, 0])); // => [1, 1]
   */
  cut(ends: { readonly inputs?: Ends; readonly outputs?: Ends }): Program {
    const op = 'cut';
    checkKeys(op, ends, ['inputs', 'outputs']);
    const inputs = this.#ends(op, ends.inputs ?? []);
    const outputs = ends.outputs === undefined ? null : this.#ends(op, ends.outputs);
    return new Program(cutParts(this.#parts, inputs, outputs));
  }

  #ends(op: string, ends: Ends): NamedValue[] {
    if (isList(ends)) {
      return ends.map((node) => {
        const value = this.#at(op, node);
        const output = this.#parts.outputs.find((each) => each.value === value);
        return { name: output?.name ?? (this.#names.get(value.id) as string), value };
      });
    }
    checkRecord(op, ends, 'nodes, or nodes by name');
    return Object.entries(ends).map(([name, node]) => ({ name, value: this.#at(op, node) }));
  }

  /**
   * This program followed by another: outputs of this one become inputs of that. Its inputs are those of
   * this and the unconnected ones of the other; its results those of the other and the unconnected ones
   * of this.
   *
   * @throws ArgumentError for names that are not there, or that both have; ShapeError and DTypeError for
   *   ends that do not fit.
   * @example
   * import { programOf } from 'tengen/program';
   * const first = programOf((x: Tensor) => x.mul(2), [zeros([2])]);
   * const second = programOf((x: Tensor) => x.add(1), [zeros([2])]);
   * first.merge(second, { connect: { output: 'input' } }).call(tensor([1, 2])); // => [3, 5]
   */
  merge(other: Program, options: { readonly connect: Readonly<Record<string, string>> }): Program {
    const op = 'merge';
    if (!(other instanceof Program)) {
      throw new ArgumentError(`expected a program, got ${describeValue(other)}`, { op });
    }
    checkKeys(op, options, ['connect']);
    checkRecord(op, options.connect, 'names: { connect: { output: "input" } }');
    return new Program(mergeParts(this.#parts, other.#parts, options.connect));
  }

  /** The same program with other names for inputs and outputs: old names to new ones. */
  rename(names: {
    readonly inputs?: Readonly<Record<string, string>>;
    readonly outputs?: Readonly<Record<string, string>>;
  }): Program {
    checkKeys('rename', names, ['inputs', 'outputs']);
    return new Program(renameParts(this.#parts, names));
  }
}

function isTrained(tensor: Tensor): boolean {
  return tensor.requiresGrad;
}

function isList(value: ProgramNode | Ends): value is readonly ProgramNode[] {
  return Array.isArray(value);
}
