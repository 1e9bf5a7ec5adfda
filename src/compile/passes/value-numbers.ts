// Value numbering: finds the node that computes the same value from the same inputs.
import type { Node } from '../../graph/node.ts';
import { KeyWriter, writeAttrs } from '../../graph/op.ts';
import { hashWords } from '../../base/hash.ts';

interface Entry {
  readonly node: Node;
  readonly words: Int32Array;
}

/** Nodes by op, attributes and inputs. Keys are compared, the hash only finds the bucket. */
export class ValueNumbers {
  readonly #buckets = new Map<number, Entry[]>();
  readonly #numbers = new Map<Node, number>();
  readonly #key = new KeyWriter();

  /** The first node equal to `node`; inputs must have been interned before. */
  intern(node: Node): Node {
    const key = this.#key;
    key.length = 0;
    key.push(node.op.id);
    for (const input of node.inputs) key.push(this.#numberOf(input));
    writeAttrs(node.op, node.attrs, key);
    const words = key.words.subarray(0, key.length);
    const hash = hashWords(words, words.length);
    const bucket = this.#buckets.get(hash);
    const known = bucket?.find((entry) => sameWords(entry.words, words));
    if (known !== undefined) return known.node;
    const entry = { node, words: words.slice() };
    if (bucket === undefined) this.#buckets.set(hash, [entry]);
    else bucket.push(entry);
    return node;
  }

  #numberOf(node: Node): number {
    const known = this.#numbers.get(node);
    if (known !== undefined) return known;
    const number = this.#numbers.size;
    this.#numbers.set(node, number);
    return number;
  }
}

function sameWords(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
