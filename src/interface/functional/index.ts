// Functions without state: what layers are made of. Imported as `F`.
export * from './activations.ts';
export * from './adaptive-pooling.ts';
export * from './attention.ts';
export * from './classification-losses.ts';
export * from './convolution.ts';
export {
  cosineSimilarity,
  normalize,
  pairwiseDistance,
  type PairwiseDistanceOptions,
} from './distance.ts';
export * from './ctc-loss.ts';
export * from './dropout.ts';
export * from './embedding.ts';
export * from './embedding-losses.ts';
export * from './fractional-pooling.ts';
export * from './grid-sample.ts';
export * from './interpolate.ts';
export { pdist } from '../tensor/small-functions.ts';
export * from './local-convolution.ts';
export * from './margin-losses.ts';
export * from './normalization.ts';
export * from './padding.ts';
export * from './pooling.ts';
export * from './rearrange.ts';
export * from './recurrent.ts';
export type { LossOptions, Reduction } from './reduction.ts';
export * from './region-convolution.ts';
export * from './regression-losses.ts';
export { logSoftmax, softmax, softmin } from './softmax.ts';
