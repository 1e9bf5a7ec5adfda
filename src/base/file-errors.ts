// Errors about a file say which file: the reader of bytes does not know its name, its caller does.
import { ArgumentError, FormatError } from './errors.ts';

/** The same FormatError with the file's name in front; anything else as it is. */
export function withFileName(error: unknown, name: string): unknown {
  if (!(error instanceof FormatError) || error.message.startsWith(`${name}: `)) return error;
  const { offset, hint } = error;
  // Place and hint are put at the end again when the new message is made.
  const place = offset === undefined ? '' : ` (at byte ${offset})`;
  const tail = place + (hint === undefined ? '' : `. hint: ${hint}`);
  const reason = error.message.endsWith(tail)
    ? error.message.slice(0, error.message.length - tail.length)
    : error.message;
  return new FormatError(`${name}: ${reason}`, {
    ...(offset === undefined ? {} : { offset }),
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

/**
 * A system's or network's error as one that says what could not be done to which file; anything else
 * as it is. It keeps the system's `code`, by which programs tell a missing file.
 */
export function asFileError(error: unknown, op: string, what: string, hint?: string): unknown {
  if (!(error instanceof Error)) return error;
  // fetch() reports every network failure as a TypeError, with the reason below it.
  const fetched = error instanceof TypeError && error.cause instanceof Error;
  const reason: Error & { code?: unknown } = fetched ? (error.cause as Error) : error;
  if (reason.code === undefined && !fetched) return error;
  // Node's text ends in the call and the path, which for an atomic write is a temporary one.
  const text = reason.message.replace(/, \w+( '.*)?$/s, '') || String(reason.code);
  const options = { op, cause: error, ...(hint === undefined ? {} : { hint }) };
  return Object.assign(new ArgumentError(`cannot ${what} (${text})`, options), {
    code: reason.code,
  });
}
