// Tensors and the free functions on them.
export * from './arithmetic.ts';
export { type AxisArgument, type KeepDims } from './arguments.ts';
export { backward, type BackwardOptions } from './backward.ts';
export {
  array,
  arraySync,
  clone,
  detach,
  item,
  itemSync,
  type NestedValues,
} from './conversion.ts';
export {
  arange,
  type CreationOptions,
  eye,
  full,
  fullLike,
  linspace,
  type NestedArray,
  ones,
  onesLike,
  tensor,
  type TensorData,
  type TensorOptions,
  zeros,
  zerosLike,
} from './creation.ts';
export { einsum } from './einsum.ts';
export { isTensor, type TensorLike } from './handle.ts';
export { cat, chunk, diff, narrow, select, split, stack, unbind } from './joining.ts';
export {
  addmm,
  addmv,
  baddbmm,
  bilinear,
  bmm,
  cdist,
  cross,
  dot,
  kron,
  matmul,
  mm,
  mv,
  outer,
  type ProductScales,
  tensordot,
  trace,
} from './linear-algebra.ts';
export * from './reductions.ts';
export { Tensor } from './tensor.ts';
