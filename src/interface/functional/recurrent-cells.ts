// One time step of each recurrent network, forward and backward, on nodes. A step sees what the
// input contributes to the gates and what the state contributes; the products are made outside.
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';

/** The state that a step takes over from the one before: h, and c for LSTM. */
export type State = readonly Node[];

/** A step's new state, before any projection, and what its gradient wants to see again. */
export interface Step {
  readonly state: State;
  readonly saved: readonly Node[];
}

/** Gradients by both contributions to the gates, and by the state apart from those. */
export interface StepGradient {
  readonly fromInput: Node;
  readonly fromState: Node;
  readonly state: readonly (Node | null)[];
}

export interface RecurrentCell {
  readonly name: string;
  /** Rows of the weights per hidden unit. */
  readonly gates: number;
  /** Tensors in a state. */
  readonly states: 1 | 2;
  /** `input` and `hidden` are [batch, gates * size]. */
  step(input: Node, hidden: Node, state: State): Step;
  /** `grads` are those of the new state. */
  gradient(step: Step, hidden: Node, state: State, grads: readonly Node[]): StepGradient;
}

const one = (like: Node): Node => ops.constant(1, like.dtype);

/** The parts of [batch, count * size] along the last axis. */
function split(x: Node, count: number): Node[] {
  const size = (x.shape[1] as number) / count;
  return Array.from({ length: count }, (_, i) => ops.narrowAxis(x, 1, i * size, size));
}

/** d sigmoid(x) = s (1 - s). */
function throughSigmoid(grad: Node, s: Node): Node {
  return ops.mul(grad, ops.mul(s, ops.sub(one(s), s)));
}

/** d tanh(x) = 1 - t². */
function throughTanh(grad: Node, t: Node): Node {
  return ops.mul(grad, ops.sub(one(t), ops.mul(t, t)));
}

function elman(name: string, apply: (x: Node) => Node, back: (grad: Node, h: Node) => Node) {
  return {
    name,
    gates: 1,
    states: 1,
    step: (input, hidden) => ({ state: [apply(ops.add(input, hidden))], saved: [] }),
    gradient: (step, _hidden, _state, grads) => {
      const grad = back(grads[0] as Node, step.state[0] as Node);
      return { fromInput: grad, fromState: grad, state: [null] };
    },
  } satisfies RecurrentCell as RecurrentCell;
}

export const TANH: RecurrentCell = elman('rnnTanh', ops.tanh, throughTanh);

export const RELU: RecurrentCell = elman('rnnRelu', ops.relu, (grad, h) => {
  const zero = ops.constant(0, h.dtype);
  return ops.select(ops.greater(h, zero), grad, zero);
});

/** Hochreiter and Schmidhuber 1997, with forget gates; gates in the order i, f, g, o. */
export const LSTM: RecurrentCell = {
  name: 'lstm',
  gates: 4,
  states: 2,
  step: (input, hidden, state) => {
    const [a, b, g0, d] = split(ops.add(input, hidden), 4) as [Node, Node, Node, Node];
    const [i, f, o] = [ops.sigmoid(a), ops.sigmoid(b), ops.sigmoid(d)];
    const g = ops.tanh(g0);
    const c = ops.add(ops.mul(f, state[1] as Node), ops.mul(i, g));
    const t = ops.tanh(c);
    return { state: [ops.mul(o, t), c], saved: [i, f, g, o, t] };
  },
  gradient: ({ saved }, _hidden, state, [dh, dcNext]) => {
    const [i, f, g, o, t] = saved as [Node, Node, Node, Node, Node];
    const dc = ops.add(dcNext as Node, throughTanh(ops.mul(dh as Node, o), t));
    const gates = ops.concat(
      [
        throughSigmoid(ops.mul(dc, g), i),
        throughSigmoid(ops.mul(dc, state[1] as Node), f),
        throughTanh(ops.mul(dc, i), g),
        throughSigmoid(ops.mul(dh as Node, t), o),
      ],
      1,
    );
    return { fromInput: gates, fromState: gates, state: [null, ops.mul(dc, f)] };
  },
};

/** Cho et al. 2014, as cuDNN and PyTorch: the reset gate acts after the product; order r, z, n. */
export const GRU: RecurrentCell = {
  name: 'gru',
  gates: 3,
  states: 1,
  step: (input, hidden, [h]) => {
    const [xr, xz, xn] = split(input, 3) as [Node, Node, Node];
    const [hr, hz, hn] = split(hidden, 3) as [Node, Node, Node];
    const r = ops.sigmoid(ops.add(xr, hr));
    const z = ops.sigmoid(ops.add(xz, hz));
    const n = ops.tanh(ops.add(xn, ops.mul(r, hn)));
    return { state: [ops.add(n, ops.mul(z, ops.sub(h as Node, n)))], saved: [r, z, n] };
  },
  gradient: ({ saved }, hidden, [h], [dh]) => {
    const [r, z, n] = saved as [Node, Node, Node];
    const hn = split(hidden, 3)[2] as Node;
    const grad = dh as Node;
    const dn = throughTanh(ops.mul(grad, ops.sub(one(z), z)), n);
    const dz = throughSigmoid(ops.mul(grad, ops.sub(h as Node, n)), z);
    const dr = throughSigmoid(ops.mul(dn, hn), r);
    return {
      fromInput: ops.concat([dr, dz, dn], 1),
      fromState: ops.concat([dr, dz, ops.mul(dn, r)], 1),
      state: [ops.mul(grad, z)],
    };
  },
};
