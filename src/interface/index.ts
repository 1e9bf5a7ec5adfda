// Everything that the entry 'tengen' exports, whichever backends it brings.
export type { DType, TypedArray } from '../base/dtype.ts';
export {
  ArgumentError,
  BudgetError,
  CompileError,
  DeviceError,
  DisposedError,
  DTypeError,
  FormatError,
  OutOfMemoryError,
  ShapeError,
  TengenError,
  TraceError,
} from '../base/errors.ts';
export type { Shape } from '../base/shape.ts';
export * as amp from './amp/index.ts';
export * as F from './functional/index.ts';
export * as nn from './nn/index.ts';
export * as optim from './optim/index.ts';
export * from './tensor/index.ts';
export * from './transform/index.ts';
