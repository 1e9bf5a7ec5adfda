// Entry 'tengen' in Node: as src/index.ts, and the native backend, which is preferred where there are a
// C compiler and koffi.
import { nativeBackend } from './backends/native/index.ts';
import { wasmBackend } from './backends/wasm/index.ts';
import { algorithmFile } from './interface/tuning/algorithm-file.ts';
import { installAlgorithmFile } from './interface/tuning/algorithm-store.ts';
import { installDumper } from './interface/transform/dumping.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(wasmBackend);
registerBackend(nativeBackend);
installEvaluator();
installDumper(async () => (await import('./interface/program/dump.ts')).dump);
installAlgorithmFile(algorithmFile());

export * from './interface/index.ts';
