// Entry 'tengen' where there is no Node: tensors, functions, layers, optimizers and transforms, on the
// WebAssembly backend. Importing it registers the backend and installs the evaluator.
import { wasmBackend } from './backends/wasm/index.ts';
import { installDumper } from './interface/transform/dumping.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);
installEvaluator();
installDumper(async () => (await import('./interface/program/dump.ts')).dump);

export * from './interface/index.ts';
