// On native, weights are taken where they are: from bytes that are in memory, without a copy, and from a
// file straight to where kernels read them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { DisposedError, FormatError } from '../../src/base/errors.ts';
import { type ByteSource, memorySource, parseSafetensors } from '../../src/io.ts';
import { load, type Model } from '../../src/lite-node.ts';
import { nn, rand, tensor, type Tensor, trace } from '../../src/node.ts';

const missing = nativeUnavailable();
const ROWS = 64;
const WEIGHT_BYTES = ROWS * ROWS * 4;
const native = { device: 'native' } as const;
const ones = new Float32Array(ROWS).fill(1);

describe.skipIf(missing !== null)(`native${missing === null ? '' : ` (${missing})`}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tengen-in-place-'));
  const path = join(folder, 'sum.tengen');
  const weight = new nn.Parameter(rand(ROWS, ROWS));
  const total = new nn.Buffer(tensor([0, 0, 0]));
  let bytes: Uint8Array<ArrayBuffer>;
  let expected: number[];
  const models: Model[] = [];

  const open = async (...args: Parameters<typeof load>): Promise<Model> => {
    const model = await load(args[0], { ...native, ...args[1] });
    models.push(model);
    return model;
  };
  /** Bytes in memory of their own, moved up by some. */
  const copyOf = (offset = 0): Uint8Array<ArrayBuffer> => {
    const copy = new Uint8Array(offset + bytes.length).subarray(offset);
    copy.set(bytes);
    return copy;
  };
  /** The bytes that the device has given out, more than before. */
  const allocatedBy = async (make: () => Promise<Model>): Promise<number> => {
    const { device } = await open(bytes);
    const before = device.memory().allocated;
    await make();
    return device.memory().allocated - before;
  };
  const rowSums = (model: Model): number[] => [...model.runSync(ones)['sums']!.data];
  const counted = (model: Model): number[] => [...model.runSync(ones)['count']!.data];

  beforeAll(async () => {
    const fn = trace((x: Tensor) => {
      total.assign(total.add(1));
      return { sums: weight.mul(x).sum(1), count: total.mul(1) };
    });
    const module = { namedParameters: () => [['weight', weight] as const], namedBuffers: () => [] };
    const report = await fn.dump(path, { inputs: [rand(ROWS)], testCases: [], module });
    expect(report.bytes).toBe(null);
    bytes = Uint8Array.from(readFileSync(path));
    expected = [...(await weight.sum(1).data())];
  });

  afterAll(() => {
    for (const model of models) model.dispose();
    rmSync(folder, { recursive: true });
  });

  test('bytes in memory are not copied', async () => {
    const inMemory = await allocatedBy(() => open(copyOf()));
    const fromDisk = await allocatedBy(() => open(path));
    expect(fromDisk - inMemory).toBe(WEIGHT_BYTES);
  });

  test('and it is these bytes that kernels read', async () => {
    const own = copyOf();
    const model = await open(own);
    rowSums(model).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
    // What the documentation forbids shows it.
    const seen = parseSafetensors(own).tensors.get('weight')!.data;
    expect(seen.buffer).toBe(own.buffer);
    seen.fill(2);
    expect(rowSums(model)).toEqual(Array(ROWS).fill(2 * ROWS));
  });

  test('a file is read once, to where its weights stay', async () => {
    const targets: Uint8Array[] = [];
    const reads: number[] = [];
    const inner = memorySource(bytes);
    const source: ByteSource = {
      ...inner,
      read: async (offset, length) => {
        reads.push(length);
        return (await inner.read(offset, length)).slice();
      },
      readInto: async (offset, target) => {
        targets.push(target);
        target.set(await inner.read(offset, target.length));
      },
    };
    const model = await open(source);
    expect(targets.map(({ length }) => length).sort((a, b) => a - b)).toEqual([12, WEIGHT_BYTES]);
    expect(reads).not.toContain(WEIGHT_BYTES);
    rowSums(model).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
    const large = targets.find(({ length }) => length === WEIGHT_BYTES)!;
    new Float32Array(large.buffer, large.byteOffset, ROWS * ROWS).fill(1);
    expect(rowSums(model)).toEqual(Array(ROWS).fill(ROWS));
  });

  test('models of one file, or of one piece of memory, are apart', async () => {
    const own = copyOf();
    const all = [await open(path), await open(path), await open(own), await open(own)];
    all.push(await all[2]!.share());
    models.push(all[4]!);
    all.forEach((model, i) => {
      for (let run = 0; run <= i; run++) expect(counted(model)).toEqual(Array(3).fill(run + 1));
    });
    // State is copied: what a run changes is not the user's.
    expect(own).toEqual(bytes);
    expect(Uint8Array.from(readFileSync(path))).toEqual(bytes);
  });

  test('weights stay while one of those who share them does, and bytes go back as they were', async () => {
    const own = copyOf();
    const model = await open(own);
    const other = await model.share();
    model.dispose();
    rowSums(other).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
    other.dispose();
    // Memory that is handed out next is not the user's.
    const { device } = await open(bytes);
    const buffers = Array.from({ length: 8 }, () => device.allocate(WEIGHT_BYTES));
    for (const buffer of buffers) device.write(buffer, 0, new Uint8Array(WEIGHT_BYTES).fill(7));
    for (const buffer of buffers) device.free(buffer);
    expect(own).toEqual(bytes);
  });

  test.each([1, 2, 3])(
    'bytes that begin %i bytes off are copied as far as needed',
    async (offset) => {
      const own = copyOf(offset);
      const model = await open(own);
      rowSums(model).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
    },
  );

  test('memory that may shrink, or that others share, is copied', async () => {
    const shrinking = Reflect.construct(ArrayBuffer, [
      bytes.length,
      { maxByteLength: bytes.length },
    ]) as ArrayBuffer;
    const shared = new SharedArrayBuffer(bytes.length);
    for (const buffer of [shrinking, shared]) {
      const view = new Uint8Array(buffer as ArrayBuffer);
      view.set(bytes);
      const model = await open(view);
      view.fill(0);
      rowSums(model).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
    }
  });

  test('a Blob is used in place too', async () => {
    const inMemory = await allocatedBy(() => open(copyOf()));
    expect(await allocatedBy(() => open(new Blob([bytes])))).toBe(inMemory);
  });

  test('bytes that were transferred are not read', async () => {
    const own = copyOf();
    const model = await open(own);
    structuredClone(own.buffer, { transfer: [own.buffer] });
    expect(() => model.runSync(ones)).toThrow(DisposedError);
    expect(() => model.runSync(ones)).toThrow(/transferred/);
  });

  test('a file that was cut short is refused, and nothing is kept', async () => {
    const short = join(folder, 'short.tengen');
    writeFileSync(short, bytes.subarray(0, bytes.length - 1));
    const { device } = await open(bytes);
    const before = device.memory().allocated;
    await expect(load(short, native)).rejects.toThrow(FormatError);
    const failing = {
      ...memorySource(bytes),
      readInto: async () => {
        throw new FormatError('gone');
      },
    };
    await expect(load(failing, native)).rejects.toThrow('gone');
    expect(device.memory().allocated).toBe(before);
  });
});
