// Entry 'tengen': tensors, functions, layers, optimizers and transforms, on the WebAssembly
// backend. Importing it registers the backend and installs the evaluator.
import { wasmBackend } from './backends/wasm/index.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);
installEvaluator();

export type { DType, TypedArray } from './base/dtype.ts';
export {
  ArgumentError,
  CompileError,
  DeviceError,
  DisposedError,
  DTypeError,
  FormatError,
  OutOfMemoryError,
  ShapeError,
  TengenError,
  TraceError,
} from './base/errors.ts';
export type { Shape } from './base/shape.ts';
export * as F from './interface/functional/index.ts';
export * as nn from './interface/nn/index.ts';
export * as optim from './interface/optim/index.ts';
export * from './interface/tensor/index.ts';
export * from './interface/transform/index.ts';
