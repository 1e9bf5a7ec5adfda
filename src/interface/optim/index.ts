// Optimizers, schedules and clipping.
export { Adam, type AdamArguments, type AdamOptions, AdamW } from './adam.ts';
export {
  Adamax,
  type AdamVariantArguments,
  type AdamVariantOptions,
  NAdam,
  type NAdamOptions,
  RAdam,
} from './adam-variants.ts';
export {
  Adadelta,
  type AdadeltaOptions,
  Adagrad,
  type AdagradOptions,
  RMSprop,
  type RMSpropOptions,
} from './adaptive.ts';
export { clipGradNorm, clipGradValue } from './clip.ts';
export {
  type Hyperparameters,
  Optimizer,
  type OptimizerState,
  type ParameterGroup,
  type Parameters,
} from './optimizer.ts';
export * from './schedulers.ts';
export { SGD, type SGDOptions } from './sgd.ts';
