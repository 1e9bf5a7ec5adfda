// Choosing among schedules: by estimate, by measuring, under limits; and what is remembered.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import {
  algorithms,
  clearMeasuredAlgorithms,
  clearPlans,
  evaluate,
  explain,
  F,
  measuredAlgorithms,
  noGrad,
  randn,
  setAlgorithms,
  stats,
} from 'tengen';
import { compile } from '../../src/compile/compiler.ts';
import type { Tuner } from '../../src/compile/tune/algorithms.ts';
import { convolution } from '../../src/graph/ops/convolution.ts';
import { algorithmFile } from '../../src/interface/tuning/algorithm-file.ts';
import { installAlgorithmFile } from '../../src/interface/tuning/algorithm-store.ts';
import type { Trial } from '../../src/compile/tune/trial.ts';
import { leafFor } from '../support/graphs.ts';
import { programOf, targetOf } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-algorithms-'));
process.env['TENGEN_CACHE'] = folder;
installAlgorithmFile(algorithmFile());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the compiler', () => {
  const tensor = (shape: readonly number[]) => leafFor({ shape, dtype: 'float32' });
  const node = convolution(tensor([2, 8, 12, 12]), tensor([8, 8, 3, 3]), {
    stride: [1, 1],
    padding: [1, 1, 1, 1],
    dilation: [1, 1],
    groups: 1,
  });
  const program = programOf([node]);
  const scheduleUnder = (policy: Parameters<typeof compile>[2]): string =>
    compile(program, targetOf(), policy).kernels.at(-1)!.schedule;

  /** Measures nothing: says what it was told, in the order of the candidates. */
  function fakeTuner(
    times: readonly number[],
  ): Tuner & { trials: Trial[]; known: Map<string, ReadonlyMap<string, number>> } {
    const trials: Trial[] = [];
    const known = new Map<string, ReadonlyMap<string, number>>();
    return {
      trials,
      known,
      lookup: (key) => known.get(key),
      measure: (trial) => {
        trials.push(trial);
        return times[(trials.length - 1) % times.length]!;
      },
      remember: (key, measured) => known.set(key, measured),
    };
  }

  const policy = { reproducible: false, workspaceLimit: Infinity };

  test('takes the fastest of what was measured, and measures once', () => {
    const tuner = fakeTuner([9, 3, 7, 8, 9, 9, 9, 9]);
    const schedule = scheduleUnder({ algorithms: { ...policy, tuner } });
    const [times] = [...tuner.known.values()];
    expect(schedule).toContain([...times!.entries()].find(([, time]) => time === 3)![0]);
    const { length } = tuner.trials;
    expect(length).toBe(times!.size);
    expect(scheduleUnder({ algorithms: { ...policy, tuner } })).toBe(schedule);
    expect(tuner.trials).toHaveLength(length);
  });

  test('goes by estimate where measuring finds hardly a difference', () => {
    const slower = fakeTuner([10, 9.5, 9.6, 9.7, 10, 10, 10, 10]);
    expect(scheduleUnder({ algorithms: { ...policy, tuner: slower } })).toBe(scheduleUnder({}));
    const faster = fakeTuner([10, 9.3, 9.6, 9.7, 10, 10, 10, 10]);
    const schedule = scheduleUnder({ algorithms: { ...policy, tuner: faster } });
    expect(schedule).not.toBe(scheduleUnder({}));
  });

  test('goes by estimate when there is no time to measure all', () => {
    const tuner = { ...fakeTuner([]), measure: () => null };
    expect(scheduleUnder({ algorithms: { ...policy, tuner } })).toBe(scheduleUnder({}));
    expect(tuner.known.size).toBe(0);
  });

  test('a trial binds every value it reads and writes', () => {
    const tuner = fakeTuner([1]);
    scheduleUnder({ algorithms: { ...policy, tuner } });
    for (const { plan, ahead } of tuner.trials) {
      // x, weight and the result; and tables of offsets, which are kept from run to run.
      const sizes = plan.bindings.map(({ bytes }) => bytes).sort((a, b) => a - b);
      expect(sizes.slice(-3)).toEqual([8 * 8 * 9 * 4, 2 * 8 * 144 * 4, 2 * 8 * 144 * 4]);
      expect(sizes.length > 3).toBe(ahead !== null);
      expect(ahead?.bindings ?? plan.bindings).toEqual(plan.bindings);
      expect(plan.dispatches.length).toBeGreaterThan(0);
    }
    expect(tuner.trials.some(({ ahead }) => ahead !== null)).toBe(true);
  });

  test('keeps to the workspace', () => {
    expect(scheduleUnder({ algorithms: { ...policy, workspaceLimit: 0 } })).toBe('reduction');
    expect(scheduleUnder({ algorithms: { ...policy, workspaceLimit: 1e9 } })).not.toBe('reduction');
  });
});

describe('setAlgorithms', () => {
  beforeEach(() => {
    setAlgorithms({});
    clearMeasuredAlgorithms();
    clearPlans();
  });

  const x = randn([2, 8, 12, 12]);
  const weight = randn([8, 8, 3, 3]);
  evaluate(x, weight);
  const convolve = (): void => noGrad(() => evaluate(F.conv2d(x, weight, null, { padding: 1 })));

  test('profile measures on the device, and the file serves the next process', () => {
    setAlgorithms({ strategy: 'profile' });
    convolve();
    const [choice, ...others] = measuredAlgorithms();
    expect(others).toEqual([]);
    expect(choice!.operation).toContain('float32[2,8,12,12] float32[8,8,3,3]');
    const { times } = choice!;
    expect(times.length).toBeGreaterThan(1);
    // Between near ties the estimate decides, so that the chosen one need not be the fastest.
    const chosen = /(\S.*) is chosen of: /.exec(explain())![1];
    const time = times.find(([schedule]) => schedule === chosen)![1];
    expect(time).toBeLessThanOrEqual(times[0]![1] / 0.94);
    expect(statSync(join(folder, 'algorithms.json')).mode & 0o77).toBe(0);
  });

  test('a policy has plans of its own', () => {
    convolve();
    const before = stats().planMisses;
    convolve();
    expect(stats().planMisses).toBe(before);
    setAlgorithms({ reproducible: true });
    convolve();
    expect(stats().planMisses).toBe(before + 1);
    expect(algorithms()).toMatchObject({ strategy: 'heuristic', reproducible: true });
  });

  test('a broken file says nothing', () => {
    const path = join(folder, 'algorithms.json');
    for (const text of ['', '{', '[1]', '{"wasm":{"conv":{"direct":"fast"}}}', '{"wasm":7}']) {
      clearMeasuredAlgorithms();
      writeFileSync(path, text);
      expect(measuredAlgorithms()).toEqual([]);
    }
    setAlgorithms({ strategy: 'profile' });
    convolve();
    expect(Object.keys(JSON.parse(readFileSync(path, 'utf8')) as object).length).toBeGreaterThan(0);
  });

  test('refuses what it does not know', () => {
    expect(() => setAlgorithms({ strategy: 'fastest' as 'profile' })).toThrow(
      /setAlgorithms: the strategy is 'heuristic' or 'profile', got 'fastest'/,
    );
    expect(() => setAlgorithms({ workspaceLimit: -1 })).toThrow(/workspaceLimit is -1/);
  });
});
