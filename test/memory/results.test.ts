// Results in loops that never let finalizers run: what is dropped is freed, what is kept is right.
import { PerformanceObserver } from 'node:perf_hooks';
import { expect, test } from 'vitest';
import { configure, evaluate, memory, noGrad, setDefaultDevice, type Tensor, tensor } from 'tengen';
import { RESULT_BYTES } from '../../src/runtime/storage.ts';

configure({ threads: 1 });

const LENGTH = 2_000_000;
const BYTES = 4 * LENGTH;
const COUNT = Math.ceil(RESULT_BYTES / BYTES) * 3;

/** A large result whose every element is `value`. */
const zeros = tensor(new Float32Array(LENGTH));
const filled = (value: number): Tensor => noGrad(() => zeros.add(value));

test('dropped in synchronous code: the device holds a bounded number, and so does the process', () => {
  let device = 0;
  let resident = 0;
  const before = process.memoryUsage.rss();
  for (let i = 0; i < COUNT; i++) {
    evaluate(filled(i));
    device = Math.max(device, memory().allocated);
    resident = Math.max(resident, process.memoryUsage.rss());
  }
  expect(device).toBeLessThan(RESULT_BYTES + 8 * BYTES);
  // All of them would be three times the limit.
  expect(resident - before).toBeLessThan(2.5 * RESULT_BYTES);
});

test('kept in synchronous code: old ones move to the host and keep their values', () => {
  const kept: Tensor[] = [];
  const count = Math.ceil(RESULT_BYTES / BYTES) + 10;
  for (let i = 0; i < count; i++) {
    const made = filled(i);
    evaluate(made);
    kept.push(made);
  }
  expect(memory().allocated).toBeLessThan(RESULT_BYTES + 8 * BYTES);
  // Read where it lies now, and used in a computation, whether it moved or not.
  for (const i of [0, 1, count - 1]) {
    const made = kept[i] as Tensor;
    expect(made.dataSync()[LENGTH - 1]).toBe(i);
    expect(made.mul(2).sum().itemSync()).toBe(2 * i * LENGTH);
    expect(made.add(1).max().itemSync()).toBe(i + 1);
  }
  // A tensor that moved and is used again and again returns to the device.
  const first = kept[0] as Tensor;
  for (let i = 0; i < 6; i++) expect(first.add(i).max().itemSync()).toBe(i);
  for (const made of kept) made.dispose();
});

test('dispose() frees at once', () => {
  const before = memory().allocated;
  for (let i = 0; i < 20; i++) {
    const made = filled(i);
    evaluate(made);
    made.dispose();
    expect(memory().allocated - before).toBeLessThan(3 * BYTES);
  }
});

test('with a macrotask now and then, dropped results are collected', async () => {
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 4; i++) {
      globalThis.gc?.();
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
    }
  };
  await settle();
  const before = memory().allocated;
  for (let i = 0; i < 10; i++) {
    evaluate(filled(i));
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await settle();
  // The newest may still be named by the plan that computed it.
  expect(memory().allocated - before).toBeLessThanOrEqual(2 * BYTES);
});

test('the list of pending results lets go of what was evaluated', async () => {
  const references: WeakRef<object>[] = [];
  const make = (): void => {
    const small = tensor(new Float32Array(8));
    for (let i = 0; i < 50; i++) {
      const made = small.add(i);
      evaluate(made);
      references.push(new WeakRef(made.node));
    }
  };
  make();
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.();
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
  }
  const alive = references.filter((reference) => reference.deref() !== undefined).length;
  expect(alive).toBeLessThanOrEqual(1);
});

test('freed by hand on WebAssembly, whose bytes V8 does not see: no garbage is collected for them', async () => {
  setDefaultDevice('wasm');
  let collections = 0;
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length));
  const rounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      using made = filled(i);
      evaluate(made);
    }
    // Entries come as a task of their own.
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await rounds(5);
  observer.observe({ entryTypes: ['gc'] });
  await rounds(60);
  observer.disconnect();
  setDefaultDevice('auto');
  // 480 MB in all: without ballast that is used again there are 15 collections and more.
  expect(collections).toBeLessThan(6);
});
