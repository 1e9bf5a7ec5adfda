// Names of what is in a program: weights by their owners, nodes by their operations.
import type { Tensor } from '../tensor/tensor.ts';
import { freeName } from './program-parts.ts';
import type { Value } from './value-graph.ts';

/** The weights of a program by name; `wishes` are granted in the order of computation. */
export function nameWeights(
  order: readonly Value[],
  wishes: ReadonlyMap<Tensor, string>,
): Map<string, Tensor> {
  const weights = new Map<string, Tensor>();
  for (const { source } of order) {
    if (source?.kind !== 'weight' || [...weights.values()].includes(source.tensor)) continue;
    weights.set(freeName(wishes.get(source.tensor) ?? 'weight', weights), source.tensor);
  }
  return weights;
}

/** A name for each value, by its number. Names that were given before stay. */
export function nameNodes(
  order: readonly Value[],
  weights: ReadonlyMap<string, Tensor>,
  before: ReadonlyMap<number, string>,
): Map<number, string> {
  const names = new Map<number, string>();
  const taken = new Set<string>();
  const give = ({ id }: Value, wish: string): void => {
    const name = freeName(wish, taken);
    taken.add(name);
    names.set(id, name);
  };
  const weightNames = new Map([...weights].map(([name, tensor]) => [tensor, name]));
  const rest: Value[] = [];
  for (const value of order) {
    const { source } = value;
    if (source?.kind === 'input') give(value, source.name);
    else if (source?.kind === 'weight') give(value, weightNames.get(source.tensor) as string);
    else rest.push(value);
  }
  for (const value of rest) {
    const known = before.get(value.id);
    if (known !== undefined) give(value, known);
  }
  for (const value of rest) {
    if (!names.has(value.id)) give(value, value.source?.kind ?? value.op?.name ?? '');
  }
  return names;
}
