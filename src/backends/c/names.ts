// Names as C takes them, and numbers and strings as its source has them.
import { type DType, byteSize } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { ExportedTensor } from '../../runtime/export.ts';

/** Of C99, C++ and what an exported header would clash with. */
const TAKEN = new Set(
  (
    'auto bool break case catch char class const continue default delete do double else enum extern ' +
    'false float for friend goto if inline int long main namespace new operator private protected ' +
    'public register restrict return short signed sizeof static struct switch template this throw ' +
    'true try typedef union unsigned using virtual void volatile while'
  ).split(' '),
);

/** A name as an identifier: other characters become `_`. */
export function identifier(name: string): string {
  const plain = name.replaceAll(/\W/g, '_').replace(/^_+/, '');
  return plain === '' || /^\d/.test(plain) || TAKEN.has(plain) ? `model_${plain}` : plain;
}

/** Different identifiers for a list of names, in capitals. */
export function capitals(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name, i) => {
    const plain = name.replaceAll(/\W/g, '_').toUpperCase() || String(i);
    let unique = plain;
    for (let n = 2; taken.has(unique); n++) unique = `${plain}_${n}`;
    taken.add(unique);
    return unique;
  });
}

/** A string literal. */
export function quoted(text: string): string {
  const bytes = [...new TextEncoder().encode(text)];
  const plain = (byte: number): boolean =>
    byte >= 32 && byte < 127 && !['"', '\\', '?'].includes(String.fromCharCode(byte));
  const escaped = bytes.map((byte) =>
    // Three octal digits: what follows cannot belong to them.
    plain(byte) ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`,
  );
  return `"${escaped.join('')}"`;
}

/** Text for the inside of a comment, on one line. */
export function commented(text: string): string {
  return text
    .replaceAll('*/', '* /')
    .replaceAll('/*', '/ *')
    .replaceAll(/[\r\n]+/g, ' ')
    .replaceAll('\\', '/');
}

/** `float32 [1, 28, 28]`. */
export function describeTensor({ dtype, shape }: ExportedTensor): string {
  return `${dtype} [${shape.join(', ')}]`;
}

const WORDS: Readonly<Record<number, string>> = {
  1: 'uint8_t',
  2: 'uint16_t',
  4: 'uint32_t',
  8: 'uint64_t',
};

/** The unsigned integer that is as large as an element. */
export function wordOf(dtype: DType): string {
  const word = WORDS[byteSize(dtype)];
  if (word === undefined) throw internalError(`no word for ${dtype}`);
  return word;
}

const ROW = 12;

/** Bytes as words in braces: the same numbers whatever the machine's byte order. At least one. */
export function wordList(bytes: Uint8Array, size: number): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words: string[] = [];
  for (let at = 0; at + size <= bytes.byteLength; at += size) {
    const word =
      size === 8
        ? view.getBigUint64(at, true)
        : size === 4
          ? view.getUint32(at, true)
          : size === 2
            ? view.getUint16(at, true)
            : view.getUint8(at);
    words.push(`0x${word.toString(16)}${size >= 4 ? 'u' : ''}`);
  }
  if (words.length === 0) words.push('0');
  const rows: string[] = [];
  for (let i = 0; i < words.length; i += ROW) rows.push(`  ${words.slice(i, i + ROW).join(', ')}`);
  return `{\n${rows.join(',\n')}\n}`;
}
