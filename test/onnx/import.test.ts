// Loading and running models: names, shapes, training, and what is refused before anything runs.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ArgumentError, DTypeError, FormatError, ShapeError } from '../../src/base/errors.ts';
import { optim, tensor, trace } from '../../src/index.ts';
import { UnsupportedError, load } from '../../src/interface/onnx/index.ts';
import { info, model, node, weight } from './build.ts';

const seeded = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * 0.5);

/** conv - relu - pool - flatten - linear, with a batch of any size. */
function network(): Uint8Array {
  return model({
    input: [info('image', 'float32', ['batch', 1, 4, 4])],
    output: [info('scores', 'float32', ['batch', 3])],
    initializer: [
      weight('conv.weight', [2, 1, 3, 3], seeded(18)),
      weight('conv.bias', [2], [0.1, -0.1]),
      weight('fc.weight', [3, 8], seeded(24)),
      weight('fc.bias', [3], [0, 1, 2]),
      weight('rows', [1], [-1], 'int64'),
    ],
    node: [
      node('Conv', ['image', 'conv.weight', 'conv.bias'], ['c'], { pads: [1, 1, 1, 1] }),
      node('Relu', ['c'], ['r']),
      node('MaxPool', ['r'], ['p'], { kernel_shape: [2, 2], strides: [2, 2] }),
      node('Shape', ['p'], ['shape']),
      node('Gather', ['shape', 'zero'], ['n']),
      node('Concat', ['n', 'rows'], ['target'], { axis: 0 }),
      node('Reshape', ['p', 'target'], ['flat']),
      node('Gemm', ['flat', 'fc.weight', 'fc.bias'], ['scores'], { transB: 1 }),
    ].toSpliced(3, 0, node('Constant', [], ['zero'], { value_ints: [0] })),
  });
}

describe('a model', () => {
  it('says what it takes and gives', async () => {
    const loaded = await load(network());
    expect(loaded.inputs).toEqual([
      { name: 'image', kind: 'tensor', type: 'float32', shape: ['batch', 1, 4, 4] },
    ]);
    expect(loaded.outputs[0]?.shape).toEqual(['batch', 3]);
    expect(loaded.opset).toBe(17);
    expect(String(loaded)).toBe(
      'OnnxModel(image: float32[batch, 1, 4, 4] -> scores: float32[batch, 3])',
    );
  });

  it('runs with any size of a symbolic axis', async () => {
    const loaded = await load(network());
    for (const batch of [1, 2, 5]) {
      const image = tensor(seeded(batch * 16)).reshape(batch, 1, 4, 4);
      const { scores } = loaded.run({ image });
      expect(scores?.shape).toEqual([batch, 3]);
      expect((await scores?.data())?.every(Number.isFinite)).toBe(true);
      expect(await loaded.run(image)['scores']?.array()).toEqual(await scores?.array());
    }
  });

  it('is traced and gives the same', async () => {
    const loaded = await load(network());
    const step = trace((image: ReturnType<typeof tensor>) => loaded.run({ image })['scores']);
    const image = tensor(seeded(16)).reshape(1, 1, 4, 4);
    expect(await step(image)?.array()).toEqual(await loaded.run({ image })['scores']?.array());
  });

  it('is trained where it is asked for', async () => {
    const frozen = await load(network());
    expect(frozen.parameters()).toEqual([]);
    expect(Object.keys(frozen.stateDict())).toHaveLength(4);
    const loaded = await load(network(), { trainable: true });
    const names = [...loaded.namedParameters()].map(([name]) => name);
    expect(names).toEqual(['conv.weight', 'conv.bias', 'fc.weight', 'fc.bias']);
    const optimizer = new optim.SGD(loaded.parameters(), { lr: 0.1 });
    const image = tensor(seeded(64)).reshape(4, 1, 4, 4);
    const losses: number[] = [];
    for (let step = 0; step < 10; step++) {
      optimizer.zeroGrad();
      const loss = loaded.run({ image })['scores']?.sub(1).square().mean();
      loss?.backward();
      optimizer.step();
      losses.push((await loss?.item()) ?? NaN);
    }
    expect(losses[9]).toBeLessThan((losses[0] ?? 0) / 2);
  });

  it('refuses inputs that do not fit', async () => {
    const loaded = await load(network());
    const image = tensor(seeded(16)).reshape(1, 1, 4, 4);
    expect(() => loaded.run({})).toThrow(ArgumentError);
    expect(() => loaded.run({})).toThrow("the input 'image' is missing");
    expect(() => loaded.run({ image, other: image })).toThrow("no input 'other'");
    expect(() => loaded.run({ image: image.int() })).toThrow(DTypeError);
    expect(() => loaded.run({ image: image.reshape(1, 4, 4) })).toThrow(ShapeError);
    expect(() => loaded.run({ image: image.reshape(1, 2, 2, 4) })).toThrow(
      "'image' is [batch, 1, 4, 4], got [1,2,2,4]",
    );
  });

  it('binds one symbolic size to one number', async () => {
    const loaded = await load(
      model({
        input: [info('a', 'float32', ['n']), info('b', 'float32', ['n'])],
        output: [info('c', 'float32', ['n'])],
        node: [node('Add', ['a', 'b'], ['c'])],
      }),
    );
    expect(await loaded.run({ a: [1, 2], b: [3, 4] })['c']?.array()).toEqual([4, 6]);
    expect(() => loaded.run({ a: [1, 2], b: [3] })).toThrow("n is 2 in 'a'");
  });

  it('names the node when it cannot run', async () => {
    const loaded = await load(
      model({
        input: [info('a', 'float32', ['n', 'm']), info('b', 'float32', ['k', 'l'])],
        output: [info('c', 'float32', ['n', 'l'])],
        node: [{ ...node('MatMul', ['a', 'b'], ['c']), name: 'product' }],
      }),
    );
    const run = (): unknown => loaded.run({ a: [[1, 2]], b: [[1, 2]] });
    expect(run).toThrow(ShapeError);
    expect(run).toThrow("node 'product' (MatMul): ");
  });
});

describe('what is not supported', () => {
  it('is told at once, by node', async () => {
    const bytes = model({
      input: [info('x', 'float32', [1])],
      output: [info('z', 'float32', [1])],
      node: [
        { ...node('Nonsense', ['x'], ['a']), name: 'first' },
        node('Relu', ['a'], ['b'], { slope: 2 }),
        node('Other', ['b'], ['z'], {}, 'com.example'),
      ],
    });
    const error = await load(bytes).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect((error as UnsupportedError).problems).toEqual([
      "node 'first' (Nonsense): there is no operator Nonsense",
      "node 1 (Relu): there is no attribute 'slope' in this version",
      "node 2 (com.example.Other): the model imports no version of the domain 'com.example'",
    ]);
  });

  it('includes versions', async () => {
    const graph = {
      input: [info('x', 'float32', [1])],
      output: [info('y', 'float32', [1])],
      node: [node('Gelu', ['x'], ['y'])],
    };
    await expect(load(model(graph, 19))).rejects.toThrow('Gelu of version 19');
    await expect(load(model(graph, 99))).rejects.toThrow('operators of version 99');
    await expect(load(model(graph, 20))).resolves.toBeDefined();
  });
});

describe('a graph that contradicts itself', () => {
  const x = info('x', 'float32', [1]);
  const y = info('y', 'float32', [1]);
  const cases: [string, Parameters<typeof model>[0], string][] = [
    ['unknown value', { node: [node('Relu', ['q'], ['y'])] }, "uses 'q'"],
    [
      'wrong order',
      { node: [node('Relu', ['a'], ['y']), node('Relu', ['x'], ['a'])] },
      'nothing before it makes',
    ],
    ['nothing to give', { node: [] }, "no value 'y' to give"],
    [
      'made twice',
      { node: [node('Relu', ['x'], ['y']), node('Relu', ['x'], ['y'])] },
      'a second time',
    ],
    ['too many inputs', { node: [node('Relu', ['x', 'x'], ['y'])] }, '2 inputs, 1 are possible'],
    [
      'an attribute of another type',
      { node: [node('LeakyRelu', ['x'], ['y'], { alpha: 'x' })] },
      "'alpha' is of type string, not float",
    ],
    ['a missing attribute', { node: [node('Concat', ['x'], ['y'])] }, "'axis' is missing"],
  ];
  for (const [name, graph, reason] of cases) {
    it(`gives a FormatError: ${name}`, async () => {
      const loading = load(model({ input: [x], output: [y], ...graph }));
      await expect(loading).rejects.toThrow(FormatError);
      await expect(loading).rejects.toThrow(reason);
    });
  }
});

describe('model-local functions', () => {
  const scaled = {
    name: 'Scaled',
    domain: 'local',
    input: ['x'],
    output: ['y'],
    attribute: ['factor'],
    opsetImport: [{ domain: '', version: 17 }],
    node: [
      {
        opType: 'Constant',
        output: ['f'],
        attribute: [{ name: 'value_float', type: 1, refAttrName: 'factor' }],
      },
      node('Mul', ['x', 'f'], ['y']),
    ],
  };
  const graph = {
    input: [info('x', 'float32', [2])],
    output: [info('z', 'float32', [2])],
    node: [
      node('Scaled', ['x'], ['y'], { factor: 1.5 }, 'local'),
      node('Scaled', ['y'], ['z'], { factor: 2.5 }, 'local'),
    ],
  };

  it('are put in for each call, with its attributes', async () => {
    const loaded = await load(model(graph, 17, { functions: [scaled] }));
    expect(await loaded.run({ x: [1, 2] })['z']?.array()).toEqual([3.75, 7.5]);
  });

  it('may not call themselves', async () => {
    const body = [node('Scaled', ['x'], ['y'], {}, 'local')];
    const bytes = model(graph, 17, { functions: [{ ...scaled, node: body }] });
    await expect(load(bytes)).rejects.toThrow('call each other more than');
  });

  it('that double at each level are stopped', async () => {
    const functions = Array.from({ length: 40 }, (_, i) => ({
      ...scaled,
      name: `f${i}`,
      attribute: [],
      node: [
        node(i === 39 ? 'Relu' : `f${i + 1}`, ['x'], ['a'], {}, i === 39 ? '' : 'local'),
        node(i === 39 ? 'Relu' : `f${i + 1}`, ['a'], ['y'], {}, i === 39 ? '' : 'local'),
      ],
    }));
    const bytes = model({ ...graph, node: [node('f0', ['x'], ['z'], {}, 'local')] }, 17, {
      functions,
    });
    await expect(load(bytes)).rejects.toThrow('more than 100000 nodes');
  });
});

describe('weights in other files', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tengen-onnx-'));
    await mkdir(join(folder, 'model', 'data'), { recursive: true });
    const values = new Uint8Array(Float32Array.of(0, 0, 3, 4).buffer);
    await writeFile(join(folder, 'model', 'data', 'weights.bin'), values);
    await writeFile(join(folder, 'secret.bin'), values);
    await symlink(join(folder, 'secret.bin'), join(folder, 'model', 'link.bin'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  const withData = (entries: Readonly<Record<string, string>>): Uint8Array =>
    model({
      input: [info('x', 'float32', [2])],
      output: [info('y', 'float32', [2])],
      initializer: [
        {
          name: 'w',
          dims: [2],
          dataType: 1,
          dataLocation: 1,
          externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
        },
      ],
      node: [node('Add', ['x', 'w'], ['y'])],
    });
  const place = { location: 'data/weights.bin', offset: '8', length: '8' };

  const loadFrom = async (entries: Readonly<Record<string, string>>) => {
    const path = join(folder, 'model', 'model.onnx');
    await writeFile(path, withData(entries));
    return load(path);
  };

  it('are read from beside the model', async () => {
    const loaded = await loadFrom(place);
    expect(await loaded.run({ x: [1, 1] })['y']?.array()).toEqual([4, 5]);
  });

  it('are given along with bytes', async () => {
    const bytes = new Uint8Array(Float32Array.of(0, 0, 5, 6).buffer);
    const loaded = await load(withData(place), { external: { 'data/weights.bin': bytes } });
    expect(await loaded.run({ x: [1, 1] })['y']?.array()).toEqual([6, 7]);
    await expect(load(withData(place))).rejects.toThrow(ArgumentError);
  });

  const refused: [string, Readonly<Record<string, string>>, string][] = [
    ['a way up', { ...place, location: '../secret.bin' }, 'not a path within'],
    ['a root', { ...place, location: '/etc/passwd' }, 'not a path within'],
    ['a drive', { ...place, location: 'C:\\x' }, 'not a path within'],
    ['an address', { ...place, location: 'http://x/y' }, 'not a path within'],
    ['no name', { offset: '0' }, 'not a path within'],
    ['a link that leads out', { ...place, location: 'link.bin' }, "out of the model's folder"],
    ['another length', { ...place, length: '4' }, 'takes 8 bytes'],
    ['no number', { ...place, offset: '-1' }, "offset of its external data is '-1'"],
    ['the end passed', { ...place, offset: '12' }, 'ends at byte 16'],
  ];
  for (const [name, entries, reason] of refused) {
    it(`are refused with ${name}`, async () => {
      const loading = loadFrom(entries);
      await expect(loading).rejects.toThrow(FormatError);
      await expect(loading).rejects.toThrow(reason);
    });
  }
});
