// What only tests read of an operation (its reference, its samples, its summary) stays out of the
// built package. Ops keep these beside everything else about them; this build step blanks them out.
import ts from 'typescript';
import { root } from './entries.ts';

/** Members of OpTests in src/graph/op.ts, and `apply`: the reference of one element. */
const TEST_PARTS = new Set(['reference', 'samples', 'summary', 'apply']);

const OPS = `${root}src/graph/ops/`;

/** From the start of each test part in an object literal to behind its comma. */
function findTestParts(file: ts.SourceFile): { start: number; end: number }[] {
  const parts: { start: number; end: number }[] = [];
  const visit = (node: ts.Node): void => {
    if (!ts.isObjectLiteralElement(node) || !TEST_PARTS.has(node.name?.getText(file) ?? '')) {
      ts.forEachChild(node, visit);
      return;
    }
    const comma = /^\s*,/.exec(file.text.slice(node.end))?.[0].length ?? 0;
    parts.push({ start: node.getStart(file), end: node.end + comma });
  };
  visit(file);
  return parts;
}

/** `code` with its test parts turned into blanks: every line and column stays where it was. */
export function stripTestParts(path: string, code: string): string {
  const file = ts.createSourceFile(path, code, ts.ScriptTarget.ES2022, true);
  let result = '';
  let done = 0;
  for (const { start, end } of findTestParts(file)) {
    result += code.slice(done, start) + code.slice(start, end).replace(/[^\r\n]/g, ' ');
    done = end;
  }
  return result + code.slice(done);
}

/** Plugin of the build and of everything that measures or tests what the build gives. */
export const withoutTestParts = {
  name: 'without-test-parts',
  transform(code: string, id: string) {
    if (!id.startsWith(OPS) || !id.endsWith('.ts')) return null;
    return { code: stripTestParts(id, code), map: null };
  },
};
