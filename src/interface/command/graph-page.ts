// The graph of a model as one HTML page: boxes and curves in SVG, grouped by the modules that weights are
// named after; nothing is loaded from anywhere.
import { formatBytes, formatCount } from '../terminal/index.ts';
import type { ModelHeader } from '../lite/header.ts';
import type { InspectReport, OpFacts } from './inspect.ts';

const BOX = { width: 176, height: 44, across: 28, down: 34 } as const;

interface Placed extends OpFacts {
  readonly title: string;
  readonly x: number;
  readonly y: number;
  readonly group: string;
}

const escaped = (text: string): string =>
  text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/** `layer1.0.conv1.weight` is of the module `layer1.0.conv1`. */
const moduleOf = (weight: string): string => weight.slice(0, Math.max(weight.lastIndexOf('.'), 0));

/** Rows of nodes, by position: below what they read. What no input leads to stands above who reads it. */
function rowsOf(ops: readonly OpFacts[], isInput: (op: OpFacts) => boolean): Map<number, number> {
  const rows = new Map<number, number>();
  const fed = new Set<number>();
  for (const op of ops) {
    const before = op.inputs.filter((input) => rows.has(input));
    rows.set(op.position, Math.max(-1, ...before.map((at) => rows.get(at) as number)) + 1);
    if (isInput(op) || before.some((at) => fed.has(at))) fed.add(op.position);
  }
  const readers = new Map<number, number>();
  for (const op of ops.toReversed()) {
    const least = readers.get(op.position);
    if (least !== undefined && !fed.has(op.position)) rows.set(op.position, least - 1);
    const row = rows.get(op.position) as number;
    for (const at of op.inputs) readers.set(at, Math.min(readers.get(at) ?? Infinity, row));
  }
  return rows;
}

/** Inputs of the model, and all that is computed; weights and numbers stand in the boxes that read them. */
function place(header: ModelHeader, ops: readonly OpFacts[]): Placed[] {
  let leaf = -1;
  const titles = new Map<number, string>();
  const shown = ops.filter((op) => {
    if (op.op === 'input') leaf++;
    const record = op.op === 'input' ? header.leaves[leaf] : undefined;
    if (record?.kind !== 'input') return op.op !== 'input' && op.op !== 'scalar';
    titles.set(op.position, header.inputs[record.input]?.name ?? op.op);
    return true;
  });
  const rows = rowsOf(shown, ({ position }) => titles.has(position));
  const filled: number[] = [];
  const groups = new Map<number, string>();
  const placed = shown.map((op): Placed => {
    const y = rows.get(op.position) as number;
    const x = filled[y] ?? 0;
    filled[y] = x + 1;
    // What reads no weight belongs to what it follows.
    const own = op.weights.map(moduleOf).find((name) => name !== '');
    const before = op.inputs.findLast((input) => groups.has(input));
    const group = own ?? groups.get(before ?? -1) ?? '';
    groups.set(op.position, group);
    return { ...op, title: titles.get(op.position) ?? op.op, x, y, group };
  });
  const widest = Math.max(1, ...filled);
  return placed.map((op) => ({ ...op, x: op.x + (widest - (filled[op.y] as number)) / 2 }));
}

/** A colour for each module: the golden angle apart. */
function hueOf(group: string, groups: readonly string[]): number {
  return Math.round((groups.indexOf(group) * 137.508) % 360);
}

const left = ({ x }: Placed): number => x * (BOX.width + BOX.across);
const top = ({ y }: Placed): number => y * (BOX.height + BOX.down);

function curve(from: Placed, to: Placed): string {
  const [x1, y1] = [left(from) + BOX.width / 2, top(from) + BOX.height];
  const [x2, y2] = [left(to) + BOX.width / 2, top(to)];
  const bend = Math.max(18, (y2 - y1) / 2);
  return `<path d="M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}"/>`;
}

function box(op: Placed, groups: readonly string[], isResult: boolean): string {
  const shape = `${op.dtype} [${op.shape.join(',')}]`;
  const tip = [
    `${op.title} (node ${op.position})`,
    shape,
    `${formatCount(op.flops)} flop`,
    ...(op.group === '' ? [] : [`module ${op.group}`]),
    ...op.weights,
  ].join('\n');
  const kind = op.op === 'input' ? ' end' : isResult ? ' end result' : '';
  const words = `${op.title} ${op.group} ${op.weights.join(' ')}`.toLowerCase();
  const hue = op.group === '' ? '' : ` style="--hue:${hueOf(op.group, groups)}"`;
  return `<g class="op${kind}${op.group === '' ? '' : ' of'}" data-words="${escaped(words)}" data-group="${escaped(op.group)}"${hue} transform="translate(${left(op)} ${top(op)})"><title>${escaped(tip)}</title><rect width="${BOX.width}" height="${BOX.height}" rx="8"/><text x="12" y="19" class="name">${escaped(op.title.slice(0, 22))}</text><text x="12" y="34">${escaped(shape.slice(0, 28))}</text></g>`;
}

const STYLE = `
:root{color-scheme:light dark;--ground:#fafaf8;--ink:#22252a;--soft:#6c727c;--line:#b9bec7;--box:#fff;--edge:#d4d7dd}
@media(prefers-color-scheme:dark){:root{--ground:#16181c;--ink:#e8eaed;--soft:#99a0ab;--line:#4b515c;--box:#20242b;--edge:#3a404a}}
*{box-sizing:border-box}body{margin:0;height:100vh;display:flex;font:14px/1.45 system-ui,sans-serif;background:var(--ground);color:var(--ink)}
aside{width:270px;flex:none;padding:20px;overflow:auto;border-right:1px solid var(--edge)}
h1{font-size:19px;margin:0 0 12px;overflow-wrap:anywhere}dl{margin:0 0 16px}dt{color:var(--soft);font-size:12px;margin-top:8px}dd{margin:0;overflow-wrap:anywhere}
input{width:100%;padding:7px 10px;border:1px solid var(--edge);border-radius:7px;background:var(--box);color:inherit;font:inherit;margin-bottom:12px}
button{display:block;width:100%;text-align:left;border:0;background:none;color:inherit;font:inherit;padding:3px 4px;border-radius:5px;cursor:pointer;overflow:hidden;text-overflow:ellipsis}
button:hover,button[aria-pressed=true]{background:var(--edge)}button i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px;background:hsl(var(--hue) 60% 55%)}
main{flex:1;overflow:hidden;position:relative}svg{width:100%;height:100%;cursor:grab;touch-action:none}svg:active{cursor:grabbing}
path{fill:none;stroke:var(--line);stroke-width:1.5}rect{fill:var(--box);stroke:var(--edge)}.of rect{stroke:hsl(var(--hue) 55% 55%);fill:color-mix(in srgb,hsl(var(--hue) 60% 55%) 13%,var(--box))}
.end rect{stroke:var(--ink);stroke-width:1.6}text{font-size:11px;fill:var(--soft)}.name{font-size:13px;font-weight:600;fill:var(--ink)}.pale{opacity:.15}
`;

const SCRIPT = `
const svg=document.querySelector('svg'),view=document.querySelector('#view'),ops=[...document.querySelectorAll('.op')];
let x=0,y=0,zoom=1;const show=()=>view.setAttribute('transform','translate('+x+' '+y+') scale('+zoom+')');
const fit=()=>{const b=view.getBBox(),w=svg.clientWidth,h=svg.clientHeight;zoom=Math.min(1.2,Math.max(.35,Math.min((w-60)/b.width,(h-60)/b.height)));x=(w-b.width*zoom)/2-b.x*zoom;y=30-b.y*zoom;show()};
svg.addEventListener('wheel',e=>{e.preventDefault();const r=svg.getBoundingClientRect(),f=Math.exp(-e.deltaY/500),n=Math.min(4,Math.max(.05,zoom*f));x=e.clientX-r.left-(e.clientX-r.left-x)*n/zoom;y=e.clientY-r.top-(e.clientY-r.top-y)*n/zoom;zoom=n;show()},{passive:false});
svg.addEventListener('pointerdown',e=>{svg.setPointerCapture(e.pointerId);let px=e.clientX,py=e.clientY;const move=m=>{x+=m.clientX-px;y+=m.clientY-py;px=m.clientX;py=m.clientY;show()};svg.addEventListener('pointermove',move);svg.addEventListener('pointerup',()=>svg.removeEventListener('pointermove',move),{once:true})});
svg.addEventListener('dblclick',fit);
let group=null;const find=document.querySelector('input'),pick=()=>{const t=find.value.toLowerCase();for(const o of ops)o.classList.toggle('pale',!(o.dataset.words.includes(t)&&(group===null||o.dataset.group===group)))};
find.addEventListener('input',pick);
for(const b of document.querySelectorAll('button'))b.addEventListener('click',()=>{group=group===b.dataset.group?null:b.dataset.group;for(const o of document.querySelectorAll('button'))o.setAttribute('aria-pressed',String(o.dataset.group===group));pick()});
fit();
`;

/** The page. */
export function graphPage(header: ModelHeader, report: InspectReport): string {
  const placed = place(header, report.ops);
  const at = new Map(placed.map((op) => [op.position, op]));
  const groups = [...new Set(placed.map(({ group }) => group))].filter((name) => name !== '');
  const read = new Set(placed.flatMap(({ inputs }) => inputs));
  const edges = placed.flatMap((op) =>
    op.inputs.flatMap((input) => {
      const from = at.get(input);
      return from === undefined ? [] : [curve(from, op)];
    }),
  );
  const boxes = placed.map((op) => box(op, groups, !read.has(op.position)));
  const { parameters, flops, inputs, outputs } = report;
  const facts: [string, string][] = [
    ['inputs', inputs.join('\n')],
    ['results', outputs.join('\n')],
    ['parameters', `${formatCount(parameters.elements)}, ${formatBytes(parameters.bytes)}`],
    ['work', `${formatCount(flops)} flop a run`],
  ];
  const list = facts.map(([what, text]) => {
    return `<dt>${what}</dt><dd>${escaped(text).replaceAll('\n', '<br>')}</dd>`;
  });
  const buttons = groups.map((name) => {
    const hue = hueOf(name, groups);
    return `<button data-group="${escaped(name)}" aria-pressed="false" style="--hue:${hue}"><i></i>${escaped(name)}</button>`;
  });
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(header.name)}</title><style>${STYLE}</style>
<aside><h1>${escaped(header.name)}</h1><dl>${list.join('')}</dl><input type="search" placeholder="Find an operation or weight" aria-label="Find">${buttons.join('')}</aside>
<main><svg role="img" aria-label="Graph of the model"><g id="view">${edges.join('')}${boxes.join('')}</g></svg></main>
<script>${SCRIPT}</script></html>
`;
}
