// `tengen inspect`, `run` and `bench`: what they say, write and refuse.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bench } from '../../src/interface/command/bench.ts';
import { inspect } from '../../src/interface/command/inspect.ts';
import { run } from '../../src/interface/command/run.ts';
import { timingOf } from '../../src/interface/command/timing.ts';
import { readNpy, writeNpy, writeNpz } from '../../src/io.ts';
import { randn, scan, type Tensor, trace, zeros } from '../../src/node.ts';
import { root } from '../../scripts/entries.ts';
import { call, writeNetwork } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-commands-'));
const file = join(folder, 'net.tengen');
let x: Tensor;
beforeAll(async () => {
  x = await writeNetwork(file);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('inspect', () => {
  test('says what a program is', async () => {
    const { code, text } = await call(inspect, file, '--ops');
    expect(code).toBe(0);
    expect(text).toContain('image: float32 [1,2,6,6]');
    expect(text).toContain('conv.weight');
    const { text: json } = await call(inspect, file, '--json');
    const report = JSON.parse(json) as {
      flops: number;
      parameters: { elements: number };
      devices: { device: string; arenaBytes: number; stored: boolean }[];
    };
    // Convolution: 8 channels of 6 x 6, each of 2 x 3 x 3 products, and as many sums.
    expect(report.flops).toBeGreaterThan(2 * 8 * 36 * 18);
    expect(report.flops).toBeLessThan(2 * 2 * 8 * 36 * 18);
    expect(report.parameters.elements).toBe(8 * 18 + 8 + 4 * 8 + 24 + 3);
    expect(report.devices.find(({ device }) => device === 'wasm')!.stored).toBe(true);
  });

  test('counts the work in loops', async () => {
    const w = randn(4, 4);
    const fn = trace(
      (x: Tensor) =>
        scan(
          (h: Tensor, row: Tensor) => [h.matmul(w).add(row), null] as const,
          zeros([1, 4]),
          x,
        )[0],
    );
    const path = join(folder, 'loop.tengen');
    await fn.dump(path, { inputs: [zeros([10, 1, 4])] });
    const { text } = await call(inspect, path, '--json');
    expect((JSON.parse(text) as { flops: number }).flops).toBe(10 * (2 * 16 + 4));
  });

  test('writes a page that loads nothing, with text of the file as text', async () => {
    const page = join(folder, 'net.html');
    await call(inspect, file, '--html', page);
    const html = readFileSync(page, 'utf8');
    expect(html).toContain('data-group="conv"');
    expect(html).not.toMatch(/https?:|src=|url\(|@import/);
    expect(html.match(/<g class="op/g)!.length).toBeGreaterThan(4);
  });

  test('reads ONNX files', async () => {
    const { code, text } = await call(inspect, `${root}test/onnx/fixtures/network.onnx`);
    expect(code).toBe(0);
    expect(text).toMatch(/model .*onnx/);
  });
});

describe('run', () => {
  test('from .npy and .npz to .npy, with times', async () => {
    const array = { data: await x.data(), shape: x.shape };
    const [npy, npz, out] = ['x.npy', 'x.npz', 'out'].map((name) => join(folder, name));
    await writeNpy(npy!, array);
    await writeNpz(npz!, { image: array });
    for (const path of [npy!, npz!]) {
      const words = ['--device', 'wasm', '--input', `image=${path}`, '--output', out!];
      const { text } = await call(run, file, ...words, '--repeat', '3', '--json');
      const report = JSON.parse(text) as { timing: { runs: number; p50: number; p99: number } };
      expect(report.timing.runs).toBe(3);
      expect(report.timing.p99).toBeGreaterThanOrEqual(report.timing.p50);
      const scores = await readNpy(join(out!, 'scores.npy'));
      expect(scores.shape).toEqual([1, 3]);
      // The file's test case is of the same input.
      const { text: same } = await call(run, file, '--device', 'wasm', '--json');
      const [output] = (JSON.parse(same) as { outputs: { first: number[] }[] }).outputs;
      expect(output!.first).toEqual([...scores.data]);
    }
  });

  test('the same random inputs for the same seed, others for another', async () => {
    const first = async (...words: string[]) =>
      (await call(run, file, '--device', 'wasm', '--input', '=random', ...words)).text;
    expect(await first()).toBe(await first('--seed', '0'));
    expect(await first()).not.toBe(await first('--seed', '1'));
  });

  test('finds the fastest options', async () => {
    const words = ['--device', 'wasm,interp', '--fit', '--repeat', '3', '--threads', '1'];
    await expect(call(run, file, ...words)).rejects.toThrow("no device 'wasm,interp'");
    const { text } = await call(run, file, '--device', 'wasm', ...words.slice(2));
    expect(text).toMatch(
      /best: load\(file, \{ device: 'wasm', threads: 1, numerics: '(fast|strict)/,
    );
    for (const strategy of ['heuristic', 'profile']) {
      for (const numerics of ['fast', 'strict']) {
        expect(text).toMatch(new RegExp(`wasm +1 +${numerics} +${strategy} +[\\d.]+`));
      }
    }
    const one = ['--strategy', 'profile', '--reproducible', '--workspace', '65536'];
    const json = await call(run, file, '--device', 'wasm', ...words.slice(2), ...one, '--json');
    const { best, tried } = JSON.parse(json.text);
    expect(tried).toHaveLength(2);
    expect(best.algorithms).toEqual({
      strategy: 'profile',
      reproducible: true,
      workspaceLimit: 65536,
    });
  });

  test('what it refuses', async () => {
    const on = (...words: string[]) => call(run, file, '--device', 'wasm', ...words);
    await expect(on('--input', 'picture=zeros')).rejects.toThrow(/no input 'picture'.*image/);
    await expect(on('--input', 'image=none.npy')).rejects.toThrow(/none\.npy' is no file/);
    await expect(on('--input', 'image=zeros', '--input', 'image=zeros')).rejects.toThrow('twice');
    await expect(on('--repeat', '1.5')).rejects.toThrow('--repeat is a whole number from 0');
    await expect(on('--threads', '0')).rejects.toThrow('--threads is a whole number from 1');
    await expect(on('--numerics', 'exact')).rejects.toThrow('fast or strict');
    await expect(on('--strategy', 'guess')).rejects.toThrow('heuristic or profile');
    await expect(on('--workspace=-1')).rejects.toThrow('--workspace is a number from 0');
    await expect(on('--size', 'batch=2')).rejects.toThrow("no dimension 'batch'");
    await expect(call(run, file, '--device', 'tpu')).rejects.toThrow("no device 'tpu'");
    await expect(call(run, file, 'more')).rejects.toThrow('one word too many');
    const wide = join(folder, 'wide.npy');
    await writeNpy(wide, { data: new Float32Array(4), shape: [2, 2] });
    await expect(on('--input', `image=${wide}`)).rejects.toThrow(/does not take \[2,2\]/);
    const text = join(folder, 'x.txt');
    writeFileSync(text, 'no numbers');
    await expect(on('--input', `image=${text}`)).rejects.toThrow('.npy, .npz, .png or .jpg');
    const picture = join(folder, 'x.png');
    writeFileSync(picture, 'no picture');
    await expect(on('--input', `image=${picture}`)).rejects.toThrow('is no picture');
  });
});

test('bench has a row for each device', async () => {
  const words = ['--device', 'wasm,interp', '--repeat', '2', '--warmup', '0', '--threads', '1'];
  const { code, text } = await call(bench, file, ...words, '--json');
  expect(code).toBe(0);
  const { tried } = JSON.parse(text) as { tried: { device: string; timing: { p50: number } }[] };
  expect(tried.map(({ device }) => device).sort()).toEqual(['interp', 'wasm']);
  expect(tried[0]!.timing.p50).toBeLessThanOrEqual(tried[1]!.timing.p50);
  await expect(call(bench, file, '--device', 'tpu')).rejects.toThrow("no device 'tpu'");
});

test('percentiles are of the runs', () => {
  const timing = timingOf([4, 1, 3, 2]);
  expect([timing.min, timing.p50, timing.p90, timing.max]).toEqual([1, 2, 4, 4]);
  expect(timing.mean).toBe(2.5);
});
