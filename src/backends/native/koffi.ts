// Shared libraries through koffi, an optional dependency.
import { DeviceError } from '../../base/errors.ts';
import type {
  AsyncForeignFunction,
  ForeignArgument,
  ForeignFunction,
  ForeignLibrary,
  ForeignLoader,
  ForeignParameter,
  ForeignResult,
  ForeignSignature,
  ForeignValue,
} from './foreign.ts';

type Callback = (error: Error | null, result: never) => void;

/** A function made by koffi: it checks its arguments itself. */
interface KoffiFunction {
  (...args: ForeignArgument[]): never;
  async(...args: [...ForeignArgument[], Callback]): void;
}

interface KoffiLibrary {
  symbol(name: string): bigint;
  unload(): void;
}

/** The part of koffi's interface that is used here. */
export interface KoffiModule {
  readonly version: string;
  load(path: string): KoffiLibrary;
  address(value: ArrayBufferLike | ArrayBufferView): bigint;
  proto(result: string, parameters: readonly string[]): object;
  decode(address: bigint, type: object): KoffiFunction;
}

// An address as `uintptr_t` costs 10 ns less than as `void*`, and takes any number.
const PARAMETERS: Readonly<Record<ForeignParameter, string>> = {
  i32: 'int32_t',
  u32: 'uint32_t',
  i64: 'int64_t',
  f64: 'double',
  address: 'uintptr_t',
  buffer: 'void*',
};

const RESULTS: Readonly<Record<ForeignResult, string>> = {
  void: 'void',
  i32: 'int32_t',
  u32: 'uint32_t',
  f64: 'double',
  address: 'uintptr_t',
};

/**
 * Every open library: koffi unmaps one whose handle is collected, while addresses in it may stand in
 * tables of other C code, where no collector sees them.
 */
const open = new Set<KoffiLibrary>();

export class KoffiLoader implements ForeignLoader {
  readonly name: string;
  readonly #koffi: KoffiModule;
  /** Types that koffi made, by signature: it keeps each of them for ever. */
  readonly #types = new Map<string, object>();

  constructor(koffi: KoffiModule) {
    this.#koffi = koffi;
    this.name = `koffi ${koffi.version}`;
  }

  open(path: string): ForeignLibrary {
    try {
      const library = this.#koffi.load(path);
      open.add(library);
      return new OpenLibrary(this, path, library);
    } catch (cause) {
      const detail = cause instanceof Error ? cause.message : String(cause);
      throw new DeviceError(`cannot load ${path}: ${detail}`, { op: 'native', cause });
    }
  }

  functionAt<R extends ForeignResult>(
    address: number,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R> {
    // koffi's own function, without a wrapper around it: half the price of a call.
    return this.#function(address, signature);
  }

  asyncFunctionAt<R extends ForeignResult>(
    address: number,
    signature: ForeignSignature<R>,
  ): AsyncForeignFunction<R> {
    const call = this.#function(address, signature);
    return (...args) =>
      new Promise<ForeignValue<R>>((resolve, reject) => {
        call.async(...args, (error, result) => {
          if (error === null) resolve(result);
          else reject(error);
        });
      });
  }

  addressOf(buffer: ArrayBufferLike): number {
    if (buffer.byteLength === 0) return 0;
    // koffi knows ArrayBuffers, and shared ones only behind a view.
    const known = buffer instanceof ArrayBuffer ? buffer : new Uint8Array(buffer);
    return Number(this.#koffi.address(known));
  }

  #function(address: number, { parameters, result }: ForeignSignature): KoffiFunction {
    const key = `${parameters.join()}:${result}`;
    let type = this.#types.get(key);
    if (type === undefined) {
      type = this.#koffi.proto(
        RESULTS[result],
        parameters.map((parameter) => PARAMETERS[parameter]),
      );
      this.#types.set(key, type);
    }
    return this.#koffi.decode(BigInt(address), type);
  }
}

class OpenLibrary implements ForeignLibrary {
  readonly #loader: KoffiLoader;
  readonly #path: string;
  readonly #library: KoffiLibrary;

  constructor(loader: KoffiLoader, path: string, library: KoffiLibrary) {
    this.#loader = loader;
    this.#path = path;
    this.#library = library;
  }

  address(symbol: string): number {
    try {
      return Number(this.#library.symbol(symbol));
    } catch (cause) {
      throw new DeviceError(`${this.#path} does not define ${symbol}`, { op: 'native', cause });
    }
  }

  function<R extends ForeignResult>(
    symbol: string,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R> {
    return this.#loader.functionAt(this.address(symbol), signature);
  }

  close(): void {
    open.delete(this.#library);
    this.#library.unload();
  }
}
