// What training scripts draw in a terminal: progress, curves, tables, small images.

export { ProgressBar, ProgressLoop, AsyncProgressLoop, progress } from './progress.ts';
export type { Metrics, ProgressOptions } from './progress.ts';
export { plot, smooth } from './plot.ts';
export type { PlotInput, PlotOptions, PlotSeries } from './plot.ts';
export { histogram, sparkline } from './sparkline.ts';
export type { HistogramOptions, SparklineOptions } from './sparkline.ts';
export { table } from './table.ts';
export type { Cell, TableOptions } from './table.ts';
export { imageGrid } from './image.ts';
export type { GridImage, ImageGridOptions } from './image.ts';
export { colors } from './color.ts';
export type { ColorName, Colors } from './color.ts';
export {
  formatBytes,
  formatClock,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
} from './format.ts';
export { displayWidth, padText } from './text.ts';
export type { Alignment } from './text.ts';
export type { OutputStream } from './environment.ts';
