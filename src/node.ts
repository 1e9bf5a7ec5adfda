// Entry 'tengen' in Node: as src/index.ts, and the native backend, which is preferred where there are a
// C compiler and koffi.
import { nativeBackend } from './backends/native/index.ts';
import { wasmBackend } from './backends/wasm/index.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);
registerBackend(nativeBackend);
installEvaluator();

export * from './interface/index.ts';
