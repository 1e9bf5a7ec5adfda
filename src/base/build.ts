// Which sources this code was built of: what other code wrote to disk is then not taken for ours.

/** Set by the build (tsdown.config.ts). */
declare const TENGEN_BUILD: string | undefined;

/** A hash of all sources; null where they run unbuilt and may change under our feet. */
export const BUILD: string | null = typeof TENGEN_BUILD === 'string' ? TENGEN_BUILD : null;
