// `autocast`: the dtype of each operation chosen by what it is.
import { checkFunction, checkKeys, checkOption } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { autocastDType, withAutocast } from '../tensor/autocast.ts';

export interface AutocastOptions {
  /** What products are computed in; default bfloat16, which needs no scaling of gradients. */
  readonly dtype?: 'float16' | 'bfloat16';
  /** Default true; false switches it off inside. */
  readonly enabled?: boolean;
}

/**
 * Runs `fn` with mixed precision: matrix products, convolutions, attention and recurrent layers take
 * halves and give halves (their sums are float32); exponentials, sums, softmax, normalizations and
 * losses compute in float32; everything else follows its operands. Parameters stay float32, and
 * their gradients are float32. Only what is built inside is affected: call `backward` outside.
 * Throws ArgumentError if `fn` is asynchronous, since the rest of it would run outside.
 *
 * @example
 * const layer = new nn.Linear(4, 2);
 * const output = autocast({ dtype: 'float16' }, () => layer.forward(ones([3, 4])));
 * output.dtype; // => 'float16'
 * output.float().sum().backward();
 * layer.weight.grad?.dtype; // => 'float32'
 */
export function autocast<T>(options: AutocastOptions, fn: () => T): T {
  const op = 'amp.autocast';
  checkKeys(op, options, ['dtype', 'enabled']);
  checkFunction(op, fn);
  const { dtype = 'bfloat16', enabled = true } = options;
  checkOption(op, 'dtype', dtype, ['float16', 'bfloat16']);
  checkOption(op, 'enabled', enabled, 'boolean');
  const result = withAutocast(enabled ? dtype : null, fn);
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new ArgumentError(
      'the function is asynchronous: what follows its first await is outside',
      {
        op,
        hint: 'build the graph in a synchronous function, and read its results after',
      },
    );
  }
  return result;
}

/** Whether mixed precision is on here. */
export function isAutocastEnabled(): boolean {
  return autocastDType() !== null;
}
