// The options of an export, read and checked: names, dynamic axes, the operator set.
import { checkInteger, checkKeys, describeValue } from '../../../base/checks.ts';
import { ArgumentError } from '../../../base/errors.ts';
import { formatShape, type Shape } from '../../../base/shape.ts';
import type { StateDict } from '../../nn/module.ts';
import { type ExampleArgument, type InputSlot, inputSlots } from './record.ts';

/** Names of the axes of an input by their numbers, or only their numbers. */
export type DynamicAxes = Readonly<Record<number, string>> | readonly number[];

export interface ExportOptions {
  /** An example of each argument: a tensor, `{ shape, dtype }` or a shape. Values do not matter. */
  readonly inputs: readonly ExampleArgument[];
  /** Names of the inputs; default `input`, or `input_0`, `input_1`, ... */
  readonly inputNames?: readonly string[];
  /** Names of the outputs; default `output`, or by their place in the result. */
  readonly outputNames?: readonly string[];
  /** Axes whose size may change, by the input's name: `{ input: { 0: 'batch' } }`. */
  readonly dynamicAxes?: Readonly<Record<string, DynamicAxes>>;
  /** Version of the operator set, 17 to 21; default 17. */
  readonly opset?: number;
  /** Texts that are stored in the file. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Names of tensors that a function closes over; a module's are known. */
  readonly state?: StateDict;
  /** Whether weights go to a file of their own beside the model; by default if they exceed 1.9 GB. */
  readonly externalData?: boolean;
  /**
   * Whether attention is written as a call of a function that the file brings along (default), which is
   * read back as it was. False for readers that know no functions: nodes of the standard alone.
   */
  readonly functions?: boolean;
}

/** A dynamic axis: its name, and where it stands. */
export interface Symbol {
  readonly name: string;
  readonly size: number;
  readonly places: readonly { readonly slot: number; readonly axis: number }[];
}

export interface ExportPlan {
  readonly slots: readonly InputSlot[];
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[] | null;
  readonly symbols: readonly Symbol[];
  readonly opset: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly externalData: boolean | null;
  readonly functions: boolean;
}

const OPTIONS = [
  'inputs',
  'inputNames',
  'outputNames',
  'dynamicAxes',
  'opset',
  'metadata',
  'state',
  'externalData',
  'functions',
] as const satisfies readonly (keyof ExportOptions)[];

const LOWEST_OPSET = 17;
const HIGHEST_OPSET = 21;
/** Each one doubles the number of traces. */
const MOST_SYMBOLS = 5;

/** Checks that names are texts, as many as wanted, and all different. */
export function checkNames(
  op: string,
  option: string,
  names: readonly string[],
  count: number,
): readonly string[] {
  if (!Array.isArray(names) || names.length !== count) {
    throw new ArgumentError(
      `${option} must name ${count} tensor(s), got ${describeValue(names?.length)}`,
      { op },
    );
  }
  for (const name of names) {
    if (typeof name === 'string' && name !== '') continue;
    throw new ArgumentError(`${option} holds ${describeValue(name)}, which is no name`, { op });
  }
  if (new Set(names).size !== names.length) {
    throw new ArgumentError(`${option} names two tensors alike: ${names.join(', ')}`, { op });
  }
  return names;
}

/** Number and name of each dynamic axis of one input. */
function axesOf(op: string, input: string, shape: Shape, axes: DynamicAxes): [number, string][] {
  const entries: (readonly [unknown, unknown])[] = Array.isArray(axes)
    ? axes.map((axis: unknown) => [axis, `${input}_${String(axis)}`])
    : Object.entries(axes).map(([axis, name]) => [Number(axis), name]);
  return entries.map(([axis, name]) => {
    const isAxis =
      Number.isInteger(axis) && (axis as number) >= 0 && (axis as number) < shape.length;
    if (!isAxis) {
      throw new ArgumentError(
        `dynamicAxes: ${input} ${formatShape(shape)} has no axis ${String(axis)}`,
        { op },
      );
    }
    if (typeof name !== 'string' || name === '') {
      throw new ArgumentError(`dynamicAxes: ${describeValue(name)} is no name of an axis`, { op });
    }
    return [axis as number, name];
  });
}

function readSymbols(
  op: string,
  dynamicAxes: Readonly<Record<string, DynamicAxes>>,
  slots: readonly InputSlot[],
  inputNames: readonly string[],
): Symbol[] {
  const symbols = new Map<string, { size: number; places: { slot: number; axis: number }[] }>();
  for (const [input, axes] of Object.entries(dynamicAxes)) {
    const slot = inputNames.indexOf(input);
    if (slot < 0) {
      throw new ArgumentError(`dynamicAxes names '${input}', which is no input`, {
        op,
        hint: `inputs are ${inputNames.join(', ')}; the sizes of outputs follow from theirs`,
      });
    }
    const { shape } = slots[slot] as InputSlot;
    for (const [axis, name] of axesOf(op, input, shape, axes)) {
      const size = shape[axis] as number;
      const known = symbols.get(name);
      if (known !== undefined && known.size !== size) {
        throw new ArgumentError(
          `dynamicAxes: '${name}' is ${known.size} in one place and ${size} in another`,
          {
            op,
            hint: 'axes of one name have one size',
          },
        );
      }
      if (known === undefined) symbols.set(name, { size, places: [{ slot, axis }] });
      else known.places.push({ slot, axis });
    }
  }
  if (symbols.size > MOST_SYMBOLS) {
    throw new ArgumentError(`${symbols.size} dynamic axes, at most ${MOST_SYMBOLS} are possible`, {
      op,
    });
  }
  return Array.from(symbols, ([name, { size, places }]) => ({ name, size, places }));
}

/** Reads and checks the options. Throws ArgumentError. */
export function planExport(op: string, options: ExportOptions): ExportPlan {
  checkKeys(op, options, OPTIONS);
  const slots = inputSlots(op, options.inputs);
  const standard = slots.map((_, i) => (slots.length === 1 ? 'input' : `input_${i}`));
  const inputNames = checkNames(op, 'inputNames', options.inputNames ?? standard, slots.length);
  const opset = checkInteger(op, 'opset', options.opset ?? LOWEST_OPSET, LOWEST_OPSET);
  if (opset > HIGHEST_OPSET) {
    throw new ArgumentError(
      `opset ${opset} is not known, ${LOWEST_OPSET} to ${HIGHEST_OPSET} are`,
      { op },
    );
  }
  const metadata = options.metadata ?? {};
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value === 'string') continue;
    throw new ArgumentError(`metadata.${key} must be a text, got ${describeValue(value)}`, { op });
  }
  return {
    slots,
    inputNames,
    outputNames: options.outputNames ?? null,
    symbols: readSymbols(op, options.dynamicAxes ?? {}, slots, inputNames),
    opset,
    metadata,
    externalData: options.externalData ?? null,
    functions: options.functions ?? true,
  };
}
