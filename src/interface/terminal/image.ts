// Small grey images as text: half blocks in grey levels, or shades where there are no colours.

import { colors } from './color.ts';
import type { ColorName } from './color.ts';
import { supportsColor, supportsUnicode, terminalWidth } from './environment.ts';
import { cutText, padText } from './text.ts';

export interface GridImage {
  /** Grey levels, row by row, `width * height` of them. */
  readonly pixels: ArrayLike<number>;
  readonly width: number;
  readonly height: number;
  /** Stands below the image, centred. */
  readonly label?: string;
  /** Colour of the label, as red for a wrong answer. */
  readonly labelColor?: ColorName;
}

export interface ImageGridOptions {
  /** Columns of the whole drawing; by default those of the terminal, 80 at most. */
  width?: number;
  /** Columns that one image takes: at most its width in pixels; 14 by default. */
  imageWidth?: number;
  /** Images side by side; by default as many as there is room for. */
  columns?: number;
  /** Levels of black and white; by default the least and the greatest of all pixels. */
  min?: number;
  max?: number;
  unicode?: boolean;
  color?: boolean;
}

const DEFAULT_IMAGE_WIDTH = 14;
const GAP = 2;
const SHADES = [' ', '░', '▒', '▓', '█'];
const ASCII_SHADES = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];

/** First and number of the grey levels among the 256 colours of terminals. */
const GREY_BASE = 232;
const GREY_LEVELS = 24;

/** Mean of the source pixels under each pixel of a smaller image, parts of pixels counted. */
function resample(image: GridImage, width: number, height: number): Float64Array {
  const result = new Float64Array(width * height);
  const scaleX = image.width / width;
  const scaleY = image.height / height;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      let area = 0;
      for (let sy = Math.floor(y * scaleY); sy < Math.min(image.height, (y + 1) * scaleY); sy++) {
        const partY = Math.min(sy + 1, (y + 1) * scaleY) - Math.max(sy, y * scaleY);
        for (let sx = Math.floor(x * scaleX); sx < Math.min(image.width, (x + 1) * scaleX); sx++) {
          const part = partY * (Math.min(sx + 1, (x + 1) * scaleX) - Math.max(sx, x * scaleX));
          sum += part * (image.pixels[sy * image.width + sx] ?? 0);
          area += part;
        }
      }
      result[y * width + x] = area > 0 ? sum / area : 0;
    }
  }
  return result;
}

interface Levels {
  readonly min: number;
  readonly max: number;
}

function levelsOf(images: readonly GridImage[], options: ImageGridOptions): Levels {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const { pixels } of images) {
    for (let i = 0; i < pixels.length; i++) {
      const value = pixels[i] ?? Number.NaN;
      if (!Number.isFinite(value)) continue;
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
  }
  return { min: options.min ?? (min <= max ? min : 0), max: options.max ?? (min <= max ? max : 1) };
}

/** A pixel as a level 0..count-1; NaN is black. */
function quantize(value: number, levels: Levels, count: number): number {
  const span = levels.max - levels.min;
  const fraction = span > 0 ? (value - levels.min) / span : 0;
  return Math.round(Math.max(0, Math.min(1, Number.isNaN(fraction) ? 0 : fraction)) * (count - 1));
}

/** Two pixels to a character: the upper as the colour of a half block, the lower behind it. */
function colorRows(pixels: Float64Array, width: number, height: number, levels: Levels): string[] {
  const grey = (x: number, y: number) =>
    GREY_BASE + quantize(pixels[y * width + x] ?? levels.min, levels, GREY_LEVELS);
  return Array.from({ length: Math.ceil(height / 2) }, (_, row) => {
    let line = '';
    let lastCode = '';
    for (let x = 0; x < width; x++) {
      const lower = 2 * row + 1 < height ? grey(x, 2 * row + 1) : GREY_BASE;
      const code = `\u001b[38;5;${grey(x, 2 * row)};48;5;${lower}m`;
      line += (code === lastCode ? '' : code) + '▀';
      lastCode = code;
    }
    return `${line}\u001b[0m`;
  });
}

function shadeRows(
  pixels: Float64Array,
  width: number,
  levels: Levels,
  shades: readonly string[],
): string[] {
  return Array.from({ length: pixels.length / width }, (_, row) => {
    let line = '';
    for (let x = 0; x < width; x++) {
      const value = pixels[row * width + x] ?? levels.min;
      line += shades[quantize(value, levels, shades.length)] ?? ' ';
    }
    return line;
  });
}

interface GridStyle {
  readonly imageWidth: number;
  readonly levels: Levels;
  readonly color: boolean;
  readonly unicode: boolean;
}

/** The rows of one image, and its label below, all padded to the same width. */
function drawImage(image: GridImage, style: GridStyle): string[] {
  const { imageWidth, levels, unicode } = style;
  const width = Math.min(imageWidth, image.width);
  const height = Math.max(1, Math.round((image.height * width) / image.width));
  // A character is about twice as high as wide: two pixels of a column share one.
  const rows =
    style.color && unicode
      ? colorRows(resample(image, width, height), width, height, levels)
      : shadeRows(
          resample(image, width, Math.max(1, Math.round(height / 2))),
          width,
          levels,
          unicode ? SHADES : ASCII_SHADES,
        );
  const padded = rows.map((row) => padText(row, imageWidth));
  if (image.label === undefined) return padded;
  const label = padText(cutText(image.label, imageWidth), imageWidth, 'center');
  const paint = colors(style.color);
  return [...padded, image.labelColor === undefined ? label : paint[image.labelColor](label)];
}

/**
 * Draws grey images side by side, with labels below them, as lines of text.
 *
 * @throws RangeError if an image has no pixels, or not `width * height` of them.
 * @example
 * const pixels = new Uint8Array(28 * 28);
 * const digits = [{ pixels, width: 28, height: 28, label: '7', labelColor: 'green' as const }];
 * console.log(imageGrid(digits, { imageWidth: 14 }));
 */
export function imageGrid(images: readonly GridImage[], options: ImageGridOptions = {}): string {
  for (const [index, { pixels, width, height }] of images.entries()) {
    if (width < 1 || height < 1 || pixels.length !== width * height) {
      throw new RangeError(
        `imageGrid: image ${index} has ${pixels.length} pixels, but should have ` +
          `${width} x ${height}`,
      );
    }
  }
  const widest = images.reduce((width, image) => Math.max(width, image.width), 1);
  const imageWidth = Math.max(1, Math.min(options.imageWidth ?? DEFAULT_IMAGE_WIDTH, widest));
  const total = options.width ?? Math.min(80, terminalWidth());
  const fitting = Math.max(1, Math.floor((total + GAP) / (imageWidth + GAP)));
  const perRow = Math.max(1, Math.floor(options.columns ?? fitting));
  const style = {
    imageWidth,
    levels: levelsOf(images, options),
    color: options.color ?? supportsColor(),
    unicode: options.unicode ?? supportsUnicode(),
  };
  const blocks: string[] = [];
  for (let first = 0; first < images.length; first += perRow) {
    const drawn = images.slice(first, first + perRow).map((image) => drawImage(image, style));
    const height = drawn.reduce((most, rows) => Math.max(most, rows.length), 0);
    const lines = Array.from({ length: height }, (_, row) =>
      drawn
        .map((rows) => rows[row] ?? ' '.repeat(imageWidth))
        .join(' '.repeat(GAP))
        .trimEnd(),
    );
    blocks.push(lines.join('\n'));
  }
  return blocks.join('\n\n');
}
