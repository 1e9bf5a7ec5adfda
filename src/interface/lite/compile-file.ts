// The compiler for files whose ops nothing else in the application may call: it keeps every op.
import { internalError } from '../../base/errors.ts';
import * as primitives from '../../graph/ops/index.ts';
import { compileModel } from './compile.ts';

/** As `compileModel`, for programs that come from elsewhere. */
export const compileFile: typeof compileModel = (...args) => {
  // Bundlers drop ops that no code calls, and so does the build of this package. As one object they stay.
  if (Object.keys(primitives).length === 0) throw internalError('there are no ops');
  return compileModel(...args);
};
