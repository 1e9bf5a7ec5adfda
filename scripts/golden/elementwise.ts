// Adapters of the family `elementwise`.

import { optionsOf, textOf } from './attributes.ts';
import { call, callMethod } from './framework.ts';
import type { Attributes } from './manifest.ts';
import type { Adapter, AdapterTable, Inputs } from './runner.ts';

/** Ops of one tensor, and perhaps of options, by PyTorch's name and ours. */
const UNARY: Readonly<Record<string, string>> = {
  abs: 'abs',
  neg: 'neg',
  sign: 'sign',
  square: 'square',
  exp: 'exp',
  exp2: 'exp2',
  expm1: 'expm1',
  log: 'log',
  log2: 'log2',
  log10: 'log10',
  log1p: 'log1p',
  sqrt: 'sqrt',
  rsqrt: 'rsqrt',
  reciprocal: 'reciprocal',
  sin: 'sin',
  cos: 'cos',
  tan: 'tan',
  asin: 'asin',
  acos: 'acos',
  atan: 'atan',
  sinh: 'sinh',
  cosh: 'cosh',
  tanh: 'tanh',
  asinh: 'asinh',
  acosh: 'acosh',
  atanh: 'atanh',
  erf: 'erf',
  erfc: 'erfc',
  erfinv: 'erfinv',
  lgamma: 'lgamma',
  sigmoid: 'sigmoid',
  floor: 'floor',
  ceil: 'ceil',
  round: 'round',
  trunc: 'trunc',
  frac: 'frac',
  logical_not: 'logicalNot',
  isnan: 'isnan',
  isinf: 'isinf',
  isfinite: 'isfinite',
  logsigmoid: 'logsigmoid',
  relu: 'relu',
  relu6: 'relu6',
  selu: 'selu',
  gelu: 'gelu',
  silu: 'silu',
  mish: 'mish',
  softplus: 'softplus',
  softsign: 'softsign',
  tanhshrink: 'tanhshrink',
  hardtanh: 'hardtanh',
  hardswish: 'hardswish',
  hardsigmoid: 'hardsigmoid',
  logit: 'logit',
  nan_to_num: 'nanToNum',
};

/** Ops of two operands, the second of which may be the number `attrs.other`. */
const BINARY: Readonly<Record<string, string>> = {
  add: 'add',
  sub: 'sub',
  rsub: 'rsub',
  mul: 'mul',
  div: 'div',
  floor_divide: 'floorDivide',
  fmod: 'fmod',
  remainder: 'remainder',
  maximum: 'maximum',
  minimum: 'minimum',
  atan2: 'atan2',
  hypot: 'hypot',
  logaddexp: 'logaddexp',
  xlogy: 'xlogy',
  eq: 'eq',
  ne: 'ne',
  lt: 'lt',
  le: 'le',
  gt: 'gt',
  ge: 'ge',
  logical_and: 'logicalAnd',
  logical_or: 'logicalOr',
  logical_xor: 'logicalXor',
};

function unary(name: string): Adapter {
  return ([x], attrs) => call(name, x, optionsOf(attrs));
}

function binary(name: string): Adapter {
  return ([x, y], attrs) => call(name, x, y ?? attrs['other'], optionsOf(attrs, 'other'));
}

/** The tensor, then these attributes by position. */
function positional(name: string, ...names: readonly string[]): Adapter {
  return ([x], attrs) => call(name, x, ...names.map((key) => attrs[key]));
}

function power([x, y]: Inputs, attrs: Attributes): ReturnType<typeof call> {
  if (attrs['base'] !== undefined) return call('pow', attrs['base'], x);
  return call('pow', x, y ?? attrs['exponent']);
}

function tableOf(
  names: Readonly<Record<string, string>>,
  make: (name: string) => Adapter,
): AdapterTable {
  return Object.fromEntries(Object.entries(names).map(([op, name]) => [op, make(name)]));
}

export const elementwise: AdapterTable = {
  ...tableOf(UNARY, unary),
  ...tableOf(BINARY, binary),
  pow: power,
  elu: positional('elu', 'alpha'),
  celu: positional('celu', 'alpha'),
  leaky_relu: positional('leakyRelu', 'negative_slope'),
  softshrink: positional('softshrink', 'lambd'),
  hardshrink: positional('hardshrink', 'lambd'),
  threshold: positional('threshold', 'threshold', 'value'),
  glu: positional('glu', 'dim'),
  prelu: ([x, weight]) => call('prelu', x, weight),
  clamp: ([x, low, high], attrs) => call('clamp', x, low ?? attrs['min'], high ?? attrs['max']),
  lerp: ([start, end, weight], attrs) => call('lerp', start, end, weight ?? attrs['weight']),
  addcmul: ([x, a, b], attrs) => call('addcmul', x, a, b, optionsOf(attrs)),
  addcdiv: ([x, a, b], attrs) => call('addcdiv', x, a, b, optionsOf(attrs)),
  where: ([condition, a, b]) => call('where', condition, a, b),
  to: ([x], attrs) => callMethod(x, 'to', textOf(attrs, 'dtype')),
};
