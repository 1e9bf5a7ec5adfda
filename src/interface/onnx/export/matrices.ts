// Systems, determinants and decompositions of matrices as Loops over columns or rows: what ONNX has no
// op for. Axes before the last two may follow the sizes.
import type { DType } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, sizesOf, type Step } from './conversion.ts';
import { reduce } from './reduction.ts';
import { filled } from './shaping.ts';
import { isFixed, type Varying } from './sizes.ts';
import { valueInfo } from './value-info.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

interface Size {
  readonly batch: readonly Varying[];
  readonly rows: number;
  readonly columns: number;
}

type AnyStep = Pick<Step<unknown>, 'graph' | 'writer'>;

/** Sizes of a matrix, which must be the same in every trace; those of the batch need not be. */
function matrixSize({ graph }: AnyStep, node: Node): Size {
  const sizes = sizesOf(graph, node);
  const [rows, columns] = sizes.slice(-2) as [Varying, Varying];
  if (!isFixed(rows) || !isFixed(columns)) {
    throw new NotExportable('the size of its matrices follows a dynamic axis');
  }
  return { batch: sizes.slice(0, -2), rows: rows[0] as number, columns: columns[0] as number };
}

const fixed = (size: number, like: Varying): Varying => like.map(() => size);

interface State {
  readonly value: string;
  readonly dtype: DType | 'int64';
  readonly sizes: readonly Varying[];
}

/** A Loop of `count` rounds; `step` makes the next states, of the same sizes. */
function loop(
  { writer, graph }: AnyStep,
  count: number,
  states: readonly State[],
  step: (body: GraphWriter, round: string, states: readonly string[]) => readonly string[],
): string[] {
  const body = writer.nested();
  const [round, goes] = [body.fresh('round'), body.fresh('goes')];
  const given = states.map(() => body.fresh('state'));
  const next = step(body, round, given).map((value) => body.add('Identity', [value]));
  const same = body.add('Identity', [goes]);
  const infos = (names: readonly string[]) =>
    states.map(({ dtype, sizes }, i) => valueInfo(names[i] as string, dtype, graph.grid, sizes));
  const bool = (name: string) => valueInfo(name, 'bool', graph.grid, []);
  return writer.addMany(
    'Loop',
    [writer.number(count, 'int64'), '', ...states.map(({ value }) => value)],
    states.length,
    {
      body: {
        graph: {
          name: 'body',
          node: body.nodes,
          input: [valueInfo(round, 'int64', graph.grid, []), bool(goes), ...infos(given)],
          output: [bool(same), ...infos(next)],
        },
      },
    },
  );
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Numbers of rows as a column, or of columns as a row: int64. */
function places(writer: GraphWriter, count: number, as: 'column' | 'row' | 'list'): string {
  const shape = as === 'column' ? [count, 1] : as === 'row' ? [1, count] : [count];
  return writer.numbers(range(count), 'int64', shape);
}

function unsqueeze(writer: GraphWriter, value: string, axis: number): string {
  return writer.add('Unsqueeze', [value, writer.integers([axis])]);
}

function transposed(writer: GraphWriter, value: string, rank: number): string {
  const perm = [...range(rank - 2), rank - 1, rank - 2];
  return writer.add('Transpose', [value], { perm });
}

/** One row or column of matrices: the axis stays. */
function line(writer: GraphWriter, value: string, index: string, axis: -1 | -2): string {
  const list = writer.add('Reshape', [index, writer.integers([1])]);
  return writer.add('Gather', [value, list], { axis });
}

// ---- triangles --------------------------------------------------------------------------------

interface Triangle {
  readonly upper: boolean;
  readonly unit: boolean;
}

/** X with T X = B by substitution, a row a round: it is divided, and taken off those that follow. */
function substituted(
  step: AnyStep,
  triangle: string,
  right: State,
  size: number,
  { upper, unit }: Triangle,
): string {
  const rows = places(step.writer, size, 'column');
  const [solution] = loop(step, size, [right], (body, round, [x]) => {
    const last = body.number(size - 1, 'int64');
    const i = upper ? body.add('Sub', [last, round]) : round;
    const column = line(body, triangle, i, -1);
    const known = line(body, x as string, i, -2);
    const value = unit ? known : body.add('Div', [known, line(body, column, i, -2)]);
    const rest = body.add('Sub', [x as string, body.add('Mul', [column, value])]);
    const follows = body.add(upper ? 'Less' : 'Greater', [rows, i]);
    const others = body.add('Where', [follows, rest, x as string]);
    return [body.add('Where', [body.add('Equal', [rows, i]), value, others])];
  });
  return solution as string;
}

function stateOf({ graph }: AnyStep, node: Node, value: string): State {
  return { value, dtype: node.dtype, sizes: sizesOf(graph, node) };
}

/** L with L Lᵀ = A: a column a round, whose square is taken off what is left. */
function cholesky(step: Step<object>): string {
  const { writer, node, inputs } = step;
  const { rows: size } = matrixSize(step, node);
  const sizes = sizesOf(step.graph, node);
  const rank = node.shape.length;
  const [rows, columns] = [places(writer, size, 'column'), places(writer, size, 'row')];
  const zero = writer.number(0, node.dtype);
  const states = [
    { value: inputs[0] as string, dtype: node.dtype, sizes },
    { value: filled(writer, 0, node.dtype, sizes), dtype: node.dtype, sizes },
  ];
  const [, result] = loop(step, size, states, (body, round, [left, factor]) => {
    const column = line(body, left as string, round, -1);
    const root = body.add('Sqrt', [line(body, column, round, -2)]);
    const below = body.add('Where', [
      body.add('Greater', [rows, round]),
      body.add('Div', [column, root]),
      zero,
    ]);
    const whole = body.add('Where', [body.add('Equal', [rows, round]), root, below]);
    const square = body.add('Mul', [whole, transposed(body, whole, rank)]);
    const isColumn = body.add('Equal', [columns, round]);
    return [
      body.add('Sub', [left as string, square]),
      body.add('Where', [isColumn, whole, factor as string]),
    ];
  });
  return result as string;
}

// ---- with row exchanges -----------------------------------------------------------------------

/** L, U and the order of rows, packed: by partial pivoting, a column a round. */
function luFactor(step: Step<object>): string {
  const { writer, graph, node, inputs } = step;
  const { batch, rows, columns } = matrixSize(step, node.inputs[0] as Node);
  const [x] = inputs as [string];
  const like = graph.vary(node, () => 0);
  const size = (count: number): Varying => fixed(count, like);
  const list = places(writer, rows, 'list');
  const [down, across] = [places(writer, rows, 'column'), places(writer, columns, 'row')];
  const shape = writer.list([...batch, size(rows), size(columns)]);
  const orderSizes = [...batch, size(rows)];
  const states: State[] = [
    { value: x, dtype: node.dtype, sizes: [...orderSizes, size(columns)] },
    {
      value: writer.add('Expand', [list, writer.list(orderSizes)]),
      dtype: 'int64',
      sizes: orderSizes,
    },
  ];
  const zero = writer.number(0, node.dtype);
  const [lu, order] = loop(
    step,
    Math.min(rows, columns),
    states,
    (body, round, [before, places_]) => {
      const [matrix, rowsBefore] = [before as string, places_ as string];
      const candidates = body.add('Where', [
        body.add('Less', [list, round]),
        body.number(-1, node.dtype),
        body.add('Abs', [body.add('Gather', [matrix, round], { axis: -1 })]),
      ]);
      const best = body.add('ArgMax', [candidates], { axis: -1, keepdims: 1 });
      const swap = body.add('Where', [
        body.add('Equal', [list, round]),
        best,
        body.add('Where', [body.add('Equal', [list, best]), round, list]),
      ]);
      const wide = body.add('Expand', [unsqueeze(body, swap, -1), shape]);
      const swapped = body.add('GatherElements', [matrix, wide], { axis: -2 });
      const next = body.add('GatherElements', [rowsBefore, swap], { axis: -1 });
      const pivotRow = line(body, swapped, round, -2);
      const pivotColumn = line(body, swapped, round, -1);
      const pivot = line(body, pivotRow, round, -1);
      const isZero = body.add('Equal', [pivot, zero]);
      const below = body.add('And', [
        body.add('Greater', [down, round]),
        body.add('Not', [isZero]),
      ]);
      const factor = body.add('Div', [
        pivotColumn,
        body.add('Where', [isZero, body.number(1, node.dtype), pivot]),
      ]);
      const rest = body.add('Sub', [swapped, body.add('Mul', [factor, pivotRow])]);
      const inside = body.add('And', [below, body.add('Greater', [across, round])]);
      const reduced = body.add('Where', [inside, rest, swapped]);
      const isColumn = body.add('And', [below, body.add('Equal', [across, round])]);
      return [body.add('Where', [isColumn, factor, reduced]), next];
    },
  ) as [string, string];
  const flat = writer.reshape(
    lu,
    [...batch, size(rows), size(columns)],
    [...batch, size(rows * columns)],
  );
  return writer.add('Concat', [flat, writer.cast(order, node.dtype)], { axis: -1 });
}

/** The matrix of L and U, and the order of the rows as int64, of a packed decomposition. */
function unpacked(step: Step<unknown>, packed: string, { batch, rows: size }: Size) {
  const { writer } = step;
  const count = size * size;
  const part = (from: number, to: number): string => {
    const one = (value: number): string => writer.integers([value]);
    return writer.add('Slice', [packed, one(from), one(to), one(-1)]);
  };
  const like = step.graph.vary(step.node, () => 0);
  const lengths = (...sizes: number[]): Varying[] => [
    ...batch,
    ...sizes.map((length) => fixed(length, like)),
  ];
  return {
    lu: writer.reshape(part(0, count), lengths(count), lengths(size, size)),
    order: writer.cast(part(count, count + size), 'int64'),
  };
}

/** X with A X = B: B's rows in the decomposition's order, then two substitutions. */
function luSolve(step: Step<{ readonly transposed: boolean }>): string {
  const { writer, node, inputs, attrs } = step;
  const [, right, packed] = inputs as [string, string, string];
  // Runtimes differ in what Expand makes of no right-hand sides.
  if (sizesOf(step.graph, node).some((length) => length.every((one) => one === 0))) return right;
  const size = matrixSize(step, node.inputs[0] as Node);
  const { lu, order } = unpacked(step, packed, size);
  const state = stateOf(step, node, right);
  const rows = writer.add('Expand', [
    unsqueeze(writer, order, -1),
    writer.list(sizesOf(step.graph, node)),
  ]);
  if (!attrs.transposed) {
    const inOrder = writer.add('GatherElements', [right, rows], { axis: -2 });
    const lower = { upper: false, unit: true };
    const middle = substituted(step, lu, { ...state, value: inOrder }, size.rows, lower);
    const upper = { upper: true, unit: false };
    return substituted(step, lu, { ...state, value: middle }, size.rows, upper);
  }
  const turned = transposed(writer, lu, node.shape.length);
  const middle = substituted(step, turned, state, size.rows, { upper: false, unit: false });
  const whole = { ...state, value: middle };
  const found = substituted(step, turned, whole, size.rows, { upper: true, unit: true });
  return writer.add('ScatterElements', [found, rows, found], { axis: -2 });
}

/** The determinant, its sign, and the logarithm of its magnitude. */
function luDeterminant(step: Step<object>): string {
  const { writer, node, inputs } = step;
  const size = matrixSize(step, node.inputs[0] as Node);
  const { lu, order } = unpacked(step, inputs[1] as string, size);
  const [down, across] = [places(writer, size.rows, 'column'), places(writer, size.rows, 'row')];
  const rank = (node.inputs[0] as Node).shape.length;
  const zero = writer.number(0, node.dtype);
  const onDiagonal = writer.add('Where', [writer.add('Equal', [down, across]), lu, zero]);
  const diagonal = reduce(writer, 'ReduceSum', onDiagonal, { axes: [rank - 1], keepdims: false });
  // Each pair of rows that stands the wrong way round turns the sign.
  const inverted = writer.add('And', [
    writer.add('Greater', [unsqueeze(writer, order, -1), unsqueeze(writer, order, -2)]),
    writer.add('Less', [down, across]),
  ]);
  const pairs = reduce(writer, 'ReduceSum', writer.cast(inverted, 'int32'), {
    axes: [rank - 2, rank - 1],
    keepdims: false,
  });
  const turns = writer.add('Mod', [pairs, writer.number(2, 'int32')]);
  const isOdd = writer.add('Equal', [turns, writer.number(1, 'int32')]);
  const turned = writer.add('Where', [
    isOdd,
    writer.number(-1, node.dtype),
    writer.number(1, node.dtype),
  ]);
  const over = { axes: [rank - 2], keepdims: false };
  const product = reduce(writer, 'ReduceProd', diagonal, over);
  const sign = reduce(writer, 'ReduceProd', writer.add('Sign', [diagonal]), over);
  const logarithms = writer.add('Log', [writer.add('Abs', [diagonal])]);
  const parts = [
    writer.add('Mul', [product, turned]),
    writer.add('Mul', [sign, turned]),
    reduce(writer, 'ReduceSum', logarithms, over),
  ];
  return writer.add(
    'Concat',
    parts.map((part) => unsqueeze(writer, part, -1)),
    { axis: -1 },
  );
}

export const MATRICES: Conversions = {
  triangularSolve: convert({ upper: 'flag', unit: 'flag' }, (step) => {
    const { node, inputs, attrs } = step;
    const [triangle, right] = inputs as [string, string];
    const { rows } = matrixSize(step, node.inputs[0] as Node);
    return substituted(step, triangle, stateOf(step, node, right), rows, attrs);
  }),
  cholesky: convert({}, cholesky),
  luFactor: convert({}, luFactor),
  luSolve: convert({ transposed: 'flag' }, luSolve),
  luDeterminant: convert({}, luDeterminant),
};
