// The functions that our own export brings along, as what they were before.
import { FormatError } from '../../../base/errors.ts';
import { scaledDotProductAttention } from '../../functional/index.ts';
import { ints, required } from '../attributes.ts';
import { defineOperator, type Operator } from '../operator.ts';
import { ATTENTION_KINDS, type AttentionKind, OWN_DOMAIN } from '../own-functions.ts';

function attention(kind: AttentionKind): Operator {
  const masks = ATTENTION_KINDS[kind].length;
  return defineOperator({
    name: kind,
    domain: OWN_DOMAIN,
    since: 1,
    inputs: 4 + masks,
    attributes: { perm: required(ints()) },
    run: (call) => {
      const [query, key, value] = [call.tensor(0), call.tensor(1), call.tensor(2)];
      const rank = key.ndim;
      const isTransposition = call.attributes.perm.every((axis, at) => {
        return axis === (at < rank - 2 ? at : 2 * rank - 3 - at);
      });
      if (!isTransposition || call.attributes.perm.length !== rank) {
        throw new FormatError(
          `perm [${call.attributes.perm.join()}] transposes no keys of ${rank} axes`,
        );
      }
      return scaledDotProductAttention(query, key, value, {
        scale: call.number(3),
        isCausal: kind === 'ScaledDotProductAttentionCausal',
        attnMask: masks > 0 ? call.tensor(4) : null,
      });
    },
  });
}

export const ownOperators: readonly Operator[] = (
  Object.keys(ATTENTION_KINDS) as AttentionKind[]
).map(attention);
