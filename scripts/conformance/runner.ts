// Runs one folder of operator tests and says what came of it.
import { load } from '../../src/interface/onnx/load.ts';
import type { GraphProto, NodeProto, TypeProto } from '../../src/interface/onnx/messages.ts';
import type { Value } from '../../src/interface/onnx/values.ts';
import { difference } from './compare.ts';
import { type TestFolder, inputValue, readDataSets, readFolder } from './folder.ts';

export type Outcome =
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'skipped'; readonly reason: string };

/** Operators whose results are random: there is nothing to compare. */
const RANDOM = new Set([
  'Bernoulli',
  'Multinomial',
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
]);

/** Operators that are left out, with the reason. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  ImageDecoder: 'decodes image files',
  RegexFullMatch: 'regular expressions',
  Gradient: 'training: derivatives of a part of the graph',
};

function allNodes(graph: GraphProto): NodeProto[] {
  return graph.node.flatMap((node) => [
    node,
    ...node.attribute.flatMap(({ g, graphs }) =>
      [...(g === undefined ? [] : [g]), ...graphs].flatMap(allNodes),
    ),
  ]);
}

/** A reason to skip a folder that its model shows before it is loaded. */
function skipReason({ model, name }: TestFolder): string | null {
  if (model.graph === undefined) return null;
  const nodes = [...allNodes(model.graph), ...model.functions.flatMap(({ node }) => node)];
  for (const { opType = '', domain = '' } of nodes) {
    if (RANDOM.has(opType)) return 'random results';
    if (domain === 'ai.onnx.ml') return 'classical machine learning, another standard';
    const reason = LEFT_OUT[opType];
    if (reason !== undefined) return reason;
    if (
      opType === 'Dropout' &&
      name.startsWith('test_training_dropout') &&
      !name.includes('zero')
    ) {
      return 'random results';
    }
  }
  // Its model leaves epsilon at 1e-6, its values were computed with 1e-2.
  if (name === 'test_adam_multiple') return 'values of another epsilon than the model has';
  const isComplex = (type: TypeProto | undefined): boolean =>
    [14, 15].includes(type?.tensorType?.elemType ?? 0);
  const infos = [...model.graph.input, ...model.graph.output];
  return infos.some(({ type }) => isComplex(type)) ? 'complex numbers' : null;
}

export async function runFolder(directory: string, name: string): Promise<Outcome> {
  try {
    const folder = readFolder(directory, name);
    const reason = skipReason(folder);
    if (reason !== null) return { kind: 'skipped', reason };
    const problem = await check(folder);
    return problem === null ? { kind: 'passed' } : { kind: 'failed', reason: problem };
  } catch (error) {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return { kind: 'failed', reason: text };
  }
}

async function check(folder: TestFolder): Promise<string | null> {
  const model = await load(folder.bytes);
  const sets = readDataSets(folder);
  if (sets.length === 0) return 'there are no data sets';
  const isFourier = folder.model.graph?.node.some(({ opType }) => opType === 'DFT') ?? false;
  for (const { name, inputs, outputs } of sets) {
    const given = new Map<string, Value>();
    for (const [index, info] of model.inputs.entries()) {
      const input = inputs[index];
      if (input === undefined) return `${name}: input ${index} is missing`;
      given.set(info.name, inputValue(input));
    }
    const results = model.execute(given);
    for (const [index, expected] of outputs.entries()) {
      const label = model.outputs[index]?.name ?? `output ${index}`;
      const problem = difference(label, results[index] ?? null, expected, isFourier);
      if (problem !== null) return sets.length === 1 ? problem : `${name}: ${problem}`;
    }
  }
  return null;
}
