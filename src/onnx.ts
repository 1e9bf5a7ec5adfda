// Entry `tengen/onnx`: models as ONNX files.
export * from './interface/onnx/index.ts';
