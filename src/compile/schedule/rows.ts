// Row groups: reductions over the innermost axes whose results are needed by the same rows again.
// One kernel then does everything for a row while the row is in the cache, in phases.
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Buffer, Expression } from '../../ir/expression.ts';
import { operandsOf } from '../../ir/expression.ts';
import type { Target } from '../../ir/kernel.ts';
import { indexVariables } from '../lower/axes.ts';
import { Emitter } from '../lower/emit.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import { KernelBuilder } from '../lower/kernel-builder.ts';

/** Rows that are enough to share among threads. */
const ENOUGH_ROWS = 16;
/** Elements that one thread may as well do alone. */
const FEW_ELEMENTS = 16_384;

/** The common iteration space of a row group. */
export interface RowDomain {
  /** Shape of what is reduced. */
  readonly shape: Shape;
  readonly axes: readonly number[];
  /** Number of rows, and of elements in all rows. */
  readonly rows: number;
  readonly elements: number;
}

/** How a value is read: at the row being computed, at the very element, or in any other way. */
export type RowRelation = 'row' | 'element' | 'other';

/** The row domain of a reduction, if it is one that others may join. */
export function rowDomainOf(node: Node): RowDomain | null {
  const { lower } = node.op;
  if (lower.kind !== 'reduce') return null;
  const { axes } = lower.reduction(node.attrs, node);
  const { shape } = node.inputs[0] as Node;
  const elements = sizeOf(shape);
  const rows = sizeOf(node.shape);
  if (rows === 0 || elements < 2 * rows) return null;
  // Rows in columns would run across the cache lines.
  let last = shape.length - 1;
  while (last > 0 && shape[last] === 1) last--;
  if (!axes.includes(last)) return null;
  if (rows < ENOUGH_ROWS && elements > FEW_ELEMENTS) return null;
  return { shape, axes, rows, elements };
}

/** Whether a reduction runs over the rows of a domain. */
export function sameRows(domain: RowDomain, node: Node): boolean {
  const { lower } = node.op;
  if (lower.kind !== 'reduce') return false;
  const { axes } = lower.reduction(node.attrs, node);
  return (
    axes.join() === domain.axes.join() &&
    formatShape((node.inputs[0] as Node).shape) === formatShape(domain.shape)
  );
}

/**
 * How `node`, computed element by element along the rows, reads the values in memory: emits it with
 * symbolic indices and looks at what it loads.
 */
export function rowRelations(
  node: Node,
  domain: RowDomain,
  isStored: (node: Node) => boolean,
  target: Target,
): ReadonlyMap<Node, RowRelation> {
  const kernel = new KernelBuilder('probe');
  const { builder } = kernel;
  const stored = new Set<Node>();
  const isInMemory = (other: Node): boolean => {
    if (other === node || !isStored(other)) return false;
    stored.add(other);
    return true;
  };
  const emitter = new Emitter(kernel, {
    target,
    anchors: [],
    outputs: [],
    isInMemory,
    isConstant: () => false,
    name: '',
  });
  const { shape, axes, rows, elements } = domain;
  const { indices } = indexVariables(builder, 'i', shape);
  const element = flatten(builder, indices, shape);
  const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const row = flatten(
    builder,
    kept.map((axis) => indices[axis] as Expression),
    kept.map((axis) => shape[axis] as number),
  );
  const top = node.op.lower.kind === 'reduce' ? (node.inputs[0] as Node) : node;
  const same = formatShape(top.shape) === formatShape(shape);
  const value = emitter.value(top, same ? indices : unflatten(builder, element, top.shape));

  const nodes = new Map<Buffer, Node>([...stored].map((other) => [kernel.buffer(other), other]));
  const relations = new Map<Node, RowRelation>();
  const seen = new Set<Expression>();
  const walk = (expression: Expression): void => {
    if (seen.has(expression)) return;
    seen.add(expression);
    if (expression.kind === 'load') {
      const read = nodes.get(expression.buffer) as Node;
      const size = sizeOf(read.shape);
      let relation: RowRelation = 'other';
      if (size === rows && expression.index === row) relation = 'row';
      else if (size === elements && expression.index === element) relation = 'element';
      const known = relations.get(read);
      relations.set(read, known === undefined || known === relation ? relation : 'other');
    }
    for (const operand of operandsOf(expression)) walk(operand);
  };
  walk(value);
  return relations;
}
