// Text: what computes on the host alone. Results are text, or counts of it.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../../base/shape.ts';
import { flag, floats, int, ints, required, text, texts } from '../attributes.ts';
import { broadcastOf, broadcastPlaces } from '../host-arrays.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import type { ElementArray } from '../tensor-data.ts';
import { encodeValues, TensorValue } from '../values.ts';

function textOf(call: Call, index: number): { shape: Shape; data: readonly string[] } {
  const { type, shape, data } = call.value(index).read();
  if (type === 'string' && Array.isArray(data)) return { shape, data: data as readonly string[] };
  throw new FormatError(`input ${index} is ${type} where text is expected`);
}

function ofText(shape: Shape, data: readonly string[]): TensorValue {
  return TensorValue.ofArray({ type: 'string', shape, data });
}

type Case = 'NONE' | 'LOWER' | 'UPPER';

/** Words without those that are left out, in capitals or small letters. */
function normalize(
  call: Call<{
    case_change_action: Case;
    is_case_sensitive: boolean;
    stopwords: readonly string[] | undefined;
  }>,
): TensorValue {
  const { case_change_action: action, is_case_sensitive: exact, stopwords } = call.attributes;
  const { shape, data } = textOf(call, 0);
  const isRow = shape.length === 2 && shape[0] === 1;
  if (shape.length !== 1 && !isRow) throw new ShapeError(`words of shape ${formatShape(shape)}`);
  const plain = (word: string): string => (exact ? word : word.toLowerCase());
  const left = new Set((stopwords ?? []).map(plain));
  const kept = data
    .filter((word) => !left.has(plain(word)))
    .map((word) => {
      if (action === 'NONE') return word;
      return action === 'LOWER' ? word.toLowerCase() : word.toUpperCase();
    });
  const words = kept.length > 0 ? kept : [''];
  return ofText(isRow ? [1, words.length] : [words.length], words);
}

function concatenate(call: Call): TensorValue {
  const [a, b] = [textOf(call, 0), textOf(call, 1)];
  const shape = broadcastOf([a.shape, b.shape]);
  const places = broadcastPlaces(b.shape, shape);
  const joined = broadcastPlaces(a.shape, shape).map(
    (place, i) => `${a.data[place] ?? ''}${b.data[places[i] ?? 0] ?? ''}`,
  );
  return ofText(shape, joined);
}

/** Pieces between blanks, however many of them; at most `most` cuts. */
function splitAtBlanks(value: string, most: number): string[] {
  const pieces: string[] = [];
  let rest = value.trimStart();
  while (rest !== '' && pieces.length < most) {
    const end = rest.search(/\s/u);
    if (end < 0) break;
    pieces.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return rest === '' ? pieces : [...pieces, rest];
}

function splitAt(value: string, delimiter: string, most: number): string[] {
  const pieces = value.split(delimiter);
  if (pieces.length <= most + 1) return pieces;
  return [...pieces.slice(0, most), pieces.slice(most).join(delimiter)];
}

/** Pieces on a new last axis, filled up with empty ones; and how many there are. */
function split(
  call: Call<{ delimiter: string | undefined; maxsplit: number | undefined }>,
): Result[] {
  const { delimiter, maxsplit: most = Infinity } = call.attributes;
  const { shape, data } = textOf(call, 0);
  const pieces = data.map((value) =>
    delimiter === undefined || delimiter === ''
      ? splitAtBlanks(value, most)
      : splitAt(value, delimiter, most),
  );
  const width = Math.max(0, ...pieces.map(({ length }) => length));
  const filled = pieces.flatMap((list) => [
    ...list,
    ...new Array<string>(width - list.length).fill(''),
  ]);
  return [
    ofText([...shape, width], filled),
    TensorValue.ofNumbers(
      pieces.map(({ length }) => length),
      shape,
    ),
  ];
}

// ---- n-grams ----------------------------------------------------------------------------------

interface GramAttributes {
  readonly max_gram_length: number;
  readonly min_gram_length: number;
  readonly max_skip_count: number;
  readonly mode: 'TF' | 'IDF' | 'TFIDF';
  readonly ngram_counts: readonly number[];
  readonly ngram_indexes: readonly number[];
  readonly pool_int64s: readonly number[] | undefined;
  readonly pool_strings: readonly string[] | undefined;
  readonly weights: readonly number[] | undefined;
}

/** Which number each n-gram of the pool has, by its length and its items. */
function readPool({
  ngram_counts: starts,
  pool_int64s: integers,
  pool_strings: words,
}: GramAttributes): Map<string, number> {
  const pool: readonly (number | string)[] = words ?? integers ?? [];
  const numbers = new Map<string, number>();
  let next = 0;
  for (const [place, start] of starts.entries()) {
    const length = place + 1;
    const end = starts[place + 1] ?? pool.length;
    const fits = start >= 0 && start <= end && end <= pool.length && (end - start) % length === 0;
    if (!fits) throw new FormatError(`n-grams of ${length} from ${start} to ${end} of the pool`);
    for (let at = start; at < end; at += length) {
      numbers.set(keyOf(pool.slice(at, at + length)), next++);
    }
  }
  return numbers;
}

const keyOf = (items: readonly unknown[]): string => JSON.stringify(items.map(String));

/** How often each n-gram of a pool stands in each row, its items next to each other or further apart. */
function countGrams(call: Call<GramAttributes>): TensorValue {
  const { attributes } = call;
  const { max_gram_length: longest, min_gram_length: shortest, mode, weights } = attributes;
  const { shape, data } = call.value(0).read() satisfies ElementArray;
  if (shape.length !== 1 && shape.length !== 2) {
    throw new ShapeError(`n-grams in ${formatShape(shape)}, which is no list of rows`);
  }
  const width = shape.at(-1) ?? 0;
  const places = attributes.ngram_indexes;
  const pool = readPool(attributes);
  if (pool.size !== places.length || (weights !== undefined && weights.length !== pool.size)) {
    throw new FormatError(`${pool.size} n-grams with ${places.length} places`);
  }
  const size = Math.max(-1, ...places) + 1;
  if (size > MOST_PLACES || places.some((place) => place < 0)) {
    throw new FormatError(`n-grams are counted at ${size} places`);
  }
  const rows = width === 0 ? 0 : sizeOf(shape) / width;
  const counts = new Float32Array(Math.max(rows, shape.length === 1 ? 1 : 0) * size);
  for (let row = 0; row < rows; row++) {
    const items = Array.from({ length: width }, (_, i) => data[row * width + i]);
    for (let apart = 1; apart <= attributes.max_skip_count + 1; apart++) {
      // One item alone has no neighbour to be apart from.
      const first = apart === 1 ? shortest : Math.max(shortest, 2);
      for (let length = first; length <= longest; length++) {
        const reach = (length - 1) * apart;
        for (let at = 0; at + reach < width; at++) {
          const gram = Array.from({ length }, (_, k) => items[at + k * apart]);
          const number = pool.get(keyOf(gram));
          if (number === undefined) continue;
          const place = row * size + (places[number] ?? 0);
          const weight = weights?.[number] ?? 1;
          if (mode === 'IDF') counts[place] = weight;
          else counts[place] = (counts[place] ?? 0) + (mode === 'TFIDF' ? weight : 1);
        }
      }
    }
  }
  const result = shape.length === 1 ? [size] : [shape[0] ?? 0, size];
  return TensorValue.ofArray(encodeValues('float32', result, counts));
}

const MOST_PLACES = 2 ** 24;

export const strings: readonly Operator[] = [
  defineOperator({
    name: 'StringNormalizer',
    since: 10,
    inputs: 1,
    attributes: {
      case_change_action: text<Case>('NONE', ['NONE', 'LOWER', 'UPPER']),
      is_case_sensitive: flag(),
      // Letters are those of Unicode, whatever the language.
      locale: text(),
      stopwords: texts(),
    },
    run: normalize,
  }),
  defineOperator({ name: 'StringConcat', since: 20, inputs: 2, run: concatenate }),
  defineOperator({
    name: 'StringSplit',
    since: 20,
    inputs: 1,
    outputs: [1, 2],
    attributes: { delimiter: text(), maxsplit: int() },
    run: split,
  }),
  defineOperator({
    name: 'TfIdfVectorizer',
    since: 9,
    inputs: 1,
    attributes: {
      max_gram_length: required(int()),
      max_skip_count: required(int()),
      min_gram_length: required(int()),
      mode: required(text('TF', ['TF', 'IDF', 'TFIDF'] as const)),
      ngram_counts: required(ints()),
      ngram_indexes: required(ints()),
      pool_int64s: ints(),
      pool_strings: texts(),
      weights: floats(),
    },
    run: countGrams,
  }),
];
