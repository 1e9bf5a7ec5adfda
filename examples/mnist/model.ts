// A convolutional network that reads digits: the model, one epoch of training, and its accuracy.
import { F, nn, noGrad, type optim, type Tensor } from 'tengen';

/** [batch, 1, 28, 28] grey images to [batch, 10] scores of the digits. */
export class DigitNet extends nn.Module {
  conv1 = new nn.Conv2d(1, 32, 3, { padding: 1 });
  bn1 = new nn.BatchNorm2d(32);
  conv2 = new nn.Conv2d(32, 64, 3, { padding: 1 });
  bn2 = new nn.BatchNorm2d(64);
  fc1 = new nn.Linear(64 * 7 * 7, 128);
  fc2 = new nn.Linear(128, 10);

  forward(images: Tensor): Tensor {
    let x = F.relu(this.bn1.forward(this.conv1.forward(images)));
    x = F.maxPool2d(x, 2);
    x = F.relu(this.bn2.forward(this.conv2.forward(x)));
    x = F.maxPool2d(x, 2);
    x = F.relu(this.fc1.forward(x.flatten(1)));
    return this.fc2.forward(x);
  }
}

/** Batches of images and their labels. */
export type Batches = AsyncIterable<readonly [images: Tensor, labels: Tensor]>;

/** A training step: from a batch to what it measured. */
export type Step = (images: Tensor, labels: Tensor) => { loss: Tensor; accuracy: Tensor };

/**
 * One pass over the training data. Yields what each step measured, once it is done. The step may be
 * given another form: `(step) => trace(step)`.
 */
export async function* trainEpoch(
  model: DigitNet,
  optimizer: optim.SGD,
  schedule: optim.OneCycleLR,
  batches: Batches,
  form: (step: Step) => Step = (step) => step,
): AsyncGenerator<{ loss: number; accuracy: number }> {
  model.train();
  const step = form((images, labels) => {
    const scores = model.forward(images);
    const loss = F.crossEntropy(scores, labels);
    const accuracy = scores.argmax(1).eq(labels).float().mean();

    optimizer.zeroGrad();
    loss.backward();
    optimizer.step(); // forward, backward and update run here, as one compiled plan
    schedule.step();
    return { loss, accuracy };
  });
  for await (const [images, labels] of batches) {
    const { loss, accuracy } = step(images, labels);
    yield { loss: await loss.item(), accuracy: await accuracy.item() };
  }
}

/** Reads all images. Resolves to the answers, and to the share of them that is right. */
export async function evaluate(model: DigitNet, batches: Batches) {
  model.eval();
  const answers: number[] = [];
  const truths: number[] = [];
  for await (const [images, labels] of batches) {
    const digits = noGrad(() => model.forward(images).argmax(1));
    answers.push(...(await digits.data()));
    truths.push(...(await labels.data()));
  }
  const right = answers.filter((answer, i) => answer === truths[i]).length;
  return { accuracy: right / answers.length, answers };
}
