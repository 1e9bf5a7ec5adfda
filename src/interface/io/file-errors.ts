// Errors about a file say which file: the reader of bytes does not know its name, its caller does.
import { FormatError } from '../../base/errors.ts';

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
