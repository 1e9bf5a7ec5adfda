// What a traced function's kernels cost: a table, and a timeline for Chrome's trace viewer.
import { checkInteger, checkKeys, describeValue } from '../../../base/checks.ts';
import { ArgumentError } from '../../../base/errors.ts';
import { writeOutput } from '../../../base/output-files.ts';
import { formatExplanation } from '../../../compile/explain.ts';
import type { Device } from '../../../runtime/device.ts';
import { evaluate } from '../controls.ts';
import type { Entry, Measured } from '../entry.ts';
import { evaluator } from '../install.ts';
import { settings } from '../settings.ts';
import { tensorsOf } from '../tree.ts';
import { observed } from './tape.ts';

export interface ProfileOptions {
  /** Calls that are measured; default 10. */
  readonly runs?: number;
  /** Calls before them, which are not; default 2: the first ones compile. */
  readonly warmup?: number;
  /** Where the Chrome trace goes, in Node. */
  readonly file?: string;
}

/** One kernel of a plan. */
export interface ProfiledKernel {
  readonly name: string;
  /** Operations that it computes. */
  readonly ops: readonly string[];
  readonly shape: readonly number[];
  /** Mean milliseconds, or null where the device cannot measure single kernels. */
  readonly ms: number | null;
  readonly flops: number;
  readonly bytes: number;
}

/** One plan: what a call computes at once. */
export interface ProfiledProgram {
  readonly device: string;
  /** How often each call runs it, on average. */
  readonly runsPerCall: number;
  /** Mean milliseconds of a run. */
  readonly ms: number;
  readonly kernels: readonly ProfiledKernel[];
}

/** What `profile` measured; as a text it is a table. */
export interface Profile {
  /** Mean milliseconds of a call, its JavaScript included. */
  readonly msPerCall: number;
  readonly programs: readonly ProfiledProgram[];
  toString(): string;
  /** The JSON that chrome://tracing and ui.perfetto.dev show: one call, kernel after kernel. */
  chromeTrace(): string;
}

const RUNS = 10;
const WARMUP = 2;

/** Measures calls of `call`. */
export async function profileOf(
  name: string,
  call: () => unknown,
  options: ProfileOptions = {},
): Promise<Profile> {
  checkKeys('profile', options, ['runs', 'warmup', 'file']);
  const { runs = RUNS, warmup = WARMUP, file } = options;
  checkInteger('profile', 'runs', runs, 1);
  checkInteger('profile', 'warmup', warmup, 0);
  if (file !== undefined && (typeof file !== 'string' || file === '')) {
    throw new ArgumentError(`file must be a path, got ${describeValue(file)}`, { op: 'profile' });
  }
  const once = (): void => evaluate(...tensorsOf(call()));
  for (let i = 0; i < warmup; i++) once();
  const plans = new Map<Entry, Device>();
  const ran = (entry: Entry, device: Device): void => void plans.set(entry, device);
  // What earlier profiles measured is not of these calls.
  const known = new Map<Entry, Measured>();
  for (const { entry } of evaluator().recent) {
    if (entry.measured !== null) known.set(entry, copyOf(entry.measured));
  }
  const { profiling } = settings;
  settings.profiling = true;
  const start = performance.now();
  try {
    observed({ ran }, () => {
      for (let i = 0; i < runs; i++) once();
    });
  } finally {
    settings.profiling = profiling;
  }
  const msPerCall = (performance.now() - start) / runs;
  const programs: ProfiledProgram[] = [];
  // As a text at once: the profile must not keep plans.
  const tables: string[] = [];
  for (const [entry, device] of plans) {
    const program = programOf(entry, device, known.get(entry) ?? null, runs);
    tables.push(tableOf(program, entry, programs.length));
    programs.push(program);
  }
  const title = `${name}: ${msPerCall.toFixed(3)} ms a call`;
  const profile = new MeasuredProfile([title, ...tables].join('\n\n'), msPerCall, programs);
  if (file !== undefined) await writeOutput('profile', file, profile.chromeTrace());
  return profile;
}

function copyOf({ runs, wallMs, dispatches }: Measured): Measured {
  return { runs, wallMs, dispatches: dispatches.slice() };
}

function programOf(
  entry: Entry,
  device: Device,
  before: Measured | null,
  calls: number,
): ProfiledProgram {
  const measured = entry.measured as Measured;
  // Of an entry that was compiled again meanwhile the sums began anew.
  const earlier = before !== null && before.runs < measured.runs ? before : null;
  const runs = measured.runs - (earlier?.runs ?? 0);
  const ms = (measured.wallMs - (earlier?.wallMs ?? 0)) / runs;
  const kernels = entry.compiled.kernels.map((kernel, i): ProfiledKernel => {
    const sum = measured.dispatches[i];
    const { name, ops, shape, flops, bytesRead, bytesWritten } = kernel;
    return {
      name,
      ops,
      shape,
      ms: sum === undefined ? null : (sum - (earlier?.dispatches[i] ?? 0)) / runs,
      flops,
      bytes: bytesRead + bytesWritten,
    };
  });
  return { device: device.name, runsPerCall: runs / calls, ms, kernels };
}

function tableOf(
  { device, ms, runsPerCall, kernels }: ProfiledProgram,
  { compiled }: Entry,
  index: number,
): string {
  const times = kernels.every((kernel) => kernel.ms !== null)
    ? Float64Array.from(kernels, (kernel) => kernel.ms ?? 0)
    : undefined;
  const often = runsPerCall === 1 ? '' : `, ${Number(runsPerCall.toFixed(2))} times a call`;
  const head = `plan ${index + 1} on ${device}: ${ms.toFixed(3)} ms${often}`;
  return `${head}\n${formatExplanation(compiled, times)}`;
}

class MeasuredProfile implements Profile {
  readonly msPerCall: number;
  readonly programs: readonly ProfiledProgram[];
  readonly #text: string;

  constructor(text: string, msPerCall: number, programs: readonly ProfiledProgram[]) {
    this.#text = text;
    this.msPerCall = msPerCall;
    this.programs = programs;
  }

  toString(): string {
    return this.#text;
  }

  chromeTrace(): string {
    const events: object[] = [
      { name: 'process_name', ph: 'M', pid: 1, args: { name: 'tengen' } },
      { name: 'thread_name', ph: 'M', pid: 1, tid: 1, args: { name: 'plans' } },
      { name: 'thread_name', ph: 'M', pid: 1, tid: 2, args: { name: 'kernels' } },
    ];
    const us = (ms: number): number => Number((ms * 1000).toFixed(3));
    let at = 0;
    this.programs.forEach(({ device, ms, kernels }, i) => {
      const name = `plan ${i + 1} on ${device}`;
      const args = { kernels: kernels.length };
      events.push({ name, cat: 'plan', ph: 'X', pid: 1, tid: 1, ts: us(at), dur: us(ms), args });
      let kernelAt = at;
      for (const kernel of kernels) {
        if (kernel.ms === null) continue;
        events.push({
          name: kernel.name,
          cat: 'kernel',
          ph: 'X',
          pid: 1,
          tid: 2,
          ts: us(kernelAt),
          dur: us(kernel.ms),
          args: {
            ops: kernel.ops.join(', '),
            shape: `[${kernel.shape.join(',')}]`,
            flops: kernel.flops,
            bytes: kernel.bytes,
          },
        });
        kernelAt += kernel.ms;
      }
      at = Math.max(at + ms, kernelAt);
    });
    return JSON.stringify({ displayTimeUnit: 'ms', traceEvents: events });
  }
}
