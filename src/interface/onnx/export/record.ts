// The graph of a function: it is run once on placeholders, whose values nobody may read.
import { describeValue } from '../../../base/checks.ts';
import { DTYPES, type DType } from '../../../base/dtype.ts';
import { ArgumentError, TraceError } from '../../../base/errors.ts';
import { checkShape, type Shape } from '../../../base/shape.ts';
import { newMark, type Node } from '../../../graph/node.ts';
import type { RecordedDirection } from '../../functional/recurrent-layer.ts';
import { Module } from '../../nn/module.ts';
import { engine } from '../../tensor/engine.ts';
import { isTensor, standIn } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { EvaluationObserver } from '../../transform/observers.ts';
import { evaluator } from '../../transform/install.ts';
import { nextNodeId } from '../../transform/tracing/tape.ts';
import { settings } from '../../transform/settings.ts';
import { userLine } from '../../transform/user-line.ts';

/** An input by its shape; float32 if no dtype is given. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype?: DType;
}

/**
 * One argument of the function to be exported: a tensor of the right shape and dtype, `{ shape, dtype }`,
 * a list of sizes (float32), or a list or record of those. Anything else is passed as it is.
 */
export type ExampleArgument =
  | Tensor
  | TensorSpec
  | Shape
  | readonly ExampleArgument[]
  | { readonly [name: string]: ExampleArgument }
  | string
  | number
  | boolean
  | null
  | undefined;

/** What is exported: a module's `forward`, or a function of tensors. */
export type ExportTarget = Module | ((...inputs: never[]) => unknown);

/** An input of the graph. */
export interface InputSlot {
  /** Place in the arguments: `0`, `1.mask`. */
  readonly path: string;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** One run of the function. */
export interface Recording {
  /** Placeholders, in the order of the slots. */
  readonly inputs: readonly Node[];
  readonly outputs: readonly { readonly path: string; readonly node: Node }[];
  /** Loops that are directions of recurrent layers. */
  readonly directions: ReadonlyMap<Node, RecordedDirection>;
  /** The user's line on which a node was made, or ''. */
  lineOf(node: Node): string;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isSizes(value: unknown): value is Shape {
  return Array.isArray(value) && value.length > 0 && value.every(Number.isInteger);
}

/** Whether an argument stands for one tensor; a list of numbers are sizes. */
function slotOf(op: string, path: string, value: unknown): InputSlot | null {
  if (isTensor(value)) return { path, shape: value.shape, dtype: value.dtype };
  if (isSizes(value)) {
    checkShape(op, value);
    return { path, shape: value, dtype: 'float32' };
  }
  if (!isRecord(value) || !Array.isArray(value['shape'])) return null;
  const { shape, dtype = 'float32' } = value;
  checkShape(op, shape as Shape);
  if (!DTYPES.includes(dtype as DType)) {
    throw new ArgumentError(`there is no dtype ${describeValue(dtype)}`, { op });
  }
  return { path, shape: shape as Shape, dtype: dtype as DType };
}

/** The arguments with another thing in the place of each tensor. */
function mapSlots(
  op: string,
  path: string,
  value: unknown,
  replace: (slot: InputSlot) => unknown,
): unknown {
  const slot = slotOf(op, path, value);
  if (slot !== null) return replace(slot);
  const join = (name: string): string => (path === '' ? name : `${path}.${name}`);
  if (Array.isArray(value)) {
    return value.map((item: unknown, i) => mapSlots(op, join(String(i)), item, replace));
  }
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, mapSlots(op, join(name), item, replace)]),
  );
}

/** All tensors of the arguments. Throws ArgumentError if there are none. */
export function inputSlots(op: string, args: readonly ExampleArgument[]): InputSlot[] {
  if (!Array.isArray(args)) {
    throw new ArgumentError(
      `inputs must be a list, one entry per argument, got ${describeValue(args)}`,
      {
        op,
        hint: '{ inputs: [x] }',
      },
    );
  }
  const slots: InputSlot[] = [];
  args.forEach((value: unknown, i) => mapSlots(op, String(i), value, (slot) => slots.push(slot)));
  if (slots.length === 0) {
    throw new ArgumentError('inputs holds no tensor and no shape', {
      op,
      hint: 'give an example of each argument: { inputs: [x] } or { inputs: [[1, 3, 224, 224]] }',
    });
  }
  return slots;
}

/** Zeros: nothing reads them, and what the function leaves behind stays computable. */
function placeholder({ dtype }: InputSlot, shape: Shape): Tensor {
  return standIn(shape, dtype);
}

/** Sees what is made, refuses reading. */
class Watch implements EvaluationObserver {
  readonly made: Node[] = [];
  readonly lines: string[] = [];
  readonly #op: string;

  constructor(op: string) {
    this.#op = op;
  }

  created(node: Node): void {
    this.made.push(node);
    this.lines.push(userLine());
  }

  reading(): void {
    const line = userLine();
    throw new TraceError(`the function reads a value${line === '' ? '' : ` (at ${line})`}`, {
      op: this.#op,
      hint: 'the file must compute it: keep to tensors, or read it before the export',
    });
  }

  /** A step inside would compute on placeholders. */
  stepping(): boolean {
    return true;
  }
}

/** The tensors of a result with their places; throws for what is no tensor. */
function outputsOf(op: string, path: string, value: unknown): Recording['outputs'] {
  if (isTensor(value)) return [{ path, node: value.node }];
  if (value === undefined || value === null) return [];
  const join = (name: string): string => (path === '' ? name : `${path}.${name}`);
  if (Array.isArray(value)) {
    return value.flatMap((item: unknown, i) => outputsOf(op, join(String(i)), item));
  }
  if (isRecord(value)) {
    return Object.entries(value).flatMap(([name, item]) => outputsOf(op, join(name), item));
  }
  throw new ArgumentError(`the result holds ${describeValue(value)}, which is no tensor`, {
    op,
    hint: 'return tensors, or lists and records of them',
  });
}

function callTarget(target: ExportTarget, args: readonly unknown[]): unknown {
  if (target instanceof Module) {
    return (target.forward as (...inputs: readonly unknown[]) => unknown)(...args);
  }
  return (target as (...inputs: readonly unknown[]) => unknown)(...args);
}

/** Values from before the call that the new nodes use: they become constants. */
function computeClosedOver(outputs: readonly Node[], firstId: number): void {
  const mark = newMark();
  const closedOver: Node[] = [];
  const stack = [...outputs];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node.mark === mark || node.storage !== null) continue;
    node.mark = mark;
    if (node.id >= firstId) stack.push(...node.inputs);
    else if (node.op.lower.kind !== 'leaf') closedOver.push(node);
  }
  if (closedOver.length > 0) engine().evaluate(closedOver);
}

function lineFinder({ made, lines }: Watch): (node: Node) => string {
  const ids = made.map((node) => node.id);
  return (node) => lines[ids.findIndex((id) => id >= node.id)] ?? '';
}

/** Takes back what the function assigned; returns how much that was. */
function undoAssignments(): number {
  const made = evaluator().pendingAssignments();
  for (const { holder, storage } of made) {
    if (storage.persistent) engine().replaced(holder, storage);
  }
  return made.length;
}

/**
 * Runs the function on placeholders of these shapes.
 *
 * @throws TraceError if it reads a value or assigns one.
 */
export function recordGraph(
  op: string,
  target: ExportTarget,
  args: readonly ExampleArgument[],
  shapes: readonly Shape[],
): Omit<Recording, 'directions'> {
  const tensors: Tensor[] = [];
  const given = args.map((value, i) =>
    mapSlots(op, String(i), value, (slot) => {
      const tensor = placeholder(slot, shapes[tensors.length] as Shape);
      tensors.push(tensor);
      return tensor;
    }),
  );
  // What is pending is no part of the function.
  engine().step();
  const firstId = nextNodeId();
  const watch = new Watch(op);
  const { observers } = evaluator();
  const { eager, checkNaN } = settings;
  Object.assign(settings, { eager: false, checkNaN: false });
  observers.push(watch);
  let outputs: Recording['outputs'];
  let assigned = 0;
  try {
    outputs = outputsOf(op, '', callTarget(target, given));
  } finally {
    observers.splice(observers.indexOf(watch), 1);
    Object.assign(settings, { eager, checkNaN });
    // Nobody is to compute them.
    for (const node of watch.made) node.consumed = true;
    evaluator().forget(firstId);
    assigned = undoAssignments();
  }
  if (assigned > 0) {
    throw new TraceError('the function assigns to tensors, which a file cannot', {
      op,
      hint: 'call model.eval() first: running statistics are updated in training only',
    });
  }
  if (outputs.length === 0) {
    throw new ArgumentError('the function returns no tensor', { op });
  }
  computeClosedOver(
    outputs.map(({ node }) => node),
    firstId,
  );
  return { inputs: tensors.map(({ node }) => node), outputs, lineOf: lineFinder(watch) };
}
