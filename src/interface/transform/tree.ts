// Trees of tensors: what traced functions take and return. Arrays and plain objects nest.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { isTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

type Branch = readonly unknown[] | Readonly<Record<string, unknown>>;

function isBranch(value: unknown): value is Branch {
  if (Array.isArray(value)) return true;
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Tensors of a tree in order, and a text that two trees share if only their tensors' values differ. */
export function flattenTree(
  value: unknown,
  options: { numbers: boolean },
): { tensors: Tensor[]; signature: string } {
  const tensors: Tensor[] = [];
  const visit = (item: unknown): string => {
    if (isTensor(item)) {
      tensors.push(item);
      return `${item.dtype}[${item.shape.join()}]${item.tracked ? 't' : ''}`;
    }
    if (Array.isArray(item)) return `(${item.map(visit).join(';')})`;
    if (isBranch(item)) {
      const entries = Object.entries(item).map(([name, child]) => `${name}:${visit(child)}`);
      return `{${entries.join(';')}}`;
    }
    if (typeof item === 'number') return options.numbers ? String(item) : 'number';
    return typeof item === 'string' ? JSON.stringify(item) : `${typeof item} ${describe(item)}`;
  };
  return { tensors, signature: visit(value) };
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

/** Other objects (modules, functions) are told apart by identity. */
function describe(value: unknown): string {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) {
    return String(value);
  }
  const known = identities.get(value) ?? nextIdentity++;
  identities.set(value, known);
  return String(known);
}

/** The same tree with other tensors, in the order of `flattenTree`. */
export function mapTree(
  value: unknown,
  replace: (tensor: Tensor, index: number) => Tensor,
): unknown {
  let next = 0;
  const visit = (item: unknown): unknown => {
    if (isTensor(item)) return replace(item, next++);
    if (Array.isArray(item)) return item.map(visit);
    if (!isBranch(item)) return item;
    return Object.fromEntries(Object.entries(item).map(([name, child]) => [name, visit(child)]));
  };
  return visit(value);
}

/** Throws unless every leaf of a result is a tensor, so that it can be made again without running. */
export function checkTensorTree(op: string, value: unknown): void {
  if (isTensor(value)) return;
  if (isBranch(value)) {
    for (const child of Object.values(value)) checkTensorTree(op, child);
    return;
  }
  if (value === undefined || value === null) return;
  throw new ArgumentError(`the result holds a ${typeof value}, which would never change`, {
    op,
    hint: 'return tensors, and read them outside',
  });
}
