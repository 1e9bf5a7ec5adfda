// Exports compiled programs as folders of C: sources for each variant, headers, weights, a Makefile, and
// drivers that run the test cases.
import { sameBytes } from '../../base/bytes.ts';
import { ArgumentError } from '../../base/errors.ts';
import {
  type ExportedPlan,
  type ExportRequest,
  resolveExport,
  type ResolvedExport,
  usualTolerance,
} from '../../runtime/export.ts';
import { weightsBlock } from '../../runtime/weights-block.ts';
import { renderDriver } from './driver.ts';
import { renderHeader } from './header.ts';
import { type MadeModel, renderMakefile } from './makefile.ts';
import { identifier, wordList } from './names.ts';
import { renderSource } from './source.ts';
import type { CVariant } from './targets.ts';

/** A program compiled for each variant: `cTarget(variant, numerics)` is what to compile it for. */
export interface CModel {
  readonly request: ExportRequest;
  readonly plans: ReadonlyMap<CVariant, ExportedPlan>;
}

export interface ExportCOptions {
  /** Weights as a file to load (default), or as an array that is compiled in. */
  readonly weights?: 'binary' | 'array';
  /** Largest relative difference of the test cases. Default 0 in strict numerics, 1e-5 in fast. */
  readonly tolerance?: number;
  /** Of the library, `lib<name>.a`. Default: the first program's name. */
  readonly library?: string;
}

export interface ExportedFiles {
  readonly files: ReadonlyMap<string, string | Uint8Array>;
  /** Static memory of each program and variant, without weights: `mnist_avx`. */
  readonly arenaBytes: ReadonlyMap<string, number>;
}

/**
 * Programs as C99. Each gets a header with the shapes of inputs and outputs and three functions:
 * `<name>_init(weights, bytes)`, `<name>_run(inputs, outputs)` and `<name>_info()`. There is one
 * source for each variant, of which one is linked; they call nothing but libm and use no heap.
 *
 * @throws ArgumentError for names that clash, variants that differ between programs, and requests that
 *   do not fit their plans.
 */
export async function exportC(
  models: readonly CModel[],
  options: ExportCOptions = {},
): Promise<ExportedFiles> {
  const [first] = models;
  const fail = (message: string): never => {
    throw new ArgumentError(message, { op: 'export to C' });
  };
  if (first === undefined) return fail('no programs');
  const variants = [...first.plans.keys()];
  if (variants.length === 0) fail('no variants');
  const files = new Map<string, string | Uint8Array>();
  const arenaBytes = new Map<string, number>();
  const made: MadeModel[] = [];
  for (const model of models) {
    const id = identifier(model.request.name);
    if (made.some((other) => other.id === id)) fail(`two programs are named ${id} in C`);
    if ([...model.plans.keys()].join() !== variants.join()) {
      fail(`${id} has other variants than ${made[0]?.id}`);
    }
    made.push(await exportModel(model, id, options, files, arenaBytes));
  }
  files.set(
    'Makefile',
    renderMakefile(identifier(options.library ?? first.request.name), made, variants),
  );
  return { files, arenaBytes };
}

async function exportModel(
  { request, plans }: CModel,
  id: string,
  options: ExportCOptions,
  files: Map<string, string | Uint8Array>,
  arenaBytes: Map<string, number>,
): Promise<MadeModel> {
  const embedded = options.weights === 'array';
  const resolved = new Map<CVariant, ResolvedExport>();
  for (const [variant, plan] of plans) resolved.set(variant, await resolveExport(request, plan));
  for (const [variant, each] of resolved) {
    const { text, arenaBytes: bytes } = renderSource(request, each, variant, embedded);
    files.set(`${id}_${variant}.c`, text);
    arenaBytes.set(`${id}_${variant}`, bytes);
  }
  const all = [...resolved.values()];
  const numerics = all.some(({ target }) => target.numerics === 'fast') ? 'fast' : 'strict';
  files.set(`${id}.h`, renderHeader(request, all, embedded));
  const tolerance = options.tolerance ?? usualTolerance(numerics);
  files.set(`${id}_main.c`, renderDriver(request, all, { embedded, tolerance }));
  return { id, embedded, weights: writeWeights(id, resolved, embedded, files) };
}

/** One file of weights for all variants if they have the same, else one for each. */
function writeWeights(
  id: string,
  resolved: ReadonlyMap<CVariant, ResolvedExport>,
  embedded: boolean,
  files: Map<string, string | Uint8Array>,
): Map<CVariant, string | null> {
  const blocks = [...resolved].map(
    ([variant, each]) => [variant, each, weightsBlock(each)] as const,
  );
  const one = blocks.every(([, , block]) => sameBytes(block, blocks[0]?.[2] ?? block));
  return new Map(
    blocks.map(([variant, { stateful }, block]) => {
      if (block.length === 0) return [variant, null];
      if (embedded) {
        files.set(`${id}_${variant}_weights.c`, weightsArray(id, block, stateful));
        return [variant, `${id}_${variant}_weights.c`];
      }
      const name = one ? `${id}.weights` : `${id}_${variant}.weights`;
      files.set(name, block);
      return [variant, name];
    }),
  );
}

function weightsArray(id: string, block: Uint8Array, stateful: boolean): string {
  const constant = stateful ? '' : 'const ';
  const words = new Uint8Array(Math.ceil(block.length / 8) * 8);
  words.set(block);
  return `/* The weights of ${id}. Made by Tengen. */
#include <stdint.h>

extern ${constant}uint64_t ${id}_weights_block[];
${constant}uint64_t ${id}_weights_block[] = ${wordList(words, 8)};
`;
}
