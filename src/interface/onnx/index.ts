// ONNX: models from other frameworks, and for other runtimes.
export * from './export/index.ts';
