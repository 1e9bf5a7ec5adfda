// What the interface tests share: reading tensors, and the check that no memory is left behind.
import { afterEach, beforeAll, expect } from 'vitest';
import { clearPlans, evaluate, memory, tensor, type Tensor } from 'tengen';
import 'tengen/interp';
import { engine } from '../../src/interface/tensor/engine.ts';

/** Values of tensors as nested arrays. */
export function values(x: Tensor): unknown {
  return x.arraySync();
}

/** Checks shape and values; numbers to five digits. */
export function expectValues(x: Tensor, expected: unknown): void {
  expectNested(x.arraySync(), expected, '');
}

function expectNested(actual: unknown, expected: unknown, place: string): void {
  if (Array.isArray(expected)) {
    expect(Array.isArray(actual) && actual.length, `length at ${place || 'top'}`).toBe(
      expected.length,
    );
    expected.forEach((item, i) => expectNested((actual as unknown[])[i], item, `${place}[${i}]`));
  } else if (typeof expected === 'number' && Number.isFinite(expected)) {
    const difference = Math.abs((actual as number) - expected);
    const message = `${String(actual)} in place of ${expected} at ${place || 'top'}`;
    expect(difference, message).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(expected)));
  } else expect(actual, place).toBe(expected);
}

export function ints(data: Parameters<typeof tensor>[0]): Tensor {
  return tensor(data, { dtype: 'int32' });
}

/** Bytes that stay when everything pending is computed and everything dropped is collected. */
export async function settledBytes(goal: number): Promise<number> {
  engine().step();
  clearPlans();
  // One collection is enough as a rule; finalizers run in a later turn of the event loop.
  for (let round = 0; round < 20 && (round === 0 || memory().allocated > goal); round++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return memory().allocated;
}

/** After each test of the file the device must hold as many bytes as before the first. */
export function checkLeaks(): void {
  let baseline = 0;
  beforeAll(async () => {
    evaluate(tensor([1]).add(1));
    baseline = await settledBytes(0);
  });
  afterEach(async () => {
    expect(await settledBytes(baseline), 'bytes held by values').toBeLessThanOrEqual(baseline);
  });
}
