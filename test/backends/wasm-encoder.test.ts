// The module encoder: number formats against known bytes, every opcode against the engine.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteWriter, ModuleBuilder, type WasmType } from '../../src/backends/wasm/encoder.ts';
import { relaxedSimdAvailable } from '../../src/backends/wasm/features.ts';
import { Helpers } from '../../src/backends/wasm/helpers.ts';
import {
  LANE,
  type LaneOp,
  MEMORY,
  MEMORY_LANE,
  type MemoryLaneOp,
  type MemoryOp,
  PLAIN,
  type PlainOp,
} from '../../src/backends/wasm/opcodes.ts';

function bytesOf(write: (writer: ByteWriter) => void): number[] {
  const writer = new ByteWriter();
  write(writer);
  return [...writer.finish()];
}

function keys<K extends string>(table: Readonly<Record<K, unknown>>): K[] {
  return Object.keys(table) as K[];
}

describe('number formats', () => {
  it('writes LEB128 as the specification’s examples', () => {
    expect(bytesOf((w) => w.unsigned(624485))).toEqual([0xe5, 0x8e, 0x26]);
    expect(bytesOf((w) => w.unsigned(0xffffffff))).toEqual([0xff, 0xff, 0xff, 0xff, 0x0f]);
    expect(bytesOf((w) => w.signed(-123456))).toEqual([0xc0, 0xbb, 0x78]);
    expect(bytesOf((w) => w.signed(63))).toEqual([0x3f]);
    expect(bytesOf((w) => w.signed(64))).toEqual([0xc0, 0x00]);
    expect(bytesOf((w) => w.signed64(-1n))).toEqual([0x7f]);
  });

  it('gives constants back from the engine', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
        fc.float(),
        fc.double(),
        (i, l, s, d) => {
          const module = new ModuleBuilder();
          module.function([], ['i32'], 'i').i32(i);
          module.function([], ['i64'], 'l').i64(l);
          module.function([], ['f32'], 's').f32(s);
          module.function([], ['f64'], 'd').f64(d);
          const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
          const value = (name: string): unknown => (exports[name] as () => unknown)();
          expect([value('i'), value('l'), value('s'), value('d')]).toEqual([i, l, s, d]);
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** Operand and result types of an instruction, read off its name. */
function signature(op: PlainOp): { operands: WasmType[]; results: WasmType[] } {
  if (op === 'unreachable' || op === 'return') return { operands: [], results: [] };
  if (op === 'drop') return { operands: ['i32'], results: [] };
  if (op === 'select') return { operands: ['v128', 'v128', 'i32'], results: ['v128'] };
  const [shape = '', name = ''] = op.split('.');
  const own: WasmType = shape.includes('x') || shape === 'v128' ? 'v128' : (shape as WasmType);
  const lane: WasmType =
    (
      {
        i8x16: 'i32',
        i16x8: 'i32',
        i32x4: 'i32',
        i64x2: 'i64',
        f32x4: 'f32',
        f64x2: 'f64',
      } as const
    )[shape as 'i8x16'] ?? own;
  if (name === 'splat') return { operands: [lane], results: ['v128'] };
  if (name === 'bitselect' || name.startsWith('relaxed')) {
    return { operands: ['v128', 'v128', 'v128'], results: ['v128'] };
  }
  if (name === 'any_true') return { operands: ['v128'], results: ['i32'] };
  const scalar = own !== 'v128';
  const source = /_(i32|i64|f32|f64)(_|$)/.exec(name)?.[1];
  if (scalar && source !== undefined) return { operands: [source as WasmType], results: [own] };
  const unary =
    /^(abs|neg|ceil|floor|trunc|nearest|sqrt|not|clz|eqz)$/.test(name) ||
    /^(extend|convert|promote|demote|trunc_sat)/.test(name);
  const comparison = /^(eqz?|ne|lt|gt|le|ge)(_|$)/.test(name);
  const results: WasmType[] = [scalar && comparison ? 'i32' : own];
  if (unary) return { operands: [own], results };
  const shift = !scalar && name.startsWith('sh');
  return { operands: [own, shift ? 'i32' : own], results };
}

function memorySignature(op: MemoryOp): { operands: WasmType[]; results: WasmType[] } {
  if (op === 'memory.atomic.notify') return { operands: ['i32', 'i32'], results: ['i32'] };
  const type = op.split('.')[0] as WasmType;
  if (op.includes('cmpxchg')) return { operands: ['i32', type, type], results: [type] };
  if (op.includes('rmw')) return { operands: ['i32', type], results: [type] };
  if (op.includes('store')) return { operands: ['i32', type], results: [] };
  return { operands: ['i32'], results: [type] };
}

describe('opcodes', () => {
  const memory = { initial: 1, maximum: 2, shared: true };

  function expectValid(
    types: { operands: WasmType[]; results: WasmType[] },
    emit: (f: ReturnType<ModuleBuilder['function']>) => void,
  ): void {
    const module = new ModuleBuilder(memory);
    const f = module.function(types.operands, types.results);
    types.operands.forEach((_, operand) => f.get(operand));
    emit(f);
    // Compiling gives a reason where validating only says no.
    expect(() => new WebAssembly.Module(module.encode())).not.toThrow();
  }

  it.each(keys(PLAIN))('%s', (op) => {
    if (op.includes('relaxed')) expect(relaxedSimdAvailable()).toBe(true);
    expectValid(signature(op), (f) => f.op(op));
  });

  it.each(keys(MEMORY))('%s', (op) => {
    expectValid(memorySignature(op), (f) => f.memory(op, 70000));
  });

  it.each(keys(MEMORY_LANE))('%s', (op: MemoryLaneOp) => {
    const results: WasmType[] = op.includes('store') ? [] : ['v128'];
    expectValid({ operands: ['i32', 'v128'], results }, (f) => f.memoryLane(op, 300, 1));
  });

  it.each(keys(LANE))('%s', (op: LaneOp) => {
    const shape = op.split('.')[0] as 'i32x4';
    const lane = ({ i32x4: 'i32', i64x2: 'i64', f32x4: 'f32', f64x2: 'f64' } as const)[shape];
    const types: { operands: WasmType[]; results: WasmType[] } = op.includes('extract')
      ? { operands: ['v128'], results: [lane] }
      : { operands: ['v128', lane], results: ['v128'] };
    expectValid(types, (f) => f.lane(op, 1));
  });

  it('encodes bulk memory, shuffles, control flow and reused locals', () => {
    const module = new ModuleBuilder(memory);
    const wait = module.importFunction('wait', ['i32']);
    const f = module.function(['i32'], ['i32'], 'sum');
    const counter = f.local('i32');
    f.release(counter);
    expect(f.local('i32')).toBe(counter);
    const vector = f.local('v128');
    f.i32x4(1, 2, 3, 4).tee(vector).get(vector);
    f.shuffle([...Array(16).keys()].reverse()).op('drop');
    f.i32(0).i32(64).i32(8).memoryCopy().i32(0).i32(7).i32(8).memoryFill();
    f.i32(0).set(counter).block().loop();
    f.get(0).op('i32.eqz').brIf(1);
    f.get(counter).get(0).op('i32.add').set(counter);
    f.get(0).i32(1).op('i32.sub').set(0).br(0).end().end();
    f.get(counter).i32(100).op('i32.gt_s').if().get(counter).call(wait).else().end();
    f.get(counter);
    const waited: number[] = [];
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
      env: {
        memory: new WebAssembly.Memory(memory),
        wait: (value: number) => waited.push(value),
      },
    });
    const sum = instance.exports['sum'] as (n: number) => number;
    expect([sum(0), sum(4), sum(20)]).toEqual([0, 10, 210]);
    expect(waited).toEqual([210]);
  });
});

describe('helpers', () => {
  const module = new ModuleBuilder();
  const helpers = new Helpers(module);
  const names = ['divideSigned', 'divideUnsigned', 'remainderSigned', 'remainderUnsigned'] as const;
  for (const name of names) {
    const index = helpers.index(name);
    module.function(['i32', 'i32'], ['i32'], name).get(0).get(1).call(index);
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  const call = (name: string, a: number, b: number): number =>
    (exports[name] as (a: number, b: number) => number)(a, b);

  it('divide like JavaScript truncated to 32 bits, and never trap', () => {
    const interesting = fc.oneof(fc.integer(), fc.constantFrom(0, -1, 1, -2147483648, 2147483647));
    fc.assert(
      fc.property(interesting, interesting, (a, b) => {
        const x = a >>> 0;
        const y = b >>> 0;
        expect(call('divideSigned', a, b)).toBe((a / b) | 0);
        expect(call('remainderSigned', a, b)).toBe((a % b) | 0);
        expect(call('divideUnsigned', x, y)).toBe(y === 0 ? 0 : Math.floor(x / y) | 0);
        expect(call('remainderUnsigned', x, y)).toBe((x % y) | 0);
      }),
      { numRuns: 1000 },
    );
  });
});
