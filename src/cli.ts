#!/usr/bin/env node
// The command `tengen`: finds the subcommand, loads what it needs and nothing else, and says how it ended.
import { CallError, toJson } from './interface/command/call.ts';
import type { CacheAccess, Command, Exporters, Terminal } from './interface/command/call.ts';

const HELP = `tengen COMMAND [options]

  inspect FILE    what a model is: operations, shapes, parameters, work, memory; a page with its graph
  run FILE        computes its results, and how long that takes; --fit looks for the fastest options
  verify FILE     the same inputs on every device: names the first operation that differs
  bench FILE      times it on every device
  compile FILE    writes it as C99, or as a WebAssembly module, that needs nothing else
  env             devices of this machine, which one is used, and why others are not
  cache           compiled kernels and programs, measured algorithms: list, clear

  FILE is a program file (.tengen) or an ONNX file.
  --json          the result as JSON
  --help, -h      this text; 'tengen COMMAND --help' that of a command
  --version, -v   the version of tengen; with --json that of Node and the machine too

Exit codes: 0; 1 if it failed, or if something differs; 2 for a call that cannot be understood.`;

const commands: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ['inspect', async () => (await import('./interface/command/inspect.ts')).inspect],
  ['run', async () => (await import('./interface/command/run.ts')).run],
  ['verify', async () => (await import('./interface/command/verify.ts')).verify],
  ['bench', async () => (await import('./interface/command/bench.ts')).bench],
  ['compile', async () => (await import('./interface/command/compile.ts')).compile],
  ['env', async () => (await import('./interface/command/env.ts')).env],
  ['cache', async () => (await import('./interface/command/cache.ts')).cache],
]);

async function registerDevices(interpreter = false): Promise<void> {
  const [{ registerBackend }, { wasmBackend }, { nativeBackend }] = await Promise.all([
    import('./runtime/registry.ts'),
    import('./backends/wasm/index.ts'),
    import('./backends/native/index.ts'),
  ]);
  registerBackend(wasmBackend);
  registerBackend(nativeBackend);
  if (!interpreter) return;
  const { interpBackend } = await import('./backends/interp/index.ts');
  registerBackend(interpBackend);
}

async function openCache(): Promise<CacheAccess> {
  const { cacheReport, clearCache } = await import('./backends/native/index.ts');
  return { report: cacheReport, clear: clearCache };
}

async function openExporters(): Promise<Exporters> {
  const { C_VARIANTS, exportToC, exportToWasm } = await import('./export.ts');
  return {
    c: async (source, { variants = C_VARIANTS, ...options }) => {
      const known = variants.map((name) => {
        const variant = C_VARIANTS.find((each) => each === name);
        if (variant !== undefined) return variant;
        throw new CallError(`--variants are of ${C_VARIANTS.join(', ')}, got '${name}'`);
      });
      return (await exportToC(source, { ...options, variants: known })).files;
    },
    wasm: exportToWasm,
  };
}

/** What commands other than those for files need of the framework. */
async function install(): Promise<void> {
  const [{ installEvaluator }, { algorithmFile }, { installAlgorithmFile }] = await Promise.all([
    import('./interface/transform/install.ts'),
    import('./interface/tuning/algorithm-file.ts'),
    import('./interface/tuning/algorithm-store.ts'),
  ]);
  installEvaluator();
  installAlgorithmFile(algorithmFile());
}

const terminal: Terminal = {
  print: (text) => console.log(text),
  note: (text) => {
    // Only where somebody watches.
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}\r`);
  },
  devices: registerDevices,
  cache: openCache,
  exporters: openExporters,
};

/** The package's version, or with --json what a report of a fault needs. */
async function printVersion(words: readonly string[]): Promise<number> {
  const wrong = words.find((word) => word !== '--json');
  if (wrong !== undefined) {
    console.error(`tengen --version: '${wrong}' is one word too many. hint: tengen --help`);
    return 2;
  }
  const { readFile } = await import('node:fs/promises');
  // Of the sources and of what is built of them: both lie in a folder beside it.
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  const { name, version } = JSON.parse(text) as { name: string; version: string };
  const { platform, arch, version: node } = process;
  console.log(
    words.length > 0 ? toJson({ [name]: version, node, platform, arch }) : `${name} ${version}`,
  );
  return 0;
}

function clearNote(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
}

/** Prints what went wrong in one line, and gives the exit code. */
function fail(name: string, error: unknown): number {
  clearNote();
  const text = error instanceof Error ? error.message : String(error);
  const message = text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
  // An ArgumentError with a system's code is a disk or a network that failed, not the call.
  const isCall =
    error instanceof Error &&
    (error.name === 'CallError' || (error.name === 'ArgumentError' && !('code' in error)));
  const advice = isCall && !message.includes('hint: ') ? `. hint: tengen ${name} --help` : '';
  console.error(`tengen ${name}: ${message.replaceAll(/\s*\n\s*/g, ' ')}${advice}`);
  return isCall ? 2 : 1;
}

async function main(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    console.log(HELP);
    return 0;
  }
  if (name === '--version' || name === '-v') return printVersion(rest);
  const open = commands.get(name);
  if (open === undefined) {
    console.error(`tengen: '${words.join(' ')}' is not a command. hint: tengen --help`);
    return 2;
  }
  try {
    const command = await open();
    if (rest.includes('--help') || rest.includes('-h')) {
      console.log(command.help);
      return 0;
    }
    await Promise.all([install(), registerDevices()]);
    const code = await command.run(rest, terminal);
    clearNote();
    return code;
  } catch (error) {
    return fail(name, error);
  }
}

// Results that did not arrive are a failure; a reader that has enough (`| head`) is none.
process.stdout.on('error', (error: Error & { code?: unknown }) => {
  if (error.code === 'EPIPE') return;
  console.error(`tengen: the results could not be written (${error.message})`);
  process.exitCode = 1;
});
const code = await main(process.argv.slice(2));
process.exitCode ??= code;
