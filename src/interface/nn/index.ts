// Layers, containers, losses, and how parameters start.
export * from './activations.ts';
export {
  AdaptiveLogSoftmaxWithLoss,
  type AdaptiveSoftmaxOptions,
  type AdaptiveSoftmaxResult,
} from './adaptive-softmax.ts';
export {
  type AttentionArguments,
  MultiheadAttention,
  type MultiheadAttentionOptions,
} from './attention.ts';
export { AveragedModel, type AveragedModelOptions, updateBatchNorm } from './averaged-model.ts';
export * from './containers.ts';
export * from './convolution.ts';
export * from './distance.ts';
export * from './dropout.ts';
export * from './embedding.ts';
export { functionalCall } from './functional-call.ts';
export * from './fused.ts';
export * as init from './initializers.ts';
export * from './linear.ts';
export * from './local-convolution.ts';
export * from './losses.ts';
export {
  type BackwardHook,
  type ForwardHook,
  type ForwardPreHook,
  type HookHandle,
  type Layer,
  type LoadReport,
  Module,
  type StateDict,
  type StateSource,
} from './module.ts';
export * from './normalization.ts';
export { Buffer, Parameter } from './parameter.ts';
export { parametersToVector, vectorToParameters } from './parameter-vector.ts';
export * as parametrize from './parametrize.ts';
export { spectralNorm, type SpectralNormOptions, weightNorm } from './parametrize.ts';
export * from './pooling.ts';
export * from './rearrange.ts';
export * from './recurrent.ts';
export { type PadSequenceOptions, padSequence, unpadSequence } from './sequences.ts';
export { type ModelSummary, summary } from './summary.ts';
export * from './transformer.ts';
export * from './upsampling.ts';
