// `tengen inspect`: what a model file holds, without running it.
import { writeOutput } from '../../base/output-files.ts';
import { compileModel } from '../lite/compile.ts';
import type { ModelHeader } from '../lite/header.ts';
import { describePort } from '../lite/values.ts';
import { flopsOf } from '../../compile/explain.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { getDevice, listBackends } from '../../runtime/registry.ts';
import { formatBytes, formatCount, table } from '../terminal/index.ts';
import { type Command, parseCall, toJson } from './call.ts';
import { graphPage } from './graph-page.ts';
import { sizesOf } from './inputs.ts';
import { type ModelSource, openModel } from './model-source.ts';
import { nodesOfModel } from './node-check.ts';

const HELP = `tengen inspect FILE [options]

What a program file (.tengen) or an ONNX file is: inputs and results, operations, parameters, work and
memory on each device, programs and test cases in the file.

  --ops               every operation with shape, work and the weights that it reads
  --html OUT          writes the graph as a page of its own: to zoom, to search, without a network
  --size NAME=N       size of a dimension that the model leaves open
  --json              as JSON`;

export const inspect: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(
      words,
      {
        ops: { type: 'boolean' },
        html: { type: 'string' },
        size: { type: 'string', multiple: true },
      },
      [1, 1],
    );
    const model = await openModel(call.words[0] as string, call.pairs('size'));
    await terminal.devices();
    const report = reportOf(model, sizesOf(model, call.pairs('size')));
    const page = call.text('html');
    if (page !== undefined) await writeOutput('inspect', page, graphPage(model.header, report));
    if (call.flag('json')) terminal.print(toJson(report));
    else {
      terminal.print(textOf(model, report, call.flag('ops')));
      if (page !== undefined) terminal.print(`\nwrote ${page}`);
    }
    return 0;
  },
};

export interface OpFacts {
  readonly position: number;
  readonly op: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly inputs: readonly number[];
  readonly weights: readonly string[];
  readonly flops: number;
}

interface DeviceFacts {
  readonly device: string;
  readonly unavailable: string | null;
  readonly kernels: number;
  /** Scratch of a run. */
  readonly arenaBytes: number;
  /** No arena can be smaller. */
  readonly arenaLowerBound: number;
  /** What is made of weights when the model is loaded. */
  readonly preparedBytes: number;
  /** Whether the file holds the program. */
  readonly stored: boolean;
}

export interface InspectReport {
  readonly file: string;
  readonly name: string;
  readonly format: 'tengen' | 'onnx';
  readonly version: number;
  readonly producer: string;
  readonly dimensions: ModelHeader['dimensions'];
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly parameters: {
    readonly tensors: number;
    readonly elements: number;
    readonly bytes: number;
  };
  readonly flops: number;
  readonly ops: readonly OpFacts[];
  readonly devices: readonly DeviceFacts[];
  readonly stored: readonly { readonly name: string; readonly bytes: number }[];
  readonly tests: number;
  readonly difference: number | null;
  readonly metadata: Readonly<Record<string, unknown>>;
}

function reportOf(model: ModelSource, sizes: Sizes): InspectReport {
  const { header, tensors } = model;
  const { nodes, names } = nodesOfModel(header, sizes);
  const positions = new Map(nodes.map((node, i) => [node, i]));
  const ops = names.map((name, i): OpFacts => {
    const node = nodes[i] as (typeof nodes)[number];
    const inputs = node.inputs.map((each) => positions.get(each) as number);
    return { ...name, inputs, flops: flopsOf(node) };
  });
  const weights = new Set(
    header.leaves.flatMap((leaf) => (leaf.kind === 'weight' ? [leaf.tensor] : [])),
  );
  let [elements, bytes] = [0, 0];
  for (const name of weights) {
    const tensor = tensors.get(name);
    bytes += tensor?.bytes ?? 0;
    elements += tensor === undefined ? 0 : sizeOf(tensor.shape);
  }
  return {
    file: model.path,
    name: header.name,
    format: model.format,
    version: header.version,
    producer: header.producer,
    dimensions: header.dimensions,
    inputs: header.inputs.map(describePort),
    outputs: header.outputs.map(describePort),
    parameters: { tensors: weights.size, elements, bytes },
    flops: ops.reduce((sum, op) => sum + op.flops, 0),
    ops,
    devices: listBackends().map(({ name, unavailable }) =>
      deviceFacts(header, sizes, name, unavailable),
    ),
    stored: header.stored.map(({ tensor }) => ({
      name: tensor,
      bytes: tensors.get(tensor)?.bytes ?? 0,
    })),
    tests: header.tests.length,
    difference: header.difference,
    metadata: header.metadata,
  };
}

function deviceFacts(
  header: ModelHeader,
  sizes: Sizes,
  device: string,
  unavailable: string | null,
): DeviceFacts {
  const none = { kernels: 0, arenaBytes: 0, arenaLowerBound: 0, preparedBytes: 0, stored: false };
  if (unavailable !== null) return { device, unavailable, ...none };
  const target = getDevice(device).target('fast');
  const { plan, prepared, arenaLowerBound } = compileModel(header, sizes, target);
  const kept = prepared?.kept ?? [];
  return {
    device,
    unavailable,
    kernels: plan.dispatches.length,
    arenaBytes: plan.arenaBytes,
    arenaLowerBound,
    preparedBytes: kept.reduce((sum, at) => sum + (plan.bindings[at]?.bytes ?? 0), 0),
    stored: header.stored.some(({ target: { name, vectorBytes, fma, numerics } }) => {
      const isMachine = name === target.name && vectorBytes === target.vectorBytes;
      return isMachine && fma === target.fma && numerics === target.numerics;
    }),
  };
}

function textOf(model: ModelSource, report: InspectReport, everyOp: boolean): string {
  const { parameters, ops, dimensions, difference } = report;
  const computed = ops.filter(({ op }) => op !== 'input' && op !== 'scalar');
  const facts: [string, string][] = [
    ['model', `${report.name} (${report.format}, version ${report.version}, ${report.producer})`],
    ...report.inputs.map((text): [string, string] => ['input', text]),
    ...report.outputs.map((text): [string, string] => ['result', text]),
    ...dimensions.map(({ name, min, max, size }): [string, string] => [
      'dimension',
      `${name}: ${min} to ${max}, recorded at ${size}`,
    ]),
    [
      'parameters',
      `${formatCount(parameters.elements)} in ${parameters.tensors} tensors, ${formatBytes(parameters.bytes)}`,
    ],
    ['operations', `${computed.length}, ${formatCount(report.flops)} flop a run`],
    ...report.stored.map(({ name, bytes }): [string, string] => [
      'program',
      `${name}, ${formatBytes(bytes)}`,
    ]),
    [
      'test cases',
      difference === null
        ? String(report.tests)
        : `${report.tests}; plain and optimised kernels differ by ${difference.toExponential(1)}`,
    ],
  ];
  const sections = [facts.map(([what, text]) => `${what.padEnd(11)} ${text}`).join('\n')];
  const kinds = new Map<string, { count: number; flops: number }>();
  for (const { op, flops } of computed) {
    const kind = kinds.get(op) ?? { count: 0, flops: 0 };
    kinds.set(op, { count: kind.count + 1, flops: kind.flops + flops });
  }
  const rows = [...kinds].sort(([, a], [, b]) => b.flops - a.flops || b.count - a.count);
  sections.push(
    table(
      rows.map(([op, { count, flops }]) => [op, count, formatCount(flops)]),
      { head: ['operation', 'times', 'flop'], align: [undefined, 'right', 'right'] },
    ),
    memoryTable(report),
  );
  if (everyOp) sections.push(opTable(computed));
  if (Object.keys(model.header.metadata).length > 0) {
    sections.push(`metadata ${JSON.stringify(model.header.metadata)}`);
  }
  return sections.join('\n\n');
}

function memoryTable({ devices, parameters }: InspectReport): string {
  const rows = devices.map((each) => {
    if (each.unavailable !== null) return [each.device, each.unavailable];
    const { device, kernels, arenaBytes, arenaLowerBound, preparedBytes, stored } = each;
    const all = parameters.bytes + arenaBytes + preparedBytes;
    const bytes = [arenaBytes, arenaLowerBound, preparedBytes, all].map(formatBytes);
    return [device, String(kernels), ...bytes, stored ? 'in the file' : 'compiled'];
  });
  const head = ['device', 'kernels', 'arena', 'at least', 'prepared', 'with weights', 'program'];
  return table(rows, { head });
}

function opTable(ops: readonly OpFacts[]): string {
  const rows = ops.map(({ position, op, dtype, shape, flops, weights }) => [
    position,
    op,
    `${dtype} [${shape.join(',')}]`,
    formatCount(flops),
    weights.join(', '),
  ]);
  return table(rows, { head: ['node', 'operation', 'value', 'flop', 'weights'] });
}
