// What this host's WebAssembly can do. Relaxed SIMD needs a V8 flag on Node 20.
import { ModuleBuilder } from './encoder.ts';

interface V8Module {
  setFlagsFromString(flags: string): void;
}

/** Node's `v8` module, not imported because browsers load this file too. */
function v8Module(): V8Module | undefined {
  return typeof process === 'object' ? process.getBuiltinModule?.('node:v8') : undefined;
}

let relaxed: boolean | undefined;

/**
 * Whether relaxed SIMD can be used and its multiply-add rounds once. Asked of the engine once: a
 * tiny module must be valid, and compute a value that two roundings would miss.
 */
export function relaxedSimdAvailable(): boolean {
  relaxed ??= probeRelaxed();
  return relaxed;
}

function probeRelaxed(): boolean {
  const code = relaxedProbe();
  if (!WebAssembly.validate(code)) {
    v8Module()?.setFlagsFromString('--experimental-wasm-relaxed-simd');
    if (!WebAssembly.validate(code)) return false;
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code));
  const fused = exports['fused'] as (a: number, b: number, c: number) => number;
  // (1 + e)(1 - e) - 1 is -e^2, which a product rounded on its own loses.
  const e = 2 ** -13;
  return fused(1 + e, 1 - e, -1) === -(e * e);
}

function relaxedProbe(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  const f = module.function(['f32', 'f32', 'f32'], ['f32'], 'fused');
  for (let operand = 0; operand < 3; operand++) f.get(operand).op('f32x4.splat');
  f.op('f32x4.relaxed_madd').lane('f32x4.extract_lane', 0);
  return module.encode();
}

let simd: boolean | undefined;

/** Whether the engine has 128-bit SIMD, which every kernel needs. */
export function simdAvailable(): boolean {
  if (simd !== undefined) return simd;
  if (typeof WebAssembly !== 'object') return (simd = false);
  const module = new ModuleBuilder();
  module.function([], ['i32'], 'probe').i32x4(1).lane('i32x4.extract_lane', 0);
  return (simd = WebAssembly.validate(module.encode()));
}
