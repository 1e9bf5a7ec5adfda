// Other dtypes, other devices, values cut off from their history, and values as JavaScript.
import {
  type DType,
  fromBfloat16Bits,
  fromFloat16Bits,
  isDType,
  type TypedArray,
} from '../../base/dtype.ts';
import { ArgumentError, DeviceError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import { alias, copy, detach as detachNode } from '../../graph/ops/index.ts';
import { getDevice } from '../../runtime/registry.ts';
import { nodeOf } from './arguments.ts';
import { engine } from './engine.ts';
import { castNode, fromBytes, tensorOn, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** Rows of rows of numbers, or of booleans. */
export type NestedValues = number | boolean | NestedValues[];

/**
 * `x` in another dtype, or on another device. Float to integer truncates; moving waits for the
 * value and cuts off its history. Throws DTypeError or DeviceError.
 */
export function to(x: Tensor, target: DType | (string & {})): Tensor {
  const node = nodeOf('to', x);
  if (isDType(target)) return wrap(castNode(node, target));
  getDevice(target);
  if (node.device === target) return x;
  if (node.storage !== null && node.device === null) {
    return tensorOn(alias(node, x.tracked, target));
  }
  engine().evaluate([node]);
  const bytes = engine().readSync(node);
  return fromBytes(bytes, x.shape, x.dtype, { device: target });
}

/** The same value cut off from its history: no gradient flows through it. */
export function detach(x: Tensor): Tensor {
  return wrap(detachNode(nodeOf('detach', x)));
}

/** The same value as a tensor of its own; gradients flow through. */
export function clone(x: Tensor): Tensor {
  return wrap(copy(nodeOf('clone', x)));
}

/** Host values as JavaScript numbers: halves decoded. */
export function decodeNumbers(host: TypedArray, dtype: DType): ArrayLike<number> {
  if (dtype === 'float16') return Array.from(host, fromFloat16Bits);
  if (dtype === 'bfloat16') return Array.from(host, fromBfloat16Bits);
  return host;
}

function nest(values: ArrayLike<number>, shape: Shape, dtype: DType): NestedValues {
  let next = 0;
  const level = (axis: number): NestedValues => {
    if (axis === shape.length) {
      const value = values[next++] as number;
      return dtype === 'bool' ? value !== 0 : value;
    }
    return Array.from({ length: shape[axis] as number }, () => level(axis + 1));
  };
  return level(0);
}

/** The values in nested arrays; a number for shape []. */
export async function array(x: Tensor): Promise<NestedValues> {
  return nest(decodeNumbers(await x.data(), x.dtype), x.shape, x.dtype);
}

/** As `array`, at once. Throws DeviceError on devices that are read asynchronously. */
export function arraySync(x: Tensor): NestedValues {
  return nest(decodeNumbers(x.dataSync(), x.dtype), x.shape, x.dtype);
}

function single(x: Tensor): void {
  if (x.size !== 1) {
    throw new ShapeError(`the tensor is ${formatShape(x.shape)}, not one number`, {
      op: 'item',
      hint: 'reduce it, or read all with array()',
    });
  }
}

/** The only element, as a number; true is 1. Throws ShapeError if there are more or none. */
export async function item(x: Tensor): Promise<number> {
  single(x);
  return decodeNumbers(await x.data(), x.dtype)[0] as number;
}

/** As `item`, at once. Throws DeviceError on devices that are read asynchronously. */
export function itemSync(x: Tensor): number {
  single(x);
  return decodeNumbers(x.dataSync(), x.dtype)[0] as number;
}

/** Values that an operation needs at once to know its result's shape. */
export function valuesNow(op: string, x: Tensor): ArrayLike<number> {
  try {
    return decodeNumbers(x.dataSync(), x.dtype);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    throw new DeviceError(
      'the size of the result depends on values, which this device gives later',
      {
        op,
        cause: error,
        hint: 'read the values with await x.data() first, or use a mask with where()',
      },
    );
  }
}

/** Throws unless `x` has one of the dtypes. */
export function checkDType(op: string, x: Tensor, allowed: readonly DType[]): void {
  if (!allowed.includes(x.dtype)) {
    throw new ArgumentError(`takes ${allowed.join(' or ')}, got ${x.dtype}`, { op });
  }
}
