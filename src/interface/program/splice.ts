// What functions add to programs: their graph, on values of the program, and the weights they bring.
import { describeValue } from '../../base/checks.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { inBody } from '../../graph/bodies.ts';
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { ownerOf, standIn, tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { isState } from '../lite/header.ts';
import type { WeightNames } from '../transform/dumping.ts';
import {
  captureAtAllSizes,
  formatSized,
  type ProgramSizes,
  shapeAt,
  type SizedCapture,
  type SizedShape,
} from './sizes.ts';
import { endValue, type Update, type Value, valuesOf } from './value-graph.ts';

/** An ordinary function that stands for a node. */
export type Replacement = (...inputs: Tensor[]) => Tensor;

interface Form {
  readonly dtype: DType;
  readonly shape: SizedShape;
}

/** A dtype and shape for messages. */
export function formOf({ dtype, shape }: Form): string {
  return `${dtype} ${formatSized(shape)}`;
}

/** Throws unless `given` is of the form that is expected, at every size. */
export function checkForm(
  op: string,
  what: string,
  given: Form,
  expected: Form,
  sizes: ProgramSizes,
  taker?: string,
): void {
  const same = sizes.same(given.shape, expected.shape);
  if (same && given.dtype === expected.dtype) return;
  const message =
    taker === undefined
      ? `${what}: expected ${formOf(expected)}, got ${formOf(given)}`
      : `${what} is ${formOf(given)}, ${taker} takes ${formOf(expected)}`;
  throw same ? new DTypeError(message, { op }) : new ShapeError(message, { op });
}

/** The tensor that a weight of a recorded function is: its owner's, else a copy of its value. */
function tensorFor(leaf: Tensor): Tensor {
  const owner = ownerOf(leaf.node);
  if (owner !== null) return owner;
  const plain = tensorOn(leaf.node);
  return plain.tracked ? new Parameter(plain) : new Buffer(plain);
}

/** The values of what was captured, on `inputs`; weights in `known` are those that stand there. */
export function valuesOfCapture(
  captured: SizedCapture,
  inputs: readonly Value[],
  known: ReadonlyMap<Tensor, Value>,
): { outputs: Value[]; updates: Update[]; weightNames: Map<Tensor, string> } {
  const weightNames = new Map<Tensor, string>();
  const tensors = new Map<string, Tensor>();
  const leaves = new Map(known);
  const weightOf = ({ tensor: name }: { readonly tensor: string }): Value => {
    let tensor = tensors.get(name);
    if (tensor === undefined) {
      tensor = tensorFor(captured.weights.get(name) as Tensor);
      tensors.set(name, tensor);
      weightNames.set(tensor, name);
    }
    let leaf = leaves.get(tensor);
    if (leaf === undefined) {
      leaf = endValue({ kind: 'weight', tensor }, tensor.dtype, tensor.shape);
      leaves.set(tensor, leaf);
    }
    return leaf;
  };
  const { graph, leaves: ends, scalars, draws } = captured;
  const roots = valuesOf({ graph, leaves: ends, scalars, draws }, inputs, weightOf);
  const updates = ends.flatMap((leaf): Update[] =>
    isState(leaf)
      ? [{ tensor: tensors.get(leaf.tensor) as Tensor, value: roots[leaf.update] as Value }]
      : [],
  );
  return { outputs: roots.slice(0, captured.outputs.length), updates, weightNames };
}

/** What is put into a program. */
export interface Splice {
  /** The function at some sizes of the dimensions. */
  readonly fnAt: (sizes: Sizes) => (...given: Tensor[]) => unknown;
  /** What it is given. */
  readonly given: readonly Value[];
  /** What it stands for: as many values, of the same forms. */
  readonly like: readonly Value[];
  readonly module?: WeightNames | undefined;
}

/**
 * What a function computes of values of a program, whose weights are `known`. It runs once for each
 * sample of sizes.
 */
export function splice(
  op: string,
  { fnAt, given, like, module }: Splice,
  known: ReadonlyMap<Tensor, Value>,
  sizes: ProgramSizes,
): { values: Value[]; updates: Update[]; weightNames: Map<Tensor, string> } {
  const captured = captureAtAllSizes(
    sizes,
    (at) => ({
      fn: fnAt(at) as (...args: readonly unknown[]) => unknown,
      args: given.map(({ dtype, shape }) => standIn(shapeAt(shape, at), dtype)),
    }),
    { name: op, op, inputNames: given.map((_, i) => String(i)), module },
  );
  if (captured.outputs.length !== like.length) {
    const wanted = like.length === 1 ? 'one' : `${like.length}`;
    throw new ArgumentError(
      `the function gives ${captured.outputs.length} tensors instead of ${wanted}`,
      { op },
    );
  }
  const { outputs, ...rest } = valuesOfCapture(captured, given, known);
  outputs.forEach((output, i) => {
    checkForm(op, 'the result of the function', output, like[i] as Value, sizes);
  });
  return { values: outputs, ...rest };
}

/** A replacement as it is called in the body of loops, whose iterations stand behind its inputs. */
export function replacementIn(
  op: string,
  fn: Replacement,
  iterations: number,
): (...given: Tensor[]) => unknown {
  if (typeof fn !== 'function') {
    throw new ArgumentError(`expected a function of tensors, got ${describeValue(fn)}`, { op });
  }
  if (iterations === 0) return fn;
  // What it draws is another in each iteration, as in the function that the loop was made of.
  return (...given) => {
    const numbers = given.splice(given.length - iterations);
    return numbers.reduceRight<() => unknown>(
      (inner, { node }) =>
        () =>
          inBody({ iteration: () => node }, inner),
      () => fn(...given),
    )();
  };
}
