// Results that are written for people and other programs: pages, sources, arrays, profiles. What cannot
// be written is an error of one line that names the path.
import { makeFolder } from './make-folder.ts';
import { asFileError } from './file-errors.ts';

/** Makes a folder and those above it. Throws ArgumentError with the system's `code`. */
export async function makeOutputFolder(op: string, folder: string): Promise<void> {
  const [fs, path] = await Promise.all([import('node:fs'), import('node:path')]);
  try {
    makeFolder({ fs, path }, folder);
  } catch (error) {
    throw asFileError(error, op, `make the folder '${folder}'`);
  }
}

/** Writes a file into a folder that is there. Throws ArgumentError with the system's `code`. */
export async function writeOutput(
  op: string,
  file: string,
  content: string | Uint8Array,
): Promise<void> {
  const { writeFile } = await import('node:fs/promises');
  await writeFile(file, content).catch((error: unknown) => {
    throw asFileError(error, op, `write '${file}'`);
  });
}
