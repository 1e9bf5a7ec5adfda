// Every function as C against the interpreter, bit for bit. Compiling all of them takes a while.
import { describe, it } from 'vitest';
import { newTypedArray } from '../../src/base/dtype.ts';
import type { Expression, MathUnary } from '../../src/ir/expression.ts';
import { compilerMissing, expectSame, type Run } from './native.ts';
import { randomNumbers } from './random.ts';
import { elementwise } from './support.ts';

const missing = compilerMissing();

describe.skipIf(missing !== undefined)(`functions as C ${missing ?? ''}`, () => {
  const UNARY: readonly MathUnary[] = [
    'exp',
    'exp2',
    'expm1',
    'log',
    'log2',
    'log10',
    'log1p',
    'sin',
    'cos',
    'tan',
    'asin',
    'acos',
    'atan',
    'sinh',
    'cosh',
    'tanh',
    'asinh',
    'acosh',
    'atanh',
    'sigmoid',
    'erf',
    'erfc',
    'erfinv',
    'lgamma',
    'digamma',
  ];
  it.each([
    [16, false],
    [32, true],
    [64, true],
  ])(
    'every function, vectors of %i bytes, fma %s',
    (vectorBytes, fma) => {
      const random = randomNumbers(vectorBytes);
      // 96 numbers: whole vectors at every width, so that one copy of each loop is compiled.
      const edges = [0, -0, 1, -1, 0.5, Infinity, -Infinity, NaN, 1e-40, -1e-40, 3e38, 88.9, -104];
      const input = [...edges, ...Array.from({ length: 83 }, () => (random() - 0.5) * 20)];
      const runs = UNARY.flatMap((op) =>
        (['float32', 'float64'] as const).map((dtype): Run => {
          const x = newTypedArray(dtype, input.length);
          x.set(input);
          const kernel = elementwise(input.length, [dtype], dtype, (b, [v]) =>
            b.unary(op, v as Expression),
          );
          return { name: `${op} ${dtype}`, kernel, views: [x, newTypedArray(dtype, input.length)] };
        }),
      );
      expectSame(runs, vectorBytes, fma);
    },
    180_000,
  );
});
