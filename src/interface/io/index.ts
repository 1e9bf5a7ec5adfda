// The public face of saving and loading.
export { type ByteInput, type ByteSource, memorySource } from './byte-source.ts';
export { type HostArray, type TypedHostArray } from './host-array.ts';
export {
  type Checkpoint,
  type StateDict,
  loadCheckpoint,
  save,
  saveCheckpoint,
  serialize,
  serializeCheckpoint,
} from './checkpoint.ts';
export { type GgufEntry, type GgufOptions, GgufFile } from './gguf.ts';
export type { GgufValue } from './gguf-header.ts';
export {
  type NamedTensors,
  type NpzWriteOptions,
  NpzFile,
  parseNpy,
  readNpy,
  readNpz,
  serializeNpy,
  serializeNpz,
  writeNpy,
  writeNpz,
} from './npy.ts';
export { type PtOptions, type PtValue, PtFile, readPt } from './pt.ts';
export { savePt, serializePt } from './pt-writer.ts';
export { type ShardOptions, ShardedFile } from './sharded.ts';
export type { WeightInfo, WeightsFile } from './weights-file.ts';
export { type LoadOptions, type RenameOptions, load, openWeights, renameKeys } from './weights.ts';
export { type CheckpointValue } from './checkpoint-tree.ts';
export { type FileDType, type TensorEntry } from './safetensors-header.ts';
export {
  type NamedArrays,
  type Safetensors,
  type SafetensorsWriteOptions,
  SafetensorsFile,
  parseSafetensors,
  readSafetensors,
  serializeSafetensors,
  writeSafetensors,
} from './safetensors.ts';
