// Finds every example in docstrings and in Markdown: the text, where it stands, whether it runs.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/entries.ts';

export interface Example {
  /** File relative to the root, and the line of the first line of code (from 1). */
  path: string;
  line: number;
  code: string;
  /** `no-run` is compiled only, a `sketch` is not even that: it shows a piece of something larger. */
  mode: 'run' | 'no-run' | 'sketch';
  /** Something wrong with the example's form, to be reported as a failure. */
  problem: string | undefined;
}

interface Line {
  number: number;
  text: string;
}

const FENCE = /^```\s*(\S*)\s*(.*)$/;

interface Flags {
  mode: Example['mode'];
  /** To be appended to the fence before it. */
  continues: boolean;
  problem: string | undefined;
}

/** Reads what follows `@example` or the fence's language: `no-run: reason`, `sketch: reason`, `continue`. */
function readFlags(words: string): Flags {
  const [, word = '', reason = ''] = /^(\S*?)(?::\s*(.*))?$/.exec(words.trim()) ?? [words, words];
  if (word === '') return { mode: 'run', continues: false, problem: undefined };
  if (word === 'continue') return { mode: 'run', continues: true, problem: undefined };
  if (word !== 'no-run' && word !== 'sketch') {
    const problem = `'${words.trim()}' is unknown. hint: no-run: reason, sketch: reason, continue`;
    return { mode: 'run', continues: false, problem };
  }
  const problem = reason === '' ? `${word} needs a reason: \`${word}: needs a GPU\`` : undefined;
  return { mode: word, continues: false, problem };
}

/** The ts fences among `lines`; a fence marked `continue` is appended to the one before it. */
function readFences(path: string, lines: readonly Line[]): Example[] {
  const examples: Example[] = [];
  let open: { line: Line; language: string; flags: string; body: string[] } | undefined;
  for (const line of lines) {
    const fence = FENCE.exec(line.text.trimStart());
    if (open === undefined) {
      if (fence === null) continue;
      open = { line, language: fence[1] ?? '', flags: fence[2] ?? '', body: [] };
    } else if (fence !== null) {
      addFence(path, open, examples);
      open = undefined;
    } else {
      open.body.push(line.text);
    }
  }
  return examples;
}

function addFence(
  path: string,
  { line, language, flags, body }: { line: Line; language: string; flags: string; body: string[] },
  examples: Example[],
): void {
  const isCode = ['ts', 'typescript', 'js', 'javascript', 'mjs'].includes(language);
  if (!isCode) return;
  const { mode, continues, problem } = readFlags(flags);
  const wrongName = language === 'ts' ? undefined : `fence is '${language}': write \`\`\`ts`;
  const previous = examples.at(-1);
  const start = line.number + 1;
  if (!continues || previous === undefined) {
    const form = continues ? 'nothing before it to continue' : (wrongName ?? problem);
    examples.push({ path, line: start, code: body.join('\n'), mode, problem: form });
    return;
  }
  // Blank lines keep the line numbers of the later fence right.
  const gap = start - previous.line - previous.code.split('\n').length;
  previous.code += '\n'.repeat(gap + 1) + body.join('\n');
  previous.problem ??= wrongName ?? problem;
}

/** Lines of each docstring, without the comment marks. */
function docstrings(text: string): Line[][] {
  const found: Line[][] = [];
  for (const match of text.matchAll(/^[ \t]*\/\*\*[\s\S]*?\*\//gm)) {
    const first = text.slice(0, match.index).split('\n').length;
    const lines = match[0].replace(/\*\/$/, '').split('\n');
    found.push(
      lines.map((line, index) => ({
        number: first + index,
        text: line.replace(index === 0 ? /^\s*\/\*\* ?/ : /^\s*\* ?/, ''),
      })),
    );
  }
  return found;
}

/** An `@example` reaches to the next block tag; its code stands bare or in a ts fence. */
function readDocstring(path: string, lines: readonly Line[]): Example[] {
  const examples: Example[] = [];
  const isTag = ({ text }: Line): boolean => /^@(?!\w+\()\w+/.test(text);
  lines.forEach((line, index) => {
    const tag = /^@example\b(.*)$/.exec(line.text);
    if (tag === null) return;
    const rest = lines.slice(index + 1);
    const end = rest.findIndex(isTag);
    const body = end === -1 ? rest : rest.slice(0, end);
    if (body.some(({ text }) => text.startsWith('```'))) {
      examples.push(...readFences(path, body));
      return;
    }
    const { mode, problem } = readFlags(tag[1] ?? '');
    const code = body.map(({ text }) => text).join('\n');
    const empty =
      code.trim() === '' ? 'empty: the code starts on the line below @example' : undefined;
    examples.push({ path, line: line.number + 1, code, mode, problem: problem ?? empty });
  });
  return examples;
}

/** Examples of one file: of its docstrings if it is TypeScript, of its fences if it is Markdown. */
export function readExamples(path: string, text: string): Example[] {
  if (path.endsWith('.ts')) {
    return docstrings(text).flatMap((lines) => readDocstring(path, lines));
  }
  const lines = text.split('\n').map((line, index) => ({ number: index + 1, text: line }));
  return readFences(path, lines);
}

/** Every example of the sources, the pages at the root and docs/*.md. */
export function collectExamples(): Example[] {
  const sources = readdirSync(`${root}src`, { withFileTypes: true, recursive: true })
    .filter((item) => item.isFile() && item.name.endsWith('.ts'))
    .map((item) => join(item.parentPath, item.name).slice(root.length));
  const pages = existsSync(`${root}docs`) ? readdirSync(`${root}docs`) : [];
  const docs = pages.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`);
  return ['README.md', 'README.zh-CN.md', 'CONTRIBUTING.md', ...docs, ...sources.toSorted()]
    .filter((path) => existsSync(root + path))
    .flatMap((path) => readExamples(path, readFileSync(root + path, 'utf8')));
}
