// onnxruntime-node, from a folder of the caller's: it is no dependency of this project.
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { type DType, newTypedArray, type TypedArray } from '../../src/base/dtype.ts';

/** A value of a run, in whatever array its type has. */
export interface Value {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** A model that the runtime has loaded. */
export interface Session {
  run(feeds: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, Value>>>;
  release(): Promise<void>;
}

interface OrtModule {
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => unknown;
  readonly InferenceSession: {
    create(model: Uint8Array | string, options: object): Promise<Session>;
  };
}

/** What a tensor is in the feeds. */
export interface Feed {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TypedArray;
}

export class Runtime {
  readonly #module: OrtModule;
  readonly version: string;

  constructor(folder: string) {
    const require = createRequire(resolve(folder, 'package.json'));
    this.#module = require('onnxruntime-node') as OrtModule;
    this.version = (require('onnxruntime-node/package.json') as { version: string }).version;
  }

  /** Loads a model. `optimize`: whether the runtime may rewrite the graph. */
  load(model: Uint8Array | string, optimize = true): Promise<Session> {
    return this.#module.InferenceSession.create(model, {
      logSeverityLevel: 3,
      intraOpNumThreads: 1,
      graphOptimizationLevel: optimize ? 'all' : 'disabled',
    });
  }

  tensor({ dtype, shape, data }: Feed): unknown {
    return new this.#module.Tensor(dtype, data, shape);
  }
}

/** Values of a run as numbers. */
export function numbersOf({ data }: Value): Float64Array {
  return Float64Array.from(data as ArrayLike<number>, Number);
}

/** Numbers as the array that holds a dtype. */
export function hostArray(dtype: DType, values: ArrayLike<number>): TypedArray {
  const array = newTypedArray(dtype, values.length);
  for (let i = 0; i < values.length; i++) array[i] = values[i] as number;
  return array;
}
