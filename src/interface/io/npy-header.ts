// The header of NumPy's array files: a line of Python that says type, order and shape.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import type { Cursor } from './cursor.ts';
import type { FileDType } from './safetensors-header.ts';

/** What a header says. */
export interface NpyHeader {
  readonly fileDType: FileDType;
  readonly isBigEndian: boolean;
  /** Whether the first axis changes fastest. */
  readonly isFortran: boolean;
  readonly shape: readonly number[];
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
/** A plain array's header has some hundred bytes. */
const MAX_HEADER = 1 << 20;
const MAX_RANK = 64;

/** Type codes without their byte order. */
const CODES: ReadonlyMap<string, FileDType> = new Map([
  ['f8', 'F64'],
  ['f4', 'F32'],
  ['f2', 'F16'],
  ['i8', 'I64'],
  ['i4', 'I32'],
  ['i2', 'I16'],
  ['i1', 'I8'],
  ['u8', 'U64'],
  ['u4', 'U32'],
  ['u2', 'U16'],
  ['u1', 'U8'],
  ['b1', 'BOOL'],
]);

const KINDS: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/^[<>|=]?O/, 'Python objects'],
  [/^[<>|=]?c/, 'complex numbers'],
  [/^[<>|=]?[SUa]/, 'strings'],
  [/^[<>|=]?[mM]/, 'times'],
  [/^[<>|=]?V/, 'raw bytes'],
];

/**
 * Reads the header, and leaves the cursor at the data.
 *
 * @throws FormatError unless it describes a plain array of numbers.
 */
export function readNpyHeader(cursor: Cursor): NpyHeader {
  const magic = cursor.take(6, 'a NumPy array');
  if (!MAGIC.every((byte, i) => magic[i] === byte)) {
    cursor.fail('this is not a NumPy .npy file', 0, 'load() finds out which kind of file it is');
  }
  const major = cursor.u8('a version');
  cursor.u8('a version');
  if (major < 1 || major > 3) cursor.fail(`version ${major} of the format is unknown`, 6);
  const length = major === 1 ? cursor.u16('a length') : cursor.u32('a length');
  if (length > MAX_HEADER) cursor.fail(`a header of ${length} bytes`, 8);
  const start = cursor.position;
  const bytes = cursor.take(length, 'a header');
  // Version 3 alone is UTF-8, but names of fields apart, which are refused, all is ASCII.
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return new HeaderText(text, cursor, start).read();
}

/** A scanner of the one form of literal that stands in a header. */
class HeaderText {
  private readonly text: string;
  private readonly cursor: Cursor;
  private readonly start: number;
  private position = 0;

  constructor(text: string, cursor: Cursor, start: number) {
    this.text = text;
    this.cursor = cursor;
    this.start = start;
  }

  private fail(reason: string): never {
    return this.cursor.fail(reason, this.start + this.position);
  }

  /** The text that `pattern` (sticky) matches here, after blanks. */
  private match(pattern: RegExp): string | undefined {
    const blank = /\s*/y;
    blank.lastIndex = this.position;
    blank.test(this.text);
    pattern.lastIndex = blank.lastIndex;
    const found = pattern.exec(this.text);
    if (found === null) return undefined;
    this.position = pattern.lastIndex;
    return found[0];
  }

  private expect(pattern: RegExp, what: string): string {
    return this.match(pattern) ?? this.fail(`expected ${what} in the header`);
  }

  private quoted(what: string): string {
    return this.expect(/'[^'\\\n]{0,200}'|"[^"\\\n]{0,200}"/y, what).slice(1, -1);
  }

  read(): NpyHeader {
    let type: Pick<NpyHeader, 'fileDType' | 'isBigEndian'> | undefined;
    let isFortran: boolean | undefined;
    let shape: number[] | undefined;
    this.expect(/\{/y, 'a dict');
    while (this.match(/\}/y) === undefined) {
      const key = this.quoted('a key');
      this.expect(/:/y, "':'");
      if (key === 'descr' && type === undefined) type = this.type();
      else if (key === 'fortran_order' && isFortran === undefined) {
        isFortran = this.expect(/True|False/y, 'True or False') === 'True';
      } else if (key === 'shape' && shape === undefined) shape = this.shape();
      else this.fail(`the key '${key.slice(0, 60)}' is unknown or stands twice`);
      if (this.match(/,/y) === undefined) {
        this.expect(/\}/y, "'}'");
        break;
      }
    }
    if (this.text.slice(this.position).trim() !== '') this.fail('text behind the header');
    if (type === undefined || isFortran === undefined || shape === undefined) {
      this.fail('the header needs descr, fortran_order and shape');
    }
    return { ...type, isFortran, shape };
  }

  private type(): Pick<NpyHeader, 'fileDType' | 'isBigEndian'> {
    if (this.match(/\[/y) !== undefined) this.fail('arrays of records are not read');
    const code = this.quoted('a type');
    const fileDType = CODES.get(code.replace(/^[<>|=]/, ''));
    if (fileDType === undefined) {
      const kind = KINDS.find(([pattern]) => pattern.test(code))?.[1];
      const shown = `'${code.slice(0, 40)}'`;
      this.fail(
        kind === undefined ? `the type ${shown} is unknown` : `${kind} (${shown}) are not read`,
      );
    }
    return { fileDType, isBigEndian: code.startsWith('>') };
  }

  private shape(): number[] {
    this.expect(/\(/y, 'a tuple');
    const shape: number[] = [];
    while (this.match(/\)/y) === undefined) {
      const size = Number(this.expect(/\d{1,16}(?!\d)/y, 'a size'));
      if (!Number.isSafeInteger(size)) this.fail('a size is too large');
      if (shape.push(size) > MAX_RANK) this.fail(`more than ${MAX_RANK} axes`);
      // Python 2 wrote its long integers with an L.
      this.match(/L/y);
      if (this.match(/,/y) === undefined) {
        this.expect(/\)/y, "')'");
        break;
      }
    }
    return shape;
  }
}

const WRITTEN: Readonly<Record<Exclude<DType, 'bfloat16'>, string>> = {
  float64: '<f8',
  float32: '<f4',
  float16: '<f2',
  int32: '<i4',
  int16: '<i2',
  int8: '|i1',
  uint32: '<u4',
  uint8: '|u1',
  bool: '|b1',
};

/** The type code of a dtype; `undefined` for bfloat16, which NumPy does not have. */
export function npyTypeOf(dtype: DType): string | undefined {
  return dtype === 'bfloat16' ? undefined : WRITTEN[dtype];
}

/** A header of version 1, or 2 if it is long, that ends at a multiple of 64. */
export function formatNpyHeader(op: string, type: string, shape: readonly number[]): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': ${tuple}, }`;
  if (shape.length > MAX_RANK) {
    throw new ArgumentError(`an array of ${shape.length} axes, NumPy has 64`, { op });
  }
  const head = 10;
  const length = Math.ceil((head + text.length + 1) / 64) * 64 - head;
  const header = new Uint8Array(head + length).fill(0x20);
  header.set([...MAGIC, 1, 0, length & 0xff, length >> 8]);
  header.set(new TextEncoder().encode(text), head);
  header[header.length - 1] = 0x0a;
  return header;
}
