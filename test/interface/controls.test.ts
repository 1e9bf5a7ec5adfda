// Control over evaluation: what runs when, counters, settings, and the search for NaN.
import { afterEach, describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { debug, evaluate, explain, F, nn, stats, tensor, type Tensor } from 'tengen';
import { checkLeaks, expectValues } from './support.ts';

checkLeaks();

afterEach(() => {
  debug.eager = false;
  debug.checkNaN = false;
  debug.fusion = true;
  tg.setNumerics('fast');
  tg.setPrecision('float32');
  tg.setDefaultDevice('auto');
});

describe('deferred evaluation', () => {
  test('nothing runs before a value is needed, and then everything at once', () => {
    const before = stats();
    const x = tensor([1, 2, 3]);
    const y = x.add(1).mul(2).sqrt();
    expect(stats().runs).toBe(before.runs);
    y.dataSync();
    expect(stats().runs).toBe(before.runs + 1);
    expect(stats().kernelsExecuted).toBe(before.kernelsExecuted + 1);
    y.dataSync();
    expect(stats().runs).toBe(before.runs + 1);
  });

  test('a changed number finds the same plan', () => {
    const run = (rate: number): void => void tensor([1, 2]).mul(rate).add(0.5).dataSync();
    run(0.1);
    const { planMisses } = stats();
    for (const rate of [0.2, 0.3, 7]) run(rate);
    expect(stats().planMisses).toBe(planMisses);
  });

  test('evaluate computes several values in one plan', () => {
    const x = tensor([1, 2]).add(1);
    const [a, b] = [x.mul(2), x.mul(3)];
    const before = stats().runs;
    evaluate(a, b);
    expect(stats().runs).toBe(before + 1);
    expectValues(a, [4, 6]);
    expectValues(b, [6, 9]);
    expect(stats().runs).toBe(before + 1);
  });

  test('a mistake throws at the call, before anything runs', () => {
    const { runs } = stats();
    expect(() =>
      tensor([1, 2])
        .add(1)
        .matmul(tensor([1, 2, 3])),
    ).toThrow('inner sizes differ');
    expect(stats().runs).toBe(runs);
  });

  test('a disposed value says so', () => {
    const x = tensor([1, 2]);
    x.dispose();
    expect(() => x.add(1).dataSync()).toThrow('a value was disposed of');
  });

  test('an overwritten version says how to keep it', () => {
    const w = new nn.Parameter(tensor([1]));
    // Used by another result, so no step computes it for its own sake.
    const old = w.mul(10);
    old.add(0);
    const kept = w.mul(100).keep();
    const optimizer = new tg.optim.SGD([w], { lr: 1 });
    for (let i = 0; i < 3; i++) {
      w.assign(w.add(1));
      optimizer.step();
    }
    expectValues(w, [4]);
    expectValues(kept, [100]);
    expect(() => old.add(1).dataSync()).toThrow(/updates ago.*keep\(x\)/);
  });
});

describe('settings', () => {
  test('eager computes at once, with the same result', () => {
    const fn = (): Tensor => tensor([1, 2]).mul(3).add(1).sqrt();
    const deferred = fn().arraySync();
    debug.eager = true;
    const before = stats().runs;
    const y = fn();
    expect(stats().runs).toBe(before + 3);
    expect(y.arraySync()).toEqual(deferred);
  });

  test('strict numerics give the same bits on both devices and without fusion', () => {
    tg.setNumerics('strict');
    const run = (device: string, fusion: boolean): unknown => {
      tg.setDefaultDevice(device);
      debug.fusion = fusion;
      const x = tg.linspace(-3, 3, 37).reshape(1, 37);
      return F.gelu(F.layerNorm(x, 37)).mul(x.exp()).matmul(x.t()).arraySync();
    };
    const expected = run('wasm', true);
    expect(run('interp', true)).toEqual(expected);
    expect(run('wasm', false)).toEqual(expected);
  });

  test('the precision is float32 unless another is asked for, and env says why', () => {
    const { precision, precisionReason } = tg.env();
    expect([precision, precisionReason]).toEqual(['float32', 'nothing else was asked for']);
    tg.configure({ device: 'wasm', precision: 'bfloat16' });
    expect(tg.env().precision).toBe('float32');
    expect(tg.env().precisionReason).toContain('wasm has no units for it here');
    const x = tg.randn([64, 64]);
    const exact = [...(x.matmul(x).dataSync() as Float32Array)];
    tg.setPrecision('float32');
    expect([...(x.matmul(x).dataSync() as Float32Array)]).toEqual(exact);
    tg.setDefaultDevice('interp');
    tg.setPrecision('bfloat16');
    expect(tg.env().precision).toBe('bfloat16');
    tg.setNumerics('strict');
    expect(tg.env().precisionReason).toContain('not with strict numerics');
    const wrong = 'float16' as tg.Precision;
    expect(() => tg.setPrecision(wrong)).toThrow(/the precision is 'float32' or 'bfloat16'/);
  });

  test('numerics are fast or strict', () => {
    tg.setNumerics('strict');
    expect(tg.env().numerics).toBe('strict');
    expect(() => tg.setNumerics('exact' as never)).toThrow("'fast' or 'strict'");
  });

  test('checkNaN names the operation, its inputs, and throws on the line', () => {
    debug.checkNaN = true;
    expect(() => tensor([[4, -1]]).log()).toThrow('log: made float32 [1,2] from 1.38629436492919');
    expect(() => tensor([[4, -1]]).log()).toThrow('with 1 NaN. inputs: float32 [1,2] from -1 to 4');
    expect(() => tensor([1]).div(0)).toThrow('div: made float32 [1] with 1 infinite');
    expectValues(
      tensor([1, 2])
        .maskedFill(tensor([true, false]), -Infinity)
        .exp(),
      [0, Math.exp(2)],
    );
    expectValues(tensor([NaN]).add(1).isnan(), [true]);
    const x = tensor([0], { requiresGrad: true });
    expect(() => x.sqrt().sum().backward()).toThrow('div: made');
  });
});

describe('reports', () => {
  test('env, memory, stats', () => {
    const { device, threads, threadsReason, devices } = tg.env();
    expect(device).toBe('wasm');
    expect(threads).toBeGreaterThanOrEqual(1);
    expect(threadsReason).not.toBe('');
    expect(devices.map(({ name }) => name)).toEqual(['wasm', 'interp']);
    expect(tg.memory().reserved).toBeGreaterThanOrEqual(0);
    tg.resetStats();
    expect(stats()).toEqual({
      runs: 0,
      planHits: 0,
      planMisses: 0,
      kernelsExecuted: 0,
      compileMs: 0,
    });
  });

  test('explain shows the last plan', () => {
    tensor([[1, 2]])
      .matmul(tensor([[3], [4]]))
      .add(1)
      .dataSync();
    const text = explain();
    expect(text).toContain('plan on wasm: 1 run');
    expect(text).toContain('matmul');
    expect(text).toContain('1 kernels');
  });

  test('devices', () => {
    tg.setDefaultDevice('interp');
    expect(tg.env().device).toBe('interp');
    expectValues(tensor([1, 2]).add(1), [2, 3]);
    expect(() => tg.setDefaultDevice('abacus')).toThrow("there is no device 'abacus'");
    expect(() => tg.configure({ threads: 0 })).toThrow('threads must be an integer of at least 1');
  });
});
