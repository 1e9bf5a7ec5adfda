// A small encoder of WebAssembly modules: types, imports, functions, exports and code.
import { internalError } from '../../base/errors.ts';
import { LANE, MEMORY, MEMORY_LANE, PLAIN, SPECIAL } from './opcodes.ts';
import type { LaneOp, MemoryLaneOp, MemoryOp, PlainOp } from './opcodes.ts';

export type WasmType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

const TYPE_CODE: Readonly<Record<WasmType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
};
const NO_RESULT = 0x40;

/** A growing byte array with the number formats of WebAssembly. */
export class ByteWriter {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  bytes(values: ArrayLike<number>): void {
    this.#reserve(values.length);
    this.#bytes.set(values, this.#length);
    this.#length += values.length;
  }

  append(other: ByteWriter): void {
    this.bytes(other.#bytes.subarray(0, other.#length));
  }

  /** Unsigned LEB128 of a number in [0, 2^32). */
  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of a 32-bit integer. */
  signed(value: number): void {
    let rest = value | 0;
    while (rest < -64 || rest > 63) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>= 7;
    }
    this.byte(rest & 0x7f);
  }

  /** Signed LEB128 of a 64-bit integer. */
  signed64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    while (rest < -64n || rest > 63n) {
      this.byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.byte(Number(rest & 0x7fn));
  }

  f32(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.#length, value, true);
    this.#length += 4;
  }

  f64(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  /** Length-prefixed UTF-8. */
  name(text: string): void {
    const encoded = new TextEncoder().encode(text);
    this.unsigned(encoded.length);
    this.bytes(encoded);
  }

  /** A copy of what was written. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }
}

/** Builds the body of one function; the methods append instructions and return the builder. */
export class FunctionBuilder {
  readonly index: number;
  readonly parameters: readonly WasmType[];
  readonly results: readonly WasmType[];
  readonly #code = new ByteWriter();
  readonly #locals: WasmType[] = [];
  readonly #free: Record<WasmType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };

  constructor(index: number, parameters: readonly WasmType[], results: readonly WasmType[]) {
    this.index = index;
    this.parameters = parameters;
    this.results = results;
  }

  /** Bytes of code so far. */
  get size(): number {
    return this.#code.length;
  }

  /** A local of this type: a released one if there is any. Its value is unspecified. */
  local(type: WasmType): number {
    return this.#free[type].pop() ?? this.parameters.length + this.#locals.push(type) - 1;
  }

  /** Gives a local back for reuse. */
  release(local: number): void {
    const type = this.#locals[local - this.parameters.length];
    if (type !== undefined) this.#free[type].push(local);
  }

  #opcode(code: number): void {
    if (code < 0x100) {
      this.#code.byte(code);
    } else {
      this.#code.byte(code >>> 16);
      this.#code.unsigned(code & 0xffff);
    }
  }

  op(name: PlainOp): this {
    this.#opcode(PLAIN[name]);
    return this;
  }

  /** A load, store or atomic at the address on the stack plus `offset` (unsigned). */
  memory(name: MemoryOp, offset = 0): this {
    const entry = MEMORY[name];
    this.#opcode(entry[0]);
    this.#code.unsigned(entry[1]);
    this.#code.unsigned(offset);
    return this;
  }

  memoryLane(name: MemoryLaneOp, offset: number, lane: number): this {
    const entry = MEMORY_LANE[name];
    this.#opcode(entry[0]);
    this.#code.unsigned(entry[1]);
    this.#code.unsigned(offset);
    this.#code.byte(lane);
    return this;
  }

  lane(name: LaneOp, lane: number): this {
    this.#opcode(LANE[name]);
    this.#code.byte(lane);
    return this;
  }

  /** Picks 16 bytes of the 32 of the two vectors on the stack. */
  shuffle(bytes: readonly number[]): this {
    this.#opcode(SPECIAL.shuffle);
    this.#code.bytes(bytes);
    return this;
  }

  get(local: number): this {
    this.#code.byte(SPECIAL.localGet);
    this.#code.unsigned(local);
    return this;
  }

  set(local: number): this {
    this.#code.byte(SPECIAL.localSet);
    this.#code.unsigned(local);
    return this;
  }

  tee(local: number): this {
    this.#code.byte(SPECIAL.localTee);
    this.#code.unsigned(local);
    return this;
  }

  i32(value: number): this {
    this.#code.byte(SPECIAL.i32Const);
    this.#code.signed(value);
    return this;
  }

  i64(value: bigint): this {
    this.#code.byte(SPECIAL.i64Const);
    this.#code.signed64(value);
    return this;
  }

  f32(value: number): this {
    this.#code.byte(SPECIAL.f32Const);
    this.#code.f32(value);
    return this;
  }

  f64(value: number): this {
    this.#code.byte(SPECIAL.f64Const);
    this.#code.f64(value);
    return this;
  }

  #v128(write: () => void): this {
    this.#opcode(SPECIAL.v128Const);
    write();
    return this;
  }

  f32x4(value: number): this {
    return this.#v128(() => {
      for (let lane = 0; lane < 4; lane++) this.#code.f32(value);
    });
  }

  f64x2(value: number): this {
    return this.#v128(() => {
      for (let lane = 0; lane < 2; lane++) this.#code.f64(value);
    });
  }

  /** A vector of four 32-bit integers; a single number stands for all lanes. */
  i32x4(...values: number[]): this {
    return this.#v128(() => {
      const words = Int32Array.from({ length: 4 }, (_, lane) => values[lane] ?? values[0] ?? 0);
      this.#code.bytes(new Uint8Array(words.buffer));
    });
  }

  block(): this {
    this.#code.byte(SPECIAL.block);
    this.#code.byte(NO_RESULT);
    return this;
  }

  loop(): this {
    this.#code.byte(SPECIAL.loop);
    this.#code.byte(NO_RESULT);
    return this;
  }

  if(result?: WasmType): this {
    this.#code.byte(SPECIAL.if);
    this.#code.byte(result === undefined ? NO_RESULT : TYPE_CODE[result]);
    return this;
  }

  else(): this {
    this.#code.byte(SPECIAL.else);
    return this;
  }

  end(): this {
    this.#code.byte(SPECIAL.end);
    return this;
  }

  br(depth: number): this {
    this.#code.byte(SPECIAL.br);
    this.#code.unsigned(depth);
    return this;
  }

  brIf(depth: number): this {
    this.#code.byte(SPECIAL.brIf);
    this.#code.unsigned(depth);
    return this;
  }

  call(index: number): this {
    this.#code.byte(SPECIAL.call);
    this.#code.unsigned(index);
    return this;
  }

  /** `memory.copy` of (destination, source, bytes) on the stack. */
  memoryCopy(): this {
    this.#opcode(SPECIAL.memoryCopy);
    this.#code.bytes([0, 0]);
    return this;
  }

  /** `memory.fill` of (destination, byte, bytes) on the stack. */
  memoryFill(): this {
    this.#opcode(SPECIAL.memoryFill);
    this.#code.byte(0);
    return this;
  }

  /** Writes size-prefixed locals and code, as they stand in the code section. */
  encodeInto(out: ByteWriter): void {
    const head = new ByteWriter();
    const runs: { type: WasmType; count: number }[] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    head.unsigned(runs.length);
    for (const { type, count } of runs) {
      head.unsigned(count);
      head.byte(TYPE_CODE[type]);
    }
    out.unsigned(head.length + this.#code.length + 1);
    out.append(head);
    out.append(this.#code);
    out.byte(SPECIAL.end);
  }
}

/** The memory a module imports as `env.memory`. Sizes are in pages of 64 KiB. */
export interface MemoryImport {
  readonly initial: number;
  readonly maximum: number;
  readonly shared: boolean;
}

/** A memory of the module's own, exported as `memory`, with what it holds at first. */
export interface OwnMemory {
  readonly pages: number;
  readonly data: readonly { readonly address: number; readonly bytes: Uint8Array }[];
}

const SECTION = {
  type: 1,
  import: 2,
  function: 3,
  memory: 5,
  export: 7,
  code: 10,
  data: 11,
} as const;

/** Collects functions and encodes the module. */
export class ModuleBuilder {
  readonly #memory: MemoryImport | undefined;
  #own: OwnMemory | undefined;
  readonly #types = new Map<string, number>();
  readonly #signatures: (readonly [readonly WasmType[], readonly WasmType[]])[] = [];
  readonly #functions: { readonly builder: FunctionBuilder; readonly type: number }[] = [];
  readonly #exports: { readonly name: string; readonly index: number }[] = [];
  readonly #imports: { readonly name: string; readonly type: number }[] = [];

  constructor(memory?: MemoryImport) {
    this.#memory = memory;
  }

  /** Gives the module a memory in place of one that is imported. */
  own(memory: OwnMemory): void {
    if (this.#memory !== undefined) throw internalError('a module with two memories');
    this.#own = memory;
  }

  #typeIndex(parameters: readonly WasmType[], results: readonly WasmType[]): number {
    const key = `${parameters.join()}>${results.join()}`;
    const known = this.#types.get(key);
    if (known !== undefined) return known;
    const index = this.#signatures.push([parameters, results]) - 1;
    this.#types.set(key, index);
    return index;
  }

  /** Imports `env.<name>` and returns its index. All imports come before the first function. */
  importFunction(
    name: string,
    parameters: readonly WasmType[],
    results: readonly WasmType[] = [],
  ): number {
    if (this.#functions.length > 0) throw internalError('a wasm import after a function');
    return this.#imports.push({ name, type: this.#typeIndex(parameters, results) }) - 1;
  }

  /** Starts a function; its `index` may be called at once, even before the body is complete. */
  function(
    parameters: readonly WasmType[],
    results: readonly WasmType[] = [],
    exportName?: string,
  ): FunctionBuilder {
    const index = this.#imports.length + this.#functions.length;
    const builder = new FunctionBuilder(index, parameters, results);
    this.#functions.push({ builder, type: this.#typeIndex(parameters, results) });
    if (exportName !== undefined) this.#exports.push({ name: exportName, index: builder.index });
    return builder;
  }

  encode(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter();
    out.bytes([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, count: number, write: (writer: ByteWriter) => void): void => {
      if (count === 0) return;
      const body = new ByteWriter();
      body.unsigned(count);
      write(body);
      out.byte(id);
      out.unsigned(body.length);
      out.append(body);
    };
    const own = this.#own;
    section(SECTION.type, this.#signatures.length, (body) => this.#encodeTypes(body));
    const importCount = this.#imports.length + (this.#memory === undefined ? 0 : 1);
    section(SECTION.import, importCount, (body) => this.#encodeImports(body));
    section(SECTION.function, this.#functions.length, (body) => {
      for (const { type } of this.#functions) body.unsigned(type);
    });
    section(SECTION.memory, own === undefined ? 0 : 1, (body) => {
      body.byte(0x01);
      body.unsigned(own?.pages ?? 0);
      body.unsigned(own?.pages ?? 0);
    });
    section(SECTION.export, this.#exports.length + (own === undefined ? 0 : 1), (body) => {
      for (const { name, index } of this.#exports) {
        body.name(name);
        body.byte(0x00);
        body.unsigned(index);
      }
      if (own === undefined) return;
      body.name('memory');
      body.byte(0x02);
      body.unsigned(0);
    });
    section(SECTION.code, this.#functions.length, (body) => {
      for (const { builder } of this.#functions) builder.encodeInto(body);
    });
    section(SECTION.data, own?.data.length ?? 0, (body) => {
      for (const { address, bytes } of own?.data ?? []) {
        body.byte(0x00);
        body.byte(SPECIAL.i32Const);
        body.signed(address | 0);
        body.byte(SPECIAL.end);
        body.unsigned(bytes.length);
        body.bytes(bytes);
      }
    });
    return out.finish();
  }

  #encodeTypes(body: ByteWriter): void {
    for (const [parameters, results] of this.#signatures) {
      body.byte(0x60);
      for (const types of [parameters, results]) {
        body.unsigned(types.length);
        for (const type of types) body.byte(TYPE_CODE[type]);
      }
    }
  }

  #encodeImports(body: ByteWriter): void {
    for (const { name, type } of this.#imports) {
      body.name('env');
      body.name(name);
      body.byte(0x00);
      body.unsigned(type);
    }
    const memory = this.#memory;
    if (memory === undefined) return;
    body.name('env');
    body.name('memory');
    body.byte(0x02);
    body.byte(memory.shared ? 0x03 : 0x01);
    body.unsigned(memory.initial);
    body.unsigned(memory.maximum);
  }
}
