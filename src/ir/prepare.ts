// What every backend does to a kernel before rendering it.
import { Builder } from './builder.ts';
import { decompose } from './decompose.ts';
import type { Kernel, Target } from './kernel.ts';
import { place } from './place.ts';
import { vectorize } from './vectorize.ts';
import { verifyKernel } from './verify.ts';
import { highestId } from './walk.ts';

export interface PrepareOptions {
  /** Verify the kernel before and after. Costs about as much as the passes; tests do it. */
  readonly verify?: boolean;
}

/**
 * The kernel in the form that renderers take: marked loops as vectors of the target's width,
 * functions as polynomials, shared and loop-invariant code in `let`s.
 *
 * @throws Error `internal:` if verification is on and the kernel is not well formed.
 */
export function prepareKernel(
  kernel: Kernel,
  target: Target,
  options: PrepareOptions = {},
): Kernel {
  if (options.verify === true) verifyKernel(kernel);
  const builder = new Builder(highestId(kernel) + 1);
  const vectors = vectorize(kernel, target, builder);
  const basic = decompose(vectors, target, builder, { mulHigh: target.mulHigh === true });
  const placed = place(basic);
  if (options.verify === true) verifyKernel(placed, { decomposed: true });
  return placed;
}
