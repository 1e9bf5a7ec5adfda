// Where in the user's program something was called, for messages.

/** Directory of this package's sources, or of its bundle. */
function packageRoot(): string {
  const here = import.meta.url;
  const inSource = here.indexOf('/src/interface/');
  return inSource >= 0 ? here.slice(0, inSource + 5) : here.slice(0, here.lastIndexOf('/') + 1);
}

const root = packageRoot();
const rootPath = root.replace(/^file:\/\//, '');

/** `file.ts:12:5` of the innermost caller outside of this package, or '' if there is none. */
export function userLine(): string {
  // Ten lines, the usual depth, may all be this package's.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 60;
  const { stack = '' } = new Error('where');
  Error.stackTraceLimit = stackTraceLimit;
  for (const line of stack.split('\n').slice(1)) {
    if (line.includes(root) || line.includes(rootPath) || line.includes('node:internal')) continue;
    const match = /\(?((?:file:\/\/)?[^\s()]+:\d+:\d+)\)?$/.exec(line.trim());
    const place = match?.[1];
    if (place !== undefined) return place.replace(/^file:\/\//, '');
  }
  return '';
}
