// Line search for the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6),
// with the constants and safeguards of minFunc, which PyTorch's L-BFGS follows.

/** A point on the line: step length, value, slope along the line, and what belongs to it. */
export interface LinePoint<P> {
  readonly step: number;
  readonly value: number;
  readonly slope: number;
  /** Whatever the caller wants back of the point that is chosen. */
  readonly payload: P;
}

export interface LineSearchOptions {
  /** Largest magnitude of the direction: intervals below `toleranceChange` over it are empty. */
  readonly magnitude: number;
  readonly toleranceChange: number;
  /** Most evaluations of the bracketing phase, and of the zooming one. */
  readonly maxEvaluations: number;
}

/** Armijo: sufficient decrease. */
const C1 = 1e-4;
/** Curvature: how much of the slope may be left. */
const C2 = 0.9;

interface Line {
  readonly step: number;
  readonly value: number;
  readonly slope: number;
}

/** The minimum of the cubic through two points with slopes, kept within bounds. */
export function cubicMinimum(a: Line, b: Line, low?: number, high?: number): number {
  const [left, right] = a.step <= b.step ? [a, b] : [b, a];
  const [from, to] = [low ?? left.step, high ?? right.step];
  const width = right.step - left.step;
  const d1 = left.slope + right.slope - (3 * (right.value - left.value)) / width;
  const square = d1 * d1 - left.slope * right.slope;
  if (!(square >= 0)) return (from + to) / 2;
  const d2 = Math.sqrt(square);
  const share = (right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2);
  return Math.min(Math.max(right.step - width * share, from), to);
}

interface Search<P> {
  readonly evaluate: (step: number) => Promise<LinePoint<P>>;
  /** Whether the value has fallen enough for the length of the step. */
  readonly decreases: (point: Line) => boolean;
  /** Whether enough of the slope is gone. */
  readonly isFlat: (point: Line) => boolean;
  readonly options: LineSearchOptions;
}

interface Found<P> {
  readonly point: LinePoint<P>;
  readonly evaluations: number;
}

/** Finds a step from `start` (step 0) that satisfies both conditions, or the best one met. */
export async function strongWolfe<P>(
  evaluate: (step: number) => Promise<LinePoint<P>>,
  start: LinePoint<P>,
  firstStep: number,
  options: LineSearchOptions,
): Promise<Found<P>> {
  const search: Search<P> = {
    evaluate,
    options,
    decreases: (point) => point.value <= start.value + C1 * point.step * start.slope,
    isFlat: (point) => Math.abs(point.slope) <= -C2 * start.slope,
  };
  let previous = start;
  let point = await evaluate(firstStep);
  for (let round = 0; round < options.maxEvaluations; round++) {
    const rises = round > 1 && point.value >= previous.value;
    const isEnough = search.decreases(point) && !rises;
    if (isEnough && search.isFlat(point)) return { point, evaluations: round + 1 };
    if (!isEnough || point.slope >= 0) return zoom(search, [previous, point], round + 1);
    const least = point.step + 0.01 * (point.step - previous.step);
    const next = cubicMinimum(previous, point, least, point.step * 10);
    previous = point;
    point = await evaluate(next);
  }
  return zoom(search, [start, point], options.maxEvaluations + 1);
}

/** Narrows a bracket until a point in it satisfies both conditions, or the evaluations run out. */
async function zoom<P>(
  { evaluate, decreases, isFlat, options }: Search<P>,
  bracket: readonly [LinePoint<P>, LinePoint<P>],
  spent: number,
): Promise<Found<P>> {
  const ordered = (a: LinePoint<P>, b: LinePoint<P>): [LinePoint<P>, LinePoint<P>] =>
    a.value <= b.value ? [a, b] : [b, a];
  let [low, high] = ordered(...bracket);
  let evaluations = spent;
  let wasNearEnd = false;
  while (evaluations <= options.maxEvaluations) {
    const [left, right] = [Math.min(low.step, high.step), Math.max(low.step, high.step)];
    if ((right - left) * options.magnitude < options.toleranceChange) break;
    let step = cubicMinimum(low, high);
    const margin = 0.1 * (right - left);
    const isNearEnd = Math.min(right - step, step - left) < margin;
    // At an end, or near one for the second time: a tenth of the interval away from it.
    const moves: boolean = isNearEnd && (wasNearEnd || step >= right || step <= left);
    if (moves) step = right - step < step - left ? right - margin : left + margin;
    wasNearEnd = isNearEnd && !moves;
    const point = await evaluate(step);
    evaluations++;
    if (!decreases(point) || point.value >= low.value) [low, high] = ordered(low, point);
    else {
      if (isFlat(point)) return { point, evaluations };
      if (point.slope * (high.step - low.step) >= 0) high = low;
      low = point;
    }
  }
  return { point: low, evaluations };
}
