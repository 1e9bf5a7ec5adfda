// Entry 'tengen/interp': registers the interpreter, the slow and obvious device that kernels are
// checked against. Apart from 'tengen', so that no application carries it unasked.
import { interpBackend } from './backends/interp/index.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(interpBackend);

export { InterpDevice, interpBackend, type InterpOptions } from './backends/interp/index.ts';
