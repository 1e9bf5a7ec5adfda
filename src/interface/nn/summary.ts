// A table of a model's layers with their output shapes and numbers of parameters.
import type { DType } from '../../base/dtype.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
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
  }[];
  readonly parameters: number;
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
 * // layer  module                                       output  parameters
 * // 0      Linear(inFeatures=4, outFeatures=3, bias=true)  [8,3]  15
 * // 1      ReLU                                          [8,3]  0
 * // 15 parameters
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
      module.registerForwardHook((_, _inputs, output) => {
        if (layers.some((layer) => layer.name === name)) return;
        layers.push({
          name,
          description: module.describe(),
          shape: isTensor(output) ? output.shape : null,
          parameters: countParameters(module),
        });
      }),
    );
  model.eval();
  try {
    const output = withoutTracking(() => model.forward(zeros(inputShape, options)));
    // Nobody wants this value: the next step need not compute it.
    if (isTensor(output)) output.node.consumed = true;
  } finally {
    for (const handle of handles) handle.remove();
    for (const [module, training] of modes) module.training = training;
  }
  const parameters = countParameters(model);
  return { layers, parameters, toString: () => tableOf(layers, parameters) };
}

function countParameters(module: Module): number {
  return module.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
}

function tableOf(layers: ModelSummary['layers'], parameters: number): string {
  const rows = [
    ['layer', 'module', 'output', 'parameters'],
    ...layers.map(({ name, description, shape, parameters: own }) => [
      name,
      description,
      shape === null ? '' : formatShape(shape),
      String(own),
    ]),
  ];
  const widths = [0, 1, 2].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, `${parameters} parameters`].join('\n');
}
