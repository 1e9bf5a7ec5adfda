// What a pickle is made of, and what its host decides: the meaning of names and references.

/** What a pickle is made of. Python's None is null; integers that no number holds are bigints. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleTuple
  | PickleDict
  | PickleSet
  | PickleObject;

/** Keys of a dict that are kept apart by value, as Python does. */
export type PickleKey = null | boolean | number | bigint | string;

export class PickleTuple {
  readonly items: readonly PickleValue[];
  constructor(items: readonly PickleValue[]) {
    this.items = items;
  }
}

/** A dict, in its order; also OrderedDict and its like. */
export class PickleDict {
  readonly items = new Map<PickleKey, PickleValue>();
}

/** A set or frozenset, as the list of its members. */
export class PickleSet {
  readonly items: PickleValue[] = [];
}

/** Base of what the host makes. `kind` is what messages call it. */
export abstract class PickleObject {
  abstract readonly kind: string;
}

/** A name that may be called: the host's function takes the place of Python's. */
export class PickleFunction extends PickleObject {
  readonly kind: string;
  readonly call: (args: readonly PickleValue[], context: PickleContext) => PickleValue;
  constructor(kind: string, call: PickleFunction['call']) {
    super();
    this.kind = kind;
    this.call = call;
  }
}

/** What functions of the host may ask of the reader. */
export interface PickleContext {
  /** Throws FormatError with the place in the file. */
  fail(reason: string, hint?: string): never;
  /** Counts items that a call copies: a small file must not make much of them. */
  spend(items: number): void;
}

/** Gives meaning to names and to references out of the pickle. */
export interface PickleHost {
  /** The value of `module.name`, or `undefined` to refuse it. */
  find(module: string, name: string): PickleValue | undefined;
  /** What a refusal advises. */
  readonly hint: string;
  /** The object that `id` stands for. */
  persistent(id: PickleValue, context: PickleContext): PickleValue;
}

/** What messages call a value. */
export function describePickle(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'None';
  if (typeof value === 'string') return `'${value.slice(0, 60)}'`;
  if (typeof value !== 'object') return String(value);
  if (value instanceof PickleObject) return value.kind;
  if (value instanceof PickleTuple) return `a tuple of ${value.items.length}`;
  if (value instanceof PickleDict) return `a dict of ${value.items.size}`;
  if (value instanceof PickleSet) return `a set of ${value.items.length}`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return `a list of ${value.length}`;
}
