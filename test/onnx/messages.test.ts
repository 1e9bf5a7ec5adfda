// The wire format and the messages of ONNX: what is written is read back, and broken bytes are told.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import {
  type Draft,
  type ModelProto,
  attributeProto,
  graphProto,
  modelProto,
  nodeProto,
  sequenceProto,
  tensorProto,
  valueInfoProto,
} from '../../src/interface/onnx/messages.ts';
import { WireReader, WireWriter } from '../../src/interface/onnx/protobuf.ts';
import {
  ELEMENT_TYPES,
  type ElementArray,
  type ElementType,
  decodeTensor,
  encodeTensor,
} from '../../src/interface/onnx/tensor-data.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

const model: Draft<ModelProto> = {
  irVersion: 8,
  producerName: 'test',
  modelVersion: -1n,
  opsetImport: [{ domain: '', version: 17 }],
  graph: {
    name: 'graph',
    node: [
      {
        opType: 'Conv',
        input: ['x', 'w', ''],
        output: ['y'],
        attribute: [
          { name: 'pads', type: 7, ints: BigInt64Array.of(1n, -2n, 9223372036854775807n) },
          { name: 'alpha', type: 1, f: 0.5 },
          { name: 'mode', type: 3, s: bytes(97, 98) },
          { name: 'scales', type: 6, floats: Float32Array.of(1, 2.5) },
          { name: 'body', type: 5, g: { name: 'inner', node: [{ opType: 'Identity' }] } },
        ],
      },
    ],
    initializer: [{ name: 'w', dims: [2], dataType: 1, floatData: Float32Array.of(1, -2) }],
    input: [
      {
        name: 'x',
        type: {
          tensorType: { elemType: 1, shape: { dim: [{ dimParam: 'N' }, { dimValue: 3 }, {}] } },
        },
      },
    ],
  },
  functions: [{ name: 'f', domain: 'local', attribute: ['a'], input: ['x'], output: ['y'] }],
};

describe('messages', () => {
  it('are read back as they were written', () => {
    const once = modelProto.decode(modelProto.encode(model));
    expect(once).toMatchObject(model);
    // What was decoded is complete, lists that were left out included: from there on all is equal.
    expect(modelProto.decode(modelProto.encode(once))).toEqual(once);
    expect(once.graph?.node[0]?.metadataProps).toEqual([]);
  });

  it('are the bytes that the specification of the format gives', () => {
    expect(nodeProto.encode({ input: ['x'], opType: 'Relu' })).toEqual(
      bytes(0x0a, 1, 0x78, 0x22, 4, 0x52, 0x65, 0x6c, 0x75),
    );
    expect(attributeProto.encode({ i: -1n })).toEqual(
      bytes(0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
    );
    expect(tensorProto.encode({ dims: [300], int32Data: Int32Array.of(-1, 1) })).toEqual(
      bytes(8, 0xac, 2, 0x2a, 11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1),
    );
  });

  it('take lists of numbers in one piece, one by one, and mixed', () => {
    const ints = attributeProto.decode(bytes(0x40, 5, 0x42, 2, 6, 7, 0x40, 8)).ints;
    expect([...ints]).toEqual([5n, 6n, 7n, 8n]);
    expect(tensorProto.decode(bytes(0x0a, 2, 3, 4, 8, 5)).dims).toEqual([3, 4, 5]);
  });

  it('step over fields they do not know', () => {
    const extra = bytes(
      0xf8,
      7,
      1,
      0xfd,
      7,
      1,
      2,
      3,
      4,
      0xf9,
      7,
      1,
      2,
      3,
      4,
      5,
      6,
      7,
      8,
      0xfa,
      7,
      0,
    );
    expect(nodeProto.decode(extra)).toMatchObject({ input: [], output: [] });
  });

  it('keep large pieces as they are, however deep', () => {
    const rawData = new Uint8Array(100_000).map((_, index) => index);
    const graph = { initializer: [{ rawData, dims: [100_000], dataType: 2, name: 'w' }] };
    const read = modelProto.decode(modelProto.encode({ graph }));
    expect(read.graph?.initializer[0]?.rawData).toEqual(rawData);
  });

  it('are read from a Buffer of Node, whose slices share its memory', () => {
    const array = { type: 'float32', shape: [1], data: Float32Array.of(2) } as const;
    const buffer = Buffer.from([0, ...tensorProto.encode(encodeTensor(array))]).subarray(1);
    expect(decodeTensor(tensorProto.decode(buffer))).toEqual(array);
  });

  it('nest', () => {
    const sequence = { sequenceValues: [{ tensorValues: [{ dims: [1] }] }, {}] };
    expect(sequenceProto.decode(sequenceProto.encode(sequence))).toMatchObject(sequence);
  });

  it('agree with a reader of random messages', () => {
    const entry = fc.record({ key: fc.string(), value: fc.string() });
    const info = fc.record(
      { name: fc.string(), docString: fc.string(), metadataProps: fc.array(entry) },
      { requiredKeys: ['metadataProps'] },
    );
    fc.assert(
      fc.property(info, (message) => {
        expect(valueInfoProto.decode(valueInfoProto.encode(message))).toEqual(message);
      }),
    );
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const writer = new WireWriter();
        writer.int64(value);
        expect(new WireReader(writer.finish()).int64()).toBe(value);
      }),
    );
  });
});

describe('broken bytes', () => {
  const cases: [string, Uint8Array, string, number][] = [
    ['a number without an end', bytes(0x18, 0xff), 'ends within a number', 1],
    ['eleven bytes', bytes(0x18, ...Array<number>(11).fill(0xff)), 'more than ten bytes', 1],
    ['65 bits', bytes(0x18, ...Array<number>(9).fill(0xff), 2), 'more than 64 bits', 1],
    ['a piece that is cut', bytes(0x22, 5, 1), 'of 5 bytes, but 1 are left', 2],
    ['a length of gigabytes', bytes(0x22, 255, 255, 255, 255, 15), 'but 0 are left', 6],
    ['field 0', bytes(0x00, 1), 'without a valid number', 0],
    ['a group', bytes(0x0b), 'stored as wire type 3', 1],
    ['an unknown group', bytes(0xfb, 7), 'wire type 3', 2],
    ['no text', bytes(0x0a, 1, 0xff), 'not UTF-8', 1],
    ['a message twice', bytes(0x2a, 0, 0x2a, 0), 'is there twice', 2],
    ['half a float', bytes(0x3a, 3, 0, 0, 0), 'no list of numbers of 4 bytes', 2],
    ['another kind', bytes(0x12, 1), 'stored as wire type 2, not 5', 1],
  ];
  for (const [name, data, reason, offset] of cases) {
    it(`${name} gives a FormatError with its place`, () => {
      const read = (): unknown => attributeProto.decode(data);
      expect(read).toThrow(FormatError);
      expect(read).toThrow(reason);
      expect(read).toThrow(`(at byte ${offset})`);
    });
  }

  it('nested too deeply gives a FormatError, not an overflow', () => {
    let inner = new Uint8Array(0);
    for (let depth = 0; depth < 10_000; depth++) {
      const writer = new WireWriter();
      writer.key(5, 2);
      writer.view(inner);
      inner = new Uint8Array(writer.finish());
    }
    expect(() => sequenceProto.decode(inner)).toThrow('more than 100 messages within each other');
  });

  it('a list that ends within a number is told', () => {
    expect(() => graphProto.decode(bytes(0x2a, 4, 0x3a, 2, 1, 0x80))).toThrow('within a number');
  });
});

describe('tensor data', () => {
  const arrays: ElementArray[] = [
    { type: 'float32', shape: [2, 1], data: Float32Array.of(1.5, -2) },
    { type: 'float64', shape: [], data: Float64Array.of(Math.PI) },
    { type: 'float16', shape: [2], data: Uint16Array.of(0x3c00, 0x8000) },
    { type: 'bfloat16', shape: [1], data: Uint16Array.of(0x3f80) },
    { type: 'int8', shape: [2], data: Int8Array.of(-128, 127) },
    { type: 'uint8', shape: [2], data: Uint8Array.of(0, 255) },
    { type: 'bool', shape: [2], data: Uint8Array.of(0, 1) },
    { type: 'int16', shape: [1], data: Int16Array.of(-32768) },
    { type: 'uint16', shape: [1], data: Uint16Array.of(65535) },
    { type: 'int32', shape: [0], data: new Int32Array(0) },
    { type: 'uint32', shape: [1], data: Uint32Array.of(4294967295) },
    { type: 'int64', shape: [2], data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n) },
    { type: 'uint64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) },
    { type: 'complex64', shape: [1], data: Float32Array.of(1, 2) },
    { type: 'int4', shape: [3], data: Int8Array.of(-8, 7, -1) },
    { type: 'int2', shape: [5], data: Int8Array.of(-2, 1, 0, -1, 1) },
    { type: 'uint2', shape: [3], data: Uint8Array.of(3, 0, 2) },
    { type: 'uint4', shape: [3], data: Uint8Array.of(15, 0, 7) },
    { type: 'string', shape: [2], data: ['', 'π'] },
  ];

  for (const array of arrays) {
    it(`${array.type} is read back`, () => {
      const file = tensorProto.encode(encodeTensor(array, 'w'));
      expect(decodeTensor(tensorProto.decode(file))).toEqual(array);
    });
  }

  it('is read from the typed lists', () => {
    const read = (type: ElementType, lists: object): unknown => {
      const dims = [2];
      const draft = { dims, dataType: ELEMENT_TYPES[type].code, ...lists };
      return decodeTensor(tensorProto.decode(tensorProto.encode(draft))).data;
    };
    expect(read('float32', { floatData: Float32Array.of(1, 2) })).toEqual(Float32Array.of(1, 2));
    expect(read('int8', { int32Data: Int32Array.of(-1, 2) })).toEqual(Int8Array.of(-1, 2));
    expect(read('float16', { int32Data: Int32Array.of(15360, 0) })).toEqual(
      Uint16Array.of(15360, 0),
    );
    expect(read('uint32', { uint64Data: BigUint64Array.of(4294967295n, 1n) })).toEqual(
      Uint32Array.of(4294967295, 1),
    );
    expect(read('int64', { int64Data: BigInt64Array.of(-5n, 1n) })).toEqual(
      BigInt64Array.of(-5n, 1n),
    );
    expect(read('int4', { int32Data: Int32Array.of(0x1f) })).toEqual(Int8Array.of(-1, 1));
  });

  it('that does not fit its shape gives a FormatError, without an allocation', () => {
    const check = (draft: object, reason: string): void => {
      const proto = tensorProto.decode(tensorProto.encode(draft));
      expect(() => decodeTensor(proto)).toThrow(FormatError);
      expect(() => decodeTensor(proto)).toThrow(reason);
    };
    const floatData = Float32Array.of(1);
    check({ dims: [1e9], dataType: 1, floatData }, 'holds 1 values of 1000000000');
    check({ dims: [1e9, 1e9, 1e9], dataType: 1, floatData }, 'larger than any memory');
    check({ dims: [-1], dataType: 1, floatData }, 'has the shape [-1]');
    check({ dims: [2], dataType: 1, rawData: bytes(1, 2, 3) }, 'takes 8 bytes, 3 are there');
    check({ dims: [1], dataType: 99 }, 'unknown element type 99');
    check({ dims: [1], dataType: 1, dataLocation: 1 }, 'in another file');
    check({ dims: [2], dataType: 8, stringData: [bytes(97)] }, 'holds 1 strings of 2');
    check({ dims: [1], dataType: 8, stringData: [bytes(255)] }, 'not UTF-8');
  });
});
