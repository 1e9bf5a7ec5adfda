// What is thrown for a file that is right but asks for more than the importer can do, and for a function
// that ONNX cannot express.
import { TengenError } from '../../base/errors.ts';

/** At most this many problems are listed; the rest is counted. */
const LISTED = 20;

/**
 * Operators, attributes or types that the importer does not know, or operations that ONNX does not know:
 * all of a model at once, by node.
 * `problems` has one text for each.
 */
export class UnsupportedError extends TengenError {
  override name = 'UnsupportedError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options: { op?: string; hint?: string } = {}) {
    const listed = problems.slice(0, LISTED);
    const rest = problems.length - listed.length;
    const more = rest > 0 ? `; and ${rest} more` : '';
    super(`not supported: ${listed.join('; ')}${more}`, options);
    this.problems = problems;
  }
}
