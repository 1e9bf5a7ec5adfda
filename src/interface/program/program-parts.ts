// What a program is made of, and the surgery that concerns its ends: cutting, joining, renaming.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { isTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { PortRecord } from '../lite/header.ts';
import type { ProgramNode } from './program-node.ts';
import { type ProgramDim, ProgramSizes, readableShape, SizesIn } from './sizes.ts';
import { checkForm, formOf } from './splice.ts';
import { clone, endValue, orderOf, rewire, type Update, type Value } from './value-graph.ts';

/** An input or result. */
export interface NamedValue {
  readonly name: string;
  readonly value: Value;
}

/** An input or output: its name, dtype and shape. */
export type ProgramPort = Pick<ProgramNode, 'name' | 'dtype' | 'shape'>;

/** Where a body stands. */
export interface BodyPlace {
  /** The numbers of the iterations of the loops around it, uint32 of shape [], the innermost last. */
  readonly iterations: readonly Value[];
}

/** What a program is made of. Names are wishes: who has one that is taken gets another. */
export interface ProgramParts {
  readonly name: string;
  readonly inputs: readonly NamedValue[];
  readonly outputs: readonly NamedValue[];
  readonly updates: readonly Update[];
  /** Those that any size follows, and maybe more. */
  readonly dims: readonly ProgramDim[];
  /** Of the body of a loop or choice; null for a program on its own. */
  readonly body: BodyPlace | null;
  readonly weightNames: ReadonlyMap<Tensor, string>;
  readonly nodeNames: ReadonlyMap<number, string>;
}

export function checkRecord(op: string, value: unknown, expected: string): void {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !isTensor(value)) {
    return;
  }
  throw new ArgumentError(`expected ${expected}, got ${describeValue(value)}`, { op });
}

/** `wish`, or the first of `wish_1`, `wish_2`... that is not taken. */
export function freeName(wish: string, taken: { has(name: string): boolean }): string {
  let name = wish;
  for (let i = 1; taken.has(name); i++) name = `${wish}_${i}`;
  return name;
}

function checkDistinct(op: string, what: string, list: readonly NamedValue[]): void {
  const twice = list.find(({ name }, i) => list.findIndex((each) => each.name === name) < i);
  if (twice === undefined) return;
  throw new ArgumentError(`two ${what} are called '${twice.name}'`, {
    op,
    hint: `rename({ ${what}: { '${twice.name}': 'another' } }) before`,
  });
}

function valueIn({ value }: { readonly value: Value }): Value {
  return value;
}

/** Says that a program has no input or output of this name. */
export function unknownEnd(
  { name: op, inputs, outputs }: ProgramParts,
  what: 'input' | 'output',
  name: string,
): ArgumentError {
  const list = what === 'input' ? inputs : outputs;
  const names = list.map((each) => each.name).join(', ') || 'none';
  return new ArgumentError(`there is no ${what} '${name}'; there are: ${names}`, { op });
}

/** Inputs that are given by name, in the order of the program's. */
export function inputsInOrder(
  parts: ProgramParts,
  given: Readonly<Record<string, Tensor>>,
): readonly Tensor[] {
  const { name: op, inputs } = parts;
  checkRecord(op, given, 'inputs by name');
  for (const name of Object.keys(given)) {
    if (!inputs.some((input) => input.name === name)) throw unknownEnd(parts, 'input', name);
  }
  return inputs.map(({ name, value }) => {
    const tensor = given[name];
    if (tensor !== undefined) return tensor;
    throw new ArgumentError(`input '${name}' is missing: ${formOf(value)}`, { op });
  });
}

export function portOf({ name, value: { dtype, shape } }: NamedValue): ProgramPort {
  return { name, dtype, shape: readableShape(shape) };
}

export function portRecordOf({ name, value: { dtype, shape } }: NamedValue): PortRecord {
  return { name, dtype, shape };
}

/** The sizes of a call must follow from its inputs; bodies get them from around. */
export function checkTold({ name, inputs, body }: ProgramParts, sizes: ProgramSizes): void {
  if (sizes.dims.length === 0 || body !== null) return;
  const [untold] = sizes.untold(inputs.map(portRecordOf));
  if (untold === undefined) return;
  throw new ArgumentError(`no input tells how large '${untold}' is`, {
    op: name,
    hint: 'keep an input that has it, or cut where a node has it as a size',
  });
}

/** Every value of a program, inputs first. */
export function orderOfParts({ inputs, outputs, updates }: ProgramParts): Value[] {
  return orderOf([...inputs, ...outputs, ...updates].map(valueIn));
}

/** A program as text, a line for each of its `nodes`. */
export function printed(
  { name, outputs, updates, nodeNames }: ProgramParts,
  weights: ReadonlyMap<string, Tensor>,
  nodes: readonly ProgramNode[],
): string {
  const weightNames = new Map([...weights].map(([weight, tensor]) => [tensor, weight]));
  return [
    `program ${name}`,
    ...nodes.map(String),
    ...updates.map(
      (each) => `${weightNames.get(each.tensor)} becomes ${nodeNames.get(each.value.id)}`,
    ),
    ...outputs.map((each) => `return ${each.name} = ${nodeNames.get(each.value.id)}`),
  ].join('\n  ');
}

/** A program in one line. */
export function summaryOf(
  { name, inputs, outputs }: ProgramParts,
  nodes: readonly ProgramNode[],
  weights: ReadonlyMap<string, Tensor>,
): string {
  const ends = (list: readonly NamedValue[]): string =>
    list.map((each) => `${each.name}: ${formOf(each.value)}`).join(', ') || 'nothing';
  const counts = `${nodes.length} nodes, ${weights.size} weights`;
  return `Program(${name}: ${ends(inputs)} => ${ends(outputs)}; ${counts}) print() shows them`;
}

/** The input of a value that can stand in its place: the only one of its form, or the one to `keep`. */
export function keptInput(
  op: string,
  name: string,
  value: Value,
  sizes: ProgramSizes,
  keep: number | undefined,
): Value {
  const fits = (input: Value | undefined): boolean =>
    input?.dtype === value.dtype && sizes.same(input.shape, value.shape);
  const fitting = [...value.inputs.keys()].filter((i) => fits(value.inputs[i]));
  const [first] = fitting;
  const isClear = new Set(fitting.map((i) => value.inputs[i])).size === 1;
  const chosen = keep ?? (isClear ? first : undefined);
  if (chosen !== undefined && fitting.includes(chosen)) return value.inputs[chosen] as Value;
  const list = value.inputs.map((input) => formOf(input)).join(', ') || 'none';
  throw new ArgumentError(
    `one input of '${name}' must be ${formOf(value)}, as it is; its inputs: ${list}`,
    {
      op,
      hint: fitting.length > 1 ? `say which: one of ${fitting.join(', ')}` : 'use replace',
    },
  );
}

/** The same with other values in the place of some that are computed, or weights. */
export function rewireParts(
  parts: ProgramParts,
  standIns: ReadonlyMap<Value, Value>,
): ProgramParts {
  const at = rewire(orderOfParts(parts), standIns);
  const { outputs, updates } = parts;
  return {
    ...parts,
    outputs: outputs.map(({ name, value }) => ({ name, value: at(value) })),
    updates: updates.map(({ tensor, value }) => ({ tensor, value: at(value) })),
  };
}

/** Other names for inputs and outputs, by the old ones. */
export function renameParts(
  parts: ProgramParts,
  names: {
    readonly inputs?: Readonly<Record<string, string>>;
    readonly outputs?: Readonly<Record<string, string>>;
  },
): ProgramParts {
  const renamed = (what: 'input' | 'output'): NamedValue[] => {
    const wanted = names[`${what}s`] ?? {};
    checkRecord('rename', wanted, 'new names by old ones');
    const list = parts[`${what}s`];
    const unknown = Object.keys(wanted).find((old) => !list.some(({ name }) => name === old));
    if (unknown !== undefined) throw unknownEnd(parts, what, unknown);
    const result = list.map(({ name, value }) => ({
      name: Object.hasOwn(wanted, name) ? String(wanted[name]) : name,
      value,
    }));
    checkDistinct('rename', `${what}s`, result);
    return result;
  };
  const outputs = renamed('output');
  // The name of an input stands in its value too.
  const standIns = new Map<Value, Value>();
  const inputs = renamed('input').map(({ name, value }) => {
    const input: Value = { ...value, source: { kind: 'input', name } };
    standIns.set(value, input);
    return { name, value: input };
  });
  return { ...rewireParts({ ...parts, outputs }, standIns), inputs };
}

/** The part from `from` on, which become inputs, to `to`, or to the outputs that there are. */
export function cutParts(
  parts: ProgramParts,
  from: readonly NamedValue[],
  to: readonly NamedValue[] | null,
): ProgramParts {
  const op = 'cut';
  const standIns = new Map<Value, Value>();
  const inputs = from.map(({ name, value }): NamedValue => {
    const input = endValue({ kind: 'input', name }, value.dtype, value.shape);
    standIns.set(value, input);
    return { name, value: input };
  });
  const at = rewire(orderOfParts(parts), standIns);
  const outputs = (to ?? parts.outputs).map(({ name, value }) => ({ name, value: at(value) }));
  if (outputs.length === 0) throw new ArgumentError('there must be an output', { op });
  const needed = new Set(orderOf(outputs.map(valueIn)));
  const unused = inputs.find(({ value }) => !needed.has(value));
  if (unused !== undefined) {
    throw new ArgumentError(`no output depends on '${unused.name}' alone`, { op });
  }
  const updates = parts.updates
    .map(({ tensor, value }) => ({ tensor, value: at(value) }))
    .filter(({ value }) => isComputable(value, needed, to === null ? [] : outputs));
  const rest = parts.inputs.filter(({ value }) => !standIns.has(value) && needed.has(value));
  const all = [...inputs, ...rest];
  checkDistinct(op, 'inputs', all);
  checkDistinct(op, 'outputs', outputs);
  return { ...parts, inputs: all, outputs, updates };
}

/**
 * Whether an update of a weight still belongs to what computes `needed`: it takes part of that and no
 * input that is gone, and is not computed from where the program was cut.
 */
function isComputable(
  update: Value,
  needed: ReadonlySet<Value>,
  cutAt: readonly NamedValue[],
): boolean {
  const order = orderOf([update]);
  const isInput = ({ source }: Value): boolean => source?.kind === 'input';
  if (order.some((value) => isInput(value) && !needed.has(value))) return false;
  if (cutAt.some(({ value }) => value.source === null && order.includes(value))) return false;
  return order.some((value) => value.source?.kind !== 'number' && needed.has(value));
}

/** One program followed by another, of whose inputs some are outputs of the first. */
export function mergeParts(
  mine: ProgramParts,
  its: ProgramParts,
  connect: Readonly<Record<string, string>>,
): ProgramParts {
  const op = 'merge';
  const dims = sharedDims(mine.dims, its.dims);
  const sizes = sizesOfParts(op, dims, [...orderOfParts(mine), ...orderOfParts(its)]);
  const standIns = connections(mine, its, connect, sizes);
  const connected = new Set(standIns.keys());
  const order = orderOfParts(its);
  shareWeights(mine, order, standIns);
  const cloned = clone(order, standIns);
  const at = (value: Value): Value => cloned.get(value) as Value;
  const moved = ({ name, value }: NamedValue): NamedValue => ({ name, value: at(value) });
  const updates = its.updates.map(({ tensor, value }) => ({ tensor, value: at(value) }));
  const inputs = [
    ...mine.inputs,
    ...its.inputs.filter(({ value }) => !connected.has(value)).map(moved),
  ];
  const outputs = [
    ...its.outputs.map(moved),
    ...mine.outputs.filter(({ name }) => !Object.hasOwn(connect, name)),
  ];
  checkDistinct(op, 'inputs', inputs);
  checkDistinct(op, 'outputs', outputs);
  const nodeNames = new Map(mine.nodeNames);
  for (const value of order) {
    const name = its.nodeNames.get(value.id);
    const { id } = at(value);
    if (name !== undefined && !nodeNames.has(id)) nodeNames.set(id, name);
  }
  const before = mine.updates.filter(
    ({ tensor }) => !updates.some((update) => update.tensor === tensor),
  );
  return {
    name: mine.name,
    inputs,
    outputs,
    updates: [...before, ...updates],
    dims,
    body: mine.body,
    weightNames: new Map([...its.weightNames, ...mine.weightNames]),
    nodeNames,
  };
}

/** The dimensions of both: those of the same name are one, and have the sizes that both allow. */
function sharedDims(mine: readonly ProgramDim[], its: readonly ProgramDim[]): ProgramDim[] {
  const dims = new Map(mine.map((each) => [each.dim.name, each]));
  for (const { dim, size } of its) {
    const own = dims.get(dim.name);
    const both = own === undefined ? dim : own.dim.and('merge', dim);
    const usual = [own?.size, size].find((each) => each !== undefined && both.allows(each));
    dims.set(dim.name, { dim: both, size: usual ?? both.sizes?.[0] ?? both.min });
  }
  return [...dims.values()];
}

/** The dimensions that sizes in these values follow. */
export function sizesOfParts(
  op: string,
  dims: readonly ProgramDim[],
  order: readonly Value[],
): ProgramSizes {
  if (dims.length === 0) return new ProgramSizes(op, []);
  const used = new SizesIn();
  for (const { shape, attrs, source } of order) {
    used.add(shape);
    used.add(attrs);
    if (source?.kind === 'number') used.add(source.value);
    else if (source?.kind === 'random') used.add(source.draw.count);
  }
  const followed = dims.filter(({ dim }) => used.names.has(dim.name));
  return new ProgramSizes(op, followed, used.step);
}

/** For inputs of `its` the outputs of `mine` that they become. */
function connections(
  mine: ProgramParts,
  its: ProgramParts,
  connect: Readonly<Record<string, string>>,
  sizes: ProgramSizes,
): Map<Value, Value> {
  const standIns = new Map<Value, Value>();
  for (const [from, to] of Object.entries(connect)) {
    const output = mine.outputs.find(({ name }) => name === from);
    if (output === undefined) throw unknownEnd(mine, 'output', from);
    const input = its.inputs.find(({ name }) => name === to);
    if (input === undefined) throw unknownEnd(its, 'input', to);
    const [given, taken] = [output.value, input.value];
    checkForm('merge', `output '${from}'`, given, taken, sizes, `input '${to}'`);
    if (standIns.has(input.value)) {
      throw new ArgumentError(`input '${to}' is connected twice`, { op: 'merge' });
    }
    standIns.set(input.value, output.value);
  }
  return standIns;
}

/** Weights that both have are one, and the second program sees what the first has assigned. */
function shareWeights(
  mine: ProgramParts,
  order: readonly Value[],
  standIns: Map<Value, Value>,
): void {
  const now = new Map<Tensor, Value>();
  for (const value of orderOfParts(mine)) {
    if (value.source?.kind === 'weight') now.set(value.source.tensor, value);
  }
  for (const { tensor, value } of mine.updates) now.set(tensor, value);
  for (const value of order) {
    const same = value.source?.kind === 'weight' ? now.get(value.source.tensor) : undefined;
    if (same !== undefined) standIns.set(value, same);
  }
}
