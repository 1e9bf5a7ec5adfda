// The Makefile of a folder of exported programs.
import { type CVariant, VARIANT_FACTS } from './targets.ts';

export interface MadeModel {
  readonly id: string;
  /** Of each variant, the file with its weights; null if there is none. */
  readonly weights: ReadonlyMap<CVariant, string | null>;
  readonly embedded: boolean;
}

export function renderMakefile(
  library: string,
  models: readonly MadeModel[],
  variants: readonly CVariant[],
): string {
  const archive = `lib${library}_$(VARIANT).a`;
  const tests = models.map(({ id }) => `${id}_$(VARIANT)_test`);
  const sources = models.flatMap(({ id, embedded, weights }) => {
    const array = embedded && [...weights.values()].some((file) => file !== null);
    return [`${id}_$(VARIANT)`, ...(array ? [`${id}_$(VARIANT)_weights`] : [])];
  });
  const objects = sources.map((source) => `${source}.o`).join(' ');
  const facts = models.flatMap(({ id, weights }) =>
    variants.map((variant) => `WEIGHTS_${id}_${variant} = ${weights.get(variant) ?? ''}`),
  );
  const compiled = sources.map(
    (source) => `${source}.o: ${source}.c\n\t$(CC) $(ALL_CFLAGS) -c -o $@ ${source}.c`,
  );
  const linked = models.map(({ id }) => {
    const define = `-DWEIGHTS_FILE='"$(WEIGHTS_${id}_$(VARIANT))"'`;
    return `${id}_$(VARIANT)_test: ${id}_main.c ${id}.h ${archive}
\t$(CC) $(ALL_CFLAGS) ${define} $(LDFLAGS) -o $@ ${id}_main.c ${archive} -lm`;
  });
  const flags = variants.map((variant) => `FLAGS_${variant} = ${VARIANT_FACTS[variant].flags}`);
  return `# Made by Tengen. For GNU make.
#
#   make                     the library and the test drivers
#   make test                runs the test cases
#   make VARIANT=${variants[0]}
${variants.map((variant) => `#     ${variant.padEnd(8)}${VARIANT_FACTS[variant].needs}`).join('\n')}
#   make test SANITIZE=address,undefined
#   make test CC=aarch64-linux-gnu-gcc VARIANT=neon LDFLAGS=-static RUN=qemu-aarch64

CC ?= cc
AR ?= ar
CFLAGS ?= -O2
WARNINGS ?= -Wall -Wextra
MACHINE := $(shell $(CC) -dumpmachine)
VARIANT ?= ${defaultVariant(variants)}
# Of what runs the tests: an emulator.
RUN ?=

ifeq ($(filter $(VARIANT),${variants.join(' ')}),)
$(error VARIANT=$(VARIANT) is none of: ${variants.join(' ')})
endif

${[...flags, ...facts].map((line) => line.trimEnd()).join('\n')}

# Without these, results differ in their last bits, or sqrt and floor are slow.
MEANING = -std=c99 -ffp-contract=off -fno-math-errno -fno-trapping-math $(FLAGS_$(VARIANT))
SANITIZED = $(if $(SANITIZE),-g -fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
ALL_CFLAGS = $(CFLAGS) $(WARNINGS) $(MEANING) $(SANITIZED)

all: ${archive} ${tests.join(' ')}

${objects}: ${models.map(({ id }) => `${id}.h`).join(' ')}

${compiled.join('\n\n')}

${archive}: ${objects}
\trm -f $@
\t$(AR) rcs $@ ${objects}

${linked.join('\n\n')}

test: ${tests.join(' ')}
${tests.map((test) => `\t$(RUN) ./${test} $(TEST_ARGS)`).join('\n')}

clean:
\trm -f *.o lib${library}_*.a ${models.map(({ id }) => `${id}_*_test`).join(' ')}

.PHONY: all test clean
`;
}

/** What `make` alone builds: the best that every machine of its kind has. */
function defaultVariant(variants: readonly CVariant[]): string {
  const [first = 'scalar'] = variants;
  const fallback = variants.includes('scalar') ? 'scalar' : first;
  const onX86 = variants.includes('sse') ? 'sse' : fallback;
  const onArm = variants.includes('neon') ? 'neon' : fallback;
  if (onX86 === onArm) return fallback;
  return `$(if $(filter x86_64%,$(MACHINE)),${onX86},$(if $(filter aarch64% arm64%,$(MACHINE)),${onArm},${fallback}))`;
}
