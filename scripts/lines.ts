// Line report: physical lines per folder, and what passes the soft caps of 600 lines a file and 60
// a function. It warns and never fails: a cap is a reason to look, not a law.
import { readFileSync, readdirSync } from 'node:fs';
import { extname } from 'node:path';
import ts from 'typescript';
import { root } from './entries.ts';

const FILE_CAP = 600;
const FUNCTION_CAP = 60;
const TOP_FOLDERS = ['src', 'test', 'bench', 'examples', 'scripts'];

interface LongFunction {
  where: string;
  name: string;
  lines: number;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(root + folder, { withFileTypes: true, recursive: true })
    .filter((item) => item.isFile() && extname(item.name) === '.ts')
    .map((item) => `${item.parentPath.slice(root.length)}/${item.name}`)
    .toSorted();
}

function nameOf(node: ts.FunctionLikeDeclaration): string {
  if (node.name !== undefined) return node.name.getText();
  const parent = node.parent;
  const named = ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent);
  return named ? parent.name.getText() : '(anonymous)';
}

/** Functions over the cap. The callback of a test suite's `describe` is a list, not a function. */
function longFunctions(path: string, text: string): LongFunction[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  const lineOf = (position: number): number => file.getLineAndCharacterOfPosition(position).line;
  const found: LongFunction[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
      const start = lineOf(node.getStart());
      const lines = lineOf(node.end) - start + 1;
      const isSuite = ts.isCallExpression(node.parent) && /^describe\b/.test(node.parent.getText());
      if (lines > FUNCTION_CAP && !isSuite) {
        found.push({ where: `${path}:${start + 1}`, name: nameOf(node), lines });
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** `src` is shown by layer, and its wide layers one folder deeper. */
function folderOf(path: string): string {
  const parts = path.split('/').slice(0, -1);
  const deep = parts[1] === 'interface' || parts[1] === 'backends' ? 3 : 2;
  return parts.slice(0, parts[0] === 'src' ? deep : 1).join('/');
}

function main(): void {
  const totals = new Map<string, { files: number; lines: number }>();
  const warnings: string[] = [];
  for (const path of TOP_FOLDERS.flatMap(sourceFiles)) {
    const text = readFileSync(root + path, 'utf8');
    const lines = text.split('\n').length - 1;
    const folder = folderOf(path);
    const total = totals.get(folder) ?? { files: 0, lines: 0 };
    totals.set(folder, { files: total.files + 1, lines: total.lines + lines });
    if (lines > FILE_CAP) warnings.push(`${path}: ${lines} lines (soft cap ${FILE_CAP})`);
    for (const long of longFunctions(path, text)) {
      warnings.push(
        `${long.where}: ${long.name} has ${long.lines} lines (soft cap ${FUNCTION_CAP})`,
      );
    }
  }
  for (const [folder, { files, lines }] of totals) {
    console.log(
      `${folder.padEnd(28)}${String(files).padStart(5)} files${String(lines).padStart(8)} lines`,
    );
  }
  const sum = [...totals.values()].reduce((all, { lines }) => all + lines, 0);
  const inSrc = [...totals].reduce(
    (all, [key, { lines }]) => all + (/^src\b/.test(key) ? lines : 0),
    0,
  );
  console.log(`${sum} lines in all, ${inSrc} of them in src`);
  for (const warning of warnings) console.log(`warning: ${warning}`);
}

main();
