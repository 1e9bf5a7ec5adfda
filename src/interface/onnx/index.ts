// The public face of ONNX: import and export.
export { UnsupportedError } from './errors.ts';
export * from './export/index.ts';
export { type LoadOptions, load } from './load.ts';
export { type Dimension, type ModelInput, OnnxModel, type ValueInfo } from './model.ts';
export { type ElementType } from './tensor-data.ts';
