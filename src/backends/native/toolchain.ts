// The C compiler of this machine: where it is, what it is, and which flags it takes for this processor.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, isAbsolute, join, sep } from 'node:path';
import { ArgumentError, DeviceError } from '../../base/errors.ts';
import { type Cpu, detectCpu, vectorsOf } from './cpu.ts';
import { C_FLAGS } from './renderer.ts';

export interface Toolchain extends Cpu {
  /** Path of the compiler. */
  readonly compiler: string;
  /** Arguments that come before all others, of a `CC` such as `ccache gcc`. */
  readonly leading: readonly string[];
  readonly kind: 'gcc' | 'clang';
  /** Its version in its own words. */
  readonly version: string;
  /** What it compiles for: `x86_64-linux-gnu`. */
  readonly target: string;
  /** Everything for one call but files: what the C means, and this processor's instruction sets. */
  readonly flags: readonly string[];
  /** Differs between compilers, versions of them, flags and processors: a part of cache keys. */
  readonly identity: string;
}

/** No compiler needs longer to say who it is; ccache on a network disk may need some. */
const IDENTIFY_TIMEOUT_MS = 10_000;

/** What every library needs: position-independent code, and functions with POSIX's extensions. */
const SHARED_FLAGS = [
  '-fPIC',
  '-shared',
  '-pthread',
  '-D_GNU_SOURCE',
  '-w',
  '-pipe',
  // Threads of the pool still run code of a library when the end of the process closes it.
  ...(process.platform === 'linux' ? ['-Wl,-z,nodelete'] : []),
];

/** How targets begin, by Node's name of the architecture. */
const MACHINES: Readonly<Partial<Record<string, RegExp>>> = {
  x64: /^(x86_64|amd64)-/,
  arm64: /^(aarch64|arm64)-/,
};

let found: Toolchain | string | undefined;

/** The toolchain of this process, or in one line why there is none. Looked for once. */
export function findToolchain(): Toolchain | string {
  found ??= detectToolchain(process.env);
  return found;
}

/** @throws DeviceError with the reason if no compiler can be used. */
export function requireToolchain(): Toolchain {
  const toolchain = findToolchain();
  if (typeof toolchain !== 'string') return toolchain;
  throw new DeviceError(toolchain, {
    op: 'native',
    hint: "install gcc or clang, name one in TENGEN_CC, or use the device 'wasm'",
  });
}

/**
 * Looks for a compiler: TENGEN_CC if it is set, else CC, else cc, gcc and clang on PATH. The first
 * that works is taken; TENGEN_CC is a decision, and nothing else is tried if it fails.
 */
export function detectToolchain(env: NodeJS.ProcessEnv, cpu?: Cpu): Toolchain | string {
  if (process.platform !== 'linux' && process.platform !== 'darwin') {
    return `native kernels are made on Linux and macOS, not on ${process.platform}`;
  }
  const chosen = env['TENGEN_CC']?.trim();
  const given = env['CC']?.trim();
  const candidates = chosen
    ? [chosen]
    : [...(given ? [given] : []), 'cc', 'gcc', 'clang'].filter(
        (name, i, all) => all.indexOf(name) === i,
      );
  let machine: Cpu;
  try {
    machine = cpu ?? detectCpu(env);
  } catch (error) {
    return error instanceof ArgumentError ? error.message : String(error);
  }
  const reasons: string[] = [];
  for (const candidate of candidates) {
    const tried = tryCompiler(candidate, env, machine);
    if (typeof tried !== 'string') return tried;
    reasons.push(`${candidate}: ${tried}`);
  }
  const from = chosen ? ' (from TENGEN_CC)' : '';
  return `no C compiler works here${from}: ${reasons.join('; ')}`;
}

function tryCompiler(command: string, env: NodeJS.ProcessEnv, cpu: Cpu): Toolchain | string {
  const [compiler, leading] = locate(command, env);
  if (compiler === undefined) return 'not found';
  // `-v` alone compiles nothing: gcc and clang both name version and target, on stderr.
  const asked = run(compiler, [...leading, '-v'], env, '');
  if (asked.failure !== undefined) return asked.failure;
  const named = identify(asked.text);
  if (named === undefined) return 'neither gcc nor clang by its answer to -v';
  const machine = MACHINES[process.arch];
  if (machine !== undefined && !machine.test(named.target)) {
    return `compiles for ${named.target}, not for ${process.arch}`;
  }
  const features = acceptedFeatures(compiler, leading, cpu, env);
  if (typeof features === 'string') return features;
  const flags = flagsFor(features);
  const identity = createHash('sha256')
    .update(JSON.stringify([asked.text, stamp(compiler), leading, flags]))
    .digest('hex');
  const vectors = vectorsOf(process.arch, features, env);
  return { ...cpu, ...vectors, compiler, leading, ...named, flags, identity };
}

function flagsFor(features: readonly string[]): readonly string[] {
  return [...C_FLAGS, ...SHARED_FLAGS, ...features.map((name) => `-m${name}`)];
}

/** A path or a name, possibly with arguments behind it, as a shell would find it; no shell runs. */
function locate(
  command: string,
  env: NodeJS.ProcessEnv,
): [compiler: string | undefined, leading: readonly string[]] {
  // A path may contain blanks: whole first, split second.
  const whole = which(command, env);
  if (whole !== undefined) return [whole, []];
  const [first, ...rest] = command.split(/\s+/);
  return [which(first ?? '', env), rest];
}

function which(name: string, env: NodeJS.ProcessEnv): string | undefined {
  if (name === '') return undefined;
  // A relative entry of PATH would run what happens to lie in the current folder.
  const folders = (env['PATH'] ?? '').split(delimiter).filter((folder) => isAbsolute(folder));
  const paths = name.includes(sep) ? [name] : folders.map((folder) => join(folder, name));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
}

/** Changes when a package update replaces the compiler, even one of the same version. */
function stamp(compiler: string): readonly (string | number)[] {
  const path = realpathSync(compiler);
  const { size, mtimeMs } = statSync(path);
  return [path, size, mtimeMs];
}

function identify(text: string): Pick<Toolchain, 'kind' | 'version' | 'target'> | undefined {
  const version = /^.*\b(gcc|clang) version (.*)$/m.exec(text);
  const target = /^Target: (\S+)$/m.exec(text)?.[1];
  if (version === null || target === undefined) return undefined;
  return {
    kind: version[1] === 'gcc' ? 'gcc' : 'clang',
    version: (version[2] ?? '').trim(),
    target,
  };
}

/**
 * The processor's features that the compiler knows too. One run over an empty file tells; what it
 * refuses by name is dropped and the rest asked again, so an old compiler costs a few runs more.
 */
function acceptedFeatures(
  compiler: string,
  leading: readonly string[],
  cpu: Cpu,
  env: NodeJS.ProcessEnv,
): readonly string[] | string {
  let features = cpu.features;
  for (;;) {
    const probe = [...leading, ...flagsFor(features), '-fsyntax-only', '-x', 'c', '-'];
    const { failure, text } = run(compiler, probe, env, '');
    if (failure === undefined) return features;
    const refused = features.filter((name) => mentions(text, `-m${name}`));
    if (refused.length === 0) return failure;
    features = features.filter((name) => !refused.includes(name));
  }
}

/** Whether a message refuses exactly this flag, which may be a part or a suggested form of another. */
function mentions(text: string, flag: string): boolean {
  const complaint = text.replaceAll(/did you mean .*$/gm, '');
  return new RegExp(`${flag.replaceAll('.', '\\.')}(?![\\w.-])`).test(complaint);
}

interface Answer {
  /** In one line why it failed; undefined if it did not. */
  readonly failure: string | undefined;
  readonly text: string;
}

function run(
  compiler: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  input: string,
): Answer {
  const { status, signal, error, stdout, stderr } = spawnSync(compiler, args, {
    input,
    encoding: 'utf8',
    timeout: IDENTIFY_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    // Flags are looked for in the messages, which are translated in other locales.
    env: { ...env, LC_ALL: 'C' },
    cwd: tmpdir(),
  });
  const text = `${stdout ?? ''}${stderr ?? ''}`;
  if (error !== undefined) {
    const late = 'code' in error && error.code === 'ETIMEDOUT';
    const limit = `no answer within ${IDENTIFY_TIMEOUT_MS / 1000} s`;
    return { failure: late ? limit : error.message, text };
  }
  if (status === 0) return { failure: undefined, text };
  const first = text.split('\n').find((line) => line.trim() !== '') ?? '';
  const code = status === null ? `ended by ${signal}` : `exit status ${status}`;
  return { failure: `${code}${first === '' ? '' : `: ${first.trim()}`}`, text };
}
