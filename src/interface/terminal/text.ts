// Text measured in terminal columns rather than in characters: width, padding and cutting of
// strings that hold escape sequences, combining marks or East Asian wide characters.

// oxlint-disable-next-line no-control-regex -- escape sequences begin with a control character
const ESCAPE_SEQUENCE = /\u001b\[[0-9;]*[A-Za-z]/g;
// oxlint-disable-next-line no-control-regex -- as above
const NEXT_ESCAPE_SEQUENCE = /\u001b\[[0-9;]*[A-Za-z]/y;

/** Removes colour and cursor sequences. */
export function stripEscapes(text: string): string {
  return text.replace(ESCAPE_SEQUENCE, '');
}

/** Code point ranges that take two columns (Unicode East Asian Width W and F, and emoji). */
const WIDE_RANGES: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xa000, 0xa4cf],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f900, 0x1f9ff],
  [0x20000, 0x3fffd],
];

const ZERO_WIDTH = /^[\p{Mark}\p{Format}]$/u;

function characterWidth(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return 0;
  if (code < 0x300) return 1;
  if (ZERO_WIDTH.test(character)) return 0;
  return WIDE_RANGES.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

/** Columns that a one-line text takes in a terminal. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of stripEscapes(text)) width += characterWidth(character);
  return width;
}

export type Alignment = 'left' | 'right' | 'center';

/** Fills `text` with spaces to `width` columns; a longer text is returned as it is. */
export function padText(text: string, width: number, alignment: Alignment = 'left'): string {
  const missing = width - displayWidth(text);
  if (missing <= 0) return text;
  switch (alignment) {
    case 'left':
      return text + ' '.repeat(missing);
    case 'right':
      return ' '.repeat(missing) + text;
    case 'center': {
      const before = missing >> 1;
      return ' '.repeat(before) + text + ' '.repeat(missing - before);
    }
    default:
      return alignment satisfies never;
  }
}

/** Cuts `text` to at most `width` columns, ending in an ellipsis where something was cut. */
export function cutText(text: string, width: number, ellipsis = '…'): string {
  if (displayWidth(text) <= width) return text;
  const room = width - displayWidth(ellipsis);
  if (room < 0) return '';
  let result = '';
  let used = 0;
  let colored = false;
  for (let at = 0; at < text.length;) {
    NEXT_ESCAPE_SEQUENCE.lastIndex = at;
    const sequence = NEXT_ESCAPE_SEQUENCE.exec(text)?.[0];
    if (sequence !== undefined) {
      result += sequence;
      colored = true;
      at += sequence.length;
      continue;
    }
    const character = String.fromCodePoint(text.codePointAt(at) ?? 0);
    const width = characterWidth(character);
    if (used + width > room) break;
    result += character;
    used += width;
    at += character.length;
  }
  return result + ellipsis + (colored ? '\u001b[0m' : '');
}
