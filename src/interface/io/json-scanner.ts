// A strict JSON scanner over bytes: knows the offset of everything and builds nothing by itself.
import { FormatError } from '../../base/errors.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** Reads one JSON text token by token. Every complaint is a FormatError with the byte offset. */
export class JsonScanner {
  private readonly bytes: Uint8Array;
  /** Offset of `bytes[0]` in the file, added to every reported offset. */
  private readonly base: number;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  private position = 0;

  constructor(bytes: Uint8Array, base: number) {
    this.bytes = bytes;
    this.base = base;
  }

  /** Offset in the file of the next token. */
  get offset(): number {
    this.skipSpace();
    return this.base + this.position;
  }

  fail(reason: string, offset = this.base + this.position): never {
    throw new FormatError(reason, { offset });
  }

  private skipSpace(): void {
    for (;;) {
      const byte = this.bytes[this.position];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
      this.position++;
    }
  }

  private describe(): string {
    const byte = this.bytes[this.position];
    if (byte === undefined) return 'the end';
    if (byte > 0x20 && byte < 0x7f) return `'${String.fromCharCode(byte)}'`;
    return `byte 0x${byte.toString(16).padStart(2, '0')}`;
  }

  /** Takes the punctuation `character` or fails. */
  expect(character: string, where: string): void {
    if (!this.accept(character)) {
      this.fail(`expected '${character}' ${where}, found ${this.describe()}`);
    }
  }

  /** Takes the punctuation `character` if it is next. */
  accept(character: string): boolean {
    this.skipSpace();
    if (this.bytes[this.position] !== character.charCodeAt(0)) return false;
    this.position++;
    return true;
  }

  /** Only space may follow. */
  expectEnd(): void {
    this.skipSpace();
    if (this.position < this.bytes.length) this.fail(`unexpected ${this.describe()} after the end`);
  }

  /** Calls `member` for each key of an object, with the scanner at the value; keys are unique. */
  object(where: string, member: (key: string, keyOffset: number) => void): void {
    this.expect('{', where);
    if (this.accept('}')) return;
    const seen = new Set<string>();
    do {
      const keyOffset = this.offset;
      const key = this.string('as a key');
      if (seen.has(key)) this.fail(`duplicate key ${JSON.stringify(key.slice(0, 100))}`, keyOffset);
      seen.add(key);
      this.expect(':', 'after a key');
      member(key, keyOffset);
    } while (this.accept(','));
    this.expect('}', where);
  }

  /** A non-negative integer that a JS number holds exactly. */
  integer(where: string): number {
    this.skipSpace();
    const start = this.position;
    let value = 0;
    for (;;) {
      const digit = (this.bytes[this.position] ?? 0) - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) this.fail(`number too large ${where}`);
      this.position++;
    }
    const length = this.position - start;
    if (length === 0) {
      this.fail(`expected a non-negative integer ${where}, found ${this.describe()}`);
    }
    if (length > 1 && this.bytes[start] === 0x30) {
      this.fail(`a number starts with 0 ${where}`, this.base + start);
    }
    const next = this.bytes[this.position];
    if (next === 0x2e || next === 0x65 || next === 0x45) {
      this.fail(`expected an integer ${where}, found a fraction or exponent`);
    }
    return value;
  }

  /** A list of at most `limit` non-negative integers. */
  integers(where: string, limit: number): number[] {
    this.expect('[', where);
    const values: number[] = [];
    if (this.accept(']')) return values;
    do {
      if (values.length === limit) this.fail(`more than ${limit} numbers ${where}`);
      values.push(this.integer(where));
    } while (this.accept(','));
    this.expect(']', where);
    return values;
  }

  string(where: string): string {
    this.skipSpace();
    if (this.bytes[this.position] !== QUOTE) {
      this.fail(`expected a string ${where}, found ${this.describe()}`);
    }
    const start = ++this.position;
    let escaped = false;
    for (;;) {
      const byte = this.bytes[this.position];
      if (byte === undefined) this.fail('a string does not end', this.base + start - 1);
      if (byte < 0x20) this.fail('a raw control character in a string');
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) {
        escaped = true;
        this.position++;
      }
      this.position++;
    }
    const text = this.decode(start, this.position);
    this.position++;
    return escaped ? this.unescape(text, this.base + start) : text;
  }

  private decode(start: number, end: number): string {
    try {
      return this.decoder.decode(this.bytes.subarray(start, end));
    } catch (cause) {
      throw new FormatError('a string is not UTF-8', { offset: this.base + start, cause });
    }
  }

  private unescape(text: string, offset: number): string {
    return text.replace(/\\(u[0-9a-fA-F]{4}|[\s\S]?)/g, (_match, code: string) => {
      if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      const plain = ESCAPES[code];
      if (plain === undefined) this.fail(`unknown escape \\${code} in a string`, offset);
      return plain;
    });
  }
}
