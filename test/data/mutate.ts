// Damages files the way broken disks and attackers do, repeatably.

/** Values that break length and offset fields. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x22, 0x2c, 0x30, 0x39, 0x5b, 0x5d, 0x7b, 0x7d];

/** A seeded source of damaged copies. */
export class Mutator {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  private below(limit: number): number {
    // mulberry32: enough for tests.
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  /** A copy with one to three kinds of damage. */
  mutate(file: Uint8Array): Uint8Array {
    let result: Uint8Array = file.slice();
    for (let round = this.below(3); round >= 0; round--) result = this.damage(result);
    return result;
  }

  private damage(file: Uint8Array): Uint8Array {
    const at = this.below(file.length + 1);
    const count = 1 + this.below(16);
    switch (this.below(7)) {
      case 0:
        return file.slice(0, at);
      case 1:
        return concat(file.subarray(0, at), file.subarray(Math.min(file.length, at + count)));
      case 2:
        return concat(file, new Uint8Array(count).fill(EDGES[this.below(EDGES.length)] ?? 0));
      case 3:
        return concat(file.subarray(0, at), file.subarray(Math.max(0, at - count)));
      case 4:
        file[this.below(12)] = EDGES[this.below(EDGES.length)] ?? 0;
        return file;
      case 5:
        file[at] = (file[at] ?? 0) ^ (1 << this.below(8));
        return file;
      default:
        file[at] = EDGES[this.below(EDGES.length)] ?? 0;
        return file;
    }
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const result = new Uint8Array(a.length + b.length);
  result.set(a);
  result.set(b, a.length);
  return result;
}
