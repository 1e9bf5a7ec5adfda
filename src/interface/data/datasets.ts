// The data sets that come with Tengen: `datasets.mnist(...)`, `datasets.strokes(...)`.
export { type MnistOptions, fashionMnist, mnist } from './mnist.ts';
export { type StrokesOptions, strokes } from './strokes.ts';
