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
export { cond, scan, type ScanOptions, whileLoop, type WhileOptions } from './control-flow.ts';
export {
  clearPlans,
  type Configuration,
  configure,
  debug,
  env,
  type Environment,
  evaluate,
  explain,
  heldMemory,
  type HeldMemory,
  profile,
  keep,
  memory,
  type MemoryUse,
  type Numerics,
  type PassSwitches,
  passes,
  planMemory,
  type PlanMemory,
  type Precision,
  resetStats,
  setDefaultDevice,
  setMemoryBudget,
  setNumerics,
  setPasses,
  setPrecision,
  stats,
} from './controls.ts';
export type { PassName, Passes } from '../../compile/passes/switches.ts';
export { type AlgorithmOptions, algorithms, setAlgorithms } from '../tuning/algorithms.ts';
export {
  clearMeasuredAlgorithms,
  type MeasuredAlgorithm,
  measuredAlgorithms,
} from '../tuning/algorithm-store.ts';
export { customGradient, type ValueWithGradient } from './custom-gradient.ts';
export {
  excludeFromTrace,
  trace,
  type Trace,
  type Traced,
  type TraceOptions,
  type TraceStats,
} from './trace.ts';
export {
  type Dim,
  dim,
  type DimOptions,
  type InputSpecs,
  spec,
  type TensorSpec,
} from './tracing/dims.ts';
export type {
  Profile,
  ProfiledKernel,
  ProfiledProgram,
  ProfileOptions,
} from './tracing/profile.ts';
export type { MemoryBudgetOption } from './settings.ts';
