// Axes of an iteration space: which can be run through as one, and which one belongs innermost.
import type { Builder } from '../../ir/builder.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import type { IndexUse } from './uses.ts';

/** An axis of the iteration space: one loop index, or several that run as one. */
export interface Axis {
  /** The indices it stands for, outer to inner. */
  readonly variables: readonly Variable[];
  /** Whether they run as one: the last one takes all values and the others stay 0. */
  readonly joined: boolean;
  readonly size: number;
  /** Positions of `variables` in the coefficients of the uses. */
  readonly positions: readonly number[];
}

/** One index variable for each axis; axes of size 1 get the constant 0. */
export function indexVariables(
  builder: Builder,
  name: string,
  sizes: readonly number[],
): { readonly indices: readonly Expression[]; readonly variables: readonly Variable[] } {
  const variables: Variable[] = [];
  const indices = sizes.map((size, axis) => {
    if (size === 1) return builder.constant(0);
    const max = Math.max(size - 1, 0);
    const variable = builder.variable(`${name}${axis}`, 'i32', { min: 0, max });
    variables.push(variable);
    return variable;
  });
  return { indices, variables };
}

/**
 * Joins neighbouring axes wherever every use sees them as one: index * size + next index.
 *
 * @param first position of the first variable in the coefficients of `uses`.
 */
export function collapse(
  variables: readonly Variable[],
  uses: readonly IndexUse[],
  first = 0,
): Axis[] {
  const axes: Axis[] = [];
  variables.forEach((variable, i) => {
    const size = variable.max + 1;
    const position = first + i;
    const outer = axes[axes.length - 1];
    const before = outer?.positions.at(-1);
    const joins =
      before !== undefined &&
      uses.every(
        ({ coefficients }) => coefficients[before] === (coefficients[position] as number) * size,
      );
    if (outer !== undefined && joins) {
      axes[axes.length - 1] = {
        variables: [...outer.variables, variable],
        joined: true,
        size: outer.size * size,
        positions: [...outer.positions, position],
      };
    } else axes.push({ variables: [variable], joined: true, size, positions: [position] });
  });
  return axes;
}

/** How an access moves when an axis advances by one. */
export type Motion = 'still' | 'next' | 'jump';

export function motionOf(use: IndexUse, axis: Axis): Motion {
  const position = axis.positions.at(-1) as number;
  if (axis.positions.some((at) => use.nonlinear[at])) return 'jump';
  const coefficient = use.coefficients[position] as number;
  return coefficient === 0 ? 'still' : coefficient === 1 ? 'next' : 'jump';
}

/** Rough cost of one element when `axis` is innermost and runs in vectors. */
export function innermostCost(axis: Axis, uses: readonly IndexUse[]): number {
  let cost = 0;
  for (const use of uses) {
    if (use.kind === 'other') continue;
    const motion = motionOf(use, axis);
    const width = use.bytes / 4;
    if (motion === 'next') cost += width;
    else if (motion === 'still') cost += use.kind === 'store' ? 8 : 0.2;
    // Lane by lane, each from another cache line.
    else cost += use.kind === 'store' ? 6 : 4;
  }
  // Short loops run as scalars or spend their time in starting.
  if (axis.size < 4) return cost * 4;
  return axis.size < 16 ? cost * 1.5 : cost;
}

/** The axis to run innermost; the last one unless another is clearly better. */
export function chooseInnermost(axes: readonly Axis[], uses: readonly IndexUse[]): number {
  let best = axes.length - 1;
  if (best < 0) return best;
  let bestCost = innermostCost(axes[best] as Axis, uses);
  for (let i = axes.length - 2; i >= 0; i--) {
    const cost = innermostCost(axes[i] as Axis, uses);
    if (cost < bestCost * 0.8) {
      best = i;
      bestCost = cost;
    }
  }
  return best;
}
