// Compiled programs to bytes: what stored-program.ts reads.
import type { Kernel } from '../ir/kernel.ts';
import { KERNEL_FORMAT } from '../ir/kernel-format.ts';
import { writeKernels } from '../ir/kernel-writer.ts';
import type { Plan } from './plan.ts';
import type { PlanRecord, ProgramRecord, RunnableProgram } from './stored-program.ts';

/** The bytes of a program: length of the JSON text, the text, the kernels. */
export function writeProgram({
  plan,
  prepared,
  rootBindings,
}: RunnableProgram): Uint8Array<ArrayBuffer> {
  const kernels: Kernel[] = [];
  const recordOf = ({ kernels: own, ...rest }: Plan): PlanRecord => {
    kernels.push(...own);
    return { ...rest, kernels: own.length };
  };
  const record: ProgramRecord = {
    format: KERNEL_FORMAT,
    plan: recordOf(plan),
    prepared:
      prepared === null
        ? null
        : {
            plan: recordOf(prepared.plan),
            kept: prepared.kept,
            leaves: prepared.leaves,
            scalars: prepared.scalars,
          },
    rootBindings,
  };
  const json = new TextEncoder().encode(JSON.stringify(record));
  const code = writeKernels(kernels);
  const bytes = new Uint8Array(4 + json.length + code.length);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  bytes.set(code, 4 + json.length);
  return bytes;
}
