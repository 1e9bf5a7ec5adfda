// Directions of recurrent layers as RNN, GRU and LSTM.
import type { Node } from '../../../graph/node.ts';
import type { RecurrentCell } from '../../functional/recurrent-cells.ts';
import type { RecordedDirection } from '../../functional/recurrent-layer.ts';
import type { AttributeValue } from '../encode-attribute.ts';
import { isNumber, numberIn, operands, resolve } from './graph.ts';
import type { GraphScope, RegionPlan } from './region.ts';
import type { GraphWriter } from './writer.ts';

/** What ONNX calls a cell, and which of the cell's gates each of ONNX's is. */
interface Standard {
  readonly opType: string;
  readonly gates: readonly number[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** By the names of cells. */
const STANDARD: Readonly<Record<RecurrentCell['name'], Standard>> = {
  rnnTanh: { opType: 'RNN', gates: [0], attributes: { activations: { texts: ['Tanh'] } } },
  rnnRelu: { opType: 'RNN', gates: [0], attributes: { activations: { texts: ['Relu'] } } },
  gru: { opType: 'GRU', gates: [1, 0, 2], attributes: { linear_before_reset: 1 } },
  lstm: { opType: 'LSTM', gates: [0, 3, 1, 2], attributes: {} },
};

/** Whether a state is zeros, which are left out. */
function isZero(node: Node): boolean {
  let at = node;
  while (at.storage === null && PLACING.has(at.op.name)) at = operands(at)[0] as Node;
  if (at.storage !== null) return false;
  return (at.op.name === 'full' || isNumber(at)) && numberIn(at) === 0;
}

const PLACING: ReadonlySet<string> = new Set(['reshape', 'slice', 'expand']);

/** Rows of gates in another order. */
function reordered(writer: GraphWriter, value: string, gates: readonly number[], size: number) {
  if (gates.every((gate, place) => gate === place)) return value;
  const sizes = writer.integers(gates.map(() => size));
  const parts = writer.addMany('Split', [value, sizes], gates.length, { axis: 0 });
  return writer.add(
    'Concat',
    gates.map((gate) => parts[gate] as string),
    { axis: 0 },
  );
}

/** A loop that is a direction of a layer, as one node; null for any other. */
export function planRecurrent(scope: GraphScope, node: Node): RegionPlan | null {
  const direction = scope.graph.main.directions.get(node);
  const standard = direction === undefined ? undefined : STANDARD[direction.cell.name];
  if (direction === undefined || standard === undefined) return null;
  const { cell, weights, input } = direction;
  const { inputBias, hiddenBias, projection } = weights;
  const used = scope.usedResults(node);
  // What each step began with is asked for by a gradient.
  const isPlain =
    projection === null &&
    (inputBias === null) === (hiddenBias === null) &&
    input.dtype === 'float32' &&
    [...used].every((index) => index <= cell.states);
  return isPlain ? new RecurrentPlan(scope, direction, standard, used) : null;
}

class RecurrentPlan implements RegionPlan {
  readonly needs: readonly Node[];
  readonly #scope: GraphScope;
  readonly #direction: RecordedDirection;
  readonly #standard: Standard;
  /** Which of the needs each input is. */
  readonly #places: Readonly<Record<string, number>>;

  readonly #used: ReadonlySet<number>;

  constructor(
    scope: GraphScope,
    direction: RecordedDirection,
    standard: Standard,
    used: ReadonlySet<number>,
  ) {
    this.#scope = scope;
    this.#used = used;
    this.#direction = direction;
    this.#standard = standard;
    const { input, weights, lengths, initial } = direction;
    const [h, c] = initial.map((state) => (isZero(state) ? null : state));
    const given: Readonly<Record<string, Node | null | undefined>> = {
      x: input,
      w: weights.input,
      r: weights.hidden,
      wb: weights.inputBias,
      rb: weights.hiddenBias,
      lengths,
      h,
      c,
    };
    const entries = Object.entries(given).filter(([, node]) => node !== null && node !== undefined);
    this.needs = entries.map(([, node]) => resolve(node as Node));
    this.#places = Object.fromEntries(entries.map(([name], i) => [name, i]));
  }

  write(inputs: readonly string[]): ReadonlyMap<number, string> {
    const { writer } = this.#scope;
    const { cell, weights, reverse } = this.#direction;
    const { opType, gates, attributes } = this.#standard;
    const size = (weights.input.shape[0] as number) / cell.gates;
    const given = (name: string): string => inputs[this.#places[name] ?? -1] ?? '';
    const front = (value: string): string =>
      value === '' ? '' : writer.add('Unsqueeze', [value, writer.integers([0])]);
    const weight = (name: string): string => reordered(writer, given(name), gates, size);
    const bias =
      given('wb') === '' ? '' : writer.add('Concat', [weight('wb'), weight('rb')], { axis: 0 });
    const lengths =
      given('lengths') === ''
        ? ''
        : writer.add('Reshape', [given('lengths'), writer.integers([-1])]);
    const operandList = [
      given('x'),
      front(weight('w')),
      front(weight('r')),
      front(bias),
      lengths,
      front(given('h')),
      front(given('c')),
    ];
    while (operandList.at(-1) === '') operandList.pop();
    const [all, ...last] = writer.addMany(opType, operandList, 1 + cell.states, {
      hidden_size: size,
      ...(reverse ? { direction: 'reverse' } : {}),
      ...attributes,
    }) as [string, ...string[]];
    const squeezed = (value: string, axis: number): string =>
      writer.add('Squeeze', [value, writer.integers([axis])]);
    return new Map(
      [...this.#used].map((index) => [
        index,
        index === cell.states ? squeezed(all, 1) : squeezed(last[index] as string, 0),
      ]),
    );
  }
}
