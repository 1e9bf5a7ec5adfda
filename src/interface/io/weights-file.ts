// What files of weights have in common: tensors by name, fetched one by one.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, DisposedError } from '../../base/errors.ts';
import type { TypedHostArray } from './host-array.ts';

/** A tensor in a file: known before it is read. */
export interface WeightInfo {
  readonly name: string;
  /** Element type after reading. */
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** An open file of weights, of whichever format. */
export interface WeightsFile {
  /** Path or address, for messages. */
  readonly label: string;
  /** What the file holds, by name, in its order. */
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  /** Reads one tensor. Throws ArgumentError if there is none of that name. */
  read(name: string): Promise<TypedHostArray>;
  /** Closes the file; may be called twice. */
  close(): Promise<void>;
}

/** The entry called `name`. Throws ArgumentError if there is none, DisposedError if all is closed. */
export function findTensor<T>(
  label: string,
  tensors: ReadonlyMap<string, T>,
  name: string,
  isClosed: boolean,
): T {
  if (isClosed) {
    throw new DisposedError(`${label} was closed, tensor '${name}' cannot be read`, {
      hint: 'open it again',
    });
  }
  const entry = tensors.get(name);
  if (entry !== undefined) return entry;
  const names = [...tensors.keys()];
  const more = names.length > 5 ? `, ... (${names.length} in all)` : '';
  throw new ArgumentError(`${label} has no tensor '${name}'`, {
    hint: names.length === 0 ? 'it has none' : `it has ${names.slice(0, 5).join(', ')}${more}`,
  });
}
