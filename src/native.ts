// Entry 'tengen/native': kernels as C, compiled by the system's compiler. Importing it registers the
// device 'native', which is then preferred to WebAssembly.
import { nativeBackend } from './backends/native/index.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { registerBackend } from './runtime/registry.ts';

registerBackend(nativeBackend);
installEvaluator();

export { NativeDevice, nativeUnavailable } from './backends/native/index.ts';
export type { NativeDeviceOptions, NativeStatistics } from './backends/native/index.ts';
