// The primitives that no node of ONNX computes, with the reason that users are told.
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  randomBits:
    'it draws random numbers, which a file cannot repeat. hint: call model.eval() first, so that dropout is off',
  erfc: 'ONNX has no complementary error function, and 1 - Erf(x) loses its digits for large x',
  erfinv: 'ONNX has no inverse error function',
  lgamma: 'ONNX has no gamma function',
  digamma: 'ONNX has no gamma function',
  attentionBackward: 'it is the gradient of attention in blocks, which ONNX has no op for',
  cumprod: 'ONNX has no running product',
  linearScan: 'ONNX has no linear recurrence',
  runningExtreme: 'ONNX has no running maximum',
  logCumSumExp: 'ONNX has no running logarithm of sums',
};
