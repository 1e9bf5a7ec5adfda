// Functions about functions: gradients, tracing, and control over evaluation.
export {
  grad,
  type GradOptions,
  GradManager,
  gradientsOf,
  hvp,
  noGrad,
  valueAndGrad,
  vjp,
} from './autodiff.ts';
