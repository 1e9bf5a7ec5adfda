// Optimizers, schedules and clipping.
export { type AccumulationOptions, GradientAccumulator } from './accumulation.ts';
export { Adafactor, type AdafactorOptions } from './adafactor.ts';
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
export { ASGD, type ASGDOptions, Rprop, type RpropOptions } from './averaging.ts';
export { clipGradNorm, clipGradValue } from './clip.ts';
export { Lamb, type LambOptions, Lion, type LionOptions } from './lamb-lion.ts';
export { LBFGS, type LBFGSOptions, type LBFGSState } from './lbfgs.ts';
export {
  type Hyperparameters,
  Optimizer,
  type OptimizerState,
  type ParameterGroup,
  type Parameters,
} from './optimizer.ts';
export * from './more-schedulers.ts';
export {
  type ConstantOptions,
  ConstantLR,
  CosineAnnealingLR,
  type CosineAnnealingOptions,
  CosineAnnealingWarmRestarts,
  ExponentialLR,
  type ExponentialOptions,
  LambdaLR,
  LinearLR,
  type LinearOptions,
  MultiStepLR,
  type MultiStepOptions,
  OneCycleLR,
  type OneCycleOptions,
  type PlateauOptions,
  PolynomialLR,
  type PolynomialOptions,
  ReduceLROnPlateau,
  type Scheduled,
  Scheduler,
  type SchedulerState,
  StepLR,
  type StepOptions,
  type WarmRestartsOptions,
} from './schedulers.ts';
export { SGD, type SGDOptions } from './sgd.ts';
