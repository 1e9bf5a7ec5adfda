// A drawing surface of characters: braille dots (2 x 4 to a character) or one mark per character.

/** Bit of the braille pattern for the dot at [row][column] of a character (Unicode 2800..28FF). */
const DOT_BITS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;

const BRAILLE_BASE = 0x2800;

/** What stands in one character of the canvas. */
export interface CanvasCell {
  readonly text: string;
  /** The series that drew here last; -1 where nothing was drawn. */
  readonly series: number;
}

/** A surface of `width` x `height` characters whose points are addressed in dots from the top left. */
export interface Canvas {
  /** Size in dots. */
  readonly dotsWide: number;
  readonly dotsHigh: number;
  set(x: number, y: number, series: number): void;
  cell(column: number, row: number): CanvasCell;
}

/** Dots of a quarter of a character's height: fine lines, one style. */
export function brailleCanvas(width: number, height: number): Canvas {
  const bits = new Uint8Array(width * height);
  const owner = new Int16Array(width * height).fill(-1);
  return {
    dotsWide: width * 2,
    dotsHigh: height * 4,
    set(x, y, series) {
      if (x < 0 || y < 0 || x >= width * 2 || y >= height * 4) return;
      const at = (y >> 2) * width + (x >> 1);
      bits[at] = (bits[at] ?? 0) | (DOT_BITS[y & 3]?.[x & 1] ?? 0);
      owner[at] = series;
    },
    cell(column, row) {
      const at = row * width + column;
      const pattern = bits[at] ?? 0;
      const text = pattern === 0 ? ' ' : String.fromCharCode(BRAILLE_BASE + pattern);
      return { text, series: owner[at] ?? -1 };
    },
  };
}

/** One mark per character; every series has its own, so that they differ without colours. */
export function markCanvas(width: number, height: number, marks: readonly string[]): Canvas {
  const owner = new Int16Array(width * height).fill(-1);
  return {
    dotsWide: width,
    dotsHigh: height,
    set(x, y, series) {
      if (x >= 0 && y >= 0 && x < width && y < height) owner[y * width + x] = series;
    },
    cell(column, row) {
      const series = owner[row * width + column] ?? -1;
      return { text: series < 0 ? ' ' : (marks[series % marks.length] ?? '*'), series };
    },
  };
}

/** Draws a straight line between two points in dots (Bresenham). */
export function drawLine(
  canvas: Canvas,
  from: readonly [number, number],
  to: readonly [number, number],
  series: number,
): void {
  let [x, y] = from;
  const [endX, endY] = to;
  const dx = Math.abs(endX - x);
  const dy = -Math.abs(endY - y);
  const stepX = x < endX ? 1 : -1;
  const stepY = y < endY ? 1 : -1;
  let error = dx + dy;
  for (;;) {
    canvas.set(x, y, series);
    if (x === endX && y === endY) return;
    const doubled = 2 * error;
    if (doubled >= dy) {
      error += dy;
      x += stepX;
    }
    if (doubled <= dx) {
      error += dx;
      y += stepY;
    }
  }
}
