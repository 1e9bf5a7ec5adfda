// Where in the user's program something was called, for messages.

/** The place of a line of a stack, as V8 (`at f (place)`) and others (`f@place`) write it. */
const PLACE = /(?:^\s*at (?:.*\()?(?:async )?|@)(.+:\d+:\d+)\)?$/;
/** Where the sources of this package lie, or what was built of them, as they name this file. */
const OWN = /^(.*\/)(?:src\/interface\/transform\/user-line|dist\/chunks\/[^/]+$)/;

/** What the places of this package begin with, told by the place of this file. */
function rootOf(own: string): string {
  const folder = OWN.exec(own)?.[1];
  if (folder !== undefined) return own.slice(0, own.indexOf('/', folder.length) + 1);
  // A bundle: its other files may be of this package, too.
  return own.slice(0, own.lastIndexOf('/') + 1);
}

/** The innermost place of a stack that was taken in this package and lies outside of it, or ''. */
export function placeOutside(stack: string): string {
  const places = stack.split('\n').flatMap((line) => PLACE.exec(line)?.[1] ?? []);
  const plain = places.map((place) => place.replace(/^file:\/\//, ''));
  // The first is this package's own: with source maps it is a source, else what is run.
  const root = rootOf(plain[0] ?? '');
  return plain.find((place) => !place.startsWith(root) && !place.startsWith('node:')) ?? '';
}

/** `file.ts:12:5` of the innermost caller outside of this package, or '' if there is none. */
export function userLine(): string {
  // Ten lines, the usual depth, may all be this package's.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 60;
  const { stack = '' } = new Error('where');
  Error.stackTraceLimit = stackTraceLimit;
  return placeOutside(stack);
}
