// Operations of other packages: how they are defined and checked, and the words kernels are written in.
export { broadcastShapes } from '../../base/shape.ts';
export type {
  AttrKind,
  AttrSchema,
  AttrsOf,
  KernelBody,
  KernelContext,
  ReadContext,
  Reduction,
} from '../../graph/op.ts';
export type { Builder } from '../../ir/builder.ts';
export type { Buffer, Expression, ValueType, Variable } from '../../ir/expression.ts';
export { valueTypeOf } from '../../ir/expression.ts';
export type { For, If, Statement, Store, Target } from '../../ir/kernel.ts';
export type {
  Each,
  GradientOf,
  OpDefinition,
  OpInstance,
  OwnGradient,
  OwnKernel,
  TensorType,
} from './definition.ts';
export { defineOp, type OpArguments, type OwnOp } from './define.ts';
export { gradcheck, type GradcheckOptions } from './gradcheck.ts';
export type { HostInput, HostOutput } from './host.ts';
