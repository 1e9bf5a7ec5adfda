// Loops and choices whose course depends on values: `scan`, `whileLoop` and `cond` are one operation
// each, compiled into the plan around them. docs/control-flow.md is for users.
import { checkFunction, checkInteger, checkKeys, describeValue } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, internalError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import {
  type Guard,
  interiorOf,
  outsideOfBranch,
  outsideOfLoop,
  parameterLike,
} from '../../graph/subgraph.ts';
import { inBody } from '../../graph/bodies.ts';
import { indexSource } from '../tensor/index-values.ts';
import { castNode, isTensor, tensorOn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { guardsOf } from './promises.ts';
import { nextNodeId } from './tracing/tape.ts';
import { settings } from './settings.ts';
import { mapTree, type TreeLeaf, treeLeaves } from './tree.ts';

// ---- trees ------------------------------------------------------------------------------------

/** A tree like `tree`, of nodes. */
function onNodes<T>(tree: T, nodes: readonly Node[], make: (node: Node) => Tensor = tensorOn): T {
  return mapTree(tree, (_, i) => make(nodes[i] as Node)) as T;
}

function nodesOf(leaves: readonly TreeLeaf[]): Node[] {
  return leaves.map(({ tensor }) => tensor.node);
}

const describe = ({ dtype, shape }: Tensor): string => `${dtype} ${formatShape(shape)}`;

/** Throws, naming the first difference, unless both trees have tensors of the same kind at the same places. */
function checkAlike(
  op: string,
  expected: readonly TreeLeaf[],
  found: readonly TreeLeaf[],
  [was, is]: readonly [string, string],
  hint: string,
): void {
  for (let i = 0; i < Math.max(expected.length, found.length); i++) {
    const [before, after] = [expected[i], found[i]];
    if (before === undefined || after === undefined || before.path !== after.path) {
      const [left, right] = [before?.path ?? 'nothing', after?.path ?? 'nothing'];
      throw new ArgumentError(`${was} has ${left} where ${is} has ${right}`, { op, hint });
    }
    const { tensor } = before;
    if (tensor.dtype === after.tensor.dtype && sameShape(tensor.shape, after.tensor.shape))
      continue;
    throw new ShapeError(
      `${before.path} is ${describe(tensor)} in ${was} and ${describe(after.tensor)} in ${is}`,
      { op, hint },
    );
  }
}

/** Shows results, computed together when one is read. */
function results<T>(tree: T, nodes: readonly Node[]): T {
  // What is watched for NaN is looked at one by one.
  if (!settings.checkNaN) for (const node of nodes) node.siblings = nodes;
  return onNodes(tree, nodes, wrap);
}

// ---- promises ---------------------------------------------------------------------------------

/** What is promised within a body. */
function promisesIn(outputs: readonly Node[], isOutside: (node: Node) => boolean): Node[] {
  return interiorOf(outputs, isOutside).nodes.flatMap((node) => {
    if (node.op.lower.kind === 'region') return ops.guardsOf(node);
    return node.op.promise === undefined ? [] : [node];
  });
}

/** The least and the most of the numbers that tell whether a promise is kept. */
function endsOf(promise: Node): [Node, Node] {
  const [least, most] = guardsOf([promise]).map((end) => {
    // Small integers have no number that stands for none.
    const large = isFloat(end.dtype) || end.dtype === 'uint32';
    return large ? end : castNode(end, 'int32');
  });
  return [least as Node, most as Node];
}

/** The two ends of no numbers at all. */
function endsOfNothing({ dtype }: Node): [Node, Node] {
  const { least, most } = ops.nothingWatched(dtype);
  return [ops.constant(least, dtype), ops.constant(most, dtype)];
}

/** A value that is gone through; promises about its parts are made about the whole. */
interface Whole {
  readonly parameter: Node;
  of: Node;
}

/** Carries with the least and the most of what is promised, so that the run can tell. */
function guardCarries(
  carries: readonly ops.Carry[],
  slices: readonly Whole[],
  each: readonly Node[],
): { readonly carries: ops.Carry[]; readonly guards: Guard[] } {
  const parameters = [...carries, ...slices].map(({ parameter }) => parameter);
  const outputs = [...carries.map(({ next }) => next), ...each];
  const all = [...carries];
  const guards: Guard[] = [];
  for (const promise of promisesIn(outputs, outsideOfLoop(parameters, outputs))) {
    const range = ops.rangeChecked(promise);
    const source = range === null ? null : indexSource(promise);
    const slice = slices.find(({ parameter }) => parameter === source);
    if (slice !== undefined && range !== null) {
      slice.of = ops.checkedIndex(slice.of, range);
      continue;
    }
    const ends = endsOf(promise);
    const inits = endsOfNothing(ends[0]);
    guards.push({ results: [all.length, all.length + 1], promise });
    for (const [k, join] of [ops.minimum, ops.maximum].entries()) {
      const init = inits[k] as Node;
      const parameter = parameterLike(init);
      all.push({ parameter, init, next: join(parameter, ends[k] as Node) });
    }
  }
  return { carries: all, guards };
}

// ---- loops and choices of nodes -----------------------------------------------------------------

/** What a loop's body is given. */
export interface LoopBodyInputs {
  readonly carries: readonly Node[];
  readonly parts: readonly Node[];
  /** The number of the iteration, uint32 of shape []. */
  iteration(): Node;
  /** Of a loop with a condition: how many iterations there were, int32 of shape []. */
  counter(): Node;
}

export interface LoopBody {
  readonly next: readonly Node[];
  readonly each: readonly Node[];
  /** Whether there is another iteration; only of a loop with a condition. */
  readonly still?: Node;
}

export interface NodeLoop {
  readonly inits: readonly Node[];
  /** What is gone through along the first axis. */
  readonly wholes: readonly Node[];
  /** Most iterations; -1 if only the condition ends it. */
  readonly trips: number;
  readonly backwards?: boolean;
  /** Whether there is a first iteration; null if there is no condition. */
  readonly condition: Node | null;
  body(inputs: LoopBodyInputs): LoopBody;
}

/** Results of a loop, as those of `NodeLoop` count. */
export interface LoopNodes {
  final(carry: number): Node;
  each(value: number): Node;
  begin(carry: number): Node;
  /** How many iterations there were. Only of a loop with a condition and a bound. */
  counter(): Node;
}

/** A loop, with what is promised inside it kept in view. */
export function loopOfNodes(spec: NodeLoop): LoopNodes {
  const { inits, trips, condition } = spec;
  const carried = inits.map((init) => ({ parameter: parameterLike(init), init }));
  const slices = spec.wholes.map((of): Whole => ({ parameter: parameterLike(of, true), of }));
  const parts = slices.map(({ parameter }) => parameter);
  const zero = ops.constant(0, 'int32');
  const count = parameterLike(zero);
  // Gradients of a loop that may end early ask how far it came.
  let isCounted = condition !== null && trips >= 0;
  const counter = (): Node => {
    isCounted = true;
    return count;
  };
  let number: Node | null = null;
  const iteration = (): Node => {
    if (condition !== null) return castNode(counter(), 'uint32');
    if (number === null) {
      const of = ops.iota([trips], 0, 'uint32');
      number = parameterLike(of, true);
      slices.push({ parameter: number, of });
    }
    return number;
  };
  const carries = carried.map(({ parameter }) => parameter);
  const made = inBody({ iteration }, () => spec.body({ carries, parts, iteration, counter }));
  const all: ops.Carry[] = carried.map((carry, k) => ({ ...carry, next: made.next[k] as Node }));
  if (condition !== null) {
    const { still } = made;
    if (still === undefined) throw internalError('a loop with a condition that says nothing');
    all.push({ parameter: parameterLike(condition), init: condition, next: still });
  }
  const counterAt = isCounted ? all.length : -1;
  if (isCounted) {
    all.push({ parameter: count, init: zero, next: ops.add(count, ops.constant(1, 'int32')) });
  }
  const guarded = inBody({ iteration }, () => guardCarries(all, slices, made.each));
  const loop = ops.loop({
    ...guarded,
    slices,
    each: made.each,
    trips,
    backwards: spec.backwards === true,
    condition: condition === null ? -1 : inits.length,
    counter: counterAt,
  });
  return { ...loop, counter: () => loop.final(counterAt) };
}

/** The results of one of two branches, with what is promised inside them kept in view. */
export function choiceOfNodes(
  predicate: Node,
  branches: readonly [() => readonly Node[], () => readonly Node[]],
): Node[] {
  const [first, second] = [buildBranch(branches[0]), buildBranch(branches[1])];
  // The ends of what each branch promises; the other one has nothing to promise.
  const all = [...first.promises, ...second.promises];
  const branchOf = ({ outputs, isOutside, promises }: BuiltBranch): ops.Branch => ({
    outputs: [
      ...outputs,
      ...all.flatMap((each) => (promises.includes(each) ? each.ends : endsOfNothing(each.ends[0]))),
    ],
    guards: promises.map((each): Guard => {
      const at = outputs.length + 2 * all.indexOf(each);
      return { results: [at, at + 1], promise: each.promise };
    }),
    isOutside,
  });
  const chosen = ops.choice(predicate, [branchOf(first), branchOf(second)]);
  return first.outputs.map((_, k) => chosen(k));
}

function buildBranch(build: () => readonly Node[]): BuiltBranch {
  const isOutside = outsideOfBranch(nextNodeId());
  return inBody({ iteration: null }, () => {
    const outputs = build();
    const promises = promisesIn(outputs, isOutside);
    return {
      outputs,
      isOutside,
      promises: promises.map((promise) => ({ promise, ends: endsOf(promise) })),
    };
  });
}

interface BuiltBranch {
  readonly outputs: readonly Node[];
  readonly isOutside: (node: Node) => boolean;
  readonly promises: readonly { readonly promise: Node; readonly ends: [Node, Node] }[];
}

// ---- scan -------------------------------------------------------------------------------------

export interface ScanOptions {
  /** Number of iterations; needed if there is nothing to go through. */
  readonly length?: number;
  /** From the last part of `xs` to the first; what is kept of each stands at the same place. */
  readonly reverse?: boolean;
}

function lengthOf(leaves: readonly TreeLeaf[], given: number | undefined): number {
  const op = 'scan';
  if (given !== undefined) checkInteger(op, 'length', given, 0);
  const [first] = leaves;
  const length = given ?? first?.tensor.shape[0];
  for (const { path, tensor } of leaves) {
    if (tensor.ndim === 0) {
      throw new ShapeError(`${path} is a scalar, which has no parts`, {
        op,
        hint: 'use it inside the function as it is: what stands around is seen there',
      });
    }
    if (tensor.shape[0] === length) continue;
    const other = given === undefined ? `${first?.path} of ${length}` : `length is ${length}`;
    throw new ShapeError(`${path} has ${tensor.shape[0]} parts (${describe(tensor)}), ${other}`, {
      op,
      hint: 'all of xs have the same first size',
    });
  }
  if (length !== undefined) return length;
  throw new ArgumentError('xs holds no tensor, so the number of iterations is not known', {
    op,
    hint: 'pass { length }',
  });
}

/**
 * Runs `body` on each part of `xs` along the first axis, one after the other: it gets what it gave
 * before, the carry, and returns the next carry and a value that is kept. All parts of one length
 * are one operation, compiled once, with gradients of any order. `init`, `xs` and results are trees
 * of tensors (arrays and plain objects); `xs` and what is kept may be null.
 *
 * The signature is that of JAX's `lax.scan`.
 *
 * @returns the last carry, and what was kept with a new first axis.
 * @throws ShapeError if a carry changes its shape or dtype, or sizes of `xs` differ; ArgumentError
 * if the trees differ; TraceError if a value is read inside.
 * @example
 * ```ts
 * const [last, sums] = scan((sum, x: Tensor) => [sum.add(x), sum.add(x)], tensor(0), tensor([1, 2, 3]));
 * last; // => 6
 * sums; // => [1, 3, 6]
 * ```
 */
export function scan<C, X, Y>(
  body: (carry: C, x: X) => readonly [C, Y],
  init: C,
  xs: X,
  options: ScanOptions = {},
): [C, Y] {
  const op = 'scan';
  checkFunction(op, body);
  checkKeys(op, options, ['length', 'reverse']);
  const inits = treeLeaves(op, 'carry', init);
  const whole = treeLeaves(op, 'xs', xs);
  const trips = lengthOf(whole, options.length);
  let kept: Y | null = null;
  let count = 0;
  const loop = loopOfNodes({
    inits: nodesOf(inits),
    wholes: nodesOf(whole),
    trips,
    backwards: options.reverse === true,
    condition: null,
    body: ({ carries, parts }) => {
      const made: unknown = body(onNodes(init, carries), onNodes(xs, parts));
      if (!Array.isArray(made) || made.length !== 2) {
        throw new ArgumentError(`the function returned ${describeValue(made)}`, {
          op,
          hint: 'return [carry, value], with null where nothing is kept',
        });
      }
      const [next, value] = made as [C, Y];
      const nexts = treeLeaves(op, 'carry', next);
      checkAlike(op, inits, nexts, ['init', 'what the function returns'], CARRY_HINT);
      const each = nodesOf(treeLeaves(op, 'value', value));
      kept = value;
      count = each.length;
      return { next: nodesOf(nexts), each };
    },
  });
  const nodes = [
    ...inits.map((_, k) => loop.final(k)),
    ...Array.from({ length: count }, (_, k) => loop.each(k)),
  ];
  return results([init, kept as Y], nodes) as [C, Y];
}

const CARRY_HINT = 'an iteration gives what the next one takes: cast or reshape it';

// ---- whileLoop --------------------------------------------------------------------------------

export interface WhileOptions {
  /** Most iterations. With it the loop has a gradient, for which what each began with is kept. */
  readonly maxIterations?: number;
}

/** A condition as a bool of shape []. */
function predicateNode(op: string, value: unknown): Node {
  if (typeof value === 'boolean') return ops.constant(Number(value), 'bool');
  if (!isTensor(value)) {
    throw new ArgumentError(`the condition is ${describeValue(value)}, not a tensor`, { op });
  }
  if (value.size !== 1) {
    throw new ShapeError(`the condition is ${describe(value)}, not a single value`, {
      op,
      hint: 'reduce it with all() or any()',
    });
  }
  return ops.reshape(castNode(value.node, 'bool'), []);
}

/**
 * Runs `body` on its own result, from `init` on, as long as `condition` of it is true. The number of
 * iterations depends on values and needs no new plan. With `maxIterations` it stops there, and has
 * gradients; without, asking for one throws. `init` and results are trees of tensors.
 *
 * The signature is that of JAX's `lax.while_loop`.
 *
 * @throws ShapeError if a value changes its shape or dtype, or the condition is no single value;
 * ArgumentError if the trees differ; TraceError if a value is read inside.
 * @example
 * ```ts
 * whileLoop((x) => x.lt(100), (x) => x.mul(3), tensor(2)); // => 162
 * ```
 */
export function whileLoop<C>(
  condition: (value: C) => Tensor,
  body: (value: C) => C,
  init: C,
  options: WhileOptions = {},
): C {
  const op = 'whileLoop';
  checkFunction(op, condition);
  checkFunction(op, body);
  checkKeys(op, options, ['maxIterations']);
  const { maxIterations } = options;
  if (maxIterations !== undefined) checkInteger(op, 'maxIterations', maxIterations, 0);
  const inits = treeLeaves(op, 'value', init);
  const loop = loopOfNodes({
    inits: nodesOf(inits),
    wholes: [],
    trips: maxIterations ?? -1,
    condition: predicateNode(op, condition(init)),
    body: ({ carries }) => {
      const next = body(onNodes(init, carries));
      const nexts = treeLeaves(op, 'value', next);
      checkAlike(op, inits, nexts, ['init', 'what the function returns'], CARRY_HINT);
      return { next: nodesOf(nexts), each: [], still: predicateNode(op, condition(next)) };
    },
  });
  return results(
    init,
    inits.map((_, k) => loop.final(k)),
  );
}

// ---- cond -------------------------------------------------------------------------------------

/**
 * `then(...operands)` if `predicate` (one element) is true, else `otherwise(...operands)`: only the
 * one that is taken is computed, and gradients are its gradients. Both return trees of tensors of
 * the same form, shapes and dtypes. Operands may as well be closed over.
 *
 * The signature is that of JAX's `lax.cond`, with the operands in an array.
 *
 * @throws ShapeError if results of the two differ in shape or dtype, or the predicate is no single
 * value; ArgumentError if the trees differ; TraceError if a value that depends on a loop around is
 * read inside.
 * @example
 * ```ts
 * const x = tensor(-4);
 * cond(x.gt(0), (v) => v.sqrt(), (v) => v.neg(), [x]); // => 4
 * ```
 */
export function cond<A extends readonly unknown[], R>(
  predicate: Tensor | boolean,
  then: (...operands: A) => R,
  otherwise: (...operands: A) => R,
  operands: A | readonly [] = [],
): R {
  const op = 'cond';
  checkFunction(op, then);
  checkFunction(op, otherwise);
  if (!Array.isArray(operands)) {
    throw new ArgumentError(`operands are ${describeValue(operands)}, not a list`, {
      op,
      hint: 'cond(predicate, then, otherwise, [x, y])',
    });
  }
  const trees: R[] = [];
  const build = (branch: (...operands: A) => R) => (): Node[] => {
    const tree = branch(...(operands as A));
    const leaves = treeLeaves(op, 'result', tree);
    const [first] = trees;
    trees.push(tree);
    if (first !== undefined) {
      const hint = 'both give the same, whatever the predicate: cast or reshape one of them';
      const names = ['the first branch', 'the second'] as const;
      checkAlike(op, treeLeaves(op, 'result', first), leaves, names, hint);
    }
    return nodesOf(leaves);
  };
  const nodes = choiceOfNodes(predicateNode(op, predicate), [build(then), build(otherwise)]);
  return results(trees[0] as R, nodes);
}
