// What runs along an axis and is no op of ONNX: a Scan with one product in its body.
import { isFloat } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, inputDType, sizesOf, type Step } from './conversion.ts';
import { isFixed, type Varying } from './sizes.ts';
import { filled } from './shaping.ts';
import { valueInfo } from './value-info.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

interface RunningAttrs {
  readonly axis: number;
  readonly reverse: boolean;
}

/**
 * A Scan over all operands along an axis. `step` makes the next state of the state and the parts, and
 * what is kept of the round.
 */
function running(
  { writer, graph, node, inputs, attrs: { axis, reverse } }: Step<RunningAttrs>,
  initial: number,
  step: (body: GraphWriter, state: string, parts: readonly string[]) => readonly [string, string],
): string {
  const dtype: Node['dtype'] = node.dtype;
  const all = sizesOf(graph, node);
  // There is no state to be run over nothing.
  if (all.some((length) => length.every((size) => size === 0))) {
    return filled(writer, 0, dtype, all);
  }
  const whole = inputs.map((value, i) =>
    inputDType(node, i) === dtype ? value : writer.cast(value, dtype),
  );
  const sizes: Varying[] = all.filter((_, at) => at !== axis);
  const body = writer.nested();
  const [state, ...parts] = [0, ...inputs].map(() => body.fresh('value')) as [string, ...string[]];
  const output = step(body, state, parts).map((value) => body.add('Identity', [value]));
  const info = (name: string) => valueInfo(name, dtype, graph.grid, sizes);
  const back = reverse ? 1 : 0;
  const operands = [filled(writer, initial, dtype, sizes), ...whole];
  const [, kept] = writer.addMany('Scan', operands, 2, {
    body: {
      graph: {
        name: 'body',
        node: body.nodes,
        input: [state, ...parts].map(info),
        output: output.map(info),
      },
    },
    num_scan_inputs: inputs.length,
    scan_input_axes: inputs.map(() => axis),
    scan_input_directions: inputs.map(() => back),
    scan_output_axes: [axis],
    scan_output_directions: [back],
  });
  return kept as string;
}

/**
 * The index of the last extreme so far: a Scan over the values and their places. NaN wins, and the first
 * value does in any case.
 */
function runningExtreme(step: Step<{ readonly axis: number; readonly minimum: boolean }>): string {
  const { writer, graph, node, inputs, attrs } = step;
  const { axis, minimum } = attrs;
  const all = sizesOf(graph, node);
  if (all.some((length) => length.every((size) => size === 0))) {
    return filled(writer, 0, 'int32', all);
  }
  const length = all[axis] as Varying;
  if (!isFixed(length)) throw new NotExportable('its axis follows a dynamic axis');
  const from = inputDType(node);
  const dtype = isFloat(from) ? from : 'int32';
  const x = from === dtype ? (inputs[0] as string) : writer.cast(inputs[0] as string, dtype);
  const sizes = all.filter((_, at) => at !== axis);
  const places = Array.from({ length: length[0] as number }, (_, at) => at);
  const body = writer.nested();
  const names = ['best', 'index', 'value', 'place'].map((name) => body.fresh(name));
  const [best, index, value, place] = names as [string, string, string, string];
  const isFirst = body.add('Equal', [place, body.number(0, 'int32')]);
  const isBetter = body.add(minimum ? 'LessOrEqual' : 'GreaterOrEqual', [value, best]);
  const wins = isFloat(from) ? body.add('Or', [isBetter, body.add('IsNaN', [value])]) : isBetter;
  const takes = body.add('Or', [wins, isFirst]);
  const nextBest = body.add('Where', [takes, value, best]);
  const nextIndex = body.add('Where', [takes, place, index]);
  const kept = body.add('Identity', [nextIndex]);
  const info = (name: string, type: Node['dtype'], shape: readonly Varying[]) =>
    valueInfo(name, type, graph.grid, shape);
  const operands = [
    filled(writer, 0, dtype, sizes),
    filled(writer, 0, 'int32', sizes),
    x,
    writer.numbers(places, 'int32', [places.length]),
  ];
  const results = writer.addMany('Scan', operands, 3, {
    body: {
      graph: {
        name: 'body',
        node: body.nodes,
        input: [
          info(best, dtype, sizes),
          info(index, 'int32', sizes),
          info(value, dtype, sizes),
          info(place, 'int32', []),
        ],
        output: [
          info(nextBest, dtype, sizes),
          info(nextIndex, 'int32', sizes),
          info(kept, 'int32', sizes),
        ],
      },
    },
    num_scan_inputs: 2,
    scan_input_axes: [axis, 0],
    scan_output_axes: [axis],
  });
  return results[2] as string;
}

export const RUNNING: Conversions = {
  runningExtreme: convert({ axis: 'int', minimum: 'flag' }, runningExtreme),
  logCumSumExp: convert({ axis: 'int' }, (given) => {
    const step = { ...given, attrs: { axis: given.attrs.axis, reverse: false } };
    return running(step, -Infinity, (body, state, [x]) => {
      const larger = body.add('Max', [state, x as string]);
      const zero = body.number(0, given.node.dtype);
      // Infinities are not subtracted from themselves.
      const top = body.add('Where', [body.add('IsInf', [larger]), zero, larger]);
      const power = (value: string): string => body.add('Exp', [body.add('Sub', [value, top])]);
      const total = body.add('Log', [body.add('Add', [power(state), power(x as string)])]);
      const next = body.add('Add', [total, top]);
      return [next, next];
    });
  }),
  cumprod: convert({ axis: 'int', reverse: 'flag', exclusive: 'flag' }, (given) =>
    running(given, 1, (body, state, [x]) => {
      const next = body.add('Mul', [state, x as string]);
      return [next, given.attrs.exclusive ? state : next];
    }),
  ),
  linearScan: convert({ axis: 'int', reverse: 'flag' }, (given) =>
    running(given, 0, (body, state, [term, factor]) => {
      const next = body.add('Add', [term as string, body.add('Mul', [factor as string, state])]);
      return [next, next];
    }),
  ),
};
