// The primitives that no node of ONNX computes, with the reason that users are told.

const DECOMPOSITION =
  'ONNX has no such decomposition. hint: inverses, systems, determinants and cholesky can be exported';

export const UNSUPPORTED: Readonly<Record<string, string>> = {
  randomBits:
    'it draws random numbers, which a file cannot repeat. hint: call model.eval() first, so that dropout is off',
  attentionBackward: 'it is the gradient of attention in blocks, which ONNX has no op for',
  attentionMaskGradient: 'it is the gradient of attention in blocks, which ONNX has no op for',
  qr: DECOMPOSITION,
  qrComplete: DECOMPOSITION,
  singularValues: DECOMPOSITION,
  symmetricEigen: DECOMPOSITION,
  generalEigen: DECOMPOSITION,
  matrixExponential: DECOMPOSITION,
  costVolume: 'ONNX has no cost volume',
  costVolumeFirst: 'ONNX has no cost volume',
  costVolumeSecond: 'ONNX has no cost volume',
  bandScan: 'ONNX has no recurrence within a band',
  pathScores: 'ONNX has no sum over alignments',
  regionMean: 'RoiAlign of ONNX places its samples elsewhere',
  regionAdd: 'it is the gradient of region pooling, which ONNX has no op for',
  regionBest: 'RoiAlign of ONNX takes its maxima of other values',
  regionPositions: 'ONNX has no positions of maxima of regions',
};
