// `tengen run`: computes the results of a model, and how long that takes.
import { TengenError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { listBackends } from '../../runtime/registry.ts';
import { writeNpy } from '../io/npy.ts';
import { makeOutputFolder } from '../../base/output-files.ts';
import { load, type Model, type Outputs } from '../lite/model.ts';
import { formatNumber, table } from '../terminal/index.ts';
import { type Call, CallError, type Command, parseCall, type Terminal, toJson } from './call.ts';
import { fit, strategiesOf } from './fit.ts';
import { INPUT_HELP, INPUT_OPTIONS, readInputs, type Values } from './inputs.ts';
import { openModel } from './model-source.ts';
import { ms, timeByTurns, type Timing, timingOf } from './timing.ts';

const HELP = `tengen run FILE [options]

Computes the results of a program file (.tengen) or an ONNX file and prints what they are.

${INPUT_HELP}
  --output DIR        writes every result to DIR/NAME.npy
  --device NAME       native, wasm, interp; default: the best of this machine
  --threads N         threads; default: as many as the machine has cores
  --numerics WORD     fast (default) or strict
  --warmup N          runs before time is taken; default 3 where there are repeats
  --repeat N          runs whose times are shown; default 0
  --profile           time of each kernel, where the device can tell (native)
  --fit               tries devices, threads, numerics and algorithms and prints the best
  --strategy WORD     how algorithms are chosen: heuristic (by estimate, default) or profile (by
                      measuring them on this device first)
  --reproducible      only algorithms whose results do not depend on the sizes around
  --workspace BYTES   most memory of one product or convolution beside its operands
  --json              as JSON`;

/** Options of every command that takes time. */
export const TIMING_OPTIONS = {
  warmup: { type: 'string' },
  repeat: { type: 'string' },
  threads: { type: 'string' },
  numerics: { type: 'string' },
  device: { type: 'string' },
} as const;

export const run: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(
      words,
      {
        ...INPUT_OPTIONS,
        ...TIMING_OPTIONS,
        output: { type: 'string' },
        profile: { type: 'boolean' },
        fit: { type: 'boolean' },
        strategy: { type: 'string' },
        reproducible: { type: 'boolean' },
        workspace: { type: 'string' },
      },
      [1, 1],
    );
    const repeat = call.count('repeat', 0);
    const warmup = call.count('warmup', repeat > 0 ? 3 : 0);
    const numerics = call.choice('numerics', ['fast', 'strict'] as const) ?? 'fast';
    const threads = call.count('threads', undefined, 1);
    const [algorithms] = strategiesOf(call, false);
    const source = await openModel(call.words[0] as string, call.pairs('size'));
    const values = await readInputs(source, call);
    const device = await chosenDevice(call, terminal);
    if (call.flag('fit')) {
      terminal.print(await fit(source.source, values, call, terminal));
      return 0;
    }
    const model = await load(source.source, {
      device,
      numerics,
      ...(threads === undefined ? {} : { threads }),
      ...(algorithms === undefined ? {} : { algorithms }),
    });
    try {
      const outputs = await model.run(values);
      // Before the long part: a folder that cannot be written should show at once.
      const files = await writeOutputs(outputs, call.text('output'));
      const timing = repeat === 0 ? null : await timeRuns(model, values, warmup, repeat, terminal);
      const kernels = call.flag('profile') ? profileOf(model) : null;
      const facts = { file: source.path, device, threads: model.device.threads, numerics };
      const report = { ...facts, outputs: summaries(outputs), files, timing, kernels };
      terminal.print(call.flag('json') ? toJson(report) : textOf(report));
      return 0;
    } finally {
      model.dispose();
    }
  },
};

/** The device asked for, or the first that can be used. */
export async function chosenDevice(call: Call, terminal: Terminal): Promise<string> {
  const asked = call.text('device');
  await terminal.devices(asked === 'interp');
  const backends = listBackends();
  const name = asked ?? backends.find(({ unavailable }) => unavailable === null)?.name ?? 'wasm';
  if (backends.some((backend) => backend.name === name)) return name;
  const names = [...backends.map((backend) => backend.name), 'interp'].join(', ');
  throw new CallError(`there is no device '${name}'; there are ${names}`);
}

async function timeRuns(
  model: Model,
  values: Values,
  warmup: number,
  repeat: number,
  terminal: Terminal,
): Promise<Timing> {
  let shown = performance.now();
  const [times] = await timeByTurns([() => model.run(values)], warmup, repeat, (round) => {
    if (performance.now() - shown < 1000) return;
    shown = performance.now();
    terminal.note(`run ${round + 1} of ${repeat}`);
  });
  return timingOf(times as number[]);
}

interface KernelTime {
  readonly kernel: string;
  readonly calls: number;
  readonly ms: number;
  readonly share: number;
}

/** Kernels with what they take together, the slowest first. */
function profileOf(model: Model): KernelTime[] {
  const calls = model.profile();
  if (calls === null) {
    throw new TengenError(`device ${model.device.name} cannot tell the time of kernels`, {
      hint: '--device native',
    });
  }
  const sum = calls.reduce((total, call) => total + call.ms, 0);
  return [...grouped(calls)]
    .map(([kernel, list]) => {
      const total = list.reduce((time, call) => time + call.ms, 0);
      return { kernel, calls: list.length, ms: total, share: total / sum };
    })
    .sort((a, b) => b.ms - a.ms);
}

function grouped<T extends { readonly kernel: string }>(calls: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const call of calls) {
    const group = groups.get(call.kernel);
    if (group === undefined) groups.set(call.kernel, [call]);
    else group.push(call);
  }
  return groups;
}

async function writeOutputs(outputs: Outputs, folder: string | undefined): Promise<string[]> {
  if (folder === undefined) return [];
  const { join } = await import('node:path');
  await makeOutputFolder('run', folder);
  const files: string[] = [];
  for (const [name, { data, shape, dtype }] of Object.entries(outputs)) {
    // Names come out of the file: they must not lead out of the folder.
    const file = join(folder, `${name.replaceAll(/[^\w.-]/g, '_').replace(/^\.+/, '_')}.npy`);
    await writeNpy(file, { data, shape, dtype });
    files.push(file);
  }
  return files;
}

function summaries(outputs: Outputs) {
  return Object.entries(outputs).map(([name, { data, shape, dtype }]) => {
    let [min, max, sum] = [Infinity, -Infinity, 0];
    for (const value of data) {
      min = Math.min(min, value);
      max = Math.max(max, value);
      sum += value;
    }
    const first = Array.from(data.subarray(0, 8));
    return { name, dtype, shape, min, max, mean: sum / data.length, first };
  });
}

interface Report {
  readonly device: string;
  readonly threads: number;
  readonly numerics: string;
  readonly outputs: ReturnType<typeof summaries>;
  readonly files: readonly string[];
  readonly timing: Timing | null;
  readonly kernels: readonly KernelTime[] | null;
}

function textOf({ device, threads, numerics, outputs, files, timing, kernels }: Report): string {
  const plural = threads === 1 ? 'thread' : 'threads';
  const lines = [`device ${device}, ${threads} ${plural}, ${numerics} numerics`];
  const rows = outputs.map(({ name, dtype, shape, min, max, mean, first }) => {
    const more = sizeOf(shape) > first.length ? ' ..' : '';
    const values = first.map(formatNumber).join(' ') + more;
    return [name, dtype, `[${shape.join(',')}]`, min, max, mean, values];
  });
  lines.push(table(rows, { head: ['result', 'type', 'shape', 'least', 'most', 'mean', 'values'] }));
  for (const file of files) lines.push(`wrote ${file}`);
  if (timing !== null) {
    const { runs, ...times } = timing;
    const head = ['runs', ...Object.keys(times)];
    lines.push('', table([[runs, ...Object.values(times).map(ms)]], { head, align: 'right' }));
    lines.push('milliseconds');
  }
  if (kernels !== null) {
    const parts = kernels.map(({ kernel, calls, ms: time, share }) => {
      return [kernel, calls, ms(time), `${(100 * share).toFixed(1)} %`];
    });
    lines.push('', table(parts, { head: ['kernel', 'calls', 'ms', 'share'] }));
  }
  return lines.join('\n');
}
