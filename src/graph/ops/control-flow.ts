// Loops and choices as nodes that hold other graphs, and their gradients.
// docs/decisions/0009-control-flow.md has the reasons.
import { type DType, isFloat } from '../../base/dtype.ts';
import { ShapeError, TengenError } from '../../base/errors.ts';
import { sameShape, type Shape } from '../../base/shape.ts';
import { gradients } from '../autodiff/gradients.ts';
import { inBody } from '../bodies.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  defineOp,
  type GradientContext,
  makeNode,
  type ParameterRole,
  type RegionResult,
} from '../op.ts';
import {
  type Guard,
  interiorOf,
  outsideOfBranch,
  outsideOfLoop,
  parameterLike,
  Subgraph,
} from '../subgraph.ts';
import { add, sub } from './arithmetic.ts';
import { cast } from './cast.ts';
import { less } from './compare.ts';
import { constant, iota, zerosLike } from './creation.ts';
import { resultOf } from './result.ts';

// ---- loops ------------------------------------------------------------------------------------

/** A region itself has no value. */
const NO_VALUE: { readonly shape: Shape; readonly dtype: DType } = { shape: [0], dtype: 'bool' };

const LOOP = {
  body: 'graph',
  carries: 'int',
  slices: 'int',
  trips: 'int',
  backwards: 'flag',
  condition: 'int',
  counter: 'int',
} as const;

/** Throws unless a body's parameters are what the node is given: files may say anything. */
function checkGiven(
  op: string,
  inputs: readonly Node[],
  { parameters }: Subgraph,
  isSlice: (k: number) => boolean,
): void {
  const like = (input: Node, parameter: Node, from: number): boolean =>
    input.dtype === parameter.dtype && sameShape(input.shape.slice(from), parameter.shape);
  const fits =
    inputs.length === parameters.length &&
    parameters.every((parameter, k) => like(inputs[k] as Node, parameter, isSlice(k) ? 1 : 0));
  if (!fits) throw new ShapeError('the parameters of its body are not like its inputs', { op });
}

/** Whether a parameter may decide whether the body runs. */
function isTruth(parameter: Node | undefined): boolean {
  return parameter?.dtype === 'bool' && parameter.shape.length === 0;
}

function checkLoop(inputs: readonly Node[], attrs: AttrsOf<typeof LOOP>): void {
  const { body, carries, slices, trips, condition, counter } = attrs;
  const { parameters, outputs } = body;
  const isSlice = (k: number): boolean => k >= carries && k < carries + slices;
  const within = (k: number): boolean => k >= -1 && k < carries;
  const counted =
    carries >= 0 &&
    slices >= 0 &&
    carries + slices <= parameters.length &&
    carries <= outputs.length &&
    within(condition) &&
    within(counter) &&
    trips >= (condition < 0 || slices > 0 ? 0 : -1);
  if (!counted) throw new ShapeError('its counts are not those of its body', { op: 'loop' });
  checkGiven('loop', inputs, body, isSlice);
  const goesOn = parameters.slice(0, carries).every(({ dtype, shape }, k) => {
    const next = outputs[k] as Node;
    return next.dtype === dtype && sameShape(next.shape, shape);
  });
  const isLong = inputs.every(({ shape }, k) => !isSlice(k) || (shape[0] as number) >= trips);
  if (goesOn && isLong && (condition < 0 || isTruth(parameters[condition]))) return;
  throw new ShapeError('its body does not go on from what it gives', { op: 'loop' });
}

function checkChoice(
  inputs: readonly Node[],
  { whenTrue, whenFalse }: AttrsOf<typeof CHOICE>,
): void {
  for (const body of [whenTrue, whenFalse]) checkGiven('choice', inputs, body, () => false);
  const same =
    whenTrue.outputs.length === whenFalse.outputs.length &&
    whenTrue.outputs.every(({ dtype, shape }, k) => {
      const other = whenFalse.outputs[k] as Node;
      return other.dtype === dtype && sameShape(other.shape, shape);
    });
  if (same && isTruth(inputs[0])) return;
  throw new ShapeError('its two bodies do not give the same', { op: 'choice' });
}

function loopResults({ body, carries }: AttrsOf<typeof LOOP>): RegionResult[] {
  const carry = body.parameters.slice(0, carries);
  return [
    ...carry.map((_, k): RegionResult => ({ kind: 'final', carry: k })),
    ...body.outputs.slice(carries).map((value): RegionResult => ({ kind: 'each', value })),
    // What each iteration began with: for gradients. What nobody asks for is not kept.
    ...carry.map((value): RegionResult => ({ kind: 'each', value })),
  ];
}

const loopOp = defineOp({
  name: 'loop',
  summary: 'a body that runs again and again on what it made',
  attrs: LOOP,
  infer: (inputs, attrs) => {
    checkLoop(inputs, attrs);
    return NO_VALUE;
  },
  gradient: (context) => new LoopGradient(context).run(),
  lower: {
    kind: 'region',
    regions: (attrs) => {
      const { body, trips, backwards, carries, slices, condition } = attrs;
      const roleOf = (k: number): ParameterRole =>
        k < carries ? 'carry' : k < carries + slices ? 'slice' : 'same';
      return [
        {
          body,
          trips,
          backwards,
          roles: body.parameters.map((_, input) => ({ input, role: roleOf(input) })),
          condition: condition < 0 ? null : { parameter: condition, when: true },
          results: loopResults(attrs),
        },
      ];
    },
  },
  reference: () => new Float64Array(0),
  samples: () => [],
});

/** A value that changes from one iteration to the next. */
export interface Carry {
  /** It, inside the body. */
  readonly parameter: Node;
  readonly init: Node;
  /** What the body makes of it: same shape and dtype. */
  readonly next: Node;
}

/** A value of which an iteration sees its part along the first axis. */
export interface Slice {
  readonly parameter: Node;
  readonly of: Node;
}

export interface LoopSpec {
  readonly carries: readonly Carry[];
  readonly slices?: readonly Slice[];
  /** Values of the body that are kept of each iteration. */
  readonly each?: readonly Node[];
  /** Most iterations; -1 if only the condition ends it. */
  readonly trips: number;
  readonly backwards?: boolean;
  /** Number of the carry, bool of shape [], that must be true for another iteration. */
  readonly condition?: number;
  /** Number of the int32 carry that counts iterations: needed for gradients if there is a condition. */
  readonly counter?: number;
  readonly guards?: readonly Guard[];
}

export interface Loop {
  final(carry: number): Node;
  each(value: number): Node;
  /** What each iteration began with. */
  begin(carry: number): Node;
}

/**
 * A loop. Its body is what leads from the parameters to `next` and `each`; values from outside that
 * this meets become inputs.
 *
 * @param actual what values from outside stand for, where that is not they themselves.
 */
export function loop(spec: LoopSpec, actual: ReadonlyMap<Node, Node> = new Map()): Loop {
  const { carries, slices = [], each = [], trips } = spec;
  const explicit = [...carries, ...slices].map(({ parameter }) => parameter);
  const outputs = [...carries.map(({ next }) => next), ...each];
  const captured = capturedBy(outputs, outsideOfLoop(explicit, outputs), explicit);
  const node = makeNode(
    loopOp,
    [
      ...carries.map(({ init }) => init),
      ...slices.map(({ of }) => of),
      ...onActual(captured, actual),
    ],
    {
      body: new Subgraph([...explicit, ...captured], outputs, spec.guards),
      carries: carries.length,
      slices: slices.length,
      trips,
      backwards: spec.backwards === true,
      condition: spec.condition ?? -1,
      counter: spec.counter ?? -1,
    },
  );
  return {
    final: (carry) => resultOf(node, carry),
    each: (value) => resultOf(node, carries.length + value),
    begin: (carry) => resultOf(node, outputs.length + carry),
  };
}

/** Values from outside that `outputs` need, beside those that are given anyway. */
function capturedBy(
  outputs: readonly Node[],
  isOutside: (node: Node) => boolean,
  given: readonly Node[],
): Node[] {
  const { boundary } = interiorOf(outputs, isOutside);
  for (const node of given) boundary.delete(node);
  return [...boundary];
}

/** What values are, and what was computed of them, where others stand for some. */
function onActual(values: readonly Node[], actual: ReadonlyMap<Node, Node>): Node[] {
  const made = new Map(actual);
  // What is older than all of those cannot depend on them.
  const oldest = Math.min(...[...actual.keys()].map(({ id }) => id));
  const { nodes } = interiorOf(values, (node) => node.id < oldest || actual.has(node));
  for (const node of nodes) {
    if (!node.inputs.some((input) => made.has(input))) continue;
    const inputs = node.inputs.map((input) => made.get(input) ?? input);
    if (inputs.some((input, i) => input !== node.inputs[i])) {
      made.set(node, makeNode(node.op, inputs, node.attrs));
    }
  }
  return values.map((value) => made.get(value) ?? value);
}

/** An input of the loop by which a gradient is asked for. */
interface Wanted {
  readonly input: number;
  readonly target: Node;
  /** The gradient by it so far, inside the reverse loop. */
  readonly parameter: Node;
  /** What one iteration adds or makes of that; null if nothing leads there. */
  grad: Node | null;
}

/**
 * The reverse of a loop: a loop in the other direction over what each iteration began with. An
 * iteration computes its body again and differentiates it. Its carries are the gradients by the
 * carries, and sums over the iterations of those by values from outside.
 */
class LoopGradient {
  readonly #context: GradientContext<AttrsOf<typeof LOOP>>;
  readonly #parameters: readonly Node[];
  readonly #results: readonly RegionResult[];
  readonly #carried: Wanted[] = [];
  readonly #sliced: Wanted[] = [];
  readonly #summed: Wanted[] = [];
  #number: Slice | null = null;

  constructor(context: GradientContext<AttrsOf<typeof LOOP>>) {
    const { attrs, needs } = context;
    const { body, carries, slices, condition, trips, counter } = attrs;
    if (condition >= 0 && (trips < 0 || counter < 0)) {
      throw new TengenError('has no gradient without a bound on its iterations', {
        op: 'whileLoop',
        hint: 'pass { maxIterations }, or detach() what it gives',
      });
    }
    this.#context = context;
    this.#parameters = body.parameters;
    this.#results = loopResults(attrs);
    body.parameters.forEach((target, input) => {
      if (!isFloat(target.dtype)) return;
      const wanted: Wanted = { input, target, parameter: parameterLike(target), grad: null };
      // A carry leads to the later ones, whoever asks.
      if (input < carries) this.#carried.push(wanted);
      else if (needs(input)) (input < carries + slices ? this.#sliced : this.#summed).push(wanted);
    });
  }

  run(): (Node | null)[] {
    const { inputs, grads, attrs } = this.#context;
    const each = this.#results.flatMap((result, index) => {
      const of = grads[index] ?? null;
      const kept = result.kind === 'each' && of !== null;
      return kept ? [{ value: result.value, of, parameter: parameterLike(of, true) }] : [];
    });
    const iteration = (): Node => cast(this.#numbered().parameter, 'uint32');
    const carried = inBody({ iteration }, () => this.#differentiate(each));
    const reached = ({ grad }: Wanted): boolean => grad !== null;
    const [summed, sliced] = [this.#summed.filter(reached), this.#sliced.filter(reached)];
    const all = [...carried, ...summed];
    const made = [
      ...carried.map(({ grad, target }) => grad ?? zerosLike(target)),
      ...summed.map(({ grad, parameter }) => add(parameter, grad as Node)),
      ...sliced.map(({ grad }) => grad as Node),
    ];
    const next = this.#gated(made, [
      ...all.map(({ parameter }) => parameter),
      ...sliced.map(({ target }) => zerosLike(target)),
    ]);
    const reverse = loop(
      {
        carries: all.map(({ parameter, target, input }, k) => ({
          parameter,
          init: (k < carried.length ? grads[input] : null) ?? zerosLike(target),
          next: next[k] as Node,
        })),
        slices: this.#slicesFor(next, each),
        each: next.slice(all.length),
        trips: attrs.trips,
        backwards: !attrs.backwards,
      },
      new Map(this.#parameters.map((value, i) => [value, inputs[i] as Node])),
    );
    const result: (Node | null)[] = inputs.map(() => null);
    all.forEach(({ input }, k) => (result[input] = reverse.final(k)));
    sliced.forEach(({ input }, k) => (result[input] = reverse.each(k)));
    return result;
  }

  /**
   * Finds what each wanted value's gradient is within one iteration; returns the carries that have
   * one. Those that lead to no result would have zeros, which times infinity are not zero.
   */
  #differentiate(each: readonly { readonly value: Node; readonly parameter: Node }[]): Wanted[] {
    const { grads, attrs } = this.#context;
    const wanted = [...this.#carried, ...this.#sliced, ...this.#summed];
    let carried = this.#carried.filter(({ input }) => (grads[input] ?? null) !== null);
    for (;;) {
      const found = gradients(
        // Of what an iteration began with, as of a result: the path is the value itself.
        [
          ...carried.map(({ input }) => attrs.body.outputs[input] as Node),
          ...each.map(({ value }) => value),
        ],
        [...carried, ...each].map(({ parameter }) => parameter),
        wanted.map(({ target }) => target),
        new Set(this.#parameters),
      );
      wanted.forEach((item, k) => (item.grad = found[k] ?? null));
      const more = this.#carried.filter((item) => carried.includes(item) || item.grad !== null);
      if (more.length === carried.length) return carried;
      carried = more;
    }
  }

  /** The number of the iteration of which the reverse one is. */
  #numbered(): Slice {
    if (this.#number === null) {
      const { trips, backwards } = this.#context.attrs;
      const numbers = iota([trips], 0, 'int32');
      const of = backwards ? sub(constant(trips - 1, 'int32'), numbers) : numbers;
      this.#number = { parameter: parameterLike(of, true), of };
    }
    return this.#number;
  }

  /** Of a loop that may have ended early, only iterations that were made have a gradient. */
  #gated(made: readonly Node[], otherwise: readonly Node[]): readonly Node[] {
    const { node, attrs } = this.#context;
    if (attrs.condition < 0) return made;
    const isOutside = outsideOfBranch(-1, new Set(this.#parameters));
    const count = resultOf(node, attrs.counter);
    const chosen = choice(less(this.#numbered().parameter, count), [
      { outputs: made, isOutside },
      { outputs: otherwise, isOutside },
    ]);
    return made.map((_, k) => chosen(k));
  }

  /** Of what iterations began with and saw, what the reverse ones need. */
  #slicesFor(outputs: readonly Node[], others: readonly Slice[]): Slice[] {
    const { node, inputs, attrs } = this.#context;
    const { carries, slices, body } = attrs;
    const before = body.outputs.length;
    const all = [
      ...this.#parameters.slice(0, carries + slices).map((parameter, k) => ({
        parameter,
        of: (): Node => (k < carries ? resultOf(node, before + k) : (inputs[k] as Node)),
      })),
      ...[...others, ...(this.#number === null ? [] : [this.#number])].map(({ parameter, of }) => ({
        parameter,
        of: () => of,
      })),
    ];
    const parameters = all.map(({ parameter }) => parameter);
    const { boundary } = interiorOf(outputs, outsideOfLoop(parameters, outputs));
    return all
      .filter(({ parameter }) => boundary.has(parameter))
      .map(({ parameter, of }) => ({ parameter, of: of() }));
  }
}

// ---- choices ----------------------------------------------------------------------------------

const CHOICE = { whenTrue: 'graph', whenFalse: 'graph' } as const;

const choiceOp = defineOp({
  name: 'choice',
  summary: 'one of two computations',
  attrs: CHOICE,
  infer: (inputs, attrs) => {
    checkChoice(inputs, attrs);
    return NO_VALUE;
  },
  gradient: choiceGradient,
  lower: {
    kind: 'region',
    regions: ({ whenTrue, whenFalse }) =>
      [whenTrue, whenFalse].map((body) => ({
        body,
        trips: 1,
        backwards: false,
        roles: body.parameters.map((_, input) => ({ input, role: 'same' as const })),
        condition: { parameter: 0, when: body === whenTrue },
        results: body.outputs.map((value) => ({ kind: 'once', value })),
      })),
  },
  reference: () => new Float64Array(0),
  samples: () => [],
});

export interface Branch {
  /** As many as the other branch has, of the same shapes and dtypes. */
  readonly outputs: readonly Node[];
  readonly guards?: readonly Guard[];
  /** What is computed whether or not the branch is taken. */
  isOutside(node: Node): boolean;
}

/** The outputs of the first branch if `predicate` (bool, one element) holds, else of the second. */
export function choice(
  predicate: Node,
  branches: readonly [Branch, Branch],
  actual: ReadonlyMap<Node, Node> = new Map(),
): (index: number) => Node {
  const captured = new Set<Node>();
  for (const { outputs, isOutside } of branches) {
    for (const node of capturedBy(outputs, isOutside, [predicate])) captured.add(node);
  }
  const parameters = [predicate, ...captured];
  const [whenTrue, whenFalse] = branches.map(
    ({ outputs, guards }) => new Subgraph(parameters, outputs, guards),
  ) as [Subgraph, Subgraph];
  const inputs = parameters.map((value) => actual.get(value) ?? value);
  const node = makeNode(choiceOp, inputs, { whenTrue, whenFalse });
  return (index) => resultOf(node, index);
}

/** The gradient of the branch that was taken. */
function choiceGradient({
  attrs,
  inputs,
  grads,
  needs,
}: GradientContext<AttrsOf<typeof CHOICE>>): (Node | null)[] {
  const { whenTrue, whenFalse } = attrs;
  const { parameters } = whenTrue;
  const wanted = parameters.flatMap((target, input) =>
    needs(input) && isFloat(target.dtype) ? [{ target, input }] : [],
  );
  const known = grads.flatMap((grad, index) =>
    grad === null || grad === undefined ? [] : [{ grad, index }],
  );
  // Bodies that were read from files have parameters of their own.
  const found = [whenTrue, whenFalse].map((body) =>
    inBody({ iteration: null }, () =>
      gradients(
        known.map(({ index }) => body.outputs[index] as Node),
        known.map(({ grad }) => grad),
        wanted.map(({ input }) => body.parameters[input] as Node),
        new Set(body.parameters),
      ),
    ),
  );
  const formals = [...parameters, ...whenFalse.parameters];
  const given = new Set([...formals, ...known.map(({ grad }) => grad)]);
  const isOutside = outsideOfBranch(-1, given);
  const reached = wanted.filter((_, k) => found.some((list) => list[k] !== null));
  const result: (Node | null)[] = inputs.map(() => null);
  if (reached.length === 0) return result;
  const branchOf = (list: readonly (Node | null)[]): Branch => ({
    outputs: reached.map((item) => list[wanted.indexOf(item)] ?? zerosLike(item.target)),
    isOutside,
  });
  const [first, second] = found as [(Node | null)[], (Node | null)[]];
  const actual = new Map(formals.map((value, i) => [value, inputs[i % inputs.length] as Node]));
  const chosen = choice(parameters[0] as Node, [branchOf(first), branchOf(second)], actual);
  reached.forEach(({ input }, k) => (result[input] = chosen(k)));
  return result;
}
