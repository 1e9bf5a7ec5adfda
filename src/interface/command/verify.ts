// `tengen verify`: the same inputs on every device, compared result by result, operation by operation
// and, where a program differs though its operations do not, kernel by kernel.
import type { Sizes } from '../../base/size-expression.ts';
import { getDevice, listBackends } from '../../runtime/registry.ts';
import { compileModel } from '../lite/compile.ts';
import { differenceOf, load, type Model, type Outputs } from '../lite/model.ts';
import { table } from '../terminal/index.ts';
import { type Call, CallError, type Command, parseCall, type Terminal, toJson } from './call.ts';
import { INPUT_HELP, INPUT_OPTIONS, readInputs, sizesOf, type Values } from './inputs.ts';
import { compareKernels, type KernelReport } from './kernel-check.ts';
import { type ModelSource, openModel } from './model-source.ts';
import {
  compareNodes,
  formatNode,
  type ModelNodes,
  type NodeReport,
  nodesOfModel,
  valuesOfNodes,
} from './node-check.ts';
import { type Start, startOf } from './plan-memory.ts';

const HELP = `tengen verify FILE [options]

Computes the same inputs on every device of this machine and compares with the interpreter, which runs
the same kernels slowly and obviously: first the results, then the value of every operation, then (where
results differ) every kernel of the program as it runs. Names the first that differs. Strict numerics
must agree in every bit, fast ones up to a tolerance. Exit code 1 if anything differs.

  --device A,B        devices; default: all that can be used
  --numerics A,B      strict, fast; default: both
  --tolerance X       what counts as the same in fast numerics, over the largest value; default 1e-5
  --reference NAME    device to compare with; default interp
  --no-ops            results only, where they agree
  --kernels           every kernel too, where results agree
${INPUT_HELP}
  --json              as JSON`;

interface Verdict {
  readonly device: string;
  readonly numerics: 'fast' | 'strict';
  readonly ok: boolean;
  /** Largest difference of results, over the largest value. */
  readonly difference: number;
  readonly ops: NodeReport | null;
  readonly kernels: KernelReport | null;
}

interface Task {
  readonly model: ModelSource;
  readonly values: Values;
  readonly sizes: Sizes;
  readonly start: Start;
  readonly nodes: ModelNodes;
  readonly reference: string;
  readonly tolerance: number;
  readonly everyOp: boolean;
  readonly everyKernel: boolean;
  readonly terminal: Terminal;
}

export const verify: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(
      words,
      {
        ...INPUT_OPTIONS,
        device: { type: 'string' },
        numerics: { type: 'string' },
        tolerance: { type: 'string' },
        reference: { type: 'string' },
        'no-ops': { type: 'boolean' },
        kernels: { type: 'boolean' },
      },
      [1, 1],
    );
    const model = await openModel(call.words[0] as string, call.pairs('size'));
    await terminal.devices(true);
    const reference = call.text('reference') ?? 'interp';
    const devices = chosenDevices(call, reference);
    const values = await readInputs(model, call);
    const sizes = sizesOf(model, call.pairs('size'));
    const task: Task = {
      model,
      values,
      sizes,
      start: await startOf(model, values, sizes),
      nodes: nodesOfModel(model.header, sizes),
      reference,
      tolerance: call.number('tolerance', 1e-5),
      everyOp: !call.flag('no-ops'),
      everyKernel: call.flag('kernels'),
      terminal,
    };
    const verdicts: Verdict[] = [];
    for (const numerics of chosenNumerics(call)) {
      verdicts.push(...(await verifyAll(task, devices, numerics)));
    }
    const ok = verdicts.every((verdict) => verdict.ok);
    terminal.print(
      call.flag('json')
        ? toJson({ file: model.path, reference, ok, verdicts: verdicts.map(plain) })
        : textOf(verdicts, reference),
    );
    return ok ? 0 : 1;
  },
};

function chosenDevices(call: Call, reference: string): string[] {
  const usable = listBackends().filter(({ unavailable }) => unavailable === null);
  // Says why not, if it cannot be used.
  getDevice(reference);
  const devices = call.list('device') ?? usable.map(({ name }) => name);
  for (const name of devices) getDevice(name);
  const others = devices.filter((name) => name !== reference);
  if (others.length === 0) throw new CallError(`there is no device to compare with ${reference}`);
  return others;
}

function chosenNumerics(call: Call): ('fast' | 'strict')[] {
  return (call.list('numerics') ?? ['strict', 'fast']).map((word) => {
    if (word === 'strict' || word === 'fast') return word;
    throw new CallError(`--numerics is strict or fast, got '${word}'`);
  });
}

async function verifyAll(
  task: Task,
  devices: readonly string[],
  numerics: 'fast' | 'strict',
): Promise<Verdict[]> {
  const { terminal, model, values, nodes, start, reference } = task;
  terminal.note(`${reference}, ${numerics}: the results to compare with`);
  const expected = await run(model, values, reference, numerics);
  let wanted: Map<number, Uint8Array> | null = null;
  const verdicts: Verdict[] = [];
  for (const device of devices) {
    terminal.note(`${device}, ${numerics}: results`);
    const loaded = await load(model.source, { device, numerics });
    try {
      const difference = outputDifference(await loaded.run(values), expected, numerics);
      const limit = numerics === 'strict' ? 0 : task.tolerance;
      let ops: NodeReport | null = null;
      if (task.everyOp || difference > limit) {
        terminal.note(`${device}, ${numerics}: every operation`);
        wanted ??= await valuesOfNodes(nodes, start, getDevice(reference), numerics);
        const actual = await valuesOfNodes(nodes, start, getDevice(device), numerics);
        ops = compareNodes(nodes, actual, wanted, numerics, task.tolerance);
      }
      const isUnexplained = difference > limit && (ops?.first ?? null) === null;
      const kernels =
        isUnexplained || task.everyKernel ? await kernelsOf(task, loaded, numerics) : null;
      const isWrong = (ops?.first ?? null) !== null || (kernels?.first ?? null) !== null;
      const ok = difference <= limit && !isWrong;
      verdicts.push({ device, numerics, ok, difference, ops, kernels });
    } finally {
      loaded.dispose();
    }
  }
  return verdicts;
}

async function run(
  { source }: ModelSource,
  values: Values,
  device: string,
  numerics: 'fast' | 'strict',
): Promise<Outputs> {
  const model = await load(source, { device, numerics });
  try {
    return await model.run(values);
  } finally {
    model.dispose();
  }
}

/** The largest of all results; strict: what has other bits differs. */
export function outputDifference(
  actual: Outputs,
  expected: Outputs,
  numerics: 'fast' | 'strict',
): number {
  let largest = 0;
  for (const [name, { data }] of Object.entries(expected)) {
    const own = actual[name]?.data;
    if (own === undefined) return Infinity;
    let difference = differenceOf(own, data);
    const isSame = data.every((value, i) => Object.is(value, own[i]));
    if (numerics === 'strict' && !isSame) difference = Math.max(difference, Number.MIN_VALUE);
    largest = Math.max(largest, difference);
  }
  return largest;
}

async function kernelsOf(
  { model, sizes, start, terminal, tolerance }: Task,
  loaded: Model,
  numerics: 'fast' | 'strict',
): Promise<KernelReport | null> {
  const program = loaded.programs.at(-1);
  if (program === undefined) return null;
  terminal.note(`${loaded.device.name}, ${numerics}: every kernel`);
  const expected = compileModel(model.header, sizes, loaded.device.target(numerics));
  const strict = numerics === 'strict';
  return compareKernels(program, expected, start, loaded.device, getDevice('interp'), {
    strict,
    tolerance,
  });
}

function plain({ ops, kernels, ...rest }: Verdict) {
  const first = ops?.first ?? null;
  return {
    ...rest,
    ops: ops === null ? null : { compared: ops.compared, first, largest: ops.largest },
    kernels,
    firstDivergence: first === null ? (kernels?.first?.ops.join(' + ') ?? null) : first.node.op,
  };
}

const amount = (difference: number): string =>
  difference === 0 ? 'none' : difference.toExponential(1);

function textOf(verdicts: readonly Verdict[], reference: string): string {
  const rows = verdicts.map(({ device, numerics, ok, difference, ops, kernels }) => [
    device,
    numerics,
    ok ? 'ok' : 'DIFFERS',
    amount(difference),
    ops === null ? '' : String(ops.compared),
    ops === null ? '' : amount(ops.largest?.difference ?? 0),
    kernels === null ? '' : String(kernels.compared),
  ]);
  const head = ['device', 'numerics', '', 'results differ by', 'ops', 'by at most', 'kernels'];
  const lines = [
    table(rows, { head }),
    `compared with ${reference}; relative to the largest value`,
  ];
  for (const { device, numerics, ops, kernels, ok } of verdicts) {
    if (ok) continue;
    lines.push(`${device}, ${numerics}: ${explain(ops, kernels)}`);
  }
  return lines.join('\n');
}

function explain(ops: NodeReport | null, kernels: KernelReport | null): string {
  if (ops?.first !== null && ops?.first !== undefined) {
    const { node, difference } = ops.first;
    return `the first operation that differs is ${formatNode(node)}, by ${amount(difference)}`;
  }
  const first = kernels?.first;
  if (first === null || first === undefined) {
    return 'results differ, but no operation and no kernel alone does by as much';
  }
  const where =
    first.ops.length === 0 ? '' : `: ${first.ops.join(' + ')} [${first.shape.join(',')}]`;
  const stored =
    kernels?.sameProgram === false ? ' (the file holds a program of another version)' : '';
  return `all operations agree, the program does not: the first kernel that differs is ${first.kernel}${where}, by ${amount(first.difference)}${stored}`;
}
