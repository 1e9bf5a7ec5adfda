// A WebAssembly writer of the least size, for experiments, limits and the pool's tests. The real
// encoder is the backend's; this one must not depend on it.

export const I32 = 0x7f;
export const F32 = 0x7d;
export const V128 = 0x7b;

export type Code = readonly number[];

export function unsigned(value: number): Code {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}

export function signed(value: number): Code {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
      bytes.push(low);
      return bytes;
    }
    bytes.push(low | 0x80);
  }
}

function float32(value: number): Code {
  return [...new Uint8Array(new Float32Array([value]).buffer)];
}

const memoryOp =
  (prefix: Code, align: number) =>
  (offset = 0): Code => [...prefix, align, ...unsigned(offset)];

/** Instructions used by the experiments. Operands are code that leaves them on the stack. */
export const op = {
  get: (local: number): Code => [0x20, ...unsigned(local)],
  set: (local: number): Code => [0x21, ...unsigned(local)],
  tee: (local: number): Code => [0x22, ...unsigned(local)],
  i32: (value: number): Code => [0x41, ...signed(value)],
  f32: (value: number): Code => [0x43, ...float32(value)],
  splatConst: (value: number): Code => [
    0xfd,
    0x0c,
    ...float32(value),
    ...float32(value),
    ...float32(value),
    ...float32(value),
  ],
  add: [0x6a],
  sub: [0x6b],
  mul: [0x6c],
  divU: [0x6e],
  and: [0x71],
  xor: [0x73],
  shl: [0x74],
  eq: [0x46],
  ne: [0x47],
  ltS: [0x48],
  ltU: [0x49],
  f32add: [0x92],
  v128load: memoryOp([0xfd, 0x00], 4),
  v128load32splat: memoryOp([0xfd, 0x09], 2),
  v128store: memoryOp([0xfd, 0x0b], 4),
  i32load: memoryOp([0x28], 2),
  i32store: memoryOp([0x36], 2),
  f32load: memoryOp([0x2a], 2),
  f32store: memoryOp([0x38], 2),
  f32x4splat: [0xfd, 0x13],
  f32x4extract: (lane: number): Code => [0xfd, 0x1f, lane],
  f32x4add: [0xfd, ...unsigned(0xe4)],
  f32x4sub: [0xfd, ...unsigned(0xe5)],
  f32x4mul: [0xfd, ...unsigned(0xe6)],
  f32x4div: [0xfd, ...unsigned(0xe7)],
  f32x4max: [0xfd, ...unsigned(0xe9)],
  /** Relaxed SIMD: a * b + c, operands in this order. */
  f32x4madd: [0xfd, ...unsigned(0x105)],
  atomicLoad: memoryOp([0xfe, 0x10], 2),
  atomicStore: memoryOp([0xfe, 0x17], 2),
  atomicAdd: memoryOp([0xfe, 0x1e], 2),
  atomicCompareExchange: memoryOp([0xfe, 0x48], 2),
  atomicNotify: memoryOp([0xfe, 0x00], 2),
  call: (index: number): Code => [0x10, ...unsigned(index)],
  drop: [0x1a],
  trap: [0x00],
  ret: [0x0f],
  /** `loop body end`; `body` may branch back with `branchIf(0)`. */
  loop: (body: Code): Code => [0x03, 0x40, ...body, 0x0b],
  block: (body: Code): Code => [0x02, 0x40, ...body, 0x0b],
  when: (then: Code, otherwise: Code = []): Code => [
    0x04,
    0x40,
    ...then,
    ...(otherwise.length > 0 ? [0x05, ...otherwise] : []),
    0x0b,
  ],
  branch: (depth: number): Code => [0x0c, ...unsigned(depth)],
  branchIf: (depth: number): Code => [0x0d, ...unsigned(depth)],
} as const;

export interface TinyFunction {
  readonly parameters: number;
  /** Types of the locals that follow the (i32) parameters. */
  readonly locals?: readonly number[];
  readonly body: Code;
  readonly exportAs?: string;
}

function section(id: number, items: readonly Code[]): Code {
  const content: number[] = [...unsigned(items.length)];
  for (const item of items) for (const byte of item) content.push(byte);
  return [id, ...unsigned(content.length), ...content];
}

function name(text: string): Code {
  const bytes = [...new TextEncoder().encode(text)];
  return [...unsigned(bytes.length), ...bytes];
}

function functionBody(fn: TinyFunction): Code {
  const groups: Code[] = (fn.locals ?? []).map((type) => [1, type]);
  const code = [...unsigned(groups.length), ...groups.flat(), ...fn.body, 0x0b];
  return [...unsigned(code.length), ...code];
}

/**
 * A module that imports `env.memory` (shared) and, as function 0, `env.wait(i32)`. Its own
 * functions, all with i32 parameters and no result, are numbered from 1.
 */
export function encodeModule(functions: readonly TinyFunction[]): Uint8Array<ArrayBuffer> {
  const most = functions.reduce((max, fn) => Math.max(max, fn.parameters), 1);
  const types: Code[] = [];
  for (let n = 0; n <= most; n++)
    types.push([0x60, ...unsigned(n), ...Array<number>(n).fill(I32), 0]);
  const imports: Code[] = [
    [...name('env'), ...name('memory'), 2, 3, ...unsigned(1), ...unsigned(65536)],
    [...name('env'), ...name('wait'), 0, ...unsigned(1)],
  ];
  const exports: Code[] = [];
  functions.forEach((fn, index) => {
    if (fn.exportAs !== undefined) exports.push([...name(fn.exportAs), 0, ...unsigned(index + 1)]);
  });
  const parts: Code[] = [
    [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(1, types),
    section(2, imports),
    section(
      3,
      functions.map((fn) => unsigned(fn.parameters)),
    ),
    section(7, exports),
    section(10, functions.map(functionBody)),
  ];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The pool's barrier as function `barrier(threadCount)`; words as in `BARRIER`, in bytes. */
export function barrierFunction(
  address: number,
  words: { phase: number; count: number; waiters: number; spins: number },
): TinyFunction {
  const phase = address + 4 * words.phase;
  const count = address + 4 * words.count;
  const waiters = address + 4 * words.waiters;
  const spins = address + 4 * words.spins;
  const zero = op.i32(0);
  const phaseIsNegative = [...zero, ...op.atomicLoad(phase), ...zero, ...op.ltS];
  const lastOne: Code = [
    ...zero,
    ...zero,
    ...op.atomicStore(count),
    ...zero,
    ...op.get(1),
    ...op.get(1),
    ...op.i32(1),
    ...op.add,
    ...op.i32(0x7fffffff),
    ...op.and,
    ...op.atomicCompareExchange(phase),
    ...op.drop,
    ...zero,
    ...op.atomicLoad(waiters),
    ...op.when([...zero, ...op.i32(-1), ...op.atomicNotify(phase), ...op.drop]),
  ];
  const waiting: Code = [
    ...zero,
    ...op.i32load(spins),
    ...op.set(2),
    ...op.loop([
      ...zero,
      ...op.atomicLoad(phase),
      ...op.get(1),
      ...op.eq,
      ...op.when([
        ...op.get(2),
        ...op.when(
          [...op.get(2), ...op.i32(1), ...op.sub, ...op.set(2)],
          [...op.get(1), ...op.call(0)],
        ),
        ...op.branch(1),
      ]),
    ]),
  ];
  return {
    parameters: 1,
    locals: [I32, I32],
    body: [
      ...zero,
      ...op.atomicLoad(phase),
      ...op.tee(1),
      ...zero,
      ...op.ltS,
      ...op.when(op.trap),
      ...zero,
      ...op.i32(1),
      ...op.atomicAdd(count),
      ...op.get(0),
      ...op.i32(1),
      ...op.sub,
      ...op.eq,
      ...op.when(lastOne, waiting),
      ...phaseIsNegative,
      ...op.when(op.trap),
    ],
  };
}
