// What runs along an axis and is no op of ONNX: a Scan with one product in its body.
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, inputDType, sizesOf, type Step } from './conversion.ts';
import type { Varying } from './sizes.ts';
import { filled } from './shaping.ts';
import { valueInfo } from './value-info.ts';
import type { GraphWriter } from './writer.ts';

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

export const RUNNING: Conversions = {
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
