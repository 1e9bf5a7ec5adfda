// Traces a function at several sizes of its dynamic axes.
import { ArgumentError } from '../../../base/errors.ts';
import { TracedGraph } from './graph.ts';
import { normalizeRecording } from './normalize.ts';
import type { ExportPlan, Symbol } from './options.ts';
import { type ExampleArgument, type ExportTarget, recordGraph, type Recording } from './record.ts';
import { type Grid, ONE_TRACE } from './sizes.ts';

/** Sizes to try beside that of the example: near ones first, then those that windows may divide. */
function candidates(size: number): number[] {
  const near = [size, size + 1, size + 2, 2 * size, size + 3, 3 * size, 4 * size, size + 5];
  const smaller = [size - 1, size - 2, size / 2, size - 3, size / 4];
  const sizes = [...near, ...smaller].filter((n) => Number.isInteger(n) && n >= 2);
  return [...new Set(sizes)];
}

/** How many sizes of each axis are tried together: two for a line, one to check it. */
const SIZES = 3;

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
    return normalizeRecording(recordGraph(this.#op, this.#target, this.#args, shapes));
  }

  /** Sizes of one symbol that the function takes, the others as in the example. */
  #sizesOf(symbol: Symbol, index: number, base: readonly number[]): number[] {
    const found: number[] = [];
    let problem: unknown;
    for (const size of candidates(symbol.size)) {
      try {
        this.trace(base.map((own, i) => (i === index ? size : own)));
        found.push(size);
      } catch (error) {
        problem ??= error;
      }
      if (found.length === SIZES) return found;
    }
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
    for (const own of symbols.keys()) points.push(pick((i) => (i === own ? 2 : 0)));
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
