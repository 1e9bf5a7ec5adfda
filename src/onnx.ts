// Entry `tengen/onnx`: models in the ONNX format.
export * from './interface/onnx/index.ts';
