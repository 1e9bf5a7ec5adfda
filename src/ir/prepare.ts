// What every backend does to a kernel before rendering it.
import { Builder } from './builder.ts';
import { decompose } from './decompose.ts';
import type { Kernel, Target } from './kernel.ts';
import { place } from './place.ts';
import { vectorize } from './vectorize.ts';
import type { verifyKernel } from './verify.ts';
import { highestId } from './walk.ts';

export interface PrepareOptions {
  /**
   * Verifies the kernel before and after. Costs about as much as the passes: tests pass
   * `verifyKernel`, the package does without.
   */
  readonly verify?: typeof verifyKernel;
}

/**
 * The kernel in the form that renderers take: marked loops as vectors of the target's width,
 * functions as polynomials, shared and loop-invariant code in `let`s.
 *
 * @throws Error `internal:` from the verification if the kernel is not well formed.
 */
export function prepareKernel(
  kernel: Kernel,
  target: Target,
  options: PrepareOptions = {},
): Kernel {
  options.verify?.(kernel);
  const builder = new Builder(highestId(kernel) + 1);
  const vectors = vectorize(kernel, target, builder);
  const basic = decompose(vectors, target, builder, { mulHigh: target.mulHigh === true });
  const placed = place(basic);
  options.verify?.(placed, { decomposed: true });
  return placed;
}
