// A text as numbers: one for each of its characters; the part to learn from, and the part held out.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArgumentError, Generator, type Tensor, tensor } from 'tengen';

/** Share of the text, from its end, that is never trained on. */
const HELD_OUT = 0.1;

/** The characters that a model knows, in order. */
export class Vocabulary {
  readonly characters: readonly string[];
  readonly #numbers: ReadonlyMap<string, number>;

  constructor(characters: Iterable<string>) {
    this.characters = [...characters];
    this.#numbers = new Map(this.characters.map((character, i) => [character, i]));
  }

  static of(text: string): Vocabulary {
    return new Vocabulary([...new Set(text)].toSorted());
  }

  get size(): number {
    return this.characters.length;
  }

  /** Throws ArgumentError for a character that the text did not have. */
  encode(text: string): number[] {
    return Array.from(text, (character) => {
      const number = this.#numbers.get(character);
      if (number !== undefined) return number;
      throw new ArgumentError(`the model does not know ${JSON.stringify(character)}`, {
        hint: `it knows ${JSON.stringify(this.characters.join(''))}`,
      });
    });
  }

  decode(numbers: Iterable<number>): string {
    return Array.from(numbers, (number) => this.characters[number] ?? '').join('');
  }
}

/** Windows of a text, [count, context], and the same one place on: what is to be predicted. */
export interface Windows {
  readonly tokens: Tensor;
  readonly next: Tensor;
}

/** The text of a folder with one .txt file. */
export async function readText(folder: string): Promise<string> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.txt'));
  const [name] = names;
  if (name !== undefined && names.length === 1) return readFile(join(folder, name), 'utf8');
  const found = names.length === 0 ? 'no .txt file' : `several .txt files (${names.join(', ')})`;
  throw new ArgumentError(`${found} in ${folder}`, {
    hint: 'one file with the text is expected, such as input.txt of tiny Shakespeare',
  });
}

export class Characters {
  readonly vocabulary: Vocabulary;
  readonly #train: Int32Array;
  readonly #heldOut: Int32Array;
  readonly #context: number;

  /** Throws ArgumentError if the text is too short for one window to learn from and one held out. */
  constructor(text: string, context: number, vocabulary = Vocabulary.of(text)) {
    const numbers = Int32Array.from(vocabulary.encode(text));
    const split = Math.floor(numbers.length * (1 - HELD_OUT));
    this.vocabulary = vocabulary;
    this.#context = context;
    this.#train = numbers.subarray(0, split);
    this.#heldOut = numbers.subarray(split);
    const shortest = Math.min(this.#train.length, this.#heldOut.length);
    if (shortest <= context) {
      throw new ArgumentError(
        `${numbers.length} characters are too few for a context of ${context}`,
        {
          hint: `${Math.ceil((context + 1) / HELD_OUT)} are needed at least`,
        },
      );
    }
  }

  get trainLength(): number {
    return this.#train.length;
  }

  get heldOutLength(): number {
    return this.#heldOut.length;
  }

  /** The batch of a step: windows anywhere in the text, which seed and step alone decide. */
  batch(count: number, seed: number, step: number): Windows {
    const generator = new Generator(seed);
    generator.setState({ seed, offset: step * Math.ceil(count / 4) });
    const room = this.#train.length - this.#context;
    const starts = generator.hostUniform(count, 0, 1);
    return this.#windows(
      this.#train,
      Array.from(starts, (share) => Math.floor(share * room)),
    );
  }

  /** All windows of the held-out text, side by side; the last batch may hold fewer. */
  *heldOut(count: number): Iterable<Windows> {
    const total = Math.floor((this.#heldOut.length - 1) / this.#context);
    for (let first = 0; first < total; first += count) {
      const length = Math.min(count, total - first);
      const starts = Array.from({ length }, (_, i) => (first + i) * this.#context);
      yield this.#windows(this.#heldOut, starts);
    }
  }

  #windows(text: Int32Array, starts: readonly number[]): Windows {
    const context = this.#context;
    const tokens = new Int32Array(starts.length * context);
    const next = new Int32Array(starts.length * context);
    starts.forEach((start, i) => {
      tokens.set(text.subarray(start, start + context), i * context);
      next.set(text.subarray(start + 1, start + context + 1), i * context);
    });
    const shape = [starts.length, context];
    return { tokens: tensor(tokens, { shape }), next: tensor(next, { shape }) };
  }
}
