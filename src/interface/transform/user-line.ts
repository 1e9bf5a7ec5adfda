// Where in the user's program something was called, for messages.

/** The place of a line of a stack, as V8 (`at f (place)`) and others (`f@place`) write it. */
const PLACE = /(?:^\s*at (?:.*\()?(?:async )?|@)(.+:\d+:\d+)\)?$/;
/** Where the sources of this package lie, or what was built of them, as they name this file. */
const OWN = /^(.*\/)(?:src\/interface\/transform\/user-line|dist\/chunks\/[^/]+$)/;

/** What the places of this package begin with, told by a place in this file. */
function rootOf(own: string): string {
  const folder = OWN.exec(own)?.[1];
  if (folder !== undefined) return own.slice(0, own.indexOf('/', folder.length) + 1);
  // A bundle: its other files may be of this package, too.
  return own.slice(0, own.lastIndexOf('/') + 1);
}

const plain = (place: string): string => place.replace(/^file:\/\//, '');

/** The innermost place of a stack that was taken in this file, `here`, and lies outside of the package, or ''. */
export function placeOutside(stack: string, here: string = import.meta.url): string {
  const places = stack.split('\n').flatMap((line) => PLACE.exec(line)?.[1] ?? []);
  const [own = '', ...callers] = places.map(plain);
  // With source maps some places are sources, others what is run.
  const run = plain(here);
  const isMapped = OWN.test(own) && !own.startsWith(run);
  const roots = [rootOf(own), isMapped && !OWN.test(run) ? run : rootOf(run)];
  const isOurs = (place: string): boolean =>
    place.startsWith('node:') || roots.some((root) => place.startsWith(root));
  return callers.find((place) => !isOurs(place)) ?? '';
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
