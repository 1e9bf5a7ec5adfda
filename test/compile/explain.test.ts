// What explain() tells: one line for each kernel, why it ends there, and what memory it takes.
import { expect, test } from 'vitest';
import { formatExplanation } from '../../src/compile/explain.ts';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { leafFor } from '../support/graphs.ts';
import { compileRoots } from './harness.ts';

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });

test('a line for each kernel, the reasons under it, memory at the end', () => {
  const [x, w] = [f32(64, 32), f32(32, 16)];
  const y = g.relu(g.matmul(x, w));
  const { compiled } = compileRoots([g.sum(y, [0]), g.transpose(y)]);
  const text = formatExplanation(compiled);
  const lines = text.split('\n');
  expect(lines[0]).toMatch(/^# +kernel +shape +schedule +work +read +written +ops$/);
  for (const [i, { name, shape }] of compiled.kernels.entries()) {
    const line = lines.find((candidate) => candidate.startsWith(`${i} `));
    expect(line).toContain(name);
    expect(line).toContain(`[${shape.join(',')}]`);
  }
  expect(text).toContain('matmul is stored: computed once');
  expect(text).toContain('relu is stored: as well as what it is made of');
  expect(lines.at(-1)).toMatch(/^\d+ kernels \(\d+ distinct\), arena .+B \(no less than .+B/);
});

test('work and traffic of a product', () => {
  const [x, w] = [f32(64, 32), f32(32, 16)];
  const { compiled } = compileRoots([g.matmul(x, w)]);
  const last = compiled.kernels.at(-1)!;
  expect(last.flops).toBe(2 * 64 * 32 * 16);
  expect(last.bytesRead).toBe(4 * (64 * 32 + 32 * 16));
  expect(last.bytesWritten).toBe(4 * 64 * 16);
});

test('why a value did not join the kernel before it', () => {
  const x = f32(3, 20_000);
  const e = g.exp(g.sub(x, g.max(x, [1], true)));
  const { compiled } = compileRoots([g.div(e, g.sum(e, [1], true)), g.transpose(e)]);
  const reasons = compiled.kernels.flatMap((kernel) => kernel.reasons);
  expect(
    reasons.some((reason) => /cannot join the kernel of .*: .* comes later/.test(reason)),
  ).toBe(true);
});
