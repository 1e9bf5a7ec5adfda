// Small models as messages, for tests: what a file would hold.
import {
  type Draft,
  type GraphProto,
  type NodeProto,
  modelProto,
} from '../../src/interface/onnx/messages.ts';
import {
  type ElementType,
  elementCode,
  encodeTensor,
} from '../../src/interface/onnx/tensor-data.ts';
import { encodeValues } from '../../src/interface/onnx/values.ts';

type AttributeValue = number | string | readonly number[] | { readonly graph: Draft<GraphProto> };

/** An attribute: whole numbers are ints, others floats; `f(1)` makes a whole float. */
function attribute(name: string, value: AttributeValue) {
  if (typeof value === 'string') return { name, type: 3, s: new TextEncoder().encode(value) };
  if (typeof value === 'number') {
    return Number.isInteger(value)
      ? { name, type: 2, i: BigInt(value) }
      : { name, type: 1, f: value };
  }
  if (Array.isArray(value)) {
    const list = value as readonly number[];
    return list.every(Number.isInteger)
      ? { name, type: 7, ints: BigInt64Array.from(list, BigInt) }
      : { name, type: 6, floats: Float32Array.from(list) };
  }
  return { name, type: 5, g: (value as { graph: Draft<GraphProto> }).graph };
}

export function node(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>> = {},
  domain = '',
): Draft<NodeProto> {
  const list = Object.entries(attributes).map(([name, value]) => attribute(name, value));
  return { opType, input, output, domain, attribute: list };
}

export function info(name: string, type: ElementType, shape: readonly (number | string)[]) {
  const dim = shape.map((size) =>
    typeof size === 'number' ? { dimValue: size } : { dimParam: size },
  );
  return { name, type: { tensorType: { elemType: elementCode(type), shape: { dim } } } };
}

export function weight(
  name: string,
  shape: readonly number[],
  values: readonly number[],
  type: ElementType = 'float32',
) {
  return encodeTensor(encodeValues(type, shape, values), name);
}

export function model(
  graph: Draft<GraphProto>,
  opset = 17,
  more: Parameters<typeof modelProto.encode>[0] = {},
): Uint8Array {
  return modelProto.encode({
    irVersion: 8,
    opsetImport: [{ domain: '', version: opset }],
    graph: { name: 'graph', ...graph },
    ...more,
  });
}
