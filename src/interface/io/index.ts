// The public face of saving and loading.
export { type ByteInput, type ByteSource, memorySource } from './byte-source.ts';
export { type HostArray, type TypedHostArray } from './host-array.ts';
export {
  type Checkpoint,
  type StateDict,
  load,
  loadCheckpoint,
  save,
  saveCheckpoint,
  serialize,
  serializeCheckpoint,
} from './checkpoint.ts';
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
