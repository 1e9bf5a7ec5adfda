// Exported C as a place to run models: `tengen compile`, a compiler, and a program that reads and writes.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CVariant, VARIANT_FACTS } from '../../src/backends/c/targets.ts';
import { root } from '../entries.ts';
import { execute, type Numerics, type Place, SkipError, type Subject, tsx } from './places.ts';

/** Exports that take longer are left out. In ms. */
const EXPORT_LIMIT = 60_000;

// As in the Makefile that is exported, with warnings as errors.
const COMMON = [
  '-std=c99',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
];

const MAIN = `#include <stdio.h>
#include <stdlib.h>
#include "parity.h"

static void* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  void* data;
  long length;
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(2);
  length = ftell(file);
  rewind(file);
  data = malloc(length > 0 ? (size_t)length : 1);
  if (data == NULL || fread(data, 1, (size_t)length, file) != (size_t)length) exit(2);
  fclose(file);
  *bytes = (size_t)length;
  return data;
}

int main(int count, char** words) {
  const parity_model* model = parity_info();
  const void* inputs[1];
  void* outputs[8];
  void *x, *weights;
  size_t bytes;
  int i, n = 0;
  FILE* file;
  if (count != 4) return 2;
  x = read_file(words[1], &bytes);
  if (bytes != model->inputs[0].bytes) return 3;
  inputs[0] = x;
  weights = read_file(words[2], &bytes);
  if (parity_init(weights, bytes) != 0) return 4;
  for (n = 0; n < (int)model->output_count && n < 8; n++) {
    outputs[n] = malloc(model->outputs[n].bytes);
    if (outputs[n] == NULL) return 2;
  }
  if (parity_run(inputs, outputs) != 0) return 5;
  file = fopen(words[3], "wb");
  if (file == NULL) return 2;
  for (i = 0; i < n; i++) {
    if (fwrite(outputs[i], 1, model->outputs[i].bytes, file) != model->outputs[i].bytes) return 2;
    free(outputs[i]);
  }
  free(x);
  free(weights);
  return fclose(file) != 0;
}
`;

function installed(program: string): boolean {
  const { error, status } = spawnSync(program, ['--version'], { stdio: 'ignore' });
  return error === undefined && status === 0;
}

/** The widest vectors of this processor. */
function widest(): CVariant {
  if (process.arch === 'arm64') return 'neon';
  if (process.arch !== 'x64' || !existsSync('/proc/cpuinfo')) return 'scalar';
  const flags = readFileSync('/proc/cpuinfo', 'utf8');
  if (/\bavx2\b/.test(flags) && /\bfma\b/.test(flags)) return 'avx';
  return /\bsse4_2\b/.test(flags) ? 'sse' : 'scalar';
}

/** One export for each model and numerics, in all variants; its folder, or why there is none. */
const exported = new Map<string, Promise<string>>();

function exportOf({ id, path, folder }: Subject, numerics: Numerics): Promise<string> {
  const key = `${id} ${numerics}`;
  let made = exported.get(key);
  if (made === undefined) {
    made = writeC(path, join(folder, `c-${numerics}`), numerics);
    exported.set(key, made);
  }
  return made;
}

async function writeC(path: string, out: string, numerics: Numerics): Promise<string> {
  const variants = [...new Set<CVariant>(['scalar', widest(), 'neon'])].join(',');
  const words = ['compile', path, '--target', 'c', '--out', out, '--name', 'parity'];
  const all = [...tsx('src/cli.ts'), ...words, '--numerics', numerics, '--variants', variants];
  try {
    await execute(process.execPath, all, { cwd: root, timeout: EXPORT_LIMIT });
  } catch (error) {
    const isLate = error instanceof Error && error.message.endsWith('took too long');
    if (isLate) throw new SkipError(`its export takes more than ${EXPORT_LIMIT / 1000} s`);
    throw error;
  }
  writeFileSync(join(out, 'read_and_write.c'), MAIN);
  return out;
}

interface Compiler {
  readonly name: string;
  readonly program: string;
  readonly variant: CVariant;
  readonly flags?: readonly string[];
  /** What runs the result. */
  readonly emulator?: string;
}

function placeOf({ name, program, variant, flags = ['-O2'], emulator }: Compiler): Place {
  const needed = emulator === undefined ? [program] : [program, emulator];
  const absent = needed.find((each) => !installed(each));
  return {
    name: `C, ${name}, ${variant}`,
    missing: absent === undefined ? null : `${absent} is not installed`,
    async outputs(subject, numerics) {
      const cwd = await exportOf(subject, numerics);
      const base = join(subject.folder, `${name.replaceAll(/\W+/g, '-')}-${variant}-${numerics}`);
      const machine = VARIANT_FACTS[variant].flags.split(' ').filter(Boolean);
      const sources = [`parity_${variant}.c`, 'read_and_write.c'];
      const words = [...COMMON, ...flags, ...machine, ...sources, '-o', base, '-lm'];
      await execute(program, words, { cwd });
      const own = `parity_${variant}.weights`;
      const weights = existsSync(join(cwd, own)) ? own : 'parity.weights';
      writeFileSync(`${base}.in`, subject.x);
      const files = [`${base}.in`, weights, `${base}.out`];
      const run = emulator === undefined ? [base, ...files] : [emulator, base, ...files];
      await execute(run[0] as string, run.slice(1), { cwd });
      return new Uint8Array(readFileSync(`${base}.out`));
    },
  };
}

/** gcc, clang, sanitizers, and 64-bit ARM in an emulator. */
export function cPlaces(): Place[] {
  const variants = [...new Set<CVariant>(['scalar', widest()])];
  const checked = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  const program = 'gcc';
  const arm = {
    name: 'aarch64',
    program: 'aarch64-linux-gnu-gcc',
    flags: ['-O2', '-static'],
    emulator: 'qemu-aarch64',
  };
  return [
    ...variants.map((variant) => placeOf({ name: 'gcc', program, variant })),
    // Of unrolled vector kernels sanitizers make so much code that gcc needs minutes.
    placeOf({ name: 'gcc with sanitizers', program, variant: 'scalar', flags: checked }),
    ...variants.map((variant) => placeOf({ name: 'clang', program: 'clang', variant })),
    ...(['scalar', 'neon'] as const).map((variant) => placeOf({ ...arm, variant })),
  ];
}
