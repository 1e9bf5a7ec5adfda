// Gradients against finite differences: whether a gradient rule is right.
import { checkFunction, checkNumber, POSITIVE } from '../../base/checks.ts';
import { ArgumentError, DTypeError } from '../../base/errors.ts';
import { Generator } from '../tensor/generator.ts';
import { fromBytes, isTensor, notTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { gradientsOf } from '../transform/autodiff.ts';

export interface GradcheckOptions {
  /** Step of the differences; default 1e-4. */
  readonly eps?: number;
  /** Allowed error: `atol + rtol * |expected|`; defaults 1e-7 and 1e-6. */
  readonly atol?: number;
  readonly rtol?: number;
}

/** A tensor with these values that is tracked. */
function leaf({ shape }: Tensor, values: Float64Array): Tensor {
  const bytes = new Uint8Array(values.slice().buffer);
  return fromBytes(bytes, shape, 'float64', { tracked: true });
}

/**
 * Compares the gradients of `fn` with central differences at `inputs`, which are float64; others are not
 * moved. The result is weighted by random numbers, so that every element counts. Resolves to the
 * largest error; throws ArgumentError with the place of one that is too large.
 *
 * @example
 * const x = tensor([0.3, -2, 5], { dtype: 'float64' });
 * (await gradcheck((y) => y.sin().mul(y), [x])) < 1e-7; // => true
 */
export async function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<number> {
  const op = 'gradcheck';
  checkFunction(op, fn);
  const eps = checkNumber(op, 'eps', options.eps ?? 1e-4, POSITIVE);
  const atol = checkNumber(op, 'atol', options.atol ?? 1e-7);
  const rtol = checkNumber(op, 'rtol', options.rtol ?? 1e-6);
  for (const input of inputs) if (!isTensor(input)) notTensor(op, input);
  const moved = inputs.flatMap((input, i) => (input.dtype === 'float64' ? [i] : []));
  if (moved.length === 0) {
    throw new DTypeError('no input is float64', { op, hint: "x.to('float64')" });
  }
  const values = await Promise.all(
    inputs.map(async (input) => Float64Array.from(await input.data())),
  );
  const at = (which: number, data: Float64Array): Tensor[] =>
    inputs.map((input, i) => {
      if (!moved.includes(i)) return input;
      return leaf(input, i === which ? data : (values[i] as Float64Array));
    });
  const points = at(-1, new Float64Array(0));
  const result = fn(...points);
  const weights = fromBytes(
    new Uint8Array(Float64Array.from(new Generator(1).hostNormal(result.size, 0, 1)).buffer),
    result.shape,
    'float64',
  );
  const total = (x: Tensor): Tensor => x.to('float64').mul(weights).sum();
  const found = gradientsOf(
    total(result),
    moved.map((i) => points[i] as Tensor),
  );
  let worst = 0;
  for (const [k, which] of moved.entries()) {
    const before = values[which] as Float64Array;
    const gradient = await found[k]?.data();
    for (let place = 0; place < before.length; place++) {
      const objective = async (by: number): Promise<number> => {
        const data = before.slice();
        data[place] = (data[place] as number) + by;
        return total(fn(...at(which, data))).item();
      };
      // Richardson's extrapolation of two central differences: an error of eps^4.
      const wide = ((await objective(eps)) - (await objective(-eps))) / (2 * eps);
      const near = ((await objective(eps / 2)) - (await objective(-eps / 2))) / eps;
      const expected = (4 * near - wide) / 3;
      const actual = gradient?.[place] ?? 0;
      const error = Math.abs(actual - expected);
      if (!(error <= atol + rtol * Math.abs(expected))) {
        throw new ArgumentError(
          `the gradient of input ${which} at element ${place} is ${actual}, differences give ${expected}`,
          { op },
        );
      }
      worst = Math.max(worst, error);
    }
  }
  return worst;
}
