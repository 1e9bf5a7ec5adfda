// `trace`: makes a function static. By default it still runs on every call, and what it builds is
// compared with the recorded program (tracing/watch.ts); `withoutHost` replays the program alone
// (tracing/recorder.ts, tracing/replay.ts). docs/trace.md follows the same order.
import { checkFunction, checkInteger, checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError, TraceError } from '../../base/errors.ts';
import { openBodies } from '../../graph/bodies.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { engine } from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { EvaluationObserver } from './observers.ts';
import { type DumpOptions, type DumpReport, dumpFunction } from './dumping.ts';
import { evaluator } from './install.ts';
import { memoryBudgetOf, type MemoryBudgetOption, settings, withMemoryBudget } from './settings.ts';
import { DeclaredInputs, type InputSpecs } from './tracing/dims.ts';
import { ProgramFamily, ReplayFamily } from './tracing/families.ts';
import { hasEffect } from './tracing/instructions.ts';
import { PlansOf } from './tracing/plans-of.ts';
import { type Profile, type ProfileOptions, profileOf } from './tracing/profile.ts';
import { Recent } from './tracing/recent.ts';
import { type RecordedCall, recordCall, type Replay } from './tracing/replay.ts';
import { signatureOf } from './tracing/signature.ts';
import { observed } from './tracing/tape.ts';
import { Postponed, type Program, Refusal, Watch } from './tracing/watch.ts';
import { fillTree, isBranch, mapTree, tensorsOf, treeWithHoles } from './tree.ts';

export interface TraceOptions {
  /** Compute nothing before the function returns, and refuse reads inside it. Default false. */
  readonly symbolic?: boolean;
  /**
   * Replay without running the function: numbers, branches and other closed-over values are those
   * of the first call; closed-over parameters and buffers are read anew. Default false.
   */
  readonly withoutHost?: boolean;
  /**
   * Closed-over tensors, parameters included, are constants of the program: what depends on them alone
   * is computed once, and later changes of them are not seen. Implies `withoutHost`. Default false.
   */
  readonly captureAsConst?: boolean;
  /**
   * Forms of arguments with declared dimensions, in the form of the arguments:
   * `[spec([dim('batch'), 10])]`. One program serves all their sizes.
   */
  readonly inputs?: InputSpecs;
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
  /** Whether it is traced at first: see `enabled` of the result. Default true. */
  readonly enabled?: boolean;
  /** For messages; default the function's own name. */
  readonly name?: string;
}

const OPTIONS = [
  'symbolic',
  'withoutHost',
  'captureAsConst',
  'inputs',
  'retrace',
  'cacheSize',
  'memoryBudget',
  'enabled',
  'name',
] as const satisfies readonly (keyof TraceOptions)[];

/** Counters of a traced function. */
export interface TraceStats {
  readonly calls: number;
  /** Calls that found their program, or did not. */
  readonly hits: number;
  readonly misses: number;
  /** Programs that were forgotten because there were more than `cacheSize`. */
  readonly evictions: number;
  /** Programs recorded, first ones included. */
  readonly recordings: number;
  /** Recordings made because a program changed. */
  readonly retraces: number;
  /** Calls that ran the function as it is: tracing was off, or `debug.eager` or `checkNaN` on. */
  readonly untraced: number;
}

export interface Traced<A extends readonly unknown[], R> {
  (...args: A): R;
  readonly stats: TraceStats;
  /** Whether calls are traced; if not, the function runs as it is. See also `trace.enabled`. */
  enabled: boolean;
  /** The kernels of this function's own plans. */
  explain(): string;
  /**
   * Calls the function with these arguments, several times, and measures each kernel. What it does - a
   * training step, say - it does each time.
   */
  profile(args: A, options?: ProfileOptions): Promise<Profile>;
  /**
   * Writes the function as a program file that `tengen/lite` runs on any device: its graph, weights,
   * test cases, and compiled programs. Without a path the report holds the bytes.
   *
   * @throws TraceError if the function reads a value; ArgumentError for names or cases that do not fit.
   */
  dump(path: string | URL | null, options?: DumpOptions): Promise<DumpReport>;
  /** Forgets all recorded programs. */
  reset(): void;
}

type Counters = { -readonly [K in keyof TraceStats]: TraceStats[K] };

class TracedFunction<A extends readonly unknown[], R> {
  readonly #fn: (...args: A) => R;
  readonly name: string;
  readonly #options: TraceOptions;
  /** undefined: what `configure` says. */
  readonly #budget: ReturnType<typeof memoryBudgetOf> | undefined;
  readonly #declared: DeclaredInputs | null;
  readonly #programs: Recent<ProgramFamily>;
  /** Several for one form of the arguments, if they differ in which gradients there are. */
  readonly #replays: Recent<ReplayFamily[]>;
  readonly plans = new PlansOf();
  readonly counters: Counters = {
    calls: 0,
    hits: 0,
    misses: 0,
    evictions: 0,
    recordings: 0,
    retraces: 0,
    untraced: 0,
  };

  constructor(fn: (...args: A) => R, options: TraceOptions) {
    const { cacheSize = 8 } = options;
    this.#fn = fn;
    this.name = options.name ?? (fn.name === '' ? 'the function' : fn.name);
    this.#options = options;
    const { memoryBudget } = options;
    this.#budget = memoryBudget === undefined ? undefined : memoryBudgetOf('trace', memoryBudget);
    this.#declared = options.inputs === undefined ? null : new DeclaredInputs(options.inputs);
    this.#programs = new Recent(cacheSize);
    this.#replays = new Recent(cacheSize);
  }

  reset(): void {
    this.#programs.clear();
    this.#replays.clear();
    this.plans.forget();
  }

  call(args: A, enabled: boolean): R {
    this.counters.calls++;
    const budget = this.#budget;
    if (budget === undefined) return this.#call(args, enabled);
    return withMemoryBudget(budget, () => {
      const result = this.#call(args, enabled);
      // What is computed after it returned would not know of the budget. A trace around it decides.
      if (evaluator().observers.length === 0) {
        engine().evaluate(tensorsOf(result).map(({ node }) => node));
      }
      return result;
    });
  }

  #call(args: A, enabled: boolean): R {
    // Debugging wants to see the function run, one operation after the other.
    const isOff = !enabled || !trace.enabled || settings.eager || settings.checkNaN;
    if (isOff || openBodies().length > 0) {
      this.counters.untraced++;
      return this.#fn(...args);
    }
    const { withoutHost = this.#options.captureAsConst === true } = this.#options;
    const result = withoutHost ? this.#replayed(args) : this.#compared(args);
    const cache = withoutHost ? this.#replays : this.#programs;
    this.counters.evictions = cache.evictions;
    return result;
  }

  /** The form of a call, and its sizes. */
  #formOf(args: A, numbers: boolean): Form {
    const declared = this.#declared;
    if (declared === null) return { ...signatureOf(args, { numbers }), sizes: {} };
    const specs = declared.specsOf(this.name, args);
    const shape = (tensor: Tensor, i: number): string => String(specs[i] ?? tensor.shape.join());
    const form = signatureOf(args, { numbers, shape });
    return { ...form, sizes: declared.sizesOf(this.name, form.tensors, specs) };
  }

  /**
   * What is dumped: tensors of declared form stand for all sizes, and are a test case. Specs are as given.
   */
  dumpOptions(options: DumpOptions): DumpOptions {
    const declared = this.#declared;
    // What is no record of options the writer refuses.
    if (declared === null || Object(options) !== options) return options;
    const { inputs = this.#options.inputs as readonly unknown[], testCases } = options;
    if (!Array.isArray(inputs) || !declared.isOpenIn(inputs)) return { ...options, inputs };
    const specs = declared.specsOf('dump', inputs);
    declared.sizesOf('dump', tensorsOf(inputs), specs);
    return {
      ...options,
      inputs: mapTree(inputs, (tensor, i) => specs[i] ?? tensor) as readonly unknown[],
      testCases: testCases ?? [inputs],
    };
  }

  get #dims(): string[] {
    return this.#declared?.dims.map(({ name }) => name) ?? [];
  }

  // ---- running and comparing ------------------------------------------------------------------

  #compared(args: A): R {
    const { retrace = false } = this.#options;
    const { signature, tensors, sizes } = this.#formOf(args, false);
    const family = this.#programs.get(signature) ?? null;
    const known = family?.find(sizes) ?? null;
    this.#count(known !== null);
    const watch = new Watch(known, tensors, { name: this.name, retrace });
    const result = watch.during(() => {
      try {
        const value = this.#options.symbolic === true ? this.#symbolic(args) : this.#fn(...args);
        this.#checkSynchronous(value);
        watch.finish(value);
        return value;
      } catch (error) {
        if (error instanceof TraceError) watch.cancel();
        throw error;
      }
    });
    if (watch.fresh !== null) this.#learn(signature, sizes, watch, family);
    for (const [entry, device] of watch.plans) this.plans.ran(entry, device);
    this.plans.follow(tensorsOf(result));
    return result;
  }

  /** Takes up a program that is new, or in place of another one. */
  #learn(signature: string, sizes: Sizes, watch: Watch, family: ProgramFamily | null): void {
    const fresh = watch.fresh as Program;
    let isRetrace = watch.changed;
    if (family !== null && !isRetrace) {
      try {
        family.add(sizes, fresh);
        return;
      } catch (error) {
        if (!(error instanceof TraceError) || this.#options.retrace !== true) throw error;
        isRetrace = true;
      }
    }
    const own = new ProgramFamily(this.name, this.#dims);
    own.add(sizes, fresh);
    this.#programs.set(signature, own);
    this.counters.recordings++;
    if (isRetrace) this.counters.retraces++;
  }

  /** Runs the function, and makes the step it asked for when it has returned. */
  #symbolic(args: A): R {
    const refusal = new Refusal(this.name);
    const result = observed(refusal, () => this.#fn(...args));
    if (refusal.stepWanted) engine().step();
    return result;
  }

  #checkSynchronous(value: unknown): void {
    const face = value as { then?: unknown; next?: unknown } | null | undefined;
    const isGenerator = typeof face?.next === 'function';
    if (!isGenerator && typeof face?.then !== 'function') return;
    const what = isGenerator ? 'a generator' : 'asynchronous';
    throw new TraceError(`${this.name} is ${what}: what it builds later would not be seen`, {
      op: 'trace',
      hint: 'trace a function that returns its tensors at once, and await them outside',
    });
  }

  #count(isHit: boolean): void {
    if (isHit) this.counters.hits++;
    else this.counters.misses++;
  }

  // ---- replaying ------------------------------------------------------------------------------

  #replayed(args: A): R {
    const { observers } = evaluator();
    if (observers.length === 0) return this.#replayOrRecord(args);
    const { signature, tensors, sizes } = this.#formOf(args, true);
    if (observers.every((observer) => observer instanceof Watch)) {
      // For a function around it that is compared: recorded or replayed, it is one and the same.
      return evaluator().outside({
        name: this.name,
        inputs: tensors,
        run: () => this.#replayOrRecord(args),
      });
    }
    // Inside a recording it is a part of that: its own program if it has one.
    const family = this.#replays.get(signature)?.find((each) => each.fits(tensors));
    const known = family?.find(sizes) ?? null;
    this.#count(known !== null);
    return known === null ? this.#fn(...args) : (known.run(tensors) as R);
  }

  #replayOrRecord(args: A): R {
    const form = this.#formOf(args, true);
    const families = this.#replays.get(form.signature) ?? [];
    const family = families.find((each) => each.fits(form.tensors)) ?? null;
    const known = family?.find(form.sizes) ?? null;
    this.#count(known !== null);
    const result = observed(this.plans, () =>
      known === null ? this.#record(args, form, families, family) : known.run(form.tensors),
    ) as R;
    this.plans.follow(tensorsOf(result));
    return result;
  }

  #record(
    args: A,
    { signature, sizes }: Form,
    families: readonly ReplayFamily[],
    known: ReplayFamily | null,
  ): R {
    const { symbolic = false } = this.#options;
    const postponed = new Postponed();
    const { replay, result } = this.#recordOnce(args, symbolic ? postponed : null);
    if (postponed.stepWanted) engine().step();
    const family = known ?? new ReplayFamily(this.name, this.#dims);
    family.add(sizes, replay);
    if (known === null) {
      this.counters.recordings++;
      if (isPure(replay)) this.#recordSizes(args, sizes, family);
      this.#replays.set(signature, [family, ...families].slice(0, MAX_VARIANTS));
    }
    return result as R;
  }

  #recordOnce(args: readonly unknown[], around: EvaluationObserver | null): RecordedCall {
    const { symbolic = false, captureAsConst = false } = this.#options;
    const body = (given: readonly unknown[]): R => {
      const value = this.#fn(...(given as A));
      this.#checkSynchronous(value);
      return value;
    };
    return recordCall(args, { name: this.name, symbolic, captureAsConst }, body, around);
  }

  /** Records the function at other sizes at once, on tensors of zeros: it changes nothing. */
  #recordSizes(args: A, first: Sizes, family: ReplayFamily): void {
    const declared = this.#declared;
    if (declared === null || family.isComplete) return;
    for (const sizes of declared.otherSizes(first)) {
      if (family.isComplete) return;
      const { replay, recorder } = this.#recordOnce(declared.standIns(args, sizes), null);
      // Nobody is to compute them.
      for (const node of recorder.nodes) if (node !== null) node.consumed = true;
      family.add(sizes, replay);
    }
  }
}

/** A call by its form: calls with the same signature have the same program, or those of their sizes. */
interface Form {
  readonly signature: string;
  readonly tensors: readonly Tensor[];
  readonly sizes: Sizes;
}

/** Whether a function only computes results. */
function isPure({ recorded }: Replay): boolean {
  return !recorded.instructions.some(hasEffect);
}

/** Programs for one form of the arguments, by which gradients there are. */
const MAX_VARIANTS = 4;

function checkOptions(options: TraceOptions): void {
  checkKeys('trace', options, OPTIONS);
  if (options.cacheSize !== undefined) checkInteger('trace', 'cacheSize', options.cacheSize, 1);
  const { inputs } = options;
  if (inputs !== undefined && !isBranch(inputs)) {
    throw new ArgumentError(`inputs are specs of the arguments, got ${describeValue(inputs)}`, {
      op: 'trace',
      hint: "inputs: [spec([dim('batch'), 10])]",
    });
  }
  if (options.captureAsConst === true && options.withoutHost === false) {
    throw new ArgumentError('captureAsConst replays: withoutHost cannot be false', {
      op: 'trace',
      hint: 'a function that runs each time reads its tensors anew',
    });
  }
}

function traceFunction<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options: TraceOptions,
): Traced<A, R> {
  checkOptions(options);
  const traced = new TracedFunction(fn, options);
  const face: Traced<A, R> = Object.assign((...args: A): R => traced.call(args, face.enabled), {
    stats: traced.counters,
    enabled: options.enabled ?? true,
    explain: () =>
      traced.plans.explain() || 'nothing was computed yet: call it, and read what it returns',
    profile: (args: A, profileOptions?: ProfileOptions) =>
      profileOf(traced.name, () => face(...args), profileOptions),
    dump: async (path: string | URL | null, dumpOptions: DumpOptions = {}) =>
      dumpFunction(traced.name, fn, path, traced.dumpOptions(dumpOptions)),
    reset: () => traced.reset(),
  });
  return face;
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

type Method = (...args: never[]) => unknown;

/** What `trace` is: a function, a decorator, and a switch for all traced functions. */
export interface Trace {
  <A extends readonly unknown[], R>(fn: (...args: A) => R, options?: TraceOptions): Traced<A, R>;
  <A extends readonly unknown[], R>(
    method: (...args: A) => R,
    context: ClassMethodDecoratorContext,
  ): (this: object, ...args: A) => R;
  /** A decorator with options: `@trace({ withoutHost: true })`. */
  (options: TraceOptions): <M extends Method>(method: M, context: ClassMethodDecoratorContext) => M;
  /** False: all traced functions run as they are, with breakpoints and printed values. */
  enabled: boolean;
}

function traceOf(
  subject: unknown,
  options: TraceOptions | ClassMethodDecoratorContext = {},
): unknown {
  if (typeof subject === 'object' && subject !== null && arguments.length === 1) {
    const given = subject as TraceOptions;
    checkOptions(given);
    return (method: (...args: readonly unknown[]) => unknown) => traceMethod(method, given);
  }
  const fn = checkFunction('trace', subject) as (...args: readonly unknown[]) => unknown;
  if ('kind' in options) return traceMethod(fn, {});
  return traceFunction(fn, options);
}

/**
 * Makes a function of trees of tensors static. It still runs on every call; what it builds is compared
 * with the program recorded for arguments of this form, operation by operation. A number may change (it
 * is a slot of the plan), a structure may not: TraceError names the operation and its line, unless
 * `retrace` allows to record again. `withoutHost` replays without running the function at all.
 * Also a standard method decorator: `@trace`. docs/trace.md says more.
 *
 * @example
 * ```ts
 * const scale = trace((x: Tensor, factor: number) => x.mul(factor).sum());
 * scale(tensor([1, 2]), 3); // => 9
 * scale(tensor([1, 2]), 5); // => 15
 * scale.stats.recordings; // => 1
 * ```
 */
export const trace: Trace = /* @__PURE__ */ Object.assign(traceOf as Omit<Trace, 'enabled'>, {
  enabled: true,
}) as Trace;

/**
 * Runs `fn` on `args`, and returns what it returns, as something that is no part of the traced function
 * around it: it runs anew on each call, may read values and branch on them, and its tensors are inputs of
 * the program. Replays (`withoutHost`) run it too; it must be given whatever it uses of the function
 * around it. Outside of a traced function it is just a call.
 *
 * @example
 * ```ts
 * const threshold = trace((x: Tensor) => {
 *   const centre = excludeFromTrace((y) => tensor(Math.round(y.mean().itemSync())), x);
 *   return x.gt(centre);
 * }, { withoutHost: true });
 * threshold(tensor([1, 2, 6])); // => [false, false, true]
 * threshold(tensor([10, 30, 20])); // => [false, true, false]
 * ```
 */
export function excludeFromTrace<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  ...args: A
): R {
  checkFunction('excludeFromTrace', fn);
  const tensors = tensorsOf(args);
  const template = treeWithHoles(args);
  return evaluator().outside({
    name: fn.name === '' ? 'an excluded function' : fn.name,
    inputs: tensors,
    strict: true,
    run: (inputs: readonly Tensor[]) => fn(...(fillTree(template, (i) => inputs[i]) as A)),
  });
}
