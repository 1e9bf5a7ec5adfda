// How expressions depend on loop indices: for each index expression that occurs anywhere, its
// coefficients. They decide which axes can be run through as one, and which one runs in vectors.
import { byteSize } from '../../base/dtype.ts';
import { type Expression, operandsOf, type Variable } from '../../ir/expression.ts';
import { dependsOn, linearForm } from '../../ir/linear.ts';

/** One access to memory, or one other use of loop indices. */
export interface IndexUse {
  /** Coefficient of each axis. */
  readonly coefficients: readonly number[];
  /** Whether each axis also occurs inside a division, a remainder or a loaded index. */
  readonly nonlinear: readonly boolean[];
  readonly kind: 'load' | 'store' | 'other';
  /** Bytes of an element that is loaded or stored. */
  readonly bytes: number;
}

/** Collects the uses of `axes` in expressions. */
export class UseCollector {
  readonly uses: IndexUse[] = [];
  readonly #axes: readonly Variable[];
  readonly #seen = new Set<Expression>();
  readonly #recorded = new Map<string, Set<Expression>>();
  readonly #firstAxis: number;

  constructor(axes: readonly Variable[]) {
    this.#axes = axes;
    this.#firstAxis = axes.reduce((least, { id }) => Math.min(least, id), Infinity);
  }

  /** Notes a memory access at `index`. */
  access(kind: 'load' | 'store', index: Expression, bytes: number): void {
    this.#index(index, kind, bytes);
  }

  /** Notes everything that `value` evaluates. */
  value(value: Expression): void {
    if (value.id < this.#firstAxis || this.#seen.has(value)) return;
    this.#seen.add(value);
    if (value.kind === 'load') {
      this.#index(value.index, 'load', byteSize(value.buffer.dtype));
      return;
    }
    if (value.type === 'i32' && value.lanes === 1) {
      this.#index(value, 'other', 0);
      return;
    }
    for (const operand of operandsOf(value)) this.value(operand);
  }

  #index(index: Expression, kind: IndexUse['kind'], bytes: number): void {
    if (index.id < this.#firstAxis) {
      if (kind !== 'other') this.#record(index, kind, bytes, []);
      return;
    }
    const key = `${kind}${bytes}`;
    let recorded = this.#recorded.get(key);
    if (recorded === undefined) {
      recorded = new Set();
      this.#recorded.set(key, recorded);
    }
    if (recorded.has(index)) return;
    recorded.add(index);
    const { terms } = linearForm(index);
    const compound: Expression[] = [];
    for (const atom of terms.keys()) {
      if (this.#axes.includes(atom as Variable)) continue;
      compound.push(atom);
      if (atom.kind === 'load') this.value(atom);
      else for (const operand of operandsOf(atom)) this.value(operand);
    }
    this.#record(index, kind, bytes, compound);
  }

  #record(
    index: Expression,
    kind: IndexUse['kind'],
    bytes: number,
    compound: readonly Expression[],
  ): void {
    const { terms } = linearForm(index);
    const nonlinear = this.#axes.map((axis) => compound.some((atom) => dependsOn(atom, axis)));
    const coefficients = this.#axes.map((axis) => terms.get(axis) ?? 0);
    if (kind === 'other' && coefficients.every((coefficient) => coefficient === 0)) return;
    this.uses.push({ coefficients, nonlinear, kind, bytes });
  }
}
