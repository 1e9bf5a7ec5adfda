// The test driver of an exported program: runs the test cases that came with it, and says how far the
// results are from what was expected.
import { byteSize, type DType } from '../../base/dtype.ts';
import { bytesOfTensor, type ExportRequest, type ResolvedExport } from '../../runtime/export.ts';
import { identifier, quoted, wordList, wordOf } from './names.ts';

export function renderDriver(
  request: ExportRequest,
  resolved: readonly ResolvedExport[],
  options: { readonly embedded: boolean; readonly tolerance: number },
): string {
  const id = identifier(request.name);
  const upper = id.toUpperCase();
  const largest = Math.max(0, ...resolved.map(({ weightsBytes }) => weightsBytes));
  const { inputs, outputs, testCases = [] } = request;
  const array = (name: string, bytes: Uint8Array, dtype: DType = 'uint8'): string =>
    `static const ${wordOf(dtype)} ${name}[] = ${wordList(bytes, byteSize(dtype))};`;
  const cases = testCases.flatMap((each, n) => [
    ...each.inputs.map((bytes, i) => array(`case${n}_in${i}`, bytes, inputs[i]?.dtype)),
    ...each.outputs.map((bytes, i) => array(`case${n}_out${i}`, bytes, outputs[i]?.dtype)),
    pointers('const void* const', `case${n}_in`, inputs, (i) => `case${n}_in${i}`),
    pointers('const void* const', `case${n}_out`, outputs, (i) => `case${n}_out${i}`),
  ]);
  const results = outputs.map((tensor, i) => {
    const words = Math.max(1, Math.ceil(bytesOfTensor(tensor) / 8));
    return `static union { unsigned char bytes[${8 * words}]; double number; uint64_t word; } result${i};`;
  });
  return `/* Runs the test cases of ${id}: ${testCases.length} of them. Made by Tengen.
   ${id}_test ${options.embedded || largest === 0 ? '' : '[WEIGHTS] '}[--repeat N] [--tolerance T]
   Exits with 0 if all results are within the tolerance, 1 if not, 2 if nothing could be run. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "${id}.h"

${cases.join('\n')}
${pointers('const void* const* const', 'case_inputs', testCases, (n) => `case${n}_in`)}
${pointers('const void* const* const', 'case_outputs', testCases, (n) => `case${n}_out`)}
${results.join('\n')}
${pointers('void* const', 'results', results, (i) => `result${i}.bytes`)}
${options.embedded || largest === 0 ? '' : `static union { unsigned char bytes[${largest}]; double number; uint64_t word; } weights;\n`}
${HALVES}
${ELEMENT}
${COMPARE.replaceAll('MODEL', id)}
${main(id, upper, testCases.length, options, largest)}`;
}

/** An array of one pointer for each of `list`; of NULL where there is none, for C has no empty arrays. */
function pointers(
  type: string,
  name: string,
  list: readonly unknown[],
  target: (i: number) => string,
): string {
  return `static ${type} ${name}[] = { ${list.map((_, i) => target(i)).join(', ') || 'NULL'} };`;
}

const HALVES = `static double power(int exponent) {
  double result = 1;
  for (; exponent > 0; exponent--) result *= 2;
  for (; exponent < 0; exponent++) result /= 2;
  return result;
}

static double from_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
  if (exponent == 0) return sign * fraction * power(-24);
  return sign * (1024 + fraction) * power(exponent - 25);
}
`;

const ELEMENT = `static double element(const char* dtype, const void* data, size_t i) {
  const unsigned char* p = (const unsigned char*)data;
#define READ(name, type) \\
  if (strcmp(dtype, name) == 0) { type value; memcpy(&value, p + i * sizeof value, sizeof value); return (double)value; }
  READ("float32", float)
  READ("float64", double)
  READ("int8", int8_t)
  READ("uint8", uint8_t)
  READ("bool", uint8_t)
  READ("int16", int16_t)
  READ("int32", int32_t)
  READ("uint32", uint32_t)
#undef READ
  {
    uint16_t half;
    memcpy(&half, p + i * sizeof half, sizeof half);
    if (strcmp(dtype, "bfloat16") == 0) {
      const uint32_t bits = (uint32_t)half << 16;
      float value;
      memcpy(&value, &bits, sizeof value);
      return value;
    }
    return from_half(half);
  }
}

static size_t element_bytes(const char* dtype) {
  if (strcmp(dtype, "float64") == 0) return 8;
  if (strstr(dtype, "32") != NULL) return 4;
  return strstr(dtype, "16") != NULL ? 2 : 1;
}
`;

const COMPARE = `/* The largest difference, relative to the largest magnitude that was expected. */
static double compare(int number, const MODEL_tensor* tensor, const void* got, const void* wanted) {
  const size_t count = tensor->bytes / element_bytes(tensor->dtype);
  const int same = memcmp(got, wanted, tensor->bytes) == 0;
  double most = 0, scale = 0, relative;
  size_t i;
  for (i = 0; i < count; i++) {
    const double a = element(tensor->dtype, got, i), b = element(tensor->dtype, wanted, i);
    double apart = fabs(a - b);
    if (a == b || (a != a && b != b)) apart = 0;
    else if (apart != apart) apart = (double)INFINITY;
    if (apart > most) most = apart;
    if (fabs(b) > scale && fabs(b) < (double)INFINITY) scale = fabs(b);
  }
  relative = most == 0 ? 0 : scale == 0 ? (double)INFINITY : most / scale;
  printf("case %d, %s: max difference %g, relative %g, %s\\n", number, tensor->name, most, relative,
         same ? "the same bits" : "not the same bits");
  return relative;
}
`;

function main(
  id: string,
  upper: string,
  cases: number,
  { embedded, tolerance }: { readonly embedded: boolean; readonly tolerance: number },
  largest: number,
): string {
  const reads = !embedded && largest > 0;
  const load = reads
    ? `  {
    FILE* file = fopen(path, "rb");
    size_t bytes;
    if (file == NULL) { fprintf(stderr, "cannot open %s\\n", path); return 2; }
    bytes = fread(weights.bytes, 1, sizeof weights.bytes, file);
    fclose(file);
    status = ${id}_init(weights.bytes, bytes);
  }`
    : `  status = ${id}_init(NULL, 0);`;
  return `int main(int argc, char** argv) {
  const ${id}_model* model = ${id}_info();
  double tolerance = ${tolerance}, worst = 0;
  long repeat = 0, n;
  int i, k, status;
${reads ? `  const char* path = ${quoted(`${id}.weights`)};\n#ifdef WEIGHTS_FILE\n  path = WEIGHTS_FILE;\n#endif\n` : ''}  for (i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc) repeat = strtol(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "--tolerance") == 0 && i + 1 < argc) tolerance = strtod(argv[++i], NULL);
    else ${reads ? `if (argv[i][0] != '-') path = argv[i];\n    else ` : ''}{ fprintf(stderr, "unknown argument %s\\n", argv[i]); return 2; }
  }
${load}
  if (status != ${upper}_OK) { fprintf(stderr, "${id}_init: %d\\n", status); return 2; }
  printf("${id}: %s, %s, %lu bytes of weights, %lu of arena\\n", model->variant, model->numerics,
         (unsigned long)model->weights_bytes, (unsigned long)model->arena_bytes);
  for (k = 0; k < ${cases}; k++) {
    status = ${id}_run(case_inputs[k], results);
    if (status != ${upper}_OK) { fprintf(stderr, "${id}_run: %d\\n", status); return 2; }
    for (i = 0; i < model->output_count; i++) {
      const double relative = compare(k, &model->outputs[i], results[i], case_outputs[k][i]);
      if (relative > worst) worst = relative;
    }
  }
  if (repeat > 0 && ${cases} > 0) {
    const clock_t start = clock();
    for (n = 0; n < repeat; n++) ${id}_run(case_inputs[0], results);
    printf("%g ms a run\\n", 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC / (double)repeat);
  }
  printf("max relative difference: %g (tolerance %g): %s\\n", worst, tolerance,
         worst <= tolerance ? "passed" : "FAILED");
  return worst <= tolerance ? 0 : 1;
}
`;
}
