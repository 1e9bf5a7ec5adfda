// Entry 'tengen/lite' where there is no Node: loads and runs program files, on the WebAssembly backend.
import { wasmBackend } from './backends/wasm/index.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);

export * from './interface/lite/index.ts';
