// Saving and loading: state dicts, and checkpoints that hold a whole training run in one file.
import { type TypedArray, byteSize } from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { checkPath } from './atomic-file.ts';
import type { ByteInput } from './byte-source.ts';
import {
  type CheckpointValue,
  type FlatTree,
  flattenTree,
  unflattenTree,
} from './checkpoint-tree.ts';
import { withFileName } from '../../base/file-errors.ts';
import { bytesOf, isTypedArray, ownedArray, type TypedHostArray } from './host-array.ts';
import { FILE_DTYPE_OF } from './safetensors-header.ts';
import {
  type PendingTensor,
  type SafetensorsWriteOptions,
  SafetensorsFile,
  entriesOf,
  pendingTypedArray,
  readMetadata,
  serializePending,
  writePending,
} from './safetensors.ts';
import { type Tensor, adoptHostArray, isTensor, toHostArray } from './tensors.ts';

/** Tensors by name, as `module.stateDict()` gives them. */
export type StateDict = ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>;

/** What `loadCheckpoint` gives: the tree that was saved. */
export type Checkpoint = Record<string, CheckpointValue>;

/** Names the kind of a safetensors file that is more than a state dict. */
export const KIND_KEY = 'tengen.kind';
const VERSION_KEY = 'tengen.version';
const TREE_KEY = 'tengen.tree';
const CHECKPOINT_KIND = 'checkpoint';
const VERSION = '1';

/** A tensor's bytes are fetched from its device when their turn to be written comes. */
function pendingDeviceTensor(name: string, value: Tensor): PendingTensor {
  const { dtype, shape } = value;
  return {
    name,
    fileDType: FILE_DTYPE_OF[dtype],
    shape,
    byteLength: sizeOf(shape) * byteSize(dtype),
    bytes: async () => bytesOf((await toHostArray(value)).data),
  };
}

/** The tensors of a state dict. Throws ArgumentError for anything else. */
export function checkStateDict(op: string, state: StateDict): [string, Tensor][] {
  if (typeof state !== 'object' || state === null || 'stateDict' in state) {
    throw new ArgumentError(`expected a state dict, got ${describeValue(state)}`, {
      op,
      hint: `${op}(${op.startsWith('save') ? 'path, ' : ''}model.stateDict())`,
    });
  }
  return entriesOf<unknown>(state).map(([name, value]) => {
    if (isTensor(value)) return [name, value];
    throw new ArgumentError(`'${name}' is not a Tensor`, {
      op,
      hint: 'a state dict maps names to tensors; saveCheckpoint() takes trees of anything',
    });
  });
}

function pendingStateDict(op: string, state: StateDict): PendingTensor[] {
  return checkStateDict(op, state).map(([name, value]) => pendingDeviceTensor(name, value));
}

/**
 * Saves a state dict as a safetensors file, atomically: until it is complete and on disk, the file
 * that was there stays.
 *
 * @example sketch: the model is the reader's
 * await save('model.safetensors', model.stateDict());
 */
export async function save(
  path: string | URL,
  state: StateDict,
  options: SafetensorsWriteOptions = {},
): Promise<void> {
  checkPath(path, 'save(path, state)');
  await writePending(path, pendingStateDict('save', state), readMetadata('save', options));
}

/** The bytes {@link save} would write, for places without files. */
export async function serialize(
  state: StateDict,
  options: SafetensorsWriteOptions = {},
): Promise<Uint8Array> {
  return serializePending(pendingStateDict('serialize', state), readMetadata('serialize', options));
}

function checkpointParts(state: Readonly<Record<string, unknown>>): {
  tensors: PendingTensor[];
  metadata: Map<string, string>;
} {
  if (typeof state !== 'object' || state === null) {
    throw new ArgumentError(`expected a record of what to save, got ${describeValue(state)}`, {
      op: 'saveCheckpoint',
    });
  }
  const { arrays, json }: FlatTree = flattenTree(state);
  const tensors = [...arrays].map(([name, value]) =>
    isTensor(value) ? pendingDeviceTensor(name, value) : pendingTypedArray(name, value),
  );
  const metadata = new Map([
    [KIND_KEY, CHECKPOINT_KIND],
    [VERSION_KEY, VERSION],
    [TREE_KEY, json],
  ]);
  return { tensors, metadata };
}

/**
 * Saves everything a training run needs to go on, in one safetensors file: a tree of state dicts,
 * typed arrays, numbers, strings, arrays, Maps and records. Atomic: an interrupted save leaves the
 * previous checkpoint as it was. Tensors are read one by one: await it before the next step.
 *
 * @throws ArgumentError if the tree holds something that is not data, naming its place.
 * @example sketch: the training loop is the reader's
 * await saveCheckpoint('run.safetensors', {
 *   model: model.stateDict(),
 *   optimizer: optimizer.stateDict(),
 *   loader: loader.state(),
 *   extra: { epoch, best },
 * });
 */
export async function saveCheckpoint(
  path: string | URL,
  state: Readonly<Record<string, unknown>>,
): Promise<void> {
  checkPath(path, 'saveCheckpoint(path, state)');
  const { tensors, metadata } = checkpointParts(state);
  await writePending(path, tensors, metadata);
}

/** The bytes {@link saveCheckpoint} would write. */
export async function serializeCheckpoint(
  state: Readonly<Record<string, unknown>>,
): Promise<Uint8Array> {
  const { tensors, metadata } = checkpointParts(state);
  return serializePending(tensors, metadata);
}

/**
 * Loads what {@link saveCheckpoint} saved. The type argument says what you saved; it is not checked,
 * but `loadStateDict` and `loadState` check what they are given.
 *
 * @throws FormatError if the file is damaged, of another kind, or of a newer version.
 */
export async function loadCheckpoint<T = Checkpoint>(input: ByteInput): Promise<T> {
  const file = await SafetensorsFile.open(input);
  try {
    const json = checkpointJson(file);
    const arrays = new Map<string, TypedHostArray>();
    for (const name of file.tensors.keys()) arrays.set(name, ownedArray(await file.read(name)));
    const tree = unflattenTree(json, arrayLookup(file, arrays));
    return tree as T;
  } catch (error) {
    throw withFileName(error, file.label);
  } finally {
    await file.close();
  }
}

function checkpointJson(file: SafetensorsFile): string {
  const kind = file.metadata.get(KIND_KEY);
  if (kind === undefined) {
    throw new FormatError('this is a state dict, not a checkpoint', { hint: 'use load()' });
  }
  const json = file.metadata.get(TREE_KEY);
  if (kind !== CHECKPOINT_KIND || json === undefined) {
    throw new FormatError(`this is a ${kind.slice(0, 40)}, not a checkpoint`);
  }
  const version = file.metadata.get(VERSION_KEY) ?? 'none';
  if (version !== VERSION) {
    throw new FormatError(`version ${version.slice(0, 20)} of the checkpoint format is unknown`, {
      hint: `this Tengen reads version ${VERSION}`,
    });
  }
  return json;
}

/** Hands out arrays by name; the same name twice gives the same object, as it was when saved. */
function arrayLookup(
  file: SafetensorsFile,
  arrays: ReadonlyMap<string, TypedHostArray>,
): (name: string, kind: string | undefined) => Tensor | TypedArray {
  const given = new Map<string, Tensor | TypedArray>();
  return (name, kind) => {
    const known = given.get(name);
    if (known !== undefined && isTypedArray(known) === (kind !== undefined)) return known;
    const array = arrays.get(name);
    const fileDType = file.tensors.get(name)?.fileDType;
    if (array === undefined) {
      throw new FormatError(`the tree names the tensor '${name.slice(0, 200)}', which is missing`);
    }
    // A Uint16Array went out as U16, which reads back widened.
    const plain = fileDType === 'U16' ? Uint16Array.from(array.data) : array.data;
    if (kind !== undefined && plain.constructor.name !== kind) {
      throw new FormatError(
        `'${name.slice(0, 200)}' is a ${plain.constructor.name}, not a ${kind}`,
      );
    }
    const value = kind === undefined ? adoptHostArray(array) : plain;
    given.set(name, value);
    return value;
  };
}
