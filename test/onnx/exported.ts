// What the tests of the export share: a file as its nodes, and the file read back.
import { load } from 'tengen/onnx';
import type { ExportOptions, ExportTarget, OnnxModel } from 'tengen/onnx';
import { toBytes } from 'tengen/onnx';
import { modelProto } from '../../src/interface/onnx/messages.ts';
import type { GraphProto, ModelProto } from '../../src/interface/onnx/messages.ts';

/** The messages of an exported file. */
export async function exportedModel(
  target: ExportTarget,
  options: ExportOptions,
): Promise<ModelProto & { readonly graph: GraphProto }> {
  const model = modelProto.decode(await toBytes(target, options));
  if (model.graph === undefined) throw new Error('a model without a graph');
  return { ...model, graph: model.graph };
}

/** The ops of an exported file in order. */
export async function exportedOps(target: ExportTarget, options: ExportOptions): Promise<string[]> {
  const { graph } = await exportedModel(target, options);
  return graph.node.map(({ opType = '' }) => opType);
}

/** An axis of an input or output as text. */
export function dimensionsOf(model: { readonly graph: GraphProto }, output = 0): string {
  const dims = model.graph.output[output]?.type?.tensorType?.shape?.dim ?? [];
  return dims.map(({ dimParam, dimValue }) => dimParam ?? dimValue ?? '?').join(', ');
}

/** The file read back. */
export async function reloaded(target: ExportTarget, options: ExportOptions): Promise<OnnxModel> {
  return load(await toBytes(target, options));
}
