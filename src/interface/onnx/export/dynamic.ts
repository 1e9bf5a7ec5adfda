// Traces a function at several sizes of its dynamic axes.
import { ArgumentError } from '../../../base/errors.ts';
import { withRecordedDirections } from '../../functional/recurrent-layer.ts';
import { TracedGraph } from './graph.ts';
import { normalizeRecording } from './normalize.ts';
import type { ExportPlan, Symbol } from './options.ts';
import { type ExampleArgument, type ExportTarget, recordGraph, type Recording } from './record.ts';
import { type Grid, ONE_TRACE } from './sizes.ts';

/** Sizes that are tried: near ones tell the slope, far ones that it is no staircase. */
function candidates(size: number): { readonly near: number[]; readonly far: number[] } {
  const distinct = (sizes: readonly number[]): number[] =>
    [...new Set(sizes)].filter((n) => Number.isInteger(n) && n >= 2);
  const half = Math.floor(size / 2);
  const near = distinct([size, size + 1, size + 2, size - 1, size - 2, size + 3]);
  const far = distinct([
    2 * size + 1,
    3 * size,
    2 * size,
    4 * size,
    half + 1,
    half,
    size + 4,
    6 * size,
  ]);
  return { near, far: far.filter((n) => !near.includes(n)) };
}

/** How many near and far sizes of each axis are traced; three are needed in all. */
const NEAR = 2;
const FAR = 2;
const LEAST = 3;

/** The first `count` items that something holds for. */
function firstOf(
  items: readonly number[],
  count: number,
  holds: (item: number) => boolean,
): number[] {
  const found: number[] = [];
  for (const item of items) {
    if (found.length === count) break;
    if (holds(item)) found.push(item);
  }
  return found;
}

class Tracer {
  readonly #op: string;
  readonly #target: ExportTarget;
  readonly #args: readonly ExampleArgument[];
  readonly #plan: ExportPlan;

  constructor(
    op: string,
    target: ExportTarget,
    args: readonly ExampleArgument[],
    plan: ExportPlan,
  ) {
    this.#op = op;
    this.#target = target;
    this.#args = args;
    this.#plan = plan;
  }

  /** One trace with these sizes of the symbols. */
  trace(sizes: readonly number[]): Recording {
    const { slots, symbols } = this.#plan;
    const shapes = slots.map(({ shape }) => [...shape]);
    symbols.forEach(({ places }, i) => {
      for (const { slot, axis } of places) (shapes[slot] as number[])[axis] = sizes[i] as number;
    });
    const { result, directions } = withRecordedDirections(() =>
      recordGraph(this.#op, this.#target, this.#args, shapes),
    );
    return normalizeRecording({ ...result, directions });
  }

  /** Sizes of one symbol that the function takes, the others as in the example. */
  #sizesOf(symbol: Symbol, index: number, base: readonly number[]): number[] {
    let problem: unknown;
    const accepts = (size: number): boolean => {
      try {
        this.trace(base.map((own, i) => (i === index ? size : own)));
        return true;
      } catch (error) {
        problem ??= error;
        return false;
      }
    };
    const { near, far } = candidates(symbol.size);
    const found = [...firstOf(near, NEAR, accepts), ...firstOf(far, FAR, accepts)];
    if (found.length >= LEAST) return found;
    const reason = problem instanceof Error ? `: ${problem.message}` : '';
    throw new ArgumentError(
      `'${symbol.name}' cannot be dynamic: the function takes no other sizes than ${symbol.size}, or too few${reason}`,
      { op: this.#op, cause: problem },
    );
  }

  grid(): Grid {
    const { symbols } = this.#plan;
    // At size 1 an axis is broadcast: too special to begin with.
    const base = symbols.map(({ size }) => Math.max(size, 2));
    const sizes = symbols.map((symbol, i) => this.#sizesOf(symbol, i, base));
    const pick = (choice: (symbol: number) => number): number[] =>
      sizes.map((list, i) => list[choice(i)] as number);
    const points: number[][] = [];
    for (let corner = 0; corner < 2 ** symbols.length; corner++) {
      points.push(pick((i) => (corner >> i) & 1));
    }
    sizes.forEach((list, own) => {
      for (let size = 2; size < list.length; size++)
        points.push(pick((i) => (i === own ? size : 0)));
    });
    points.push(pick(() => 2));
    if (symbols.some(({ size }) => size === 1)) points.push(symbols.map(({ size }) => size));
    return { symbols: symbols.map(({ name }) => name), points };
  }
}

/** The graph of a function at all sizes that the export looks at. */
export function traceAll(
  op: string,
  target: ExportTarget,
  args: readonly ExampleArgument[],
  plan: ExportPlan,
): TracedGraph {
  const tracer = new Tracer(op, target, args, plan);
  // The first trace is of the example: what is wrong with the function itself is told here.
  const example = tracer.trace(plan.symbols.map(({ size }) => size));
  if (plan.symbols.length === 0) return new TracedGraph(op, ONE_TRACE, [example]);
  const grid = tracer.grid();
  return new TracedGraph(
    op,
    grid,
    grid.points.map((sizes) => tracer.trace(sizes)),
  );
}
