// Entry 'tengen/native': kernels as C, compiled by the system's compiler. Importing it registers the
// device 'native', which is then preferred to WebAssembly.
import { nativeBackend } from './backends/native/index.ts';
import { algorithmFile } from './interface/tuning/algorithm-file.ts';
import { installAlgorithmFile } from './interface/tuning/algorithm-store.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(nativeBackend);
installEvaluator();
installAlgorithmFile(algorithmFile());

export { NativeDevice, nativeUnavailable } from './backends/native/index.ts';
export type { NativeDeviceOptions, NativeStatistics } from './backends/native/index.ts';
