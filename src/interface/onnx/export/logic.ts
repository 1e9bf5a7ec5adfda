// Conversions of comparisons, choices and bits.
import { byteSize, isFloat } from '../../../base/dtype.ts';
import { resolve } from './graph.ts';
import {
  type Conversion,
  type Conversions,
  convert,
  inputDType,
  needOpset,
  type Step,
} from './conversion.ts';
import { NotExportable } from './writer.ts';

type NoAttrs = Readonly<Record<never, never>>;

/** An order of bools is that of 0 and 1. */
function order(opType: string): Conversion {
  return convert({}, ({ writer, node, inputs }) => {
    const isBool = inputDType(node) === 'bool';
    return writer.add(opType, isBool ? inputs.map((x) => writer.cast(x, 'int32')) : inputs);
  });
}

/** Of a value with itself it asks for NaN. */
function equality(negated: boolean): Conversion {
  return convert({}, ({ writer, node, inputs }) => {
    const [a, b] = node.inputs.map(resolve);
    if (a === b && isFloat(inputDType(node))) {
      const isNaN = writer.add('IsNaN', [inputs[0] as string]);
      return negated ? isNaN : writer.add('Not', [isNaN]);
    }
    const equal = writer.add('Equal', inputs);
    return negated ? writer.add('Not', [equal]) : equal;
  });
}

function select({ writer, node, inputs }: Step<NoAttrs>): string {
  if (node.dtype !== 'bool') return writer.add('Where', inputs);
  const [condition, a, b] = inputs as readonly [string, string, string];
  const otherwise = writer.add('And', [writer.add('Not', [condition]), b]);
  return writer.add('Or', [writer.add('And', [condition, a]), otherwise]);
}

function bitwise(ofBools: string, ofIntegers: string): Conversion {
  return convert({}, ({ writer, node, inputs }) => {
    if (node.dtype === 'bool') return writer.add(ofBools, inputs);
    needOpset(writer, 18, ofIntegers);
    return writer.add(ofIntegers, inputs);
  });
}

/** By more than the width of a word nothing is left. */
function shift(direction: 'LEFT' | 'RIGHT'): Conversion {
  return convert({}, ({ writer, node, inputs }) => {
    const { dtype } = node;
    if (!dtype.startsWith('u')) {
      throw new NotExportable(`ONNX shifts unsigned integers only, this is ${dtype}`);
    }
    const [a, b] = inputs as readonly [string, string];
    const width = writer.number(8 * byteSize(dtype), dtype);
    const tooFar = writer.add('GreaterOrEqual', [b, width]);
    const zero = writer.number(0, dtype);
    const amount = writer.add('Where', [tooFar, zero, b]);
    const shifted = writer.add('BitShift', [a, amount], { direction });
    return writer.add('Where', [tooFar, zero, shifted]);
  });
}

export const LOGIC: Conversions = {
  equal: equality(false),
  notEqual: equality(true),
  less: order('Less'),
  lessEqual: order('LessOrEqual'),
  greater: order('Greater'),
  greaterEqual: order('GreaterOrEqual'),
  select: convert({}, select),
  bitwiseAnd: bitwise('And', 'BitwiseAnd'),
  bitwiseOr: bitwise('Or', 'BitwiseOr'),
  bitwiseXor: bitwise('Xor', 'BitwiseXor'),
  shiftLeft: shift('LEFT'),
  shiftRight: shift('RIGHT'),
};
