// Where this user's cache is: for compiled kernels and for measured algorithms alike.
import type * as Os from 'node:os';
import type * as Path from 'node:path';

/**
 * TENGEN_CACHE, else XDG_CACHE_HOME/tengen, else ~/.cache/tengen. Only for Node, whose modules are asked
 * for when they are needed.
 */
export function defaultCachePath(env: NodeJS.ProcessEnv): string {
  const path = process.getBuiltinModule('node:path') as typeof Path;
  const os = process.getBuiltinModule('node:os') as typeof Os;
  const own = env['TENGEN_CACHE'];
  if (own) return path.resolve(own);
  const shared = env['XDG_CACHE_HOME'];
  // The XDG specification says to ignore relative paths.
  if (shared && path.isAbsolute(shared)) return path.join(shared, 'tengen');
  try {
    return path.join(os.homedir(), '.cache', 'tengen');
  } catch {
    // A user without a home: the name is guessable, but a directory that is not ours is refused.
    return path.join(os.tmpdir(), `tengen-${process.getuid?.() ?? 'cache'}`);
  }
}
