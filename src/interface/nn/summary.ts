// A table of a model's layers: shapes of outputs, parameters, arithmetic.
import type { DType } from '../../base/dtype.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { withoutTracking } from '../../graph/op.ts';
import { zeros } from '../tensor/creation.ts';
import { isTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Module } from './module.ts';

/** What `summary` found. */
export interface ModelSummary {
  /** Layers without sub-modules, in the order in which they were first called. */
  readonly layers: readonly {
    readonly name: string;
    readonly description: string;
    /** Shape of the output; null if that is no single tensor. */
    readonly shape: Shape | null;
    readonly parameters: number;
    /** Operations of products and convolutions, a multiplication and an addition each: 2. */
    readonly flops: number;
    /** Elements of the output. */
    readonly activations: number;
  }[];
  readonly parameters: number;
  /** Of the whole model, what is outside of layers included. */
  readonly flops: number;
  /** Of all layers. */
  readonly activations: number;
  /** The table. */
  toString(): string;
}

/**
 * Shows what a model is made of, by building the graph of one call in evaluation mode; nothing is
 * computed. Layers called through functions (`F.relu`) do not show.
 *
 * @example
 * const model = new nn.Sequential(new nn.Linear(4, 3), new nn.ReLU());
 * console.log(String(summary(model, [8, 4])));
 * // prints
 * // layer  module                                       output  parameters  flops
 * // 0      Linear(inFeatures=4, outFeatures=3, bias=true)  [8,3]  15  192
 * // 1      ReLU                                          [8,3]  0  0
 * // 15 parameters, 192 flops, 48 activations
 */
export function summary(
  model: Module & { forward(x: Tensor): unknown },
  inputShape: Shape,
  options: { readonly dtype?: DType } = {},
): ModelSummary {
  const layers: ModelSummary['layers'][number][] = [];
  const modes = new Map(model.modules().map((module) => [module, module.training]));
  const handles = [...model.namedModules()]
    .filter(([, module]) => module.children().length === 0)
    .map(([name, module]) =>
      module.registerForwardHook((_, inputs, output) => {
        if (layers.some((layer) => layer.name === name)) return;
        const results = tensorsOf(output);
        layers.push({
          name,
          description: module.describe(),
          shape: isTensor(output) ? output.shape : null,
          parameters: countParameters(module),
          flops: countFlops(results, tensorsOf(inputs)),
          activations: results.reduce((sum, { size }) => sum + size, 0),
        });
      }),
    );
  model.eval();
  let flops = 0;
  try {
    const input = zeros(inputShape, options);
    const results = tensorsOf(withoutTracking(() => model.forward(input)));
    flops = countFlops(results, [input]);
    // Nobody wants these values: the next step need not compute them.
    for (const { node } of results) node.consumed = true;
  } finally {
    for (const handle of handles) handle.remove();
    for (const [module, training] of modes) module.training = training;
  }
  const parameters = countParameters(model);
  const activations = layers.reduce((sum, layer) => sum + layer.activations, 0);
  const totals = { parameters, flops, activations };
  return { layers, ...totals, toString: () => tableOf(layers, totals) };
}

/** Tensors of a result: one, or some in arrays and records. */
function tensorsOf(value: unknown): Tensor[] {
  if (isTensor(value)) return [value];
  if (Array.isArray(value)) return value.flatMap(tensorsOf);
  if (typeof value !== 'object' || value === null) return [];
  return Object.getPrototypeOf(value) === Object.prototype
    ? Object.values(value).flatMap(tensorsOf)
    : [];
}

/** Arithmetic of the products and convolutions between inputs and results. */
function countFlops(results: readonly Tensor[], inputs: readonly Tensor[]): number {
  const seen = new Set(inputs.map(({ node }) => node));
  const stack = results.map(({ node }) => node);
  let total = 0;
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    total += flopsOf(node);
    for (const input of node.inputs) stack.push(input);
  }
  return total;
}

function flopsOf(node: Node): number {
  const [left, right] = node.inputs;
  if (left === undefined || right === undefined) return 0;
  const { lower } = node.op;
  if (lower.kind === 'matmul') return 2 * sizeOf(node.shape) * (left.shape.at(-1) as number);
  if (lower.kind === 'convolution') {
    // Each output sums over a filter; a transposed one spreads each of its inputs by it.
    const { role } = lower.geometry(node.attrs, node);
    const filter = sizeOf(right.shape) / Math.max(1, right.shape[0] as number);
    return 2 * sizeOf(role === 'forward' ? node.shape : left.shape) * filter;
  }
  if (node.op.name !== 'attention') return 0;
  const [keys, width] = [right.shape.at(-2) as number, left.shape.at(-1) as number];
  return 2 * keys * (sizeOf(left.shape) + (sizeOf(left.shape) / width) * (node.shape.at(-1) ?? 0));
}

function countParameters(module: Module): number {
  return module.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
}

function tableOf(
  layers: ModelSummary['layers'],
  totals: { readonly parameters: number; readonly flops: number; readonly activations: number },
): string {
  const rows = [
    ['layer', 'module', 'output', 'parameters', 'flops'],
    ...layers.map(({ name, description, shape, parameters, flops }) => [
      name,
      description,
      shape === null ? '' : formatShape(shape),
      String(parameters),
      String(flops),
    ]),
  ];
  const widths = [0, 1, 2, 3].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const { parameters, flops, activations } = totals;
  const last = `${parameters} parameters, ${flops} flops, ${activations} activations`;
  return [...lines, last].join('\n');
}
