// `trace`: makes a function static. By default it still runs on every call, and what it builds is
// compared with the recorded program; `withoutHost` replays the program alone (replay.ts).
import { checkFunction, checkInteger } from '../../base/checks.ts';
import { TraceError } from '../../base/errors.ts';
import { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import { engine } from '../tensor/engine.ts';
import type { EvaluationObserver } from './evaluator.ts';
import { evaluator } from './install.ts';
import { explain } from './controls.ts';
import { nextNodeId, Replay } from './replay.ts';
import {
  describeChange,
  type Origins,
  type Program,
  recordProgram,
  sameProgram,
} from './recording.ts';
import { memoryBudgetOf, type MemoryBudgetOption, withMemoryBudget } from './settings.ts';
import { flattenTree } from './tree.ts';
import { userLine } from './user-line.ts';

export interface TraceOptions {
  /** Compute nothing before the function returns, and refuse reads inside it. Default false. */
  readonly symbolic?: boolean;
  /**
   * Replay without running the function: numbers, branches and other closed-over values are those
   * of the first call; closed-over tensors are read anew. Default false.
   */
  readonly withoutHost?: boolean;
  /** Record again when the program changes, in place of throwing TraceError. Default false. */
  readonly retrace?: boolean;
  /** Programs kept, one for each form of the arguments; the least recently used goes. Default 8. */
  readonly cacheSize?: number;
  /**
   * Most bytes for what its plans hold while they run (`'512MB'`, or a number), or `'sqrt'`: what does not
   * fit is computed again (docs/memory.md). Results are computed when it returns then. Default: what
   * `configure` says.
   */
  readonly memoryBudget?: MemoryBudgetOption;
  /** For messages; default the function's own name. */
  readonly name?: string;
}

/** Counters of a traced function. */
export interface TraceStats {
  readonly calls: number;
  /** Programs recorded, first ones included. */
  readonly recordings: number;
  /** Recordings made because a program changed. */
  readonly retraces: number;
}

export interface Traced<A extends readonly unknown[], R> {
  (...args: A): R;
  readonly stats: TraceStats;
  /** The kernels of the plans that ran last. */
  explain(): string;
  /** Forgets all recorded programs. */
  reset(): void;
}

/** All programs of one call, in the order in which they were run, then the results. */
interface Recording {
  readonly programs: Program[];
  readonly origins: Origins;
}

/** Watches one call: records its programs, or compares them with the recorded ones. */
class Watch implements EvaluationObserver {
  readonly #recorded: Recording | null;
  readonly #name: string;
  readonly #retrace: boolean;
  readonly fresh: Recording = { programs: [], origins: { ids: [], lines: [] } };
  changed = false;
  #next = 0;
  #paused = false;
  /** Nodes with smaller ids stood before the call. */
  readonly #firstId = nextNodeId();

  constructor(recorded: Recording | null, name: string, retrace: boolean) {
    this.#recorded = recorded;
    this.#name = name;
    this.#retrace = retrace;
  }

  /** What is pending from before the call is no part of the program: it is computed apart. */
  stepping(): boolean {
    this.#paused = true;
    try {
      evaluator().computeBefore(this.#firstId);
    } finally {
      this.#paused = false;
    }
    return false;
  }

  created(node: Node): void {
    if (this.#recorded !== null) return;
    this.fresh.origins.ids.push(node.id);
    this.fresh.origins.lines.push(userLine());
  }

  running(program: Linearization): void {
    if (this.#paused) return;
    if (this.#recorded === null || this.changed) {
      this.fresh.programs.push(recordProgram(program, this.fresh.origins));
      return;
    }
    const expected = this.#recorded.programs[this.#next++];
    if (expected !== undefined && sameProgram(expected, program)) return;
    if (!this.#retrace) {
      const empty: Program = { key: new Int32Array(0), steps: [], lines: [] };
      throw describeChange(expected ?? empty, program, this.#name);
    }
    this.changed = true;
    this.fresh.programs.push(
      ...this.#recorded.programs.slice(0, this.#next - 1),
      recordProgram(program, this.fresh.origins),
    );
  }

  /** After the call: fewer programs than recorded are a change too. */
  finish(): void {
    if (this.#recorded === null || this.changed) return;
    const missing = this.#recorded.programs[this.#next];
    if (missing === undefined) return;
    if (!this.#retrace) {
      throw new TraceError(
        `${this.#name} computed ${this.#next} program(s), recorded were ${this.#recorded.programs.length}`,
        { op: 'trace', hint: 'keep what varies in tensors or numbers, or pass { retrace: true }' },
      );
    }
    this.changed = true;
    this.fresh.programs.push(...this.#recorded.programs.slice(0, this.#next));
  }
}

/** Refuses to compute inside a symbolic call, and puts off its step. */
class Refusal implements EvaluationObserver {
  readonly #name: string;
  stepWanted = false;

  constructor(name: string) {
    this.#name = name;
  }

  reading(): void {
    const line = userLine();
    throw new TraceError(
      `${this.#name} reads a value while it is traced${line === '' ? '' : ` (at ${line})`}`,
      {
        op: 'trace',
        hint: 'symbolic functions compute nothing: return the tensor and read it outside, or trace without { symbolic: true }',
      },
    );
  }

  stepping(): boolean {
    this.stepWanted = true;
    return true;
  }
}

function observed<T>(observer: EvaluationObserver, body: () => T): T {
  const { observers } = evaluator();
  observers.push(observer);
  try {
    return body();
  } finally {
    observers.splice(observers.indexOf(observer), 1);
  }
}

/** A map that forgets what was used longest ago. */
class Recent<V> {
  readonly #entries = new Map<string, V>();
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, value);
    }
    return value;
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > this.#size && oldest !== undefined) this.#entries.delete(oldest);
  }

  clear(): void {
    this.#entries.clear();
  }
}

function traceFunction<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options: TraceOptions,
): Traced<A, R> {
  const name = options.name ?? (fn.name === '' ? 'the function' : fn.name);
  const { symbolic = false, withoutHost = false, retrace = false, cacheSize = 8 } = options;
  checkInteger('trace', 'cacheSize', cacheSize, 1);
  const recordings = new Recent<Recording>(cacheSize);
  const replays = new Recent<Replay>(cacheSize);
  const stats = { calls: 0, recordings: 0, retraces: 0 };
  const results = new Linearization();

  /** Runs the function, and makes the step it asked for when it has returned. */
  const runSymbolic = (args: A): R => {
    const refusal = new Refusal(name);
    const result = observed(refusal, () => fn(...args));
    if (refusal.stepWanted) engine().step();
    return result;
  };

  const compared = (args: A): R => {
    const { signature } = flattenTree(args, { numbers: false });
    const known = recordings.get(signature) ?? null;
    const watch = new Watch(known, name, retrace);
    const result = observed(watch, () => {
      const value = symbolic ? runSymbolic(args) : fn(...args);
      // What is left uncomputed of the results is compared as it stands.
      results.reset();
      for (const { node } of flattenTree(value, { numbers: false }).tensors) {
        results.key.push(results.add(node));
      }
      watch.running(results);
      watch.finish();
      results.release();
      return value;
    });
    if (known === null || watch.changed) {
      stats.recordings++;
      if (known !== null) stats.retraces++;
      recordings.set(signature, watch.fresh);
    }
    return result;
  };

  const replayed = (args: A): R => {
    const { signature, tensors } = flattenTree(args, { numbers: true });
    const known = replays.get(signature);
    if (known !== undefined) return known.run(tensors) as R;
    const refusal = new Refusal(name);
    const replay = Replay.record(name, tensors, () => observed(refusal, () => fn(...args)));
    if (refusal.stepWanted) {
      throw new TraceError(
        `${name} makes an optimizer step, whose counts a replay would not advance`,
        {
          op: 'trace',
          hint: 'trace training steps without { withoutHost: true }',
        },
      );
    }
    stats.recordings++;
    replays.set(signature, replay);
    return replay.result as R;
  };

  const run = (args: A): R => (withoutHost ? replayed(args) : compared(args));
  const budget =
    options.memoryBudget === undefined ? undefined : memoryBudgetOf('trace', options.memoryBudget);
  const traced = (...args: A): R => {
    stats.calls++;
    if (budget === undefined) return run(args);
    return withMemoryBudget(budget, () => {
      const result = run(args);
      // What is computed after it returned would not know of the budget. A trace around it decides.
      if (evaluator().observers.length === 0) {
        engine().evaluate(flattenTree(result, { numbers: false }).tensors.map(({ node }) => node));
      }
      return result;
    });
  };
  return Object.assign(traced, {
    stats,
    explain: () => explain(),
    reset: () => {
      recordings.clear();
      replays.clear();
    },
  });
}

/** A method that is traced for each object on its own: what a decorator makes. */
function traceMethod<A extends readonly unknown[], R>(
  method: (...args: A) => R,
  options: TraceOptions,
): (this: object, ...args: A) => R {
  const perObject = new WeakMap<object, Traced<A, R>>();
  return function traced(this: object, ...args: A): R {
    let known = perObject.get(this);
    if (known === undefined) {
      known = traceFunction(method.bind(this) as (...args: A) => R, {
        name: method.name,
        ...options,
      });
      perObject.set(this, known);
    }
    return known(...args);
  };
}

/**
 * Makes a function of trees of tensors static. It still runs on every call; the program that it
 * builds is compared with the one recorded for arguments of this form. A number may change (it is
 * a slot of the plan), a structure may not: TraceError names the operation and its line, unless
 * `retrace` allows to record again. `withoutHost` replays without running the function at all.
 * Also a standard method decorator: `@trace`.
 *
 * @example
 * ```ts
 * const scale = trace((x: Tensor, factor: number) => x.mul(factor).sum());
 * scale(tensor([1, 2]), 3); // => 9
 * scale(tensor([1, 2]), 5); // => 15
 * scale.stats.recordings; // => 1
 * ```
 */
export function trace<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options?: TraceOptions,
): Traced<A, R>;
export function trace<A extends readonly unknown[], R>(
  method: (...args: A) => R,
  context: ClassMethodDecoratorContext,
): (this: object, ...args: A) => R;
export function trace<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options: TraceOptions | ClassMethodDecoratorContext = {},
): unknown {
  checkFunction('trace', fn);
  if ('kind' in options) return traceMethod(fn, {});
  return traceFunction(fn, options);
}
