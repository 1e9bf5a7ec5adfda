// W5: inference of image networks, batch 1; W6: a training step of ResNet-18 with the CIFAR stem.
import { F, nn, noGrad, optim, tensor, type Tensor } from 'tengen';
import { mobilenetV2, resnet18, resnet50, shufflenetV2_x1_0 } from 'tengen/vision';
import { noise, type Row, rowOf, time } from './harness.ts';

/** Weights by a formula: drawing them would take longer than the benchmark. */
export function filled<M extends nn.Module>(build: () => M): M {
  const model = nn.init.skip(build);
  let seed = 1;
  for (const parameter of model.parameters()) {
    const scale = parameter.shape.length > 1 ? 0.05 : 1;
    parameter.setData(noise(parameter.size, seed++).map((value) => value * scale));
  }
  return model;
}

const NETWORKS = {
  resnet18,
  resnet50,
  mobilenet_v2: mobilenetV2,
  shufflenet_v2: shufflenetV2_x1_0,
} as const;

export const NETWORK_NAMES = Object.keys(NETWORKS) as readonly (keyof typeof NETWORKS)[];

/** Scores of one image, read. */
export function inference(name: keyof typeof NETWORKS): () => void {
  const model = filled<nn.Module & { forward(image: Tensor): Tensor }>(NETWORKS[name]);
  model.eval();
  const image = tensor(noise(3 * 224 * 224, 3), { shape: [1, 3, 224, 224] });
  return () => void noGrad(() => model.forward(image)).dataSync();
}

export function benchInference(threads: number): Row[] {
  return NETWORK_NAMES.map((name) =>
    rowOf(`W5 ${name} b1`, threads, time(inference(name), { warmup: 10, milliseconds: 3000 })),
  );
}

export function benchResNetStep(threads: number): Row[] {
  const model = filled(() => resnet18({ numClasses: 10, stem: 'cifar' }));
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const pixels = noise(32 * 3 * 32 * 32, 4);
  const labels = Int32Array.from({ length: 32 }, (_, i) => i % 10);
  const step = (): void => {
    const scores = model.forward(tensor(pixels, { shape: [32, 3, 32, 32] }));
    const loss = F.crossEntropy(scores, tensor(labels));
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
  };
  const flop = 3 * 2 * 32 * 0.5566e9;
  const times = time(step, { warmup: 4, milliseconds: 5000 });
  return [rowOf('W6 resnet18-cifar train b32', threads, times, flop)];
}
