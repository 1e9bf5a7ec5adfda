// Entry 'tengen/lite' in Node: as src/lite.ts, and the native backend, which is loaded when it is asked
// for: it looks for a compiler first.
import { wasmBackend } from './backends/wasm/index.ts';
import { offerBackend } from './interface/lite/index.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);
offerBackend('native', async () => (await import('./backends/native/index.ts')).nativeBackend);

export * from './interface/lite/index.ts';
