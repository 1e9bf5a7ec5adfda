// Activation functions that have an op of their own.
import { sameShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import type { Image, TracedGraph } from './graph.ts';
import {
  any,
  as,
  type Composite,
  constant,
  either,
  type Found,
  type Match,
  number,
  oneNode,
  op,
  type Pattern,
  valueOf,
} from './pattern.ts';

const x = any('x');
const isPositive = as('positive', op('greater', x, constant(0)));

/** Whether the result has the shape of x: an operand may have enlarged it. */
function keepsShape(found: Found, node: Node, graph: TracedGraph): boolean {
  return graph.everywhere([found['x'] as Node, node], (a, b) =>
    sameShape((a as Image).shape, (b as Image).shape),
  );
}

/** x, -x or 0: the part of x on one side of 0. */
const below = op('select', any('positive'), constant(0), x);
const above = op('select', any('positive'), x, constant(0));

/** log(1 + exp(x)) in two branches. */
const stableSoftplus: Pattern = op(
  'select',
  isPositive,
  op('add', x, op('log1p', op('exp', op('neg', above)))),
  op('log1p', op('exp', below)),
);

const halfX = op('mul', x, constant(0.5));
const cube = op('mul', op('mul', x, x), op('mul', x, constant(0.044715)));
const tanhArgument = op('mul', op('add', x, cube), constant(Math.sqrt(2 / Math.PI)));

function gelu(approximate: 'none' | 'tanh', inner: Pattern): Composite {
  return {
    name: `Gelu (${approximate})`,
    root: 'mul',
    sinceOpset: 20,
    pattern: op('mul', halfX, op('add', constant(1), inner)),
    match: (found) => oneNode('Gelu', found, ['x'], { approximate }),
  };
}

/** Bounds as operands: Clip takes numbers without axes. */
function clip(found: Found): Match {
  return oneNode('Clip', found, ['x', 'low', 'high']);
}

function exponential(found: Found): Match | null {
  const [positive, negative] = [valueOf(found, 'above'), valueOf(found, 'below')];
  if (positive === 1) return oneNode('Elu', found, ['x'], { alpha: { float: negative } });
  const alpha = { float: negative / positive };
  return oneNode('Selu', found, ['x'], { alpha, gamma: { float: positive } });
}

/** Scaled x above 0, a scaled exponential below. */
function exponentialUnit(argument: Pattern): Pattern {
  return op(
    'select',
    isPositive,
    op('mul', x, number('above')),
    op('mul', op('expm1', argument), number('below')),
  );
}

const line = op('mul', op('add', x, constant(3)), constant(1 / 6));
const curve = op('mul', op('mul', x, op('add', x, constant(3))), constant(1 / 6));

export const ACTIVATION_COMPOSITES: readonly Composite[] = [
  {
    name: 'LeakyRelu',
    root: 'select',
    pattern: op('select', isPositive, x, op('mul', x, number('slope'))),
    match: (found) =>
      oneNode('LeakyRelu', found, ['x'], { alpha: { float: valueOf(found, 'slope') } }),
  },
  {
    name: 'PRelu',
    root: 'select',
    pattern: op('select', isPositive, x, op('mul', x, any('slope'))),
    match: (found, node, graph) =>
      keepsShape(found, node, graph) ? oneNode('PRelu', found, ['x', 'slope']) : null,
  },
  { name: 'Elu and Selu', root: 'select', pattern: exponentialUnit(below), match: exponential },
  {
    name: 'Celu',
    root: 'select',
    pattern: exponentialUnit(op('div', below, any('below'))),
    match: (found) =>
      valueOf(found, 'above') === 1
        ? oneNode('Celu', found, ['x'], { alpha: { float: valueOf(found, 'below') } })
        : null,
  },
  {
    name: 'Clip',
    root: 'select',
    pattern: op(
      'select',
      op('greaterEqual', x, number('high')),
      any('high'),
      op('select', op('lessEqual', x, number('low')), any('low'), x),
    ),
    match: clip,
  },
  {
    name: 'HardSigmoid',
    root: 'select',
    pattern: op(
      'select',
      op('lessEqual', x, constant(-3)),
      constant(0),
      op('select', op('greaterEqual', x, constant(3)), constant(1), line),
    ),
    match: (found) =>
      oneNode('HardSigmoid', found, ['x'], { alpha: { float: 1 / 6 }, beta: { float: 0.5 } }),
  },
  {
    name: 'HardSwish',
    root: 'select',
    sinceOpset: 14,
    pattern: op(
      'select',
      op('lessEqual', x, constant(-3)),
      constant(0),
      op('select', op('greater', x, constant(3)), x, curve),
    ),
    match: (found) => oneNode('HardSwish', found, ['x']),
  },
  {
    name: 'Softplus',
    root: 'select',
    pattern: either(
      stableSoftplus,
      // Beyond 20 it is x, to the last bit of float32.
      op('select', op('greater', x, constant(20)), x, stableSoftplus),
    ),
    match: (found, node) => (node.dtype === 'float64' ? null : oneNode('Softplus', found, ['x'])),
  },
  gelu('none', op('erf', op('mul', x, constant(Math.SQRT1_2)))),
  gelu('tanh', op('tanh', tanhArgument)),
];
