// Entry `tengen/terminal`: progress bars, plots, tables and small images as text.

export * from './interface/terminal/index.ts';
