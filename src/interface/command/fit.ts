// Options tried against each other: for `run --fit`, which looks for the fastest, and `bench`.
import { TengenError } from '../../base/errors.ts';
import { listBackends } from '../../runtime/registry.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { load, type LoadOptions, type Model } from '../lite/model.ts';
import type { AlgorithmOptions } from '../tuning/algorithms.ts';
import { table } from '../terminal/index.ts';
import { type Call, CallError, type Terminal, toJson } from './call.ts';
import type { Values } from './inputs.ts';
import { ms, timeByTurns, type Timing, timingOf } from './timing.ts';

export interface Candidate {
  readonly device: string;
  readonly threads: number;
  readonly numerics: 'fast' | 'strict';
  /** What is said of schedules; none: what the file holds ready, or estimates. */
  readonly algorithms?: AlgorithmOptions;
}

/** Ways to choose schedules: those of a call, or both of those that there are. */
export function strategiesOf(call: Call, all: boolean): readonly (AlgorithmOptions | undefined)[] {
  const strategy = call.choice('strategy', ['heuristic', 'profile'] as const);
  const limit = call.number('workspace', Infinity);
  const limits: AlgorithmOptions = {
    ...(call.flag('reproducible') && { reproducible: true }),
    ...(limit < Infinity && { workspaceLimit: limit }),
  };
  const isLimited = Object.keys(limits).length > 0;
  if (strategy !== undefined) return [{ strategy, ...limits }];
  const usual = isLimited ? limits : undefined;
  return all ? [usual, { strategy: 'profile', ...limits }] : [usual];
}

/** A set of options with what it took, or why it could not run. */
export interface Tried extends Candidate {
  readonly timing: Timing | null;
  /** From opening the file to the first result. */
  readonly startMs: number;
  readonly failure: string | null;
}

/** Devices x threads x numerics, of those that the call allows. */
export async function candidatesOf(
  call: Call,
  numerics: readonly ('fast' | 'strict')[],
  everyThreads: boolean,
  strategies: readonly (AlgorithmOptions | undefined)[] = [undefined],
): Promise<Candidate[]> {
  const asked = call.list('device');
  const known = listBackends();
  for (const name of asked ?? []) {
    if (known.some((backend) => backend.name === name)) continue;
    throw new CallError(`there is no device '${name}'; there are ${known.map((b) => b.name)}`);
  }
  const usable = known.filter(({ name, unavailable }) => {
    return asked?.includes(name) ?? (unavailable === null && name !== 'interp');
  });
  const { availableParallelism } = await import('node:os');
  const cores = availableParallelism();
  const steps: number[] = [];
  for (let count = everyThreads ? 1 : cores; count < cores; count *= 2) steps.push(count);
  const only = call.count('threads', undefined, 1);
  const threads = only === undefined ? [...steps, cores] : [only];
  return usable.flatMap(({ name: device }) =>
    threads.flatMap((count) =>
      numerics.flatMap((each) =>
        strategies.map((algorithms) => ({
          device,
          threads: count,
          numerics: each,
          ...(algorithms === undefined ? {} : { algorithms }),
        })),
      ),
    ),
  );
}

/** Runs all candidates by turns. */
export async function tryAll(
  source: ByteInput,
  values: Values,
  candidates: readonly Candidate[],
  warmup: number,
  repeat: number,
  terminal: Terminal,
): Promise<Tried[]> {
  const models: { readonly at: number; readonly model: Model }[] = [];
  const tried: Tried[] = [];
  for (const [at, candidate] of candidates.entries()) {
    terminal.note(`load ${nameOf(candidate)}`);
    const start = performance.now();
    try {
      const options: LoadOptions = { ...candidate };
      const model = await load(source, options);
      models.push({ at, model });
      await model.run(values);
      tried.push({ ...candidate, timing: null, failure: null, startMs: performance.now() - start });
    } catch (error) {
      if (!(error instanceof TengenError)) throw error;
      tried.push({ ...candidate, timing: null, failure: error.message, startMs: NaN });
    }
  }
  const ready = models.filter(({ at }) => tried[at]?.failure === null);
  const times = await timeByTurns(
    ready.map(
      ({ model }) =>
        () =>
          model.run(values),
    ),
    warmup,
    repeat,
    (round) => {
      if (round % 10 === 0) terminal.note(`round ${round + 1} of ${repeat}`);
    },
  );
  for (const [i, { at }] of ready.entries()) {
    tried[at] = { ...(tried[at] as Tried), timing: timingOf(times[i] as number[]) };
  }
  for (const { model } of models) model.dispose();
  return tried;
}

const nameOf = ({ device, threads, numerics, algorithms }: Candidate): string =>
  `${device}, ${threads} thread${threads === 1 ? '' : 's'}, ${numerics}, ${strategyOf(algorithms)}`;

function strategyOf(algorithms: AlgorithmOptions | undefined): string {
  return algorithms?.strategy ?? 'heuristic';
}

/** The sets of options, the fastest first, with what could not run last. */
export function ranked(tried: readonly Tried[]): Tried[] {
  const medianOf = ({ timing }: Tried): number => timing?.p50 ?? Infinity;
  return tried.toSorted((a, b) => medianOf(a) - medianOf(b));
}

/** A table, the fastest first. */
export function formatTried(tried: readonly Tried[]): string {
  const [best] = ranked(tried);
  const least = best?.timing?.p50 ?? NaN;
  const rows = ranked(tried).map(({ timing, startMs, failure, ...candidate }) => {
    const { device, threads, numerics } = candidate;
    const options = [device, threads, numerics, strategyOf(candidate.algorithms)];
    if (timing === null) return [...options, failure];
    const { p50, p90, min } = timing;
    const ratio = `${(p50 / least).toFixed(2)}x`;
    return [...options, ms(p50), ms(p90), ms(min), ratio, startMs.toFixed(0)];
  });
  const head = [
    'device',
    'threads',
    'numerics',
    'algorithms',
    'median ms',
    'p90',
    'least',
    '',
    'to first result',
  ];
  return table(rows, { head });
}

/** `run --fit`: what is fastest, as text or JSON. */
export async function fit(
  source: ByteInput,
  values: Values,
  call: Call,
  terminal: Terminal,
): Promise<string> {
  const asked = call.choice('numerics', ['fast', 'strict'] as const);
  const candidates = await candidatesOf(
    call,
    asked ? [asked] : ['fast', 'strict'],
    true,
    strategiesOf(call, true),
  );
  const repeat = call.count('repeat', 20, 1);
  const tried = await tryAll(source, values, candidates, call.count('warmup', 3), repeat, terminal);
  const [best] = ranked(tried);
  if (best === undefined || best.timing === null) {
    throw new TengenError(`no set of options can run it: ${best?.failure ?? 'there is none'}`);
  }
  const { device, threads, numerics, algorithms } = best;
  const options = {
    device,
    threads,
    numerics,
    ...(algorithms === undefined ? {} : { algorithms }),
  };
  if (call.flag('json')) return toJson({ best: options, tried });
  return `${formatTried(tried)}\n\nbest: load(file, ${literal(options)})`;
}

/** Plain data as it is written in a program. */
function literal(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value !== 'object' || value === null) return String(value);
  const fields = Object.entries(value).map(([name, item]) => `${name}: ${literal(item)}`);
  return `{ ${fields.join(', ')} }`;
}
