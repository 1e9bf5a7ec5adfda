// Philox4x32-10 (Salmon et al. 2011): random bits as a pure function of key and counter, so that
// every backend draws the same and recomputation repeats them.

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** Upper word of a 32 x 32 bit product. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 65536) + (other >>> 16)) >>> 0;
}

/** Writes the four words of block `counter` (up to 2^53) under the key to `out[at..at+3]`. */
export function philoxBlock(
  seedLow: number,
  seedHigh: number,
  counter: number,
  out: Uint32Array,
  at: number,
): void {
  let c0 = counter >>> 0;
  let c1 = Math.floor(counter / 4294967296) >>> 0;
  let c2 = 0;
  let c3 = 0;
  let k0 = seedLow >>> 0;
  let k1 = seedHigh >>> 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = mulHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

/** Blocks that hold `words` words: draws begin with a new block. */
export function blocksFor(words: number): number {
  return Math.ceil(words / 4);
}

/** `count` words: element i is word i % 4 of block `offset + floor(i / 4)`. */
export function philoxBits(
  seedLow: number,
  seedHigh: number,
  offset: number,
  count: number,
): Uint32Array {
  const blocks = blocksFor(count);
  const bits = new Uint32Array(blocks * 4);
  for (let block = 0; block < blocks; block++) {
    philoxBlock(seedLow, seedHigh, offset + block, bits, block * 4);
  }
  return bits.subarray(0, count);
}

/** A word as a float32 in [0, 1): its upper 24 bits. */
export function uniformFromBits(bits: number): number {
  return (bits >>> 8) * 2 ** -24;
}
