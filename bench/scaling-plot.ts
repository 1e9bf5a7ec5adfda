// A small plot with logarithmic axes, as SVG: memory over depth.

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly exponent: number;
}

const WIDTH = 560;
const HEIGHT = 340;
const MARGIN = { left: 64, right: 24, top: 24, bottom: 48 };
const COLORS = ['#b4552d', '#2d6cb4'];

/** Megabytes over layers. Lines are named at their ends, with their exponents. */
export function scalingPlot(lines: readonly Line[]): string {
  const all = lines.flatMap(({ points }) => points);
  const ys = all.map(([, y]) => y);
  const layers = [...new Set(all.map(([x]) => x))];
  const [low, high] = [10 ** Math.floor(Math.log10(Math.min(...ys))), Math.max(...ys) * 1.3];
  const x = logScale(Math.min(...layers), Math.max(...layers), MARGIN.left, WIDTH - MARGIN.right);
  const y = logScale(low, high, HEIGHT - MARGIN.bottom, MARGIN.top);
  const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].filter(
    (tick) => tick >= low && tick <= high,
  );
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    ...ticks.map((tick) => {
      const at = y(tick).toFixed(1);
      return `<path d="M${MARGIN.left} ${at}H${WIDTH - MARGIN.right}" stroke="#ddd"/><text x="${MARGIN.left - 8}" y="${at}" dy="4" text-anchor="end">${tick} MB</text>`;
    }),
    ...layers.map(
      (count) =>
        `<text x="${x(count).toFixed(1)}" y="${HEIGHT - MARGIN.bottom + 20}" text-anchor="middle">${count}</text>`,
    ),
    `<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">layers</text>`,
    ...lines.map(({ name, points, exponent }, i) => {
      const color = COLORS[i % COLORS.length] as string;
      const places = points.map(([px, py]) => [x(px).toFixed(1), y(py).toFixed(1)] as const);
      const [endX, endY] = places.at(-1) as readonly [string, string];
      const dots = places.map(
        ([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${color}"/>`,
      );
      return [
        `<polyline points="${places.map((place) => place.join()).join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>`,
        ...dots,
        `<text x="${endX}" y="${Number(endY) - 12}" text-anchor="end" fill="${color}">${name}: layers^${exponent.toFixed(2)}</text>`,
      ].join('');
    }),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

function logScale(low: number, high: number, from: number, to: number): (value: number) => number {
  const span = Math.log(high / low);
  return (value) => from + ((to - from) * Math.log(value / low)) / span;
}
