// fn.profile: what is measured, and where it is written.
import { expect, test } from 'vitest';
import { F, ones, type Tensor, tensor, trace } from 'tengen';
import { checkLeaks } from '../interface/support.ts';

checkLeaks();

test('profile measures each kernel: a table and a Chrome trace', async () => {
  const fn = trace(
    function product(x: Tensor) {
      return F.softmax(x.matmul(x), 1);
    },
    { withoutHost: true },
  );
  const values = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i));
  const profile = await fn.profile([tensor(values, { shape: [16, 16] })], { runs: 3 });
  expect(profile.msPerCall).toBeGreaterThan(0);
  expect(profile.programs).toHaveLength(1);
  const [program] = profile.programs;
  expect(program?.runsPerCall).toBe(1);
  expect(program?.ms).toBeGreaterThan(0);
  expect(program?.kernels.flatMap(({ ops }) => ops)).toContain('matmul');
  expect(String(profile)).toMatch(/^product: \d+\.\d+ ms a call\n\nplan 1 on \w+: /);
  const { traceEvents } = JSON.parse(profile.chromeTrace()) as {
    traceEvents: { ph: string; name: string; ts: number; dur: number }[];
  };
  const plans = traceEvents.filter(({ ph, name }) => ph === 'X' && name.startsWith('plan'));
  expect(plans).toHaveLength(1);
  if (program?.kernels.every(({ ms }) => ms !== null)) {
    expect(traceEvents.filter(({ ph }) => ph === 'X')).toHaveLength(1 + program.kernels.length);
  }
  expect(fn.stats.calls).toBe(5);
});

test('a wrong call, and a file that cannot be written', async () => {
  const fn = trace((value: Tensor) => value.exp());
  const x = ones([16, 16]);
  await expect(fn.profile([x], { runs: 0 })).rejects.toThrow('runs');
  await expect(fn.profile([x], { file: 5 as never })).rejects.toThrow('file must be a path');
  const unwritable = fn.profile([x], { runs: 1, file: process.cwd() });
  await expect(unwritable).rejects.toThrow(/^profile: cannot write '.*' \(EISDIR: [^\n]*\)$/);
});
