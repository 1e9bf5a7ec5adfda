// Optimizers, schedules and clipping.
export { Adam, type AdamArguments, type AdamOptions, AdamW } from './adam.ts';
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
