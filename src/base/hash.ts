// FNV-1a, 32 bits: hashes find things, and equality is decided by comparing.

const START = 0x811c9dc5 | 0;
const PRIME = 0x01000193;

/** Of `length` words, signed; from the hash of what stands before them, if anything does. */
export function hashWords(words: Int32Array, length: number, before: number = START): number {
  let hash = before;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ (words[i] as number), PRIME);
  return hash;
}

/** Of bytes, unsigned. A loop of its own: that of words is fast as long as it sees nothing else. */
export function hashBytes(bytes: Uint8Array): number {
  let hash = START;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ (bytes[i] as number), PRIME);
  return hash >>> 0;
}
