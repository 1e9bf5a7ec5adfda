// Loops of the pools. Small windows are unrolled; where a window or an element lies wholly inside,
// its bounds checks fold away, because the last axis is split into border and interior.
import type { Builder } from '../../ir/builder.ts';
import { isFloat } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { type Expression, type ValueType, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { flatten, loop, loops, unflatten } from './emit.ts';
import type { PoolWindow } from './pooling.ts';

/** Windows of up to this many elements are unrolled. */
const UNROLLED = 32;
/** With fewer leading slices than this, rows of the first space axis are spread over threads, too. */
const ENOUGH_SLICES = 16;

/** A loop over [start, end) whose index knows those bounds, so that checks on it fold. */
function boundedLoop(
  builder: Builder,
  name: string,
  start: number,
  end: number,
  body: (index: Expression) => readonly Statement[],
  options: { readonly vector?: boolean; readonly repeatable?: boolean },
): Statement[] {
  if (end <= start) return [];
  if (end - start === 1) return [...body(builder.constant(start))];
  const index = builder.variable(name, 'i32', { min: start, max: end - 1 });
  return [
    {
      kind: 'for',
      index,
      start: builder.constant(start),
      end: builder.constant(end),
      step: 1,
      body: body(index),
      ...options,
    },
  ];
}

/** Border, interior [low, high), border. */
function splitLoop(
  builder: Builder,
  name: string,
  size: number,
  interior: readonly [number, number],
  repeatable: boolean,
  body: (index: Expression) => readonly Statement[],
): Statement[] {
  const low = Math.min(Math.max(interior[0], 0), size);
  const high = Math.min(Math.max(interior[1], low), size);
  return [
    ...boundedLoop(builder, `${name}Before`, 0, low, body, {}),
    ...boundedLoop(builder, name, low, high, body, { vector: true, repeatable }),
    ...boundedLoop(builder, `${name}After`, high, size, body, {}),
  ];
}

/** Running values: pure expressions where the loops are unrolled, else mutable locals. */
function reduceLoops(
  builder: Builder,
  counts: readonly number[],
  states: readonly { readonly type: ValueType; readonly initial: number }[],
  step: (
    states: readonly Expression[] | null,
    indices: readonly Expression[],
  ) => readonly Expression[] | null,
): { before: Statement[]; values: readonly Expression[] } {
  const total = counts.reduce((a, b) => a * b, 1);
  const initial = states.map((state) => builder.constant(state.initial, state.type));
  if (total <= UNROLLED) {
    let values: readonly Expression[] | null = null;
    for (let flat = 0; flat < total; flat++) {
      const indices = unflatten(builder, builder.constant(flat), counts);
      values = step(values, indices) ?? values;
    }
    return { before: [], values: values ?? initial };
  }
  const variables = states.map(({ type }, i) =>
    builder.variable(`state${i}`, type, { mutable: true }),
  );
  const before: Statement[] = variables.map((variable, i) => ({
    kind: 'declare',
    variable,
    value: initial[i]!,
  }));
  const nest = (indices: readonly Expression[]): readonly Statement[] => {
    const axis = indices.length;
    if (axis < counts.length) {
      return loop(builder, `tap${axis}`, counts[axis]!, (index) => nest([...indices, index]));
    }
    const next = step(variables, indices);
    if (next === null) return [];
    const pinned = next.map((value, i) => ({
      value,
      variable: builder.variable(`next${i}`, value.type),
    }));
    return [
      ...pinned.map(({ variable, value }) => ({ kind: 'let', variable, value }) as const),
      ...pinned.map(
        ({ variable: value }, i) => ({ kind: 'assign', variable: variables[i]!, value }) as const,
      ),
    ];
  };
  before.push(...nest([]));
  return { before, values: variables };
}

interface Slices {
  readonly gridIndex: KernelBody['gridIndex'];
  readonly gridSize: number;
  /** Indices of the leading axes. */
  readonly lead: readonly Expression[];
  /** The first space index, where the grid runs over it. */
  readonly first: Expression | undefined;
}

/** A grid over the leading axes, and over `rows` of the first space axis if those are few. */
function sliceGrid(builder: Builder, lead: readonly number[], rows: number): Slices {
  const slices = lead.reduce((a, b) => a * b, 1);
  const split = slices < ENOUGH_SLICES && rows > 1;
  const gridSize = split ? slices * rows : slices;
  const gridIndex = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  if (!split) {
    return { gridIndex, gridSize, lead: unflatten(builder, gridIndex, lead), first: undefined };
  }
  const indices = unflatten(builder, gridIndex, [...lead, rows]);
  return { gridIndex, gridSize, lead: indices.slice(0, -1), first: indices.at(-1) };
}

/** One element under a window. */
export interface Tap {
  /** Safe to evaluate even where the tap lies in the padding. */
  readonly value: Expression;
  /** Row-major position in the input's space. */
  readonly position: Expression;
  readonly valid: Expression;
}

/** A reduction over the elements under each window. */
export interface WindowReduction {
  readonly states: readonly { readonly type: ValueType; readonly initial: number }[];
  /** State after one element that is surely there. */
  first(tap: Tap): readonly Expression[];
  step(states: readonly Expression[], tap: Tap): readonly Expression[];
  finish(states: readonly Expression[]): Expression;
}

/** Reduces what is under each window; windows of one row run in vectors. */
export function lowerWindows(
  context: KernelContext,
  node: Node,
  { kernel, stride, padding, dilation }: PoolWindow,
  reduction: WindowReduction,
): KernelBody {
  const { builder } = context;
  const rank = kernel.length;
  const input = node.inputs[0]!.shape;
  const space = input.slice(-rank);
  const out = node.shape.slice(-rank);
  const grid = sliceGrid(builder, node.shape.slice(0, -rank), out[0]!);

  const tapAt = (window: readonly Expression[], tap: readonly Expression[]): Tap => {
    let valid: Expression = builder.constant(1, 'bool');
    const at = window.map((index, axis) => {
      const size = space[axis]!;
      const start = builder.offset(builder.scale(index, stride[axis]!), -padding[2 * axis]!);
      const where = builder.add(start, builder.scale(tap[axis]!, dilation[axis]!));
      const low = builder.compare('ge', where, builder.constant(0));
      const high = builder.compare('lt', where, builder.constant(size));
      valid = builder.and(valid, builder.and(low, high));
      return builder.min(builder.max(where, builder.constant(0)), builder.constant(size - 1));
    });
    const value = context.read(0, [...grid.lead, ...at]);
    return { value, position: flatten(builder, at, space), valid };
  };

  const reduce = (window: readonly Expression[]): readonly Statement[] => {
    const { before, values } = reduceLoops(builder, kernel, reduction.states, (states, indices) => {
      const tap = tapAt(window, indices);
      if (tap.valid.kind === 'constant' && tap.valid.value === 0) return null;
      if (states !== null) return reduction.step(states, tap);
      const surelyThere = tap.valid.kind === 'constant';
      if (surelyThere) return reduction.first(tap);
      const start = reduction.states.map(({ type, initial }) => builder.constant(initial, type));
      return reduction.step(start, tap);
    });
    return [...before, ...context.write([...grid.lead, ...window], reduction.finish(values))];
  };

  const rows = (window: readonly Expression[]): readonly Statement[] => {
    const axis = window.length;
    if (axis === 0 && grid.first !== undefined) return rows([grid.first]);
    if (axis < rank - 1) {
      return loop(builder, `out${axis}`, out[axis]!, (index) => rows([...window, index]));
    }
    if (axis === rank) return reduce(window);
    const [before, step] = [padding[2 * axis]!, stride[axis]!];
    const reach = dilation[axis]! * (kernel[axis]! - 1);
    const low = Math.ceil(before / step);
    const high = Math.floor((space[axis]! - 1 - reach + before) / step) + 1;
    return splitLoop(builder, 'column', out[axis]!, [low, high], context.mayRepeat, (index) =>
      reduce([...window, index]),
    );
  };
  return { gridIndex: grid.gridIndex, gridSize: grid.gridSize, body: rows([]) };
}

/** An element that windows cover. */
interface Covered {
  /** Row-major position in the input's space. */
  readonly position: Expression;
  /** Its place in a block of one stride. */
  readonly rest: readonly Expression[];
}

/** What the window at `window`, lead axes included, gives to an element under it. */
type Contribution = (window: readonly Expression[], element: Covered) => Expression;

/** Sizes along the space axes of a walk over input elements in blocks of one stride. */
interface Spread extends PoolWindow {
  readonly lead: readonly Expression[];
  readonly space: readonly number[];
  readonly out: readonly number[];
  readonly blocks: readonly number[];
  /** How many blocks back a window may start that still covers an element. */
  readonly reach: readonly number[];
  readonly type: ValueType;
}

/** The sum of what the windows over element `rest` of `block` contribute. */
function spreadSum(
  builder: Builder,
  spread: Spread,
  block: readonly Expression[],
  element: Covered,
  contribution: Contribution,
): { before: Statement[]; values: readonly Expression[] } {
  const { kernel, stride, dilation, out, type } = spread;
  const { rest } = element;
  const zero = builder.constant(0);
  const candidates = spread.reach.map((back) => back + 1);
  return reduceLoops(builder, candidates, [{ type, initial: 0 }], (total, back) => {
    let valid: Expression = builder.constant(1, 'bool');
    const window = back.map((blocksBack, axis) => {
      const offset = builder.add(builder.scale(blocksBack, stride[axis]!), rest[axis]!);
      const apart = builder.constant(dilation[axis]!);
      const tap = builder.div(offset, apart);
      const index = builder.sub(block[axis]!, blocksBack);
      const conditions = [
        builder.compare('eq', builder.rem(offset, apart), zero),
        builder.compare('lt', tap, builder.constant(kernel[axis]!)),
        builder.compare('ge', index, zero),
        builder.compare('lt', index, builder.constant(out[axis]!)),
      ];
      for (const condition of conditions) valid = builder.and(valid, condition);
      return builder.min(builder.max(index, zero), builder.constant(out[axis]! - 1));
    });
    if (valid.kind === 'constant' && valid.value === 0) return null;
    const term = contribution([...spread.lead, ...window], element);
    const checked = builder.select(valid, term, builder.constant(0, type));
    return [total === null ? checked : builder.add(total[0]!, checked)];
  });
}

/** Computes and writes element `rest` of `block`, if the input has it. */
function spreadElement(
  context: KernelContext,
  spread: Spread,
  block: readonly Expression[],
  rest: readonly Expression[],
  contribution: Contribution,
): readonly Statement[] {
  const { builder } = context;
  const { stride, padding, space, lead } = spread;
  let inside: Expression = builder.constant(1, 'bool');
  const at = block.map((index, axis) => {
    const start = builder.offset(builder.scale(index, stride[axis]!), -padding[2 * axis]!);
    const where = builder.add(start, rest[axis]!);
    const low = builder.compare('ge', where, builder.constant(0));
    const high = builder.compare('lt', where, builder.constant(space[axis]!));
    inside = builder.and(inside, builder.and(low, high));
    return where;
  });
  if (inside.kind === 'constant' && inside.value === 0) return [];
  const position = flatten(builder, at, space);
  const { before, values } = spreadSum(builder, spread, block, { position, rest }, contribution);
  const store = [...before, ...context.write([...lead, ...at], values[0]!)];
  return inside.kind === 'constant' ? store : [branch(inside, store)];
}

/**
 * Gives every input element the sum of what the windows over it contribute. Elements are taken in
 * blocks of one stride: a window then meets a block's element r at tap (q * stride + r) / dilation,
 * q blocks back, whatever the block; windows that do not overlap are read once.
 */
export function lowerSpread(
  context: KernelContext,
  node: Node,
  window: PoolWindow,
  contribution: Contribution,
): KernelBody {
  const { builder } = context;
  const { kernel, stride, padding, dilation } = window;
  const rank = kernel.length;
  const space = node.shape.slice(-rank);
  const out = node.inputs[0]!.shape.slice(-rank);
  const blocks = space.map((size, axis) => Math.ceil((size + padding[2 * axis]!) / stride[axis]!));
  const reach = kernel.map((taps, axis) =>
    Math.floor((dilation[axis]! * (taps - 1)) / stride[axis]!),
  );
  const grid = sliceGrid(builder, node.shape.slice(0, -rank), blocks[0]!);
  const type = valueTypeOf(node.dtype);
  const spread: Spread = { ...window, lead: grid.lead, space, out, blocks, reach, type };
  const perBlock = stride.reduce((a, b) => a * b, 1);

  const elements = (block: readonly Expression[]): readonly Statement[] => {
    const element = (rest: readonly Expression[]): readonly Statement[] =>
      spreadElement(context, spread, block, rest, contribution);
    if (perBlock > UNROLLED) return loops(builder, 'rest', stride, element);
    return Array.from({ length: perBlock }, (_, flat) =>
      element(unflatten(builder, builder.constant(flat), stride)),
    ).flat();
  };

  const rows = (block: readonly Expression[]): readonly Statement[] => {
    const axis = block.length;
    if (axis === 0 && grid.first !== undefined) return rows([grid.first]);
    if (axis < rank - 1) {
      return loop(builder, `block${axis}`, blocks[axis]!, (index) => rows([...block, index]));
    }
    if (axis === rank) return elements(block);
    const before = padding[2 * axis]!;
    const low = Math.max(Math.ceil(before / stride[axis]!), reach[axis]!);
    const high = Math.min(Math.floor((space[axis]! + before) / stride[axis]!), out[axis]!);
    return splitLoop(builder, 'block', blocks[axis]!, [low, high], context.mayRepeat, (index) =>
      elements([...block, index]),
    );
  };
  return { gridIndex: grid.gridIndex, gridSize: grid.gridSize, body: rows([]) };
}

/** Whether every element lies under one window at most, and windows are small enough to unroll. */
export function isSmallTiling({ kernel, stride, dilation }: PoolWindow): boolean {
  const perBlock = stride.reduce((a, b) => a * b, 1);
  const apart = kernel.every((taps, axis) => dilation[axis]! * (taps - 1) < stride[axis]!);
  return apart && perBlock <= UNROLLED;
}

/**
 * The gradient of the maximum where windows do not overlap: each window's value goes to the tap that
 * was the first maximum, found again from the input, whose elements are at hand.
 */
export function lowerMaxSpread(context: KernelContext, node: Node, window: PoolWindow): KernelBody {
  const { builder } = context;
  const { kernel, stride, padding, dilation } = window;
  const rank = kernel.length;
  const { dtype, shape } = node.inputs[1]!;
  const space = shape.slice(-rank);
  const taps = kernel.reduce((a, b) => a * b, 1);

  const tapAt = (
    lead: readonly Expression[],
    start: readonly Expression[],
    tap: readonly Expression[],
  ): Pick<Tap, 'value' | 'valid'> => {
    let valid: Expression = builder.constant(1, 'bool');
    const indices = start.map((index, axis) => {
      const reach = builder.scale(tap[axis]!, dilation[axis]!);
      const first = builder.offset(builder.scale(index, stride[axis]!), -padding[2 * axis]!);
      const where = builder.add(first, reach);
      const last = builder.constant(space[axis]! - 1);
      valid = builder.and(valid, builder.compare('ge', where, builder.constant(0)));
      valid = builder.and(valid, builder.compare('le', where, last));
      return builder.min(builder.max(where, builder.constant(0)), last);
    });
    return { value: context.read(1, [...lead, ...indices]), valid };
  };

  /** For each tap whether it is the one that was chosen. */
  const chosen = (at: readonly Expression[]): readonly Expression[] => {
    const [lead, start] = [at.slice(0, -rank), at.slice(-rank)];
    let found: Expression = builder.constant(0, 'bool');
    let best: Expression | undefined;
    const better = Array.from({ length: taps }, (_, flat) => {
      const tap = unflatten(builder, builder.constant(flat), kernel);
      const { value, valid } = tapAt(lead, start, tap);
      let take = builder.unary('not', found);
      if (best !== undefined) {
        take = builder.or(take, builder.compare('gt', value, best));
        if (isFloat(dtype)) take = builder.or(take, builder.compare('ne', value, value));
      }
      take = builder.and(valid, take);
      found = builder.or(found, valid);
      best = best === undefined ? value : builder.select(take, value, best);
      return take;
    });
    let later: Expression = builder.constant(0, 'bool');
    return better
      .toReversed()
      .map((take) => {
        const first = builder.and(take, builder.unary('not', later));
        later = builder.or(later, take);
        return first;
      })
      .toReversed();
  };

  return lowerSpread(context, node, window, (at, { rest }) => {
    const tap = rest.map((index, axis) => builder.div(index, builder.constant(dilation[axis]!)));
    const which = flatten(builder, tap, kernel);
    if (which.kind !== 'constant') throw internalError('a window that is not unrolled');
    const value = context.read(0, at);
    const take = chosen(at)[which.value]!;
    return builder.select(take, value, builder.constant(0, value.type));
  });
}
