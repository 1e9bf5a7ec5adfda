// Calls into shared libraries behind a small interface, and the choice of what provides it.
import { createRequire, isBuiltin } from 'node:module';
import { DeviceError } from '../../base/errors.ts';
import { KoffiLoader, type KoffiModule } from './koffi.ts';

/**
 * Types of arguments and results. An `address` is a number (exact: user space ends far below 2^53);
 * a `buffer` is an ArrayBuffer or a view, passed as the address of its first byte.
 */
export type ForeignParameter = 'i32' | 'u32' | 'i64' | 'f64' | 'address' | 'buffer';
export type ForeignResult = 'void' | 'i32' | 'u32' | 'f64' | 'address';

export interface ForeignSignature<R extends ForeignResult = ForeignResult> {
  readonly parameters: readonly ForeignParameter[];
  readonly result: R;
}

export type ForeignArgument = number | bigint | ArrayBuffer | ArrayBufferView | null;
export type ForeignValue<R extends ForeignResult> = R extends 'void' ? void : number;
export type ForeignFunction<R extends ForeignResult> = (
  ...args: ForeignArgument[]
) => ForeignValue<R>;
export type AsyncForeignFunction<R extends ForeignResult> = (
  ...args: ForeignArgument[]
) => Promise<ForeignValue<R>>;

/** A shared library that is open. It stays open: code that something may still call must not go. */
export interface ForeignLibrary {
  /** @throws DeviceError if the library does not define the symbol. */
  address(symbol: string): number;
  function<R extends ForeignResult>(
    symbol: string,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R>;
  /** Unmaps the library. Its functions and addresses must not be used any more. */
  close(): void;
}

export interface ForeignLoader {
  /** What does the work, for people: `koffi 3.3.4`. */
  readonly name: string;
  /** @throws DeviceError if the file is no library for this machine. */
  open(path: string): ForeignLibrary;
  /** A function that is called where it stands. */
  functionAt<R extends ForeignResult>(
    address: number,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R>;
  /** The same on another thread. Buffers among the arguments must stay alive until it resolves. */
  asyncFunctionAt<R extends ForeignResult>(
    address: number,
    signature: ForeignSignature<R>,
  ): AsyncForeignFunction<R>;
  /**
   * Where a buffer's bytes are; 0 if it has none. V8 never moves them, so the address is right for as
   * long as the buffer is reachable and not transferred or resized. Take it from a buffer made as
   * such: `new Float32Array(4).buffer` moves its bytes off the heap first.
   */
  addressOf(buffer: ArrayBufferLike): number;
}

export interface Provider {
  readonly name: string;
  /** The loader, in one line why there is none, or undefined if this is not its runtime. */
  load(): ForeignLoader | string | undefined;
}

/** The only one that is tested. The others are places for adapters, and say why they are empty. */
const PROVIDERS: readonly Provider[] = [
  { name: 'koffi', load: loadKoffi },
  {
    name: 'Deno',
    load: () => ('Deno' in globalThis ? 'Deno.dlopen has no adapter yet' : undefined),
  },
  { name: 'Bun', load: () => ('Bun' in globalThis ? 'bun:ffi has no adapter yet' : undefined) },
  { name: 'node:ffi', load: () => (isBuiltin('node:ffi') ? 'has no adapter yet' : undefined) },
];

const ALIGNMENT = 64;

export interface AlignedMemory {
  readonly buffer: ArrayBuffer;
  /** Where in the buffer the aligned bytes start. */
  readonly byteOffset: number;
  /** Their address, right for as long as the buffer is reachable. */
  readonly address: number;
}

/** Memory that V8 owns, at a multiple of 64 bytes; not `cleared`, it holds whatever was there. */
export function allocateAligned(
  foreign: ForeignLoader,
  bytes: number,
  { cleared = true }: { readonly cleared?: boolean } = {},
): AlignedMemory {
  // At least one byte: an empty buffer has no address.
  const length = Math.max(bytes, 1) + ALIGNMENT - 1;
  const buffer = cleared ? new ArrayBuffer(length) : Buffer.allocUnsafeSlow(length).buffer;
  const start = foreign.addressOf(buffer);
  const address = Math.ceil(start / ALIGNMENT) * ALIGNMENT;
  return { buffer, byteOffset: address - start, address };
}

let selected: ForeignLoader | string | undefined;

/** The loader of this process, or in one line why there is none. Chosen once. */
export function findForeign(): ForeignLoader | string {
  selected ??= selectForeign(PROVIDERS);
  return selected;
}

/** @throws DeviceError with the reason and what to do if no shared library can be called. */
export function requireForeign(): ForeignLoader {
  const found = findForeign();
  if (typeof found !== 'string') return found;
  throw new DeviceError(found, { op: 'native', hint: 'npm install koffi' });
}

/** The first provider that works; else all reasons in one line. */
export function selectForeign(providers: readonly Provider[]): ForeignLoader | string {
  const reasons: string[] = [];
  for (const provider of providers) {
    const found = provider.load();
    if (typeof found === 'object') return found;
    if (found !== undefined) reasons.push(`${provider.name}: ${found}`);
  }
  return `shared libraries cannot be called (${reasons.join('; ')})`;
}

/** Devices are made in synchronous code, so this is a `require`, not an `import()`. */
function loadKoffi(): ForeignLoader | string {
  try {
    const load = createRequire(import.meta.url);
    const koffi = load('koffi') as KoffiModule;
    // Before 3, addresses were objects.
    const major = Number(koffi.version.split('.')[0]);
    return major >= 3 ? new KoffiLoader(koffi) : `${koffi.version} is too old, 3.3 is needed`;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const line = text.split('\n')[0] ?? '';
    return /^Cannot find (module|package) 'koffi'/.test(line) ? 'not installed' : line;
  }
}
