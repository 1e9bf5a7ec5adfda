// The bodies of loops and choices as programs of their own, and the way back: a loop is made anew of what
// became of its body, by what `scan`, `whileLoop` and `cond` are made by, so that its gradient and what is
// promised inside it are right.
import { ArgumentError, internalError, ShapeError } from '../../base/errors.ts';
import { type SizeRecord, type Sizes, sizeAt } from '../../base/size-expression.ts';
import type { Node } from '../../graph/node.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { choiceOfNodes, loopOfNodes } from '../transform/control-flow.ts';
import { freeName, type NamedValue, orderOfParts, type ProgramParts } from './program-parts.ts';
import type { ProgramSizes } from './sizes.ts';
import { checkForm, type Splice } from './splice.ts';
import { endValue, nodesOf, type SizedBody, type Value, valuesOfBody } from './value-graph.ts';

/** Which of the two bodies of a choice. */
export type BranchName = 'whenTrue' | 'whenFalse';

/** A body of a loop or choice, as a program. */
export interface BodyView {
  readonly parts: ProgramParts;
  /** The values around that captured ones stand for, by the number of the value in the body. */
  readonly outer: ReadonlyMap<number, Value>;
  readonly carries: readonly Value[];
  readonly slices: readonly Value[];
  readonly counter: Value | null;
  readonly iteration: Value | null;
}

/** How the inputs and results of a loop are counted. */
interface LoopLayout {
  readonly carries: number;
  readonly slices: number;
  readonly trips: SizeRecord;
  readonly backwards: boolean;
  readonly condition: number;
  readonly counter: number;
  readonly body: SizedBody;
  /** Carries that the loop was given, in order: no condition, no count, and none that only guards. */
  readonly own: readonly number[];
}

/** The program around a region, as far as it is asked. */
export interface Around {
  readonly parts: ProgramParts;
  readonly order: readonly Value[];
  readonly sizes: ProgramSizes;
  nameOf(value: Value): string;
}

export function isRegion({ op }: Value): boolean {
  return op?.lower.kind === 'region';
}

function bodyOf({ attrs }: Value, name: string): SizedBody {
  const body = attrs[name];
  if (typeof body === 'object' && 'parameters' in body) return body;
  throw internalError(`no body '${name}'`);
}

function layoutOf(loop: Value): LoopLayout {
  const { attrs } = loop;
  const whole = (name: string): number => Number(attrs[name]);
  const [body, carries] = [bodyOf(loop, 'body'), whole('carries')];
  const [condition, counter] = [whole('condition'), whole('counter')];
  const guards = new Set(body.guards.flatMap(([least, most]) => [Number(least), Number(most)]));
  const own = Array.from({ length: carries }, (_, k) => k).filter(
    (k) => k !== condition && k !== counter && !guards.has(k),
  );
  return {
    carries,
    slices: whole('slices'),
    trips: attrs['trips'] as SizeRecord,
    backwards: attrs['backwards'] === true,
    condition,
    counter,
    body,
    own,
  };
}

/** Outputs of a choice that are no guards of one of its bodies. */
function ownOutputs(choice: Value): number[] {
  const [first, second] = [bodyOf(choice, 'whenTrue'), bodyOf(choice, 'whenFalse')];
  const guards = [first, second].flatMap((body) =>
    body.guards.flatMap(([least, most]) => [Number(least), Number(most)]),
  );
  return first.outputs.map((_, k) => k).filter((k) => !guards.includes(k));
}

// ---- there ------------------------------------------------------------------------------------

/** Names of ends: the word itself if there is one, else with a number. */
function named(word: string, values: readonly Value[]): NamedValue[] {
  return values.map((value, i) => ({ name: values.length === 1 ? word : `${word}${i}`, value }));
}

/** Parameters of a body that stand for values around it: those values, or inputs of the body. */
class Captured {
  readonly inputs: NamedValue[] = [];
  readonly outer = new Map<number, Value>();
  readonly #around: Around;
  readonly #taken: Set<string>;
  readonly #known = new Map<Value, Value>();

  constructor(around: Around, taken: readonly string[]) {
    this.#around = around;
    this.#taken = new Set(taken);
  }

  of(value: Value): Value {
    const { source } = value;
    // Weights, numbers and places in random streams are the same inside.
    if (source !== null && source.kind !== 'input') {
      this.outer.set(value.id, value);
      return value;
    }
    let inside = this.#known.get(value);
    if (inside === undefined) {
      const name = freeName(this.#around.nameOf(value), this.#taken);
      this.#taken.add(name);
      inside = endValue({ kind: 'input', name }, value.dtype, value.shape);
      this.#known.set(value, inside);
      this.outer.set(inside.id, value);
      this.inputs.push({ name, value: inside });
    }
    return inside;
  }
}

function loopView(around: Around, loop: Value): BodyView {
  const layout = layoutOf(loop);
  const { body, carries, slices, condition, counter, own } = layout;
  const words = ['carry', 'x', 'count', 'going', 'iteration'];
  const given = loop.inputs.map((_, k) => body.nodes[k] as SizedBody['nodes'][number]);
  const ends = new Map<number, Value>();
  const makeEnds = (word: string, positions: readonly number[]): NamedValue[] =>
    positions.map((k, i) => {
      const name = positions.length === 1 ? word : `${word}${i}`;
      const { dtype, shape } = given[k] as SizedBody['nodes'][number];
      const value = endValue({ kind: 'input', name }, dtype, shape);
      ends.set(k, value);
      return { name, value };
    });
  const carried = makeEnds('carry', own);
  const sliced = makeEnds(
    'x',
    Array.from({ length: slices }, (_, k) => carries + k),
  );
  const counted = makeEnds('count', counter < 0 ? [] : [counter]);
  const going = makeEnds('going', condition < 0 ? [] : [condition]);
  const captured = new Captured(around, [
    ...words,
    ...[...carried, ...sliced].map(({ name }) => name),
  ]);
  const parameters = loop.inputs.map((input, k): Value => {
    const end = ends.get(k);
    if (end !== undefined) return end;
    // What only guards is carried where nobody looks.
    return k < carries
      ? endValue({ kind: 'number', value: 0 }, input.dtype, [])
      : captured.of(input);
  });
  const made = valuesOfBody(body, parameters);
  const outputs = body.outputs.map((at) => made[Number(at)] as Value);
  const at = (k: number): Value => outputs[k] as Value;
  const results = [
    ...named('next', own.map(at)),
    ...named('each', outputs.slice(carries)),
    ...named('condition', condition < 0 ? [] : [at(condition)]),
  ];
  const needed = new Set(
    orderOfParts({ ...around.parts, inputs: [], outputs: results, updates: [] }),
  );
  const some = [...counted, ...going].filter(({ value }) => needed.has(value));
  const iteration = endValue({ kind: 'input', name: 'iteration' }, 'uint32', []);
  const inputs = [...carried, ...sliced, ...some, ...captured.inputs];
  return {
    parts: bodyParts(around, [...iterationsOf(around), iteration], 'body', inputs, results),
    outer: captured.outer,
    carries: carried.map(({ value }) => value),
    slices: sliced.map(({ value }) => value),
    counter: counted[0]?.value ?? null,
    iteration,
  };
}

function branchView(around: Around, choice: Value, branch: BranchName): BodyView {
  const body = bodyOf(choice, branch);
  const captured = new Captured(around, []);
  const made = valuesOfBody(
    body,
    choice.inputs.map((input) => captured.of(input)),
  );
  const outputs = ownOutputs(choice).map((k) => made[Number(body.outputs[k])] as Value);
  const results = named('result', outputs);
  const needed = new Set(
    orderOfParts({ ...around.parts, inputs: [], outputs: results, updates: [] }),
  );
  // Both bodies have the same parameters, of which each needs some.
  const inputs = captured.inputs.filter(({ value }) => needed.has(value));
  return {
    parts: bodyParts(around, iterationsOf(around), branch, inputs, results),
    outer: captured.outer,
    carries: [],
    slices: [],
    counter: null,
    iteration: null,
  };
}

function iterationsOf({ parts }: Around): readonly Value[] {
  return parts.body?.iterations ?? [];
}

function bodyParts(
  { parts, sizes }: Around,
  iterations: readonly Value[],
  name: string,
  inputs: readonly NamedValue[],
  outputs: readonly NamedValue[],
): ProgramParts {
  const { weightNames, nodeNames } = parts;
  const { dims } = sizes;
  const body = { iterations };
  return { name, inputs, outputs, updates: [], dims, body, weightNames, nodeNames };
}

/**
 * A body of a loop or choice as a program.
 *
 * @throws ArgumentError for a node that has none, or a branch that is not there.
 */
export function viewOf(
  op: string,
  around: Around,
  value: Value,
  branch: BranchName | undefined,
): BodyView {
  if (!isRegion(value)) {
    throw new ArgumentError(`'${around.nameOf(value)}' is ${value.op?.name ?? 'no operation'}`, {
      op,
      hint: "bodies are those of 'loop' and 'choice': program.find('loop')",
    });
  }
  const isLoop = value.op?.name === 'loop';
  if (isLoop && branch === undefined) return loopView(around, value);
  if (!isLoop && (branch === 'whenTrue' || branch === 'whenFalse')) {
    return branchView(around, value, branch);
  }
  const name = around.nameOf(value);
  throw new ArgumentError(
    isLoop ? `'${name}' is a loop, it has one body` : `'${name}' is a choice, it has two bodies`,
    { op, hint: isLoop ? 'leave the branch out' : "say which: 'whenTrue' or 'whenFalse'" },
  );
}

// ---- and back ---------------------------------------------------------------------------------

/** What became of a body. */
export interface EditedBody {
  readonly parts: ProgramParts;
  readonly order: readonly Value[];
}

/** Throws unless a body takes and gives what it did. */
function checkSignature(
  op: string,
  { parts }: BodyView,
  edited: ProgramParts,
  sizes: ProgramSizes,
): void {
  const names = (list: readonly NamedValue[]): string => list.map(({ name }) => name).join(', ');
  const added = edited.inputs.find(({ value }) =>
    parts.inputs.every((input) => input.value.id !== value.id),
  );
  if (added !== undefined) {
    throw new ArgumentError(
      `the body has an input '${added.name}' that it is not given: there are ${names(parts.inputs) || 'none'}`,
      { op, hint: 'a function may close over weights; other values must be inputs already' },
    );
  }
  const same =
    edited.outputs.length === parts.outputs.length &&
    parts.outputs.every(({ name }) => edited.outputs.some((each) => each.name === name));
  if (!same) {
    throw new ArgumentError(
      `the body gives ${names(edited.outputs)}, it must give ${names(parts.outputs)}`,
      { op },
    );
  }
  if (edited.updates.length > 0) {
    throw new ArgumentError('the body assigns to a weight, which runs as often as it likes', {
      op,
      hint: 'carry the value through the loop',
    });
  }
  const unknown = edited.dims.find(({ dim }) => !sizes.names.includes(dim.name));
  if (unknown !== undefined) {
    throw new ShapeError(`nothing around tells how large '${unknown.dim.name}' is`, { op });
  }
  for (const { name, value } of parts.outputs) {
    checkForm(op, `'${name}' of the body`, outputNamed(edited, name), value, sizes);
  }
}

function outputNamed({ outputs }: ProgramParts, name: string): Value {
  return outputs.find((each) => each.name === name)?.value as Value;
}

/** Computes a body of what it is given. */
type Compute = (own: ReadonlyMap<Value, () => Node>) => (name: string) => Node;

/** The ends of bodies: the values around that they need, and what computes them of nodes for those. */
class Ends {
  /** Values around that are given to the function that makes the region. */
  readonly given: Value[] = [];
  readonly #around: ReadonlySet<Value>;

  constructor({ order, parts }: Around) {
    this.#around = new Set([...order, ...(parts.body?.iterations ?? [])]);
  }

  add(value: Value): void {
    if (!this.given.includes(value)) this.given.push(value);
  }

  /** The value around that an end of a body is, or null for one of the body's own. */
  #outerOf({ outer }: BodyView, value: Value): Value | null {
    return outer.get(value.id) ?? (this.#around.has(value) ? value : null);
  }

  addAll(view: BodyView, { order }: EditedBody): void {
    for (const value of order) {
      const outer = value.source === null ? null : this.#outerOf(view, value);
      if (outer !== null) this.add(outer);
    }
  }

  /**
   * Numbers, weights and places in random streams are made here, outside of the loop: they are one for
   * all its iterations.
   */
  compute(
    view: BodyView,
    { parts, order }: EditedBody,
    nodeOf: (value: Value) => Node,
    sizes: Sizes,
  ): Compute {
    const inside = new Set(
      [...view.carries, ...view.slices, view.counter, view.iteration].map((v) => v?.id),
    );
    const given = new Map<Value, Node>();
    const fresh: Value[] = [];
    for (const value of order) {
      if (value.source === null || inside.has(value.id)) continue;
      const outer = this.#outerOf(view, value);
      if (outer === null) fresh.push(value);
      else given.set(value, nodeOf(outer));
    }
    const ends = nodesOf(fresh, given, sizes);
    return (own) => {
      const byId = new Map([...own].map(([value, make]) => [value.id, make]));
      const all = new Map(ends);
      for (const value of order) {
        const make = value.source === null ? undefined : byId.get(value.id);
        if (make !== undefined) all.set(value, make());
      }
      const nodes = nodesOf(order, all, sizes);
      return (name) => nodes.get(outputNamed(parts, name)) as Node;
    };
  }
}

/**
 * What puts a region with another body in the place of one: a splice for the results of it that are used.
 *
 * @throws ArgumentError or ShapeError if the body takes or gives something else than it did.
 */
export function regionSplice(
  op: string,
  around: Around,
  region: Value,
  view: BodyView,
  edited: EditedBody,
  branch: BranchName | undefined,
): Splice {
  checkSignature(op, view, edited.parts, around.sizes);
  const like = around.order.filter(
    ({ op: own, inputs }) => own?.name === 'result' && inputs[0] === region,
  );
  return branch === undefined
    ? loopSplice(around, region, view, edited, like)
    : choiceSplice(around, region, view, edited, branch, like);
}

function indexOf({ attrs }: Value): number {
  return Number(attrs['index']);
}

function namesOf(parts: ProgramParts, word: string): string[] {
  return parts.outputs.flatMap(({ name }) => (name.replace(/\d+$/, '') === word ? [name] : []));
}

function loopSplice(
  around: Around,
  loop: Value,
  view: BodyView,
  edited: EditedBody,
  like: readonly Value[],
): Splice {
  const { carries, slices, trips, backwards, condition, counter, body, own } = layoutOf(loop);
  const inits = own.map((k) => loop.inputs[k] as Value);
  const wholes = loop.inputs.slice(carries, carries + slices);
  const first = condition < 0 ? null : (loop.inputs[condition] as Value);
  const ends = new Ends(around);
  for (const value of [...inits, ...wholes, ...(first === null ? [] : [first])]) ends.add(value);
  ends.addAll(view, edited);
  const [nexts, eaches] = [namesOf(view.parts, 'next'), namesOf(view.parts, 'each')];
  const fnAt =
    (sizes: Sizes) =>
    (...tensors: Tensor[]): Tensor[] => {
      const nodeOf = (value: Value): Node => (tensors[ends.given.indexOf(value)] as Tensor).node;
      const compute = ends.compute(view, edited, nodeOf, sizes);
      const made = loopOfNodes({
        inits: inits.map(nodeOf),
        wholes: wholes.map(nodeOf),
        trips: sizeAt(trips, sizes),
        backwards,
        condition: first === null ? null : nodeOf(first),
        body: (inputs) => {
          const given = new Map<Value, () => Node>();
          view.carries.forEach((value, k) => given.set(value, () => inputs.carries[k] as Node));
          view.slices.forEach((value, k) => given.set(value, () => inputs.parts[k] as Node));
          if (view.counter !== null) given.set(view.counter, inputs.counter);
          if (view.iteration !== null) given.set(view.iteration, inputs.iteration);
          const at = compute(given);
          return {
            next: nexts.map(at),
            each: eaches.map(at),
            ...(first === null ? {} : { still: at('condition') }),
          };
        },
      });
      return like.map((result) => {
        const index = indexOf(result);
        const after = index - body.outputs.length;
        if (index === counter) return wrap(made.counter());
        if (index >= carries && after < 0) return wrap(made.each(index - carries));
        const carry = own.indexOf(after < 0 ? index : after);
        if (carry < 0) throw internalError(`result ${index} of a loop`);
        return wrap(after < 0 ? made.final(carry) : made.begin(carry));
      });
    };
  return { fnAt, given: ends.given, like };
}

function choiceSplice(
  around: Around,
  choice: Value,
  view: BodyView,
  edited: EditedBody,
  branch: BranchName,
  like: readonly Value[],
): Splice {
  const other = branchView(around, choice, branch === 'whenTrue' ? 'whenFalse' : 'whenTrue');
  const unchanged: EditedBody = { parts: other.parts, order: orderOfParts(other.parts) };
  const predicate = choice.inputs[0] as Value;
  const ends = new Ends(around);
  ends.add(predicate);
  ends.addAll(view, edited);
  ends.addAll(other, unchanged);
  const results = view.parts.outputs.map(({ name }) => name);
  const own = ownOutputs(choice);
  const fnAt =
    (sizes: Sizes) =>
    (...tensors: Tensor[]): Tensor[] => {
      const nodeOf = (value: Value): Node => (tensors[ends.given.indexOf(value)] as Tensor).node;
      const [changed, same] = [
        ends.compute(view, edited, nodeOf, sizes),
        ends.compute(other, unchanged, nodeOf, sizes),
      ];
      const build = (compute: Compute) => () => results.map(compute(new Map()));
      const made = choiceOfNodes(
        nodeOf(predicate),
        branch === 'whenTrue' ? [build(changed), build(same)] : [build(same), build(changed)],
      );
      return like.map((result) => wrap(made[own.indexOf(indexOf(result))] as Node));
    };
  return { fnAt, given: ends.given, like };
}
