// Trees of tensors: what traced functions take and return. Arrays and plain objects nest.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { isTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

type Branch = readonly unknown[] | Readonly<Record<string, unknown>>;

/** Whether a value is an array or a plain object: what trees are made of. */
export function isBranch(value: unknown): value is Branch {
  if (Array.isArray(value)) return true;
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** How a tree is described. */
export interface SignatureOptions {
  /** Whether numbers are a part of it. */
  readonly numbers: boolean;
  /** What is said of a tensor's shape, in place of its sizes. */
  readonly shape?: (tensor: Tensor, index: number) => string;
}

/**
 * The tensors of a tree, in the order of `mapTree`.
 *
 * @throws ArgumentError for a tree that contains itself.
 */
export function tensorsOf(value: unknown): Tensor[] {
  const tensors: Tensor[] = [];
  const open = new Set<object>();
  const visit = (item: unknown): void => {
    if (isTensor(item)) tensors.push(item);
    else if (isBranch(item)) within(open, item, () => Object.values(item).forEach(visit));
  };
  visit(value);
  return tensors;
}

/** What `body` gives, if it is not called for the same branch already. */
function within<T>(open: Set<object>, branch: Branch, body: () => T): T {
  if (open.has(branch)) {
    throw new ArgumentError('an argument or result contains itself', { op: 'trace' });
  }
  open.add(branch);
  const result = body();
  open.delete(branch);
  return result;
}

/** Tensors of a tree in order, and a text that two trees share if only their tensors' values differ. */
export function flattenTree(
  value: unknown,
  { numbers, shape = (tensor) => tensor.shape.join() }: SignatureOptions,
): { tensors: Tensor[]; signature: string } {
  const tensors: Tensor[] = [];
  const open = new Set<object>();
  const describeTensor = (tensor: Tensor): string => {
    const { dtype, node } = tensor;
    // The same tensor twice is another program than two tensors.
    const same = tensors.findIndex((other) => other.node === node);
    const text = `${dtype}[${shape(tensor, tensors.length)}]`;
    tensors.push(tensor);
    const place = node.device === null ? '' : `@${node.device}`;
    return `${text}${place}${node.tracked ? 't' : ''}${same < 0 ? '' : `=${same}`}`;
  };
  const visit = (item: unknown): string => {
    if (isTensor(item)) return describeTensor(item);
    if (!isBranch(item)) return leafText(item, numbers);
    return within(open, item, () => {
      if (Array.isArray(item)) return `(${item.map(visit).join(';')})`;
      const fields = Object.entries(item).map(
        ([name, child]) => `${JSON.stringify(name)}:${visit(child)}`,
      );
      return `{${fields.join(';')}}`;
    });
  };
  return { tensors, signature: visit(value) };
}

function leafText(item: unknown, numbers: boolean): string {
  if (typeof item === 'number') {
    return numbers ? (Object.is(item, -0) ? '-0' : String(item)) : 'number';
  }
  return typeof item === 'string' ? JSON.stringify(item) : `${typeof item} ${describe(item)}`;
}

/** A tensor of a tree, and where it stands: `carry[0].h`. */
export interface TreeLeaf {
  readonly path: string;
  readonly tensor: Tensor;
}

/**
 * The tensors of a tree, in the order of `mapTree`. Null and undefined hold none.
 *
 * @throws ArgumentError for anything else.
 */
export function treeLeaves(op: string, name: string, value: unknown): TreeLeaf[] {
  if (isTensor(value)) return [{ path: name, tensor: value }];
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) {
    return value.flatMap((child, i) => treeLeaves(op, `${name}[${i}]`, child));
  }
  if (isBranch(value)) {
    return Object.entries(value).flatMap(([key, child]) => treeLeaves(op, `${name}.${key}`, child));
  }
  throw new ArgumentError(`${name} is ${describeValue(value)}, not a tensor`, {
    op,
    hint:
      typeof value === 'number'
        ? 'wrap it with tensor()'
        : 'arrays and plain objects may hold tensors',
  });
}

const identities = new WeakMap<object, number>();
let nextIdentity = 1;

/** A number that no other object has. */
export function identityOf(value: object): number {
  const known = identities.get(value) ?? nextIdentity++;
  identities.set(value, known);
  return known;
}

/** Other objects (modules, functions) are told apart by identity. */
function describe(value: unknown): string {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  return String(isObject ? identityOf(value) : value);
}

/** The same tree with other things in place of tensors, in the order of `flattenTree`. */
export function mapTree(
  value: unknown,
  replace: (tensor: Tensor, index: number) => unknown,
): unknown {
  let next = 0;
  return mapLeaves(value, (leaf) => (isTensor(leaf) ? replace(leaf, next++) : leaf));
}

/** The same tree with other things in place of whatever is no array and no plain object. */
export function mapLeaves(value: unknown, replace: (leaf: unknown) => unknown): unknown {
  const visit = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(visit);
    if (!isBranch(item)) return replace(item);
    return Object.fromEntries(Object.entries(item).map(([name, child]) => [name, visit(child)]));
  };
  return visit(value);
}

/** Throws unless every leaf of a result is a tensor. */
export function checkTensorTree(op: string, value: unknown): void {
  if (isTensor(value)) return;
  if (isBranch(value)) {
    for (const child of Object.values(value)) checkTensorTree(op, child);
    return;
  }
  if (value === undefined || value === null) return;
  throw new ArgumentError(`the result holds ${describeValue(value)}, which would never change`, {
    op,
    hint: 'return tensors, and read them outside',
  });
}

/**
 * Throws unless a result can be given again without running: its leaves are tensors, or numbers, texts
 * and the like, which stay what they are.
 */
export function checkReplayable(op: string, value: unknown): void {
  if (isTensor(value)) return;
  if (isBranch(value)) {
    for (const child of Object.values(value)) checkReplayable(op, child);
    return;
  }
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return;
  throw new ArgumentError(
    `the result holds ${describeValue(value)}, which a replay could not make again`,
    { op, hint: 'return tensors, numbers and texts, in arrays and plain objects' },
  );
}

/** A place for a tensor in a tree. */
class Hole {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
}

/** The tree without its tensors, so that nothing holds them. */
export function treeWithHoles(value: unknown): unknown {
  return mapTree(value, (_, index) => new Hole(index));
}

/** The tree with tensors in its holes. */
export function fillTree(template: unknown, fill: (index: number) => unknown): unknown {
  return mapLeaves(template, (leaf) => (leaf instanceof Hole ? fill(leaf.index) : leaf));
}
