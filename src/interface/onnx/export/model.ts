// A model file from a traced graph: names and types of its inputs and outputs, and its weights.
import { ArgumentError } from '../../../base/errors.ts';
import { Module, type StateDict } from '../../nn/module.ts';
import { tensorOn } from '../../tensor/handle.ts';
import type { Draft, ModelProto, NodeProto, TensorProto } from '../messages.ts';
import { OWN_DOMAIN, OWN_VERSION } from '../own-functions.ts';
import { encodeTensor } from '../tensor-data.ts';
import { sizesOf } from './conversion.ts';
import { GraphConversion } from './convert.ts';
import { traceAll } from './dynamic.ts';
import { resolve, type TracedGraph } from './graph.ts';
import { checkNames, type ExportOptions, type ExportPlan, planExport } from './options.ts';
import type { ExportTarget } from './record.ts';
import { valueInfo } from './value-info.ts';
import { GraphWriter, type Initializer, type SizeSource } from './writer.ts';

/** A model without its weights, which are read one by one when they are written. */
export interface PreparedModel {
  readonly plan: ExportPlan;
  /** The model with these initializers. */
  finish(initializer: readonly Draft<TensorProto>[]): Draft<ModelProto>;
  readonly initializers: readonly Initializer[];
}

/** The version of the file's format that came with an operator set. */
function irVersionOf(opset: number): number {
  if (opset < 19) return 8;
  return opset < 21 ? 9 : 10;
}

/** Names of stored values: a module's own, and what the caller says. */
function stateNames(target: ExportTarget, state: StateDict | undefined): Map<object, string> {
  const names = new Map<object, string>();
  const all = { ...(target instanceof Module ? target.stateDict() : {}), ...state };
  for (const [name, tensor] of Object.entries(all)) {
    const { storage } = tensor.node;
    if (storage !== null && !names.has(storage)) names.set(storage, name);
  }
  return names;
}

/** `hidden` for { hidden: x }, `output_0` for [x], `output` for x. */
function outputName(path: string): string {
  if (path === '') return 'output';
  return /^\d/.test(path) ? `output_${path.replaceAll('.', '_')}` : path;
}

function outputNames(op: string, graph: TracedGraph, plan: ExportPlan): readonly string[] {
  const { outputs } = graph.main;
  const names = plan.outputNames ?? outputs.map(({ path }) => outputName(path));
  checkNames(op, 'outputNames', names, outputs.length);
  const shared = names.find((name) => plan.inputNames.includes(name));
  if (shared === undefined) return names;
  throw new ArgumentError(`an input and an output are both called '${shared}'`, {
    op,
    hint: 'give other outputNames',
  });
}

/** A node with other names of values, in the graphs inside it too. */
function renameIn(node: Draft<NodeProto>, renamed: ReadonlyMap<string, string>): Draft<NodeProto> {
  const rename = (list: readonly string[] = []): string[] =>
    list.map((value) => renamed.get(value) ?? value);
  const attribute = node.attribute?.map((proto) => {
    if (proto.g === undefined) return proto;
    const inside = (proto.g.node ?? []).map((inner) => renameIn(inner, renamed));
    return { ...proto, g: { ...proto.g, node: inside } };
  });
  const named = { ...node, input: rename(node.input), output: rename(node.output) };
  return attribute === undefined ? named : { ...named, attribute };
}

/** The nodes with results under the outputs' names; what is no result of a node is copied. */
function nameOutputs(
  writer: GraphWriter,
  values: readonly string[],
  names: readonly string[],
): Draft<NodeProto>[] {
  const made = new Set(writer.nodes.flatMap(({ output }) => output ?? []));
  const renamed = new Map<string, string>();
  values.forEach((value, i) => {
    const name = names[i] as string;
    if (made.has(value) && !renamed.has(value)) renamed.set(value, name);
  });
  const nodes = writer.nodes.map((node) => renameIn(node, renamed));
  values.forEach((value, i) => {
    const name = names[i] as string;
    const source = renamed.get(value) ?? value;
    if (source === name) return;
    nodes.push({ name, opType: 'Identity', input: [source], output: [name] });
  });
  return nodes;
}

/** Traces and converts; weights are not touched yet. Throws what the export is to throw. */
export function prepareModel(
  op: string,
  target: ExportTarget,
  options: ExportOptions,
): PreparedModel {
  if (!(target instanceof Module) && typeof target !== 'function') {
    throw new ArgumentError('expected a module or a function of tensors', { op });
  }
  const plan = planExport(op, options);
  const graph = traceAll(op, target, options.inputs, plan);
  const names = outputNames(op, graph, plan);
  const sources: SizeSource[] = plan.symbols.map(({ places }) => {
    const { slot, axis } = places[0] as { slot: number; axis: number };
    return { input: plan.inputNames[slot] as string, axis };
  });
  const writer = new GraphWriter(plan, graph.grid, sources, [...plan.inputNames, ...names]);
  const state = stateNames(target, options.state);
  const values = GraphConversion.main(op, graph, writer, plan.inputNames, state);
  const node = nameOutputs(writer, values, names);
  const functions = [...writer.functions.values()];
  const input = plan.slots.map(({ dtype }, i) => {
    const sizes = sizesOf(graph, graph.main.inputs[i] as Parameters<typeof sizesOf>[1]);
    return valueInfo(plan.inputNames[i] as string, dtype, graph.grid, sizes);
  });
  const output = graph.main.outputs.map((result, i) => {
    const { node: alias } = result;
    const sizes = sizesOf(graph, resolve(alias));
    return valueInfo(names[i] as string, alias.dtype, graph.grid, sizes);
  });
  return {
    plan,
    initializers: writer.initializers,
    finish: (initializer) => ({
      irVersion: irVersionOf(plan.opset),
      producerName: 'tengen',
      opsetImport: [
        { domain: '', version: plan.opset },
        ...(functions.length > 0 ? [{ domain: OWN_DOMAIN, version: OWN_VERSION }] : []),
      ],
      functions,
      metadataProps: Object.entries(plan.metadata).map(([key, value]) => ({ key, value })),
      graph: { name: 'main', node, input, output, initializer },
    }),
  };
}

/** The weights of a model, read from wherever they are. */
export async function readInitializer({
  name,
  dtype,
  shape,
  value,
}: Initializer): Promise<Draft<TensorProto>> {
  if (!('op' in value)) return value;
  const data = await tensorOn(value).data();
  return encodeTensor({ type: dtype, shape, data }, name);
}
