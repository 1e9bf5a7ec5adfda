// The header of an exported program: what goes in, what comes out, and the three functions.
import {
  bytesOfTensor,
  type ExportedTensor,
  type ExportRequest,
  type ResolvedExport,
} from '../../runtime/export.ts';
import { capitals, commented, describeTensor, identifier } from './names.ts';

/** @param stateful whether runs change weights, for any of the variants. */
export function renderHeader(
  request: ExportRequest,
  resolved: readonly ResolvedExport[],
  embedded: boolean,
): string {
  const id = identifier(request.name);
  const upper = id.toUpperCase();
  const stateful = resolved.some((each) => each.stateful);
  const hasWeights = resolved.some((each) => each.weights.length > 0);
  const constant = stateful ? '' : 'const ';
  const rank = Math.max(
    1,
    ...[...request.inputs, ...request.outputs, ...request.weights].map(({ shape }) => shape.length),
  );
  return `/* ${commented(request.name)}, exported by Tengen as plain C. No heap, and nothing but libm.

${listing('inputs', request.inputs, (i) => rangeText(request, i))}
${listing('outputs', request.outputs, () => '')}
   Tensors are dense, the last axis fastest, aligned to their elements; outputs overlap nothing.
   A run uses static memory: one at a time. */
#ifndef TENGEN_${upper}_H
#define TENGEN_${upper}_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

${defines(upper, 'INPUT', request.inputs)}${defines(upper, 'OUTPUT', request.outputs)}
/* What the functions return. */
#define ${upper}_OK 0
#define ${upper}_NO_WEIGHTS 1    /* ${id}_init has not been called, or it failed */
#define ${upper}_WRONG_WEIGHTS 2 /* the weights are not those of this program and variant */
#define ${upper}_OUT_OF_RANGE 3  /* an index is out of range; outputs are not valid */

${initComment(id, hasWeights, stateful, embedded)}
int ${id}_init(${constant}void* weights, size_t bytes);

/* Runs the program once. inputs[i] and outputs[i] point to the tensors listed above. */
int ${id}_run(const void* const* inputs, void* const* outputs);

typedef struct {
  const char* name;
  const char* dtype; /* "float32", "int32", .. */
  int rank;
  long shape[${rank}];
  size_t bytes;
  size_t offset; /* of weights: where they stand in the block given to ${id}_init */
} ${id}_tensor;

typedef struct {
  const char* variant;  /* "scalar", "sse", "avx" or "neon" */
  const char* numerics; /* "strict": the same bits on every machine; or "fast" */
  int input_count;
  const ${id}_tensor* inputs;
  int output_count;
  const ${id}_tensor* outputs;
  int weight_count; /* without weights that are stored in another order than the model's */
  const ${id}_tensor* weights;
  size_t weights_bytes;
  size_t arena_bytes; /* of static memory, without weights that are compiled in */
} ${id}_model;

/* What there is to know of the program. */
const ${id}_model* ${id}_info(void);

#ifdef __cplusplus
}
#endif
#endif
`;
}

function initComment(
  id: string,
  hasWeights: boolean,
  stateful: boolean,
  embedded: boolean,
): string {
  if (!hasWeights) return '/* There are no weights: nothing needs to be called. */';
  const lines = [
    embedded
      ? `/* Takes the weights that are compiled in (weights NULL, bytes 0), or others of the same layout.`
      : `/* Takes the weights: the contents of the file beside this one, aligned to 8 bytes.`,
    `   They are used in place: they must stay where they are as long as ${id}_run is called.`,
  ];
  if (stateful)
    lines.push('   Runs change them where they stand; write them to a file to keep them.');
  return `${lines.join('\n')} */`;
}

function rangeText({ inputs }: ExportRequest, index: number): string {
  const { least, above, below, except } = inputs[index]?.limits ?? {};
  const parts = [
    ...(least === undefined ? [] : [`at least ${least}`]),
    ...(above === undefined ? [] : [`more than ${above}`]),
    ...(below === undefined ? [] : [`less than ${below}`]),
  ];
  const or = except === undefined ? '' : `, or ${except}`;
  return parts.length === 0 ? '' : `, each ${parts.join(' and ')}${or}`;
}

function listing(
  title: string,
  tensors: readonly ExportedTensor[],
  more: (index: number) => string,
): string {
  if (tensors.length === 0) return `   ${title}: none`;
  const rows = tensors.map((tensor, i) => {
    const bytes = bytesOfTensor(tensor);
    return `     ${title}[${i}]  ${commented(tensor.name)}: ${describeTensor(tensor)}, ${bytes} bytes${more(i)}`;
  });
  return [`   ${title}:`, ...rows].join('\n');
}

function defines(upper: string, kind: string, tensors: readonly ExportedTensor[]): string {
  const names = capitals(tensors.map(({ name }) => name));
  const rows = names.map((name, i) => `#define ${upper}_${kind}_${name} ${i}`);
  return [...rows, `#define ${upper}_${kind}S ${tensors.length}`, ''].join('\n');
}
