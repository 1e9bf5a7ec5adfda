// W5: inference of image networks, batch 1; W6: a training step of ResNet-18 with the CIFAR stem.
import { F, nn, noGrad, optim, tensor, type Tensor, trace } from 'tengen';
import { load } from 'tengen/lite';
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

const pixels = (): Float32Array => noise(3 * 224 * 224, 3);

function network(name: keyof typeof NETWORKS): { forward(image: Tensor): Tensor } {
  const model = filled<nn.Module & { forward(image: Tensor): Tensor }>(NETWORKS[name]);
  model.eval();
  return model;
}

const imageOf = (data: Float32Array): Tensor => tensor(data, { shape: [1, 3, 224, 224] });

/** Scores of one image, read: the graph is built anew each time. */
export function inference(name: keyof typeof NETWORKS): () => void {
  const model = network(name);
  const image = imageOf(pixels());
  return () => void noGrad(() => model.forward(image)).dataSync();
}

/** The same by a program file, as it is deployed, and as onnxruntime is given its model. */
export async function deployed(
  name: keyof typeof NETWORKS,
  device: string,
  threads: number,
): Promise<() => void> {
  const model = network(name);
  const scores = trace((image: Tensor) => noGrad(() => ({ scores: model.forward(image) })));
  const { bytes } = await scores.dump(null, {
    inputs: [imageOf(pixels())],
    names: { inputs: ['image'] },
  });
  if (bytes === null) throw new Error('written to a path');
  const program = await load(bytes, { device, threads });
  const image = pixels();
  return () => void program.runSync({ image });
}

export async function benchInference(device: string, threads: number): Promise<Row[]> {
  const rows: Row[] = [];
  const options = { warmup: 10, milliseconds: 3000 };
  for (const name of NETWORK_NAMES) {
    const run = await deployed(name, device, threads);
    rows.push(rowOf(`W5 ${name} b1`, threads, time(run, options)));
    rows.push(rowOf(`W5 ${name} b1, dynamic`, threads, time(inference(name), options)));
  }
  return rows;
}

/** A training step of ResNet-18 on 32 images of 32 x 32. */
export function resNetStep(): () => void {
  const model = filled(() => resnet18({ numClasses: 10, stem: 'cifar' }));
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const pixels = noise(32 * 3 * 32 * 32, 4);
  const labels = Int32Array.from({ length: 32 }, (_, i) => i % 10);
  return () => {
    const scores = model.forward(tensor(pixels, { shape: [32, 3, 32, 32] }));
    const loss = F.crossEntropy(scores, tensor(labels));
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
  };
}

export function benchResNetStep(threads: number): Row[] {
  const flop = 3 * 2 * 32 * 0.5566e9;
  const times = time(resNetStep(), { warmup: 4, milliseconds: 5000 });
  return [rowOf('W6 resnet18-cifar train b32', threads, times, flop)];
}
