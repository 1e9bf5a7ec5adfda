// Exports a compiled program as one WebAssembly module with a small loader.
import {
  type ExportedPlan,
  type ExportRequest,
  resolveExport,
  usualTolerance,
} from '../../runtime/export.ts';
import { renderCheck, renderLoader, renderTypes } from './loader-source.ts';
import { renderStandalone } from './standalone.ts';

export interface ExportWasmOptions {
  /** Weights as a part of the module (default), or as a file beside it. */
  readonly weights?: 'inside' | 'beside';
  /** Largest relative difference of the test cases. Default 0 in strict numerics, 1e-5 in fast. */
  readonly tolerance?: number;
}

/**
 * A program as `<name>.wasm`, its loader `<name>.js` with types, and `<name>_test.js`, which runs the
 * test cases. `wasmTarget(numerics, relaxed)` is what to compile it for; without relaxed SIMD every
 * engine with SIMD takes it. It runs on one thread.
 *
 * @throws ArgumentError for requests that do not fit their plan; CompileError beyond 4 GiB.
 */
export async function exportWasm(
  request: ExportRequest,
  exported: ExportedPlan,
  options: ExportWasmOptions = {},
): Promise<ReadonlyMap<string, string | Uint8Array>> {
  const resolved = await resolveExport(request, exported);
  const { fma, numerics } = exported.target;
  const inside = options.weights !== 'beside';
  const standalone = renderStandalone(request, resolved, { relaxed: fma, inside });
  const name = fileName(request.name);
  const beside = !inside && standalone.weights.length > 0;
  const names = { module: `${name}.wasm`, weights: beside ? `${name}.weights` : null };
  const tolerance = options.tolerance ?? usualTolerance(numerics);
  const files = new Map<string, string | Uint8Array>([
    [names.module, standalone.code],
    [`${name}.js`, renderLoader(request, resolved, standalone, names)],
    [`${name}.d.ts`, renderTypes(request, names)],
    [`${name}_test.js`, renderCheck(request, `${name}.js`, tolerance)],
    ['package.json', `${JSON.stringify({ type: 'module', private: true })}\n`],
  ]);
  if (names.weights !== null) files.set(names.weights, standalone.weights);
  return files;
}

/** A name that is one file's on every system. */
function fileName(name: string): string {
  return name.replaceAll(/[^\w-]+/g, '_') || 'model';
}
