// Export: writes a module or a function as an ONNX file.
import { ArgumentError, internalError } from '../../../base/errors.ts';
import { writeFileAtomically } from '../../io/atomic-file.ts';
import { type Draft, EXTERNAL, modelProto, type TensorProto } from '../messages.ts';
import { prepareModel, type PreparedModel, readInitializer } from './model.ts';
import type { ExportOptions } from './options.ts';
import type { ExportTarget } from './record.ts';
import { initializerBytes } from './writer.ts';

export type { DynamicAxes, ExportOptions } from './options.ts';
export type { ExampleArgument, ExportTarget, TensorSpec } from './record.ts';

/** A message of protocol buffers ends at 2 GiB: beyond this the weights go to a file of their own. */
const MOST_INLINE_BYTES = 1.9e9;
/** Where tensors begin in a file of weights, so that it can be mapped into memory. */
const ALIGNMENT = 4096;
/** Smaller tensors stay in the model: shapes, and what readers look at without the weights. */
const LEAST_EXTERNAL_BYTES = 1024;

function weightBytes({ initializers }: PreparedModel): number {
  return initializers.reduce((total, initializer) => total + initializerBytes(initializer), 0);
}

/**
 * The bytes of an ONNX file that computes what a module's `forward` or a function of tensors computes.
 * It is run once on placeholders (several times with dynamic axes); what it closes over becomes
 * constants, a module's parameters under their names in its state dict.
 *
 * @throws UnsupportedError that lists every operation that ONNX cannot express, with the reason.
 * @throws TraceError if the function reads a value or assigns one.
 * @example
 * const model = new nn.Linear(2, 3);
 * const bytes = await toBytes(model, { inputs: [[1, 2]], dynamicAxes: { input: { 0: 'batch' } } });
 * bytes.length > 100; // => true
 */
export async function toBytes(target: ExportTarget, options: ExportOptions): Promise<Uint8Array> {
  const op = 'onnx.toBytes';
  const prepared = prepareModel(op, target, options);
  if (prepared.plan.externalData === true || weightBytes(prepared) > MOST_INLINE_BYTES) {
    throw new ArgumentError('one array of bytes has no second file for the weights', {
      op,
      hint: 'use onnx.save(path, ...)',
    });
  }
  return modelProto.encode(
    prepared.finish(await Promise.all(prepared.initializers.map(readInitializer))),
  );
}

/** Writes the weights one after another; returns tensors that say where theirs are. */
async function writeWeights(
  path: string | URL,
  location: string,
  { initializers }: PreparedModel,
): Promise<Draft<TensorProto>[]> {
  const tensors: Draft<TensorProto>[] = [];
  await writeFileAtomically(path, async (write) => {
    let end = 0;
    for (const initializer of initializers) {
      const { rawData, ...head } = await readInitializer(initializer);
      if (rawData === undefined) throw internalError('a weight without bytes');
      if (rawData.length < LEAST_EXTERNAL_BYTES) {
        tensors.push({ ...head, rawData });
        continue;
      }
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      if (offset > end) await write(new Uint8Array(offset - end));
      await write(rawData);
      end = offset + rawData.length;
      tensors.push({
        ...head,
        dataLocation: EXTERNAL,
        externalData: [
          { key: 'location', value: location },
          { key: 'offset', value: String(offset) },
          { key: 'length', value: String(rawData.length) },
        ],
      });
    }
  });
  return tensors;
}

/**
 * Writes a module or a function of tensors as an ONNX file, whole or not at all. With more than 1.9 GB
 * of weights, or `externalData: true`, they go to `path` + `.data` beside it. Otherwise as `toBytes`.
 *
 * @throws UnsupportedError that lists every operation that ONNX cannot express, with the reason.
 * @throws TraceError if the function reads a value or assigns one.
 * @example no-run: writes a file
 * const model = new nn.Conv2d(3, 8, 3);
 * await save('classifier.onnx', model.eval(), {
 *   inputs: [[1, 3, 224, 224]],
 *   dynamicAxes: { input: { 0: 'batch' } },
 * });
 */
export async function save(
  path: string | URL,
  target: ExportTarget,
  options: ExportOptions,
): Promise<void> {
  const prepared = prepareModel('onnx.save', target, options);
  const isExternal = prepared.plan.externalData ?? weightBytes(prepared) > MOST_INLINE_BYTES;
  let initializers: readonly Draft<TensorProto>[];
  if (isExternal) {
    const isUrl = path instanceof URL;
    const text = isUrl ? decodeURIComponent(path.pathname) : path;
    const location = `${text.slice(text.search(/[^/\\]*$/))}.data`;
    const data = isUrl ? new URL(`${path.href}.data`) : `${path}.data`;
    initializers = await writeWeights(data, location, prepared);
  } else {
    initializers = await Promise.all(prepared.initializers.map(readInitializer));
  }
  const bytes = modelProto.encode(prepared.finish(initializers));
  await writeFileAtomically(path, (write) => write(bytes));
}
