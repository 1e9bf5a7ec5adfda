// RNN, GRU and LSTM with ONNX's order of gates, layouts and options, made of matrix products.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import {
  GRU as GRU_CELL,
  LSTM as LSTM_CELL,
  type RecurrentCell,
  RELU,
  TANH,
} from '../../functional/recurrent-cells.ts';
import { runDirection as runRecurrentDirection } from '../../functional/recurrent-layer.ts';
import { wrap } from '../../tensor/handle.ts';
import { type Tensor, arange, cat, full, stack, where } from '../../tensor/index.ts';
import { scan } from '../../transform/control-flow.ts';
import { flag, float, floats, int, text, texts } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import { RECURRENT_ACTIVATIONS } from './activations.ts';
import { UNROLLED_ROUNDS } from './graph-loops.ts';
import { as } from './results.ts';

const ATTRIBUTES = {
  activation_alpha: floats(),
  activation_beta: floats(),
  activations: texts(),
  clip: float(),
  direction: text('forward', ['forward', 'reverse', 'bidirectional'] as const),
  hidden_size: int(),
  layout: int(0),
  output_sequence: flag(),
};

interface RecurrentAttributes {
  readonly activation_alpha: readonly number[] | undefined;
  readonly activation_beta: readonly number[] | undefined;
  readonly activations: readonly string[] | undefined;
  readonly clip: number | undefined;
  readonly direction: 'forward' | 'reverse' | 'bidirectional';
  readonly layout: number;
}

type Activation = (x: Tensor) => Tensor;

/** Names of the activations of all directions. */
function namesOf(
  { activations }: RecurrentAttributes,
  standard: readonly string[],
  directions: number,
): readonly string[] {
  return activations ?? Array.from({ length: directions }, () => standard).flat();
}

/** The functions of one direction; alpha and beta are listed for those functions that take them. */
function activationsOf(
  attributes: RecurrentAttributes,
  standard: readonly string[],
  directions: number,
): Activation[] {
  const names = namesOf(attributes, standard, directions);
  if (names.length !== standard.length * directions) {
    throw new FormatError(
      `${names.length} activations, ${standard.length * directions} are needed`,
    );
  }
  const alphas = [...(attributes.activation_alpha ?? [])];
  const betas = [...(attributes.activation_beta ?? [])];
  return names.map((name) => {
    const key = name.toLowerCase();
    const compute = Object.hasOwn(RECURRENT_ACTIVATIONS, key)
      ? RECURRENT_ACTIVATIONS[key]
      : undefined;
    if (compute === undefined) throw new FormatError(`there is no activation '${name}'`);
    const alpha = WITH_ALPHA.has(key) ? alphas.shift() : undefined;
    const beta = WITH_BETA.has(key) ? betas.shift() : undefined;
    return (x) => compute(x, alpha, beta);
  });
}

const WITH_ALPHA = new Set([
  'affine',
  'leakyrelu',
  'thresholdedrelu',
  'scaledtanh',
  'hardsigmoid',
  'elu',
]);
const WITH_BETA = new Set(['affine', 'scaledtanh', 'hardsigmoid']);

/** The weights of one direction. */
interface Weights {
  /** [gates × hidden, input], transposed. */
  readonly input: Tensor;
  readonly recurrent: Tensor;
  /** Biases of the input and of the recurrence, [gates × hidden] each, or null. */
  readonly biases: readonly [Tensor, Tensor] | null;
  readonly peepholes: Tensor | null;
}

/** One step: what the inputs give and the state before, to the state after. */
type Step = (projected: Tensor, state: readonly Tensor[], weights: Weights) => readonly Tensor[];

interface Layer {
  readonly steps: Tensor;
  readonly batch: number;
  readonly hidden: number;
  readonly lengths: Tensor | null;
}

/** One of PyTorch's cells, and which of ONNX's gates each of its gates is. */
interface StandardCell {
  readonly cell: RecurrentCell;
  readonly gates: readonly number[];
}

/** Runs one direction; gives the hidden states of all steps [steps, batch, hidden] and the last state. */
function runDirection(
  { steps, batch, hidden, lengths }: Layer,
  weights: Weights,
  initial: readonly Tensor[],
  step: Step,
  reverse: boolean,
): { all: Tensor; last: readonly Tensor[] } {
  const count = steps.shape[0] ?? 0;
  // The products with the inputs of all steps at once.
  let projected = steps.reshape([count * batch, -1]).matmul(weights.input);
  if (weights.biases !== null) projected = projected.add(weights.biases[0]);
  const rows = projected.reshape([count, batch, -1]);
  const once = (
    before: readonly Tensor[],
    row: Tensor,
    at: Tensor | number,
  ): readonly [state: readonly Tensor[], output: Tensor] => {
    const next = step(row, before, weights);
    const [h] = next;
    if (h === undefined) throw new ShapeError('a step without a state');
    if (lengths === null) return [next, h];
    // Beyond its length a sequence keeps its state and gives zeros.
    const within = lengths.gt(at).reshape([batch, 1]);
    return [
      next.map((value, k) => where(within, value, before[k] ?? value)),
      where(within, h, full([], 0, { dtype: h.dtype })),
    ];
  };
  if (count > UNROLLED_ROUNDS) {
    const parts: readonly Tensor[] = [rows, arange(count, { dtype: 'int32' })];
    const [last, all] = scan(
      (state: readonly Tensor[], [row, at]: readonly Tensor[]) =>
        once(state, row as Tensor, at as Tensor),
      initial,
      parts,
      { reverse },
    );
    return { all, last };
  }
  let state = initial;
  const outputs: Tensor[] = [];
  for (let i = 0; i < count; i++) {
    const at = reverse ? count - 1 - i : i;
    const [next, output] = once(state, rows.select(0, at), at);
    state = next;
    outputs.push(output);
  }
  const ordered = reverse ? outputs.reverse() : outputs;
  const all =
    ordered.length > 0 ? stack(ordered) : full([0, batch, hidden], 0, { dtype: steps.dtype });
  return { all, last: state };
}

/** Parts of equal width of the last axis. */
function parts(x: Tensor, count: number): Tensor[] {
  return x.chunk(count, -1);
}

/** Runs one direction as the layers of the framework do: what they exported has the same bits again. */
function runStandard(
  { cell, gates }: StandardCell,
  { steps, batch, lengths }: Layer,
  weights: Weights,
  initial: readonly Tensor[],
  reverse: boolean,
): { all: Tensor; last: readonly Tensor[] } {
  const ordered = (x: Tensor): Node => {
    if (gates.every((gate, place) => gate === place)) return x.node;
    const blocks = x.chunk(gates.length, 0);
    return cat(
      gates.map((gate) => blocks[gate] as Tensor),
      0,
    ).node;
  };
  const { output, last } = runRecurrentDirection(
    cell,
    steps.node,
    initial.map(({ node }) => node),
    {
      input: ordered(weights.input.transpose(0, 1)),
      hidden: ordered(weights.recurrent.transpose(0, 1)),
      inputBias: weights.biases === null ? null : ordered(weights.biases[0]),
      hiddenBias: weights.biases === null ? null : ordered(weights.biases[1]),
      projection: null,
    },
    { reverse, lengths: lengths === null ? null : lengths.reshape([batch, 1]).node },
  );
  return { all: wrap(output), last: last.map(wrap) };
}

interface Kind {
  readonly gates: number;
  readonly states: number;
  readonly activations: readonly string[];
  /** The layer of the framework that it is, unless an option makes it another one. */
  standard(call: Call<RecurrentAttributes>, activations: readonly string[]): StandardCell | null;
  step(functions: readonly Activation[], call: Call<RecurrentAttributes>): Step;
}

/** Runs all directions of an operator: X, W, R, B, sequence_lens, initial_h, and what follows. */
function recurrent(call: Call<RecurrentAttributes>, kind: Kind): Result[] {
  const { attributes } = call;
  const { direction, layout } = attributes;
  const given = call.tensor(0);
  const steps = layout === 1 ? given.transpose(0, 1) : given;
  const [w, r] = [call.tensor(1), call.tensor(2)];
  const directions = direction === 'bidirectional' ? 2 : 1;
  const hidden = r.shape[2] ?? 0;
  const batch = steps.shape[1] ?? 0;
  const fits =
    steps.ndim === 3 &&
    w.ndim === 3 &&
    w.shape[0] === directions &&
    w.shape[1] === kind.gates * hidden &&
    w.shape[2] === steps.shape[2];
  if (!fits) {
    throw new ShapeError(`weights ${formatShape(w.shape)} do not fit ${formatShape(given.shape)}`);
  }
  const functions = activationsOf(attributes, kind.activations, directions);
  const lengths = call.has(4) ? call.tensor(4).to('int32') : null;
  const runs = Array.from({ length: directions }, (_, d) => {
    const biases = call.optional(3)?.select(0, d).chunk(2, 0) ?? null;
    const weights: Weights = {
      input: w.select(0, d).transpose(0, 1),
      recurrent: r.select(0, d).transpose(0, 1),
      biases: biases === null ? null : [biases[0] as Tensor, biases[1] as Tensor],
      peepholes: call.optional(7)?.select(0, d) ?? null,
    };
    const initial = Array.from({ length: kind.states }, (_, k) => {
      const state = call.optional(5 + k);
      if (state === null) return full([batch, hidden], 0, { dtype: steps.dtype });
      return state.select(layout === 1 ? 1 : 0, d);
    });
    const own = functions.slice(d * kind.activations.length, (d + 1) * kind.activations.length);
    const reverse = direction === 'reverse' || d === 1;
    const layer = { steps, batch, hidden, lengths };
    const names = namesOf(attributes, kind.activations, directions)
      .slice(d * kind.activations.length, (d + 1) * kind.activations.length)
      .map((name) => name.toLowerCase());
    const isPlain = clipOf(attributes) === null && weights.peepholes === null;
    const standard = isPlain && (steps.shape[0] ?? 0) > 0 ? kind.standard(call, names) : null;
    if (standard !== null) return runStandard(standard, layer, weights, initial, reverse);
    return runDirection(layer, weights, initial, kind.step(own, call), reverse);
  });
  const type = call.type(0);
  // [steps, directions, batch, hidden], or with batches first.
  const all = stack(
    runs.map((run) => run.all),
    1,
  );
  const lasts = Array.from({ length: kind.states }, (_, k) =>
    as(
      type,
      stack(
        runs.map((run) => run.last[k] as Tensor),
        layout === 1 ? 1 : 0,
      ),
    ),
  );
  return [as(type, layout === 1 ? all.permute([2, 0, 1, 3]) : all), ...lasts];
}

/** Bounds what goes into an activation. */
function clipped(call: Call<RecurrentAttributes>): (x: Tensor) => Tensor {
  const clip = clipOf(call.attributes);
  return clip === null ? (x) => x : (x) => x.clamp(-clip, clip);
}

function clipOf({ clip }: RecurrentAttributes): number | null {
  return clip === undefined || clip <= 0 ? null : clip;
}

function plus(x: Tensor, bias: Tensor | undefined): Tensor {
  return bias === undefined ? x : x.add(bias);
}

/** Whether the reset gate acts after the product, as in PyTorch. */
function resetsAfter({ attributes }: Call<RecurrentAttributes>): boolean {
  return 'linear_before_reset' in attributes && attributes.linear_before_reset === true;
}

/** Whether one gate both takes in and forgets. */
function isCoupled({ attributes }: Call<RecurrentAttributes>): boolean {
  return 'input_forget' in attributes && attributes.input_forget === true;
}

const RNN: Kind = {
  gates: 1,
  states: 1,
  activations: ['Tanh'],
  standard(_, [f]) {
    const cell = f === 'tanh' ? TANH : f === 'relu' ? RELU : null;
    return cell === null ? null : { cell, gates: [0] };
  },
  step([f = (x) => x], call) {
    const clip = clipped(call);
    return (x, [h], { recurrent, biases }) => [
      f(clip(plus(x.add((h as Tensor).matmul(recurrent)), biases?.[1]))),
    ];
  },
};

const GRU: Kind = {
  gates: 3,
  states: 1,
  activations: ['Sigmoid', 'Tanh'],
  standard(call, names) {
    const isStandard = resetsAfter(call) && names.join() === 'sigmoid,tanh';
    return isStandard ? { cell: GRU_CELL, gates: [1, 0, 2] } : null;
  },
  step([f = (x) => x, g = (x) => x], call) {
    const clip = clipped(call);
    const resetAfter = resetsAfter(call);
    return (x, [before], { recurrent, biases }) => {
      const h = before as Tensor;
      const hidden = h.shape[1] ?? 0;
      const [xz, xr, xh] = parts(x, 3) as [Tensor, Tensor, Tensor];
      const [bz, br, bh] = biases === null ? [] : parts(biases[1], 3);
      const [rz, rr, rh] = parts(recurrent, 3) as [Tensor, Tensor, Tensor];
      const z = f(clip(plus(xz.add(h.matmul(rz)), bz)));
      const r = f(clip(plus(xr.add(h.matmul(rr)), br)));
      const memory = resetAfter ? r.mul(plus(h.matmul(rh), bh)) : plus(r.mul(h).matmul(rh), bh);
      const candidate = g(clip(xh.add(memory.reshape([-1, hidden]))));
      return [candidate.add(z.mul(h.sub(candidate)))];
    };
  },
};

const LSTM: Kind = {
  gates: 4,
  states: 2,
  activations: ['Sigmoid', 'Tanh', 'Tanh'],
  standard(call, names) {
    const isStandard = !isCoupled(call) && names.join() === 'sigmoid,tanh,tanh';
    return isStandard ? { cell: LSTM_CELL, gates: [0, 2, 3, 1] } : null;
  },
  step([f = (x) => x, g = (x) => x, h = (x) => x], call) {
    const clip = clipped(call);
    const coupled = isCoupled(call);
    return (x, [before, cell], { recurrent, biases, peepholes }) => {
      const c = cell as Tensor;
      const whole = plus(x.add((before as Tensor).matmul(recurrent)), biases?.[1]);
      const [xi, xo, xf, xc] = parts(whole, 4) as [Tensor, Tensor, Tensor, Tensor];
      const [pi, po, pf] = peepholes === null ? [] : parts(peepholes, 3);
      const see = (sum: Tensor, weight: Tensor | undefined, state: Tensor): Tensor =>
        clip(weight === undefined ? sum : sum.add(state.mul(weight)));
      const input = f(see(xi, pi, c));
      const forget = coupled ? input.rsub(1) : f(see(xf, pf, c));
      const next = forget.mul(c).add(input.mul(g(clip(xc))));
      const output = f(see(xo, po, next));
      return [output.mul(h(next)), next];
    };
  },
};

export const recurrents: readonly Operator[] = [
  defineOperator({
    name: 'RNN',
    since: 7,
    inputs: [3, 6],
    outputs: [0, 2],
    attributes: ATTRIBUTES,
    run: (call) => recurrent(call, RNN),
  }),
  defineOperator({
    name: 'GRU',
    since: 7,
    inputs: [3, 6],
    outputs: [0, 2],
    attributes: { ...ATTRIBUTES, linear_before_reset: flag() },
    run: (call) => recurrent(call, GRU),
  }),
  defineOperator({
    name: 'LSTM',
    since: 7,
    inputs: [3, 8],
    outputs: [0, 3],
    attributes: { ...ATTRIBUTES, input_forget: flag() },
    run: (call) => recurrent(call, LSTM),
  }),
];
